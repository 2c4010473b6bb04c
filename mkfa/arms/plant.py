"""Put an arm's filters into a network, freeze them, and check after training that they have not changed.

An arm sets layers 1..n of `mkfa.networks.layers.spatial_layers`; all other parameters keep their initial values and are
trained. `mkfa.arms.arms.ARMS` describes what each arm sets, and in which order.

A shortcut projection (`networks.layers.followers`) is set and frozen with its block's last layer, directly after it in
every order. Biases of the set layers stay as initialised and trainable unless `with_bias`. Arms with an offset
(`Arm.offset`) add a trained constant to the taps of each channel; the frozen kernel beside it does not change.

The norm layer of a set layer (`networks.layers.norms_after`) stays as initialised and trainable too, so that training
can rescale and shift the output of each frozen filter. With `with_norm`, arms that copy layer i into layer i copy the
norm's weights, biases and, for batch norm, its running mean and variance. Where the arm freezes its filters, these are
frozen as well: the norm uses the source's statistics, in training too, and does not update them.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.arms.arms import Arm, check_fit_kernel, find_arm
from mkfa.arms.fillings import Filling, Request, Weights
from mkfa.array_types import U8
from mkfa.banks.bank import FilterBank
from mkfa.errors import MkfaError, WorkError
from mkfa.networks.layers import followers, norms_after, spatial_layers
from mkfa.networks.offset import add_offset
from mkfa.storage.file_rows import Rows
from mkfa.words import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

FilterSource = FilterBank | Mapping[str, Any] | tuple[Weights, ...]
"""A source of filters: a bank (depthwise filters only), the state dict of a run with the same architecture, or the
layers of any network in order of execution (`weights_of_layers`)."""


@dataclass(frozen=True, slots=True)
class PlantedFilters:
    """The filters that an arm put into a network.

    Attributes
    ----------
    arm : str
    frozen : bool
    names : parameters that were set, e.g. "stages.0.blocks.0.conv_dw.weight", in order of execution.
    values : tuple of float32 tensors, copies on the CPU.
    digest : SHA-256 over names, shapes and bytes.
    notes : remarks for readers of the results, e.g. a different dilation.
    norms : norm layers whose statistics are frozen; `train_mode` keeps them in evaluation mode.
    """

    arm: str
    frozen: bool
    names: tuple[str, ...]
    values: tuple[Tensor, ...]
    digest: str
    notes: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()


def set_filters(  # noqa: PLR0913 (options are keywords)
    model: nn.Module,
    arm: str,
    *,
    layers: int,
    source: FilterSource | None = None,
    seed: int = 0,
    what: str = "depthwise",
    with_bias: bool = False,
    with_norm: bool = False,
    fit_kernel: str = "",
    images: U8 | Rows | None = None,
) -> PlantedFilters:
    """Set the filters of a freshly built network according to an arm, and freeze them if the arm is frozen.

    Parameters
    ----------
    model : torch.nn.Module
        From `build_network`, untrained; modified in place.
    arm : a name accepted by `mkfa.arms.arms.find_arm`.
    layers : number of layers to set, from the first; the others stay as initialised and are trained.
    source : FilterBank, mapping from parameter names to tensors, tuple of Weights, or None
        See `FilterSource`.
    seed : seed of permutations and random draws; it does not affect the network's initial weights.
    what : kind of layers: "depthwise", "pointwise" or "conv".
    with_bias : also copy (and freeze) biases.
    with_norm : also copy (and freeze) the norm layers of the set layers, see above; ignored by arms that copy none
        (`Arm.copies_norm`). Needs the state dict of a network of the same architecture as the source.
    fit_kernel : "pad" or "crop": how source kernels of a different size are fitted; "" refuses them.
    images : (N, H, W, C) uint8 or None
        The target's training images; needed by the arms `pca` and `pca-k`.

    Raises UnknownNameError: no such arm. Raises MkfaError: the network has fewer layers than requested, or the source
    is missing, or of the wrong kind or shape.

    Examples
    --------
    >>> from mkfa.networks.build import build_network
    >>> model = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=0)
    >>> planted = set_filters(model, "delta", layers=1)
    >>> planted.names, planted.frozen
    (('blocks.0.0.fn.0.weight',), True)
    """
    import torch

    chosen = find_arm(arm)
    if chosen.fill is None and chosen.fill_network is None:  # baseline
        return PlantedFilters(arm, False, (), (), _digest((), ()))
    _check(chosen, source, what, fit_kernel)
    count = len(spatial_layers(model, what))
    if not 1 <= layers <= count:
        problem = f"asks for {counted(layers, 'layer')}, but the network has {counted(count, f'{what} layer')}"
        raise MkfaError(f"arm {arm}", problem, f"choose --layers from 1 to {count}")
    modules = _with_followers(model, what, layers)
    target = [_weights_of(name, module) for name, module in modules]
    names = [name for name, _ in (_with_followers(model, what) if chosen.whole_source else modules)]
    asked = Request((), target, np.random.default_rng([seed, zlib.crc32(arm.encode())]), fit_kernel, images=images)
    source_layers, filling = _filling(chosen, asked, source, names, with_bias=with_bias)
    names, parameters = _write(modules, filling, with_bias=with_bias)
    if chosen.offset:
        for name, module in modules:
            add_offset(name, module)
    norms: tuple[str, ...] = ()
    if with_norm and chosen.copies_norm:
        norms = tuple(norms_after(model, [name for name, _ in modules]).values())
        tensors = _copy_norms(model, norms, source)
        names, parameters = [*names, *tensors], [*parameters, *tensors.values()]
    for parameter in parameters:
        if parameter.is_leaf and isinstance(parameter, torch.nn.Parameter):
            parameter.requires_grad_(not chosen.frozen)
    values = tuple(_on_cpu(parameter, copy=True) for parameter in parameters)
    notes = _dilation_notes(source_layers, target)
    if with_bias and source is not None and any(bias is None for _, bias in filling):
        notes += (f"arm {arm} has no biases to copy: the set layers keep their initial biases",)
    held = norms if chosen.frozen else ()
    return PlantedFilters(arm, chosen.frozen, tuple(names), values, _digest(names, values), notes, held)


def check_fit(
    arm: str, target: Sequence[Weights], source: FilterSource | None, *, what: str, with_bias: bool, fit_kernel: str
) -> None:
    """Refuse what `set_filters` would refuse for a network with these layers, but for its norm layers.

    Raises MkfaError: as `set_filters`.

    Examples
    --------
    >>> layers = (Weights("first", np.ones((8, 1, 5, 5), np.float32)),)
    >>> check_fit("transfer", layers, layers, what="depthwise", with_bias=False, fit_kernel="")
    """
    chosen = find_arm(arm)
    _check(chosen, source, what, fit_kernel)
    asked = Request((), target, np.random.default_rng(0), fit_kernel)
    _filling(chosen, asked, source, [layer.name for layer in target], with_bias=with_bias)


def _filling(
    arm: Arm, asked: Request, source: FilterSource | None, names: Sequence[str], *, with_bias: bool
) -> tuple[Sequence[Weights], Filling]:
    """Return the source's layers, and the kernels that the arm computes from them; `names` as in `_source_layers`."""
    layers = _source_layers(source, names, whole=arm.whole_source, with_bias=with_bias)
    return layers, arm.kernels(replace(asked, source=layers))


