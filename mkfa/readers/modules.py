"""Read the depthwise layers of a network in memory from its modules: weights, stride, dilation, order of execution."""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.banks.bank import UNKNOWN
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.networks.layers import has_one_filter_per_channel
from mkfa.readers.called import free_weights, watch
from mkfa.readers.reading import DepthwiseLayer, GraphLayer, Reading, Why, is_fixed
from mkfa.words import counted

if TYPE_CHECKING:
    from torch import nn

_USUAL_SIZE = 224
"""Height and width of the image for the forward pass, if the network does not state its own."""
_DEFINED = "layers are in order of definition: no forward pass could be made to find the order of execution"


def read_module(model: nn.Module) -> Reading:
    """Read the depthwise layers of a network in memory, without changing it, its mode or torch's random state.

    A forward pass on torch's meta device gives the order of execution. If it fails, the layers are in order of
    definition and a note says so. Wrappers (DataParallel, DistributedDataParallel, torch.compile) are removed. Weights
    of any float type, on any device, are copied.

    Raises SourceError: weights are on the meta device, or lazy and without a shape.
    """
    from torch.nn.parameter import is_lazy

    copy = "ema" if _is_averaged(model) else ""
    model = unwrapped(model)
    name = type(model).__name__
    if any(is_lazy(p) for p in model.parameters()):
        raise SourceError(name, "has lazy parameters without a shape", "run the network once before you harvest it")
    named, free = depthwise_modules(model), free_weights(model)
    weights = {id(module): _weight(module) for _, module in named}
    if any(weight.is_meta for weight in (*weights.values(), *free.values())):
        raise SourceError(name, "has weights without values (meta device)", "load its weights first")
    with _on_meta(model) as (forward, on_meta):
        calls = watch(model, on_meta, len(named))
        modules = [module for _, module in named]
        sizes = output_sizes(forward, modules, _input_shapes(model), calls=calls) if named or free else {}
    named += [(call.key, call) for call in calls.found]
    weights |= {id(call): call.weight.detach() for call in calls.found}
    fixed = {id(w) for call in calls.found if is_fixed(to_numpy(w := weights[id(call)])[:, 0])}
    skipped = _skipped(model) + Counter({Why.FIXED: len(fixed)})
    layers, seen = [], set()
    for key, module, stage in in_order(named, sizes):
        weight = weights[id(module)]
        if id(weight) in fixed:
            continue
        if id(weight) in seen:
            skipped[Why.TIED] += 1
            continue
        seen.add(id(weight))
        layers.append(_read_layer(graph_layer(key, module, stage, weight=weight), module, weight))
    convolutions = sum(_is_convolution(module) for module in model.modules())
    return Reading(
        tuple(layers),
        "graph",
        architecture=_architecture(model),
        skipped=FrozenDict({str(why): n for why, n in sorted(skipped.items())}),
        notes=_notes(len(named), len(free), bool(sizes)),
        copy=copy,
        contents=f"{counted(convolutions, 'convolution')}, none depthwise",
    )


def _notes(layers: int, free: int, ran: bool) -> tuple[str, ...]:
    """Return what a bank says where no forward pass could be made."""
    if ran:
        return ()
    shaped = "shaped like a depthwise layer's"
    lost = (
        counted(free, f"weight {shaped} is", f"weights {shaped} are") + " left out: no convolution module has such a "
    )
    lost += (
        "weight, and no forward pass could show whether the network uses it so; its state_dict() is harvested by shape"
    )
    return ((_DEFINED,) if layers > 1 else ()) + ((lost,) if free else ())


def unwrapped(model: Any) -> Any:
    """Return the network inside DataParallel, DistributedDataParallel, AveragedModel and torch.compile."""
    from torch import nn

    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) or _is_averaged(model):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            return model


def _is_averaged(model: Any) -> bool:
    from torch.optim.swa_utils import AveragedModel

    return isinstance(model, AveragedModel)


def module_name(model: Any) -> str:
    """Return the name of a network in memory: timm's name of its architecture, else its class."""
    model = unwrapped(model)
    return _architecture(model) or type(model).__name__


def _architecture(model: Any) -> str:
    config = getattr(model, "pretrained_cfg", None)
    return str(config.get("architecture") or "") if isinstance(config, Mapping) else ""


def is_depthwise(module: Any) -> bool:
    """True for a 2-D convolution with one group per input channel, more than one channel and a kernel above 1x1."""
    return _is_convolution(module) and has_one_filter_per_channel(module)


def _is_convolution(module: Any) -> bool:
    import torch

    others = (("timm.layers.cond_conv2d", "CondConv2d"), ("torch.ao.nn.quantized.modules.conv", "Conv2d"))
    kinds = [getattr(sys.modules.get(name), kind, torch.nn.Conv2d) for name, kind in others]
    return isinstance(module, (torch.nn.Conv2d, *kinds))


