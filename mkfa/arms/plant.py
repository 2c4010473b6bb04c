"""Arms: which filters a network gets before training, and whether they stay (torch inside functions).

An arm sets the layers 1..n of `mkfa.networks.layers.spatial_layers`; every other parameter keeps its initial value
and is trained. Orders, draws and scales are those of the functions of `mkfa.arms.fillings`, named in `ARMS`.

A shortcut's projection that follows its block (`networks.followers`) is set and frozen with the block's last layer,
right after it in every order. Biases of the set layers stay as initialised and trainable unless `with_bias`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.arms import fillings
from mkfa.arms.arms import Arm, ArmSpec, parse_arm
from mkfa.arms.fillings import Filling, Weights
from mkfa.banks.bank import FilterBank
from mkfa.errors import MkfaError, WorkError
from mkfa.networks.layers import followers, spatial_layers

if TYPE_CHECKING:
    from torch import Tensor, nn

Lent = FilterBank | Mapping[str, Any] | tuple[Weights, ...]
"""What filters are taken from, see `set_filters`."""


@dataclass(frozen=True, slots=True)
class Planted:
    """What an arm put into a network.

    Attributes
    ----------
    arm : str
    frozen : bool
    names : tuple of str
        Parameters that were set, e.g. "stages.0.blocks.0.conv_dw.weight", in order of execution.
    values : tuple of float32 tensors on the CPU, copies.
    digest : str
        sha256 over names, shapes and bits.
    notes : tuple of str
        What a reader of the results must know, e.g. a dilation that differs.
    """

    arm: str
    frozen: bool
    names: tuple[str, ...]
    values: tuple[Tensor, ...]
    digest: str
    notes: tuple[str, ...] = ()


def set_filters(model: nn.Module, spec: ArmSpec, *, source: Lent | None, seed: int) -> Planted:
    """Set the filters of a freshly built network as an arm says, and freeze them where it says so.

    Parameters
    ----------
    model : torch.nn.Module
        From `build_network`, untrained; changed in place.
    source : FilterBank, mapping from parameter names to tensors, tuple of Weights, or None
        A bank (depthwise filters only), the weights of a run of the same architecture (its state dict), or the layers
        of any network in order of execution (`weights_of_layers`).
    seed : int
        Of the permutations and draws; the initial weights are the network's own.

    Raises
    ------
    UnknownNameError
        No such arm.
    MkfaError
        The network has fewer layers than asked for, the source is missing, of another kind or of other shapes.
    """
    arm, k = parse_arm(spec.arm)
    if arm.name == "baseline":
        return Planted(spec.arm, False, (), (), _digest((), ()))
    _check(arm, spec, source)
    layers = spatial_layers(model, spec.what)
    if not 1 <= spec.layers <= len(layers):
        problem = f"asks for {spec.layers} layers, and the network has {len(layers)} {spec.what} ones"
        raise MkfaError(f"arm {spec.arm}", problem, f"choose --layers from 1 to {len(layers)}")
    modules, everything = _with_followers(model, spec.what, spec.layers), _with_followers(model, spec.what)
    target = [_weights_of(name, module) for name, module in modules]
    given = _source_layers(source, [name for name, _ in everything], spec, len(target), whole=_takes_all(arm))
    rng = np.random.default_rng([seed, zlib.crc32(spec.arm.encode())])
    filling = _fill(arm, given, target, fit=spec.fit_kernel, k=k, rng=rng)
    notes = _dilation_notes(arm, given, target)
    return _plant(modules, filling, spec, frozen=arm.frozen, copies=given is not None, notes=notes)


def weights_of_layers(model: nn.Module, what: str) -> tuple[Weights, ...]:
    """Return the weights of a network's layers of one kind, in the order that arms take them; raises MkfaError."""
    return tuple(_weights_of(name, module) for name, module in _with_followers(model, what))


def _with_followers(model: nn.Module, what: str, count: int | None = None) -> list[tuple[str, nn.Module]]:
    """Return the first `count` layers (None: all), each with the projections that follow its block right after it."""
    along = followers(model, what)
    return [pair for layer in spatial_layers(model, what)[:count] for pair in (layer, *along.get(layer[0], ()))]