def train_mode(model: nn.Module, planted: PlantedFilters | None) -> None:
    """Put a network into training mode, but norm layers with frozen statistics into evaluation mode."""
    model.train()
    for name in planted.norms if planted is not None else ():
        model.get_submodule(name).eval()


def weights_of_layers(model: nn.Module, what: str) -> tuple[Weights, ...]:
    """Return the weights of a network's layers of one kind, in the order used by arms; raises MkfaError."""
    return tuple(_weights_of(name, module) for name, module in _with_followers(model, what))


def _with_followers(model: nn.Module, what: str, count: int | None = None) -> list[tuple[str, nn.Module]]:
    """Return the first `count` layers (None: all), each directly followed by its block's shortcut projections."""
    along = followers(model, what)
    return [pair for layer in spatial_layers(model, what)[:count] for pair in (layer, *along.get(layer[0], ()))]


def check_planted(model: nn.Module, planted: PlantedFilters) -> None:
    """Check that frozen filters are bit-identical to what was set; filters that are not frozen are not checked.

    Raises WorkError: a frozen filter changed, which makes the run's result meaningless.
    """
    import torch

    if not planted.frozen:
        return
    parameters = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, value in zip(planted.names, planted.values, strict=True):
        now = _on_cpu(parameters[name])
        if now.shape != value.shape or not torch.equal(now.view(torch.int32), value.view(torch.int32)):
            raise WorkError(name, f"was frozen by arm {planted.arm}, but changed", "report this; discard the run")


def _check(arm: Arm, source: Any, what: str, fit: str) -> None:
    if arm.needs_source and source is None:
        remedy = "name one with --source" if arm.source != "named" else "pass its filters as a bank"
        raise MkfaError(f"arm {arm.name}", "needs a source of filters", remedy)
    if arm.source == "none" and source is not None:
        raise MkfaError(f"arm {arm.name}", "uses no source", "leave --source out")
    if what != "depthwise" and arm.depthwise_only:
        problem = f"sets patterns within kernels, which {what} layers cannot use"
        raise MkfaError(f"arm {arm.name}", problem, "use --what depthwise or another arm")
    if what != "depthwise" and isinstance(source, FilterBank):
        problem = f"has depthwise filters only, and --what {what} was requested"
        raise MkfaError(f"bank {source.name}", problem, "name a run or domain as the source")
    check_fit_kernel(fit)


def _weights_of(name: str, module: Any) -> Weights:
    dilation = getattr(module, "dilation", (1, 1))
    return _as_weights(name, module.weight, module.bias, (int(dilation[0]), int(dilation[1])))