def depthwise_modules(model: Any) -> list[tuple[str, Any]]:
    """Return (name, module) in order of definition; a module with several names comes once, under its first."""
    return [(name, module) for name, module in model.named_modules() if is_depthwise(module)]


def output_sizes(
    forward: Any, modules: Sequence[Any], shapes: Sequence[tuple[int, ...]], *, calls: Any = None
) -> dict[int, tuple[int, ...]]:
    """Return each module's output height and width, by its index in `modules`, in order of first call.

    `forward` is called with an image on the meta device, of each shape until a pass succeeds; {} if none does. `calls`
    adds the convolutions that no module makes (`mkfa.readers.called.watch`).
    """
    import torch

    calls = contextlib.nullcontext() if calls is None else calls

    for shape in shapes:
        sizes: dict[int, tuple[int, ...]] = {}
        calls.sizes = sizes
        handles = [
            module.register_forward_hook(lambda _m, _x, out, i=i, sizes=sizes: _note(sizes, i, out))
            for i, module in enumerate(modules)
        ]
        try:
            with torch.no_grad(), calls:
                forward(torch.empty(shape, device="meta"))
            return sizes
        except Exception:  # a network may do anything that the meta device cannot
            continue
        finally:
            for handle in handles:
                handle.remove()
    return {}


def _note(sizes: dict[int, tuple[int, ...]], i: int, out: Any) -> None:
    sizes.setdefault(i, tuple(int(n) for n in out.shape[-2:]))