def check_planted(model: nn.Module, planted: Planted) -> None:
    """Compare frozen filters bit for bit with what was put in; filters that were free to move are not compared.

    Raises
    ------
    WorkError
        A frozen filter changed, which would make the run's result meaningless.
    """
    import torch

    if not planted.frozen:
        return
    parameters = dict(model.named_parameters())
    for name, value in zip(planted.names, planted.values, strict=True):
        now = parameters[name].detach().to("cpu", torch.float32).contiguous()
        if now.shape != value.shape or not torch.equal(now.view(torch.int32), value.view(torch.int32)):
            raise WorkError(name, f"was frozen by arm {planted.arm}, yet it changed", "report this; discard the run")


def _check(arm: Arm, spec: ArmSpec, source: Any) -> None:
    if arm.source == "needed" and source is None:
        raise MkfaError(f"arm {spec.arm}", "needs a source of filters", "name one with --source")
    if arm.source == "none" and source is not None:
        raise MkfaError(f"arm {spec.arm}", "takes no source", "leave --source out")
    if spec.what != "depthwise" and arm.depthwise_only:
        problem = f"sets patterns of single kernels, which {spec.what} layers have no use for"
        raise MkfaError(f"arm {spec.arm}", problem, "use --what depthwise or another arm")
    if spec.what != "depthwise" and isinstance(source, FilterBank):
        problem = f"holds depthwise filters only, and --what {spec.what} was asked for"
        raise MkfaError(f"bank {source.name}", problem, "name a run or domain as the source")
    if spec.fit_kernel not in ("", "pad", "crop"):
        raise MkfaError("--fit-kernel", f"is {spec.fit_kernel!r}", "choose pad or crop, or leave it out")


def _weights_of(name: str, module: Any) -> Weights:
    """Return a module's weights as kernels; a linear layer's are 1x1."""
    weight = module.weight.detach().float().cpu().numpy()
    kernel = weight.reshape(*weight.shape, 1, 1) if weight.ndim == 2 else weight
    bias = None if module.bias is None else module.bias.detach().float().cpu().numpy().copy()
    dilation = getattr(module, "dilation", (1, 1))
    return Weights(name, kernel.copy(), bias, (int(dilation[0]), int(dilation[1])))


def _takes_all(arm: Arm) -> bool:
    return arm.name in ("stack", "first-k", "covariance")


def _source_layers(
    source: Lent | None, names: list[str], spec: ArmSpec, count: int, *, whole: bool
) -> list[Weights] | None:
    """Return the source's layers in order of execution, as many as the arm can use; None without a source."""
    if source is None:
        return None
    if isinstance(source, FilterBank):
        layers = [source.of_layer(layer.index) for layer in source.layers]
        found = [
            Weights(layer.name, group.weight[:, None], group.bias if layer.has_bias else None, layer.dilation)
            for layer, group in zip(source.layers, layers, strict=True)
        ]
        where = f"bank {source.name}"
    elif isinstance(source, tuple):
        found, where = list(source if whole else source[:count]), "source"
    else:
        wanted = names if whole else names[:count]
        missing = [name for name in wanted if f"{name}.weight" not in source]
        if missing:
            problem = f"holds no {missing[0]}.weight ({len(missing)} of {len(wanted)} layers are missing)"
            raise MkfaError("source", problem, "name a run of the same architecture, or a bank with --arm stack")
        found = [_from_mapping(source, name) for name in wanted]
        where = "source"
    bad = next((w.name for w in found if not np.isfinite(w.kernel).all()), None)
    if bad:
        raise MkfaError(where, f"has weights that are not finite in {bad}", "choose another source")
    if spec.with_bias and any(w.bias is None for w in found):
        raise MkfaError(where, "has layers without biases, and --with-bias asks for them", "leave --with-bias out")
    return found