def _as_weights(name: str, weight: Any, bias: Any, dilation: tuple[int, int] = (-1, -1)) -> Weights:
    """Return copies of a layer's weights as kernels; a linear layer's are 1x1."""
    weight = _as_array(weight)
    kernel = weight.reshape(*weight.shape, 1, 1) if weight.ndim == 2 else weight
    return Weights(name, kernel, None if bias is None else _as_array(bias), dilation)


def _as_array(value: Any) -> Any:
    return np.array(value.detach().float().cpu().numpy() if hasattr(value, "detach") else value, np.float32)


def _source_layers(
    source: FilterSource | None, names: Sequence[str], *, whole: bool, with_bias: bool
) -> Sequence[Weights]:
    """Return the source's layers in order of execution, empty without a source.

    Parameters
    ----------
    names : the target layers that the arm sets, or all of them for an arm that uses the whole source.
    """
    where = "source"
    if source is None:
        return ()
    if isinstance(source, FilterBank):
        groups = [source.of_layer(layer.index) for layer in source.layers]
        layers = [
            Weights(layer.name, group.weight[:, None], group.bias if layer.has_bias else None, layer.dilation)
            for layer, group in zip(source.layers, groups, strict=True)
        ]
        where = f"bank {source.name}"
    elif isinstance(source, tuple):
        layers = list(source if whole else source[: len(names)])
    else:
        missing = [name for name in names if f"{name}.weight" not in source]
        if missing:
            problem = f"has no {missing[0]}.weight ({len(missing)} of {counted(len(names), 'layer')} are missing)"
            raise MkfaError("source", problem, "name a run of the same architecture, or a bank with --arms stack")
        layers = [_as_weights(name, source[f"{name}.weight"], source.get(f"{name}.bias")) for name in names]
    bad = next((layer.name for layer in layers if not np.isfinite(layer.kernel).all()), None)
    if bad:
        raise MkfaError(where, f"has non-finite weights in {bad}", "choose another source")
    if with_bias and any(layer.bias is None for layer in layers):
        raise MkfaError(where, "has layers without biases, but --with-bias requires them", "leave --with-bias out")
    return layers


def _write(
    modules: Sequence[tuple[str, Any]], filling: Filling, *, with_bias: bool
) -> tuple[list[str], list[nn.Parameter]]:
    """Write the kernels (and biases) into the modules; return the names and parameters that the arm set."""
    import torch

    parameters: dict[str, nn.Parameter] = {}
    for (name, module), (kernel, bias) in zip(modules, filling, strict=True):
        with torch.no_grad():
            value = torch.from_numpy(np.ascontiguousarray(kernel, np.float32)).reshape(module.weight.shape)
            module.weight.copy_(value)
            if with_bias and module.bias is not None and bias is not None:
                module.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))
        parameters[f"{name}.weight"] = module.weight
        if with_bias and module.bias is not None:
            parameters[f"{name}.bias"] = module.bias
    return list(parameters), list(parameters.values())


def _copy_norms(model: nn.Module, norms: Sequence[str], source: FilterSource | None) -> dict[str, Any]:
    """Copy norm layers from a state dict; return their parameters and running statistics by name."""
    import torch

    if not isinstance(source, Mapping):
        problem = "has filters but no norm layers, which --with-norm requires"
        raise MkfaError("source", problem, "name a domain as the source, without --source-arch, or leave it out")
    tensors: dict[str, Any] = {}
    for norm in norms:
        module = model.get_submodule(norm)
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            key = f"{norm}.{name}"
            if not tensor.is_floating_point():  # the number of batches seen
                continue
            if key not in source or tuple(source[key].shape) != tuple(tensor.shape):
                raise MkfaError("source", f"has no {key} of the same shape", "name a run of the same architecture")
            with torch.no_grad():
                tensor.copy_(torch.as_tensor(np.asarray(_as_array(source[key]))))
            tensors[key] = tensor
    return tensors


def _on_cpu(parameter: Tensor, *, copy: bool = False) -> Tensor:
    import torch

    return parameter.detach().to("cpu", torch.float32, copy=copy).contiguous()


def _digest(names: Any, values: Any) -> str:
    state = hashlib.sha256()
    for name, value in zip(names, values, strict=True):
        state.update(f"{name} {tuple(value.shape)} ".encode())
        state.update(value.numpy().tobytes())
    return state.hexdigest()


def _dilation_notes(source: Sequence[Weights], target: Sequence[Weights]) -> tuple[str, ...]:
    """Return a note if the source's dilations differ from the target's."""
    sizes = {layer.size for layer in target}
    before = {layer.dilation for layer in source if layer.dilation[0] > 0 and layer.size in sizes}
    after = {layer.dilation for layer in target}
    if before and before != after:
        return (f"the source's dilations are {sorted(before)}, the target's {sorted(after)}",)
    return ()