@contextlib.contextmanager
def _on_meta(model: Any) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    """Yield a function that runs the network with parameters and buffers on the meta device, and these by name.

    Batch statistics go to copies, torch's random state is restored, and compiled parts run uncompiled. Pruning and the
    older normalisations of weights set the attribute `weight` in a forward pass; it is restored.
    """
    import torch

    kept = [
        (module.__dict__, name, value)
        for module in model.modules()
        for name, value in module.__dict__.items()
        if isinstance(value, torch.Tensor)
    ]

    named = [*model.named_parameters(), *model.named_buffers()]
    on_meta = {name: tensor.detach().to("meta") for name, tensor in named}
    stand_ins = {id(tensor): on_meta[name] for name, tensor in named}

    def forward(images: Any) -> Any:  # torch.func.functional_call does not give shared modules their parameters back
        owners = [owner for module in model.modules() for owner in (module._parameters, module._buffers)]
        own = [(owner, key, value) for owner in owners for key, value in owner.items() if value is not None]
        try:
            for owner, key, value in own:
                owner[key] = stand_ins[id(value)]
            return model(images)
        finally:
            for owner, key, value in own:
                owner[key] = value

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        if any(hasattr(module, "_orig_mod") for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            yield forward, on_meta
        finally:
            for attributes, name, value in kept:
                attributes[name] = value


def _input_shapes(model: Any) -> list[tuple[int, ...]]:
    """Return shapes of images to try: the network's stated one, then those with as many channels as a convolution has.

    Batches have two images, since batch normalisation in training mode refuses one.
    """
    config = getattr(model, "pretrained_cfg", None)
    nodes = [node for node in getattr(getattr(model, "graph", None), "nodes", ()) if node.op == "placeholder"]
    images = [node.meta.get("val") for node in nodes]  # torch.export keeps the shapes that the network was exported for
    if exported := [tuple(map(int, image.shape)) for image in images if getattr(image, "ndim", 0) == 4]:
        return exported
    stated = getattr(model, "image_shape", None) or (config.get("input_size") if isinstance(config, Mapping) else None)
    channels = [int(m.in_channels) for m in model.modules() if _is_convolution(m) and m.groups == 1]
    usual = [(n, _USUAL_SIZE, _USUAL_SIZE) for n in (*sorted(channels[:8], key=lambda n: n not in (1, 3)), 3)]
    return [(2, *(int(n) for n in shape)) for shape in dict.fromkeys((tuple(stated or usual[0]), *usual))]


def in_order(named: Sequence[tuple[str, Any]], sizes: Mapping[int, tuple[int, ...]]) -> list[tuple[str, Any, int]]:
    """Return (name of the weight, module, stage) in order of first call.

    A module that is not called (a branch for training) comes after the module defined before it.
    """
    isotropic = bool(sizes) and len(set(sizes.values())) == 1
    called = {i: rank for rank, i in enumerate(sizes)}
    after, last = [], -1
    for i in range(len(named)):
        last = called.get(i, last)
        after.append(last)
    places = sorted(range(len(named)), key=lambda i: (after[i], i not in called, i))
    keys = [getattr(module, "key", f"{name}.weight").replace("_orig_mod.", "") for name, module in named]
    return [(keys[i], named[i][1], 0 if isotropic else stage_of(keys[i])) for i in places]


def _weight(module: Any) -> Any:
    """Return the weight that a module uses, without changing it.

    In training mode a parametrisation may change its buffers when the weight is read (spectral norm), so it is read in
    evaluation mode. That of a pruned module may be out of date, since pruning computes it in the forward pass.
    """
    if hasattr(module, "weight_orig") and hasattr(module, "weight_mask"):
        return module.weight_orig.detach() * module.weight_mask
    parts = list(module.parametrizations.modules()) if hasattr(module, "parametrizations") else []
    modes = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False
        weight = module.weight
        return weight() if callable(weight) else weight  # a quantised layer has a method
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


def _bias(module: Any) -> Any:
    return module.bias() if callable(module.bias) else module.bias


def graph_layer(key: str, module: Any, stage: int, *, weight: Any = None) -> GraphLayer:
    """Describe the layer of a depthwise module, whose weight is given if it is computed."""
    weight = module.weight if weight is None else weight
    return GraphLayer(
        key=key,
        shape=tuple(int(n) for n in weight.shape),
        stride=_pair(module.stride),
        dilation=_pair(module.dilation),
        multiplier=int(module.out_channels) // int(module.in_channels),
        has_bias=_bias(module) is not None,
        stage=stage,
        experts=int(getattr(module, "num_experts", 0)),
        kernel=_pair(module.kernel_size),
    )


def _read_layer(layer: GraphLayer, module: Any, weight: Any) -> DepthwiseLayer:
    return DepthwiseLayer(
        key=layer.key,
        weight=to_numpy(weight).reshape(-1, *layer.kernel),
        bias=to_numpy(_bias(module)).reshape(-1) if layer.has_bias else None,
        dtype=str(weight.dtype).removeprefix("torch."),
        stride=layer.stride,
        dilation=layer.dilation,
        multiplier=layer.multiplier,
        stage=layer.stage,
    )


def to_numpy(tensor: Any) -> Any:
    """Copy a torch tensor of any float or quantised type and device into a float32 array.

    Raises SourceError: a part of it lies in another process.
    """
    import torch
    from torch.utils._python_dispatch import is_traceable_wrapper_subclass

    if hasattr(tensor, "full_tensor"):  # of torch.distributed: its parts are fetched by all processes or by none
        if tensor.device_mesh.size() > 1 and not all(place.is_replicate() for place in tensor.placements):
            problem = (
                f"has a weight whose parts {counted(tensor.device_mesh.size(), 'process holds', 'processes hold')}"
            )
            remedy = "pass get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))"
            raise SourceError("the network", problem, remedy)
        tensor = tensor.to_local()
    tensor = tensor.dequantize() if tensor.is_quantized or is_traceable_wrapper_subclass(tensor) else tensor
    return np.array(tensor.detach().to("cpu", torch.float32).numpy())


def _skipped(model: Any) -> Counter[str]:
    """Count the grouped convolutions that are not depthwise layers, by reason."""
    import torch

    counts: Counter[str] = Counter()
    for module in model.modules():
        if not isinstance(module, torch.nn.modules.conv._ConvNd) or module.groups == 1 or is_depthwise(module):
            continue
        if module.transposed:
            counts[Why.TRANSPOSED] += 1
        elif module.groups < module.in_channels:
            counts[Why.GROUPED] += 1
        elif len(module.kernel_size) != 2:
            counts[Why.ONE_D if len(module.kernel_size) == 1 else Why.THREE_D] += 1
        else:
            counts[Why.ONE_BY_ONE] += 1
    return counts


def _pair(value: Any) -> tuple[int, int]:
    high, wide = value if isinstance(value, tuple | list) else (value, value)
    return int(high), int(wide)


def stage_of(key: str) -> int:
    """Return the stage in a weight's name, `UNKNOWN` if it has none.

    It is the number after "stage", else that of the outermost numbered container of numbered blocks: 2 for
    `stages.2.downsample.conv.weight` and `blocks.2.0.conv_dw.weight`, none for `blocks.4.conv_dw.weight`.
    """
    stage = re.search(r"stages?[._]?(\d+)\.", key)
    if stage:
        return int(stage[1])
    if re.match(r"(stem|head)", key):
        return UNKNOWN
    numbers = re.findall(r"(?:^|\.)(?:[a-z_]*(?:layers?|blocks|level)_?)?(\d+)(?=\.)", key)
    return int(numbers[0]) if len(numbers) > 1 else UNKNOWN