def _from_mapping(source: Mapping[str, Any], name: str) -> Weights:
    def array(value: Any) -> Any:
        value = value.detach().float().cpu().numpy() if hasattr(value, "detach") else value
        return np.array(value, np.float32)

    weight = array(source[f"{name}.weight"])
    kernel = weight.reshape(*weight.shape, 1, 1) if weight.ndim == 2 else weight
    bias = source.get(f"{name}.bias")
    return Weights(name, kernel, None if bias is None else array(bias))


def _fill(
    arm: Arm, given: list[Weights] | None, target: list[Weights], *, fit: str, k: int, rng: np.random.Generator
) -> Filling:
    """Return kernels and biases for each target layer; a bias is None where none goes along."""
    source = given or []
    if arm.name in ("transfer", "selffer", "transfer+", "selffer+"):
        return fillings.copied(source, target, fit)
    if arm.name in ("shuffle", "shuffle-network"):
        return fillings.shuffled(source, target, fit=fit, across=arm.name == "shuffle-network", rng=rng)
    if arm.name in ("stack", "first-k"):
        return fillings.stacked(source, target, fit=fit, first=k if arm.name == "first-k" else None)
    if arm.name == "covariance":
        return fillings.covariant(source, target, fit=fit, rng=rng)
    if arm.name == "random":
        return [(layer.kernel, None) for layer in target]
    if arm.name == "keys" and given is not None:
        return [(fillings.nearest_keys(layer), None) for layer in fillings.fitted(source, target, fit)]
    if any(layer.kernel.shape[1] != 1 for layer in target):
        raise MkfaError(f"arm {arm.name}", "sets single kernels, and a layer has several per filter", "choose another")
    make: dict[str, fillings.Pattern] = {
        "delta": fillings.identity_kernels,
        "box": fillings.mean_kernels,
        "keys": fillings.key_kernels,
        "basis": lambda layer: fillings.basis_kernels(layer, rng),
    }
    return [(make[arm.name](layer), None) for layer in target]


def _plant(
    modules: list[tuple[str, Any]],
    filling: Filling,
    spec: ArmSpec,
    *,
    frozen: bool,
    copies: bool,
    notes: tuple[str, ...],
) -> Planted:
    """Write the filling into the modules and freeze it; a layer without a bias in it keeps its initial one."""
    import torch

    names, parameters = [], []
    for (name, module), (kernel, bias) in zip(modules, filling, strict=True):
        with torch.no_grad():
            value = torch.from_numpy(np.ascontiguousarray(kernel, np.float32)).reshape(module.weight.shape)
            module.weight.copy_(value)
            if spec.with_bias and module.bias is not None and bias is not None:
                module.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))
        names.append(f"{name}.weight")
        parameters.append(module.weight)
        if spec.with_bias and module.bias is not None:
            names.append(f"{name}.bias")
            parameters.append(module.bias)
    if spec.with_bias and copies and any(bias is None for _, bias in filling):
        notes = (*notes, f"arm {spec.arm} has no biases to copy: those of the set layers are the initial ones")
    for parameter in parameters:
        parameter.requires_grad_(not frozen)
    values = tuple(p.detach().to("cpu", torch.float32, copy=True).contiguous() for p in parameters)
    return Planted(spec.arm, frozen, tuple(names), values, _digest(names, values), notes)


def _digest(names: Any, values: Any) -> str:
    state = hashlib.sha256()
    for name, value in zip(names, values, strict=True):
        state.update(f"{name} {tuple(value.shape)} ".encode())
        state.update(value.numpy().tobytes())
    return state.hexdigest()


def _dilation_notes(arm: Arm, given: list[Weights] | None, target: list[Weights]) -> tuple[str, ...]:
    """Say where the source's filters were dilated otherwise than the target's layers are."""
    if not given or arm.name == "baseline":
        return ()
    theirs = {w.dilation for w in given if w.dilation[0] > 0 and w.size in {t.size for t in target}}
    ours = {t.dilation for t in target}
    if theirs and theirs != ours:
        return (f"the source's dilations are {sorted(theirs)}, the target's {sorted(ours)}",)
    return ()
