"""Run many variants of one network, in each of which other depthwise filters are replaced.

The network is traced into a list of operations (torch.fx) and cut before each layer whose filters are replaced.
Variants with the same filters in the first layers share everything up to the layer where they differ, which is
computed once. Batch normalisation is folded into the convolution before it, and tensors are stored channels last: on
a CPU this takes a third of the time of calling the network. A network that cannot be traced is called as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError

if TYPE_CHECKING:
    import torch
    from torch import nn

Statistics = list[tuple["torch.Tensor", "torch.Tensor"]]
"""Mean and variance of every batch normalisation, in the order of `Program.norms`."""

_CLOSE = 1e-3
"""Largest difference between the logits of the traced network and the network's own, relative to their spread."""


@dataclass(slots=True)
class State:
    """A batch part way through the network, before one of the cuts.

    Attributes
    ----------
    values : of operations before the cut that are used after it.
    start : the operation that comes next.
    seen : index of each batch normalisation so far -> mean and variance of the batch.
    """

    values: dict[Any, Any]
    start: int
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]]


Outcome = tuple["torch.Tensor", dict[int, State], dict[int, tuple["torch.Tensor", "torch.Tensor"]]]
"""Logits, states by layer, and statistics of the batch by index of the normalisation."""


@dataclass(slots=True)
class _Fold:
    """A convolution and the batch normalisation after it, computed as one convolution."""

    conv: Any
    norm: Any
    norm_index: int
    layer: int  # of `names`, -1 for a convolution that keeps its weights
    weight: Any = None  # with the network's own statistics
    bias: Any = None


@dataclass(slots=True)
class Program:
    """A network that runs with replaced filters; made by `build_program`.

    Attributes
    ----------
    model : the copy of the network that is run, in evaluation mode.
    names : modules whose filters can be replaced, in order of execution.
    own : their weights, each (C, 1, kh, kw).
    norms : modules with batch statistics.
    traced : whether variants can share what they have in common.
    """

    model: nn.Module
    names: tuple[str, ...]
    own: list[torch.Tensor]
    norms: list[Any]
    traced: bool
    device: torch.device
    _nodes: list[Any] = field(default_factory=list)
    _cut: dict[int, int] = field(default_factory=dict)
    _live: dict[int, list[Any]] = field(default_factory=dict)
    _last: dict[int, list[Any]] = field(default_factory=dict)
    _folds: dict[Any, _Fold] = field(default_factory=dict)
    _folded: dict[Any, _Fold] = field(default_factory=dict)
    _index: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Number the modules with batch statistics."""
        self._index = {id(norm): i for i, norm in enumerate(self.norms)}

    def run(
        self,
        images: torch.Tensor,
        weights: Sequence[torch.Tensor | None],
        *,
        statistics: Statistics | None = None,
        calibrate: bool = False,
        state: State | None = None,
        keep: frozenset[int] = frozenset(),
    ) -> Outcome:
        """Return the logits of a batch, states before the layers in `keep`, and the batch's statistics.

        Parameters
        ----------
        images : (N, C, H, W), on the device.
        weights : one per layer of `names`; None: the network's own.
        statistics : of batch normalisations; None: the network's own.
        calibrate : normalise by the batch's own statistics, and return them by index of the normalisation.
        state : to continue from; its filters must be those of `weights`.
        keep : layers (indices) before which the state is returned.
        """
        import torch

        with torch.inference_mode():
            if not self.traced:
                found: Outcome = self._run_whole(images, weights, statistics, calibrate)
            else:
                found = self._run_traced(images, weights, statistics, calibrate, state, keep)
            return found

    def rest(self, layer: int) -> float:
        """Return the share of the network from a layer to the end, by number of operations; 1 for a whole network."""
        if not self.traced or layer == 0:
            return 1.0
        at = self._cut[layer] if layer < len(self.names) else len(self._nodes) - 1
        return 1 - at / len(self._nodes)

    def _run_traced(
        self, images: Any, weights: Any, statistics: Any, calibrate: bool, state: State | None, keep: frozenset[int]
    ) -> Any:
        from torch.fx.node import map_arg

        values = dict(state.values) if state else {}
        seen = dict(state.seen) if state else {}
        kept: dict[int, State] = {}
        layer_at = {at: layer for layer, at in self._cut.items()}
        for at in range(state.start if state else 0, len(self._nodes)):
            node = self._nodes[at]
            layer = layer_at.get(at, -1)
            if layer in keep:
                kept[layer] = State({n: values[n] for n in self._live[layer]}, at, dict(seen))
            if node.op == "placeholder":
                values[node] = images if not any(n.op == "placeholder" for n in self._nodes[:at]) else node.args[0]
            elif node.op == "output":
                return map_arg(node.args[0], values.__getitem__), kept, seen
            else:
                args = map_arg(node.args, values.__getitem__)
                kwargs = map_arg(node.kwargs, values.__getitem__)
                values[node] = self._call(node, args, kwargs, weights, statistics, seen if calibrate else None)
            for dead in self._last.get(at, ()):
                values.pop(dead, None)
        raise AssertionError("a traced network has an output")

    def _call(self, node: Any, args: Any, kwargs: Any, weights: Any, statistics: Any, seen: Any) -> Any:
        if node.op == "call_function":
            return node.target(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], node.target)(*args[1:], **kwargs)
        if node.op == "get_attr":
            value: Any = self.model
            for part in node.target.split("."):
                value = getattr(value, part)
            return value
        module = self.model.get_submodule(node.target)
        if seen is None and (fold := self._folds.get(node)) is not None:
            return _with(module, *self._effective(fold, weights, statistics), args)
        if seen is None and (fold := self._folded.get(node)) is not None:
            return _after_norm(fold.norm, args[0])
        index = self._index.get(id(module))
        if index is not None:
            return _normalise(module, index, args, statistics, seen)
        if node.target in self.names and (weight := weights[self.names.index(node.target)]) is not None:
            return _with(module, weight, module.bias, args)
        return module(*args, **kwargs)

    def _effective(self, fold: _Fold, weights: Any, statistics: Any) -> tuple[Any, Any]:
        replaced = weights[fold.layer] if fold.layer >= 0 else None
        if replaced is None and statistics is None:
            return fold.weight, fold.bias
        weight = fold.conv.weight if replaced is None else replaced
        return _folded(weight, fold.conv.bias, fold.norm, statistics[fold.norm_index] if statistics else None)

    def _run_whole(self, images: Any, weights: Any, statistics: Any, calibrate: bool) -> Any:
        modules = [self.model.get_submodule(name) for name in self.names]
        seen: dict[int, tuple[Any, Any]] = {}
        for module, own, weight in zip(modules, self.own, weights, strict=True):
            module.weight.data = own if weight is None else weight
        before = [(norm.running_mean, norm.running_var) for norm in self.norms]
        try:
            for i, norm in enumerate(self.norms):
                if statistics is not None:
                    norm.running_mean, norm.running_var = statistics[i]
                if calibrate:
                    norm.running_mean, norm.running_var = norm.running_mean.clone(), norm.running_var.clone()
                    norm.train()
            logits = self.model(images)
            if calibrate:
                seen = {i: (norm.running_mean, norm.running_var) for i, norm in enumerate(self.norms)}
        finally:
            for norm, (mean, var) in zip(self.norms, before, strict=True):
                norm.eval()
                norm.running_mean, norm.running_var = mean, var
        return logits, {}, seen


def _with(module: Any, weight: Any, bias: Any, args: Any) -> Any:
    """Call a convolution with another weight and bias; it pads as its class does."""
    own = module.weight.data, module.bias
    try:
        module.weight.data = weight
        module.bias = bias
        return module(*args)
    finally:
        module.weight.data, module.bias = own


def _folded(weight: Any, bias: Any, norm: Any, statistics: Any) -> tuple[Any, Any]:
    """Return weight and bias of a convolution with the batch normalisation after it."""
    import torch

    mean, var = statistics or (norm.running_mean, norm.running_var)
    scale = torch.rsqrt(var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -mean * scale if bias is None else (bias - mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return (
        (weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last),
        torch.nn.Parameter(shift, requires_grad=False),
    )


def _after_norm(norm: Any, x: Any) -> Any:
    """Apply what a timm normalisation does after it has normalised."""
    act = getattr(norm, "act", None)
    return x if act is None else act(norm.drop(x))


def _normalise(norm: Any, index: int, args: Any, statistics: Any, seen: Any) -> Any:
    own = norm.running_mean, norm.running_var
    try:
        if statistics is not None:
            norm.running_mean, norm.running_var = statistics[index]
        if seen is None:
            return norm(*args)
        norm.running_mean, norm.running_var = norm.running_mean.clone(), norm.running_var.clone()
        norm.train()  # with momentum 1, running statistics are those of the batch
        out = norm(*args)
        seen[index] = norm.running_mean, norm.running_var
        return out
    finally:
        norm.eval()
        norm.running_mean, norm.running_var = own


def build_program(model: nn.Module, names: Sequence[str], *, device: torch.device, example: torch.Tensor) -> Program:
    """Prepare a network to run with replaced filters; the network itself is not changed.

    Parameters
    ----------
    model : the network.
    names : its depthwise modules, in order of execution as far as it is known.
    example : (N, C, H, W) images of the size that will be used; N >= 2.

    Raises MkfaError: the network does not take the images, or does not return one row of numbers per image.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3, groups=1), torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.BatchNorm2d(4),
    ...     torch.nn.Flatten(), torch.nn.Linear(64, 2),
    ... )
    >>> images = torch.randn(2, 3, 8, 8)
    >>> program = build_program(net, ["1"], device=torch.device("cpu"), example=images)
    >>> program.traced, torch.allclose(program.run(images, [None])[0], net.eval()(images), atol=1e-5)
    (True, True)
    """
    import torch

    own_model: Any = _copied(model).eval().float().to(device)
    own_model.requires_grad_(False)
    own_model = own_model.to(memory_format=torch.channels_last)
    example = example.to(device).contiguous(memory_format=torch.channels_last)
    norms = [m for m in own_model.modules() if _has_statistics(m)]
    for norm in norms:
        norm.momentum = 1.0
    _plain_weights(own_model)
    try:
        with torch.inference_mode():
            expected = own_model(example)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        shape = "x".join(str(n) for n in example.shape[1:])
        problem = f"does not take images of {shape} ({str(error).splitlines()[0][:120]})"
        raise MkfaError(type(own_model).__name__, problem, "give the size that it was trained with (--size)") from error
    if not isinstance(expected, torch.Tensor) or expected.ndim != 2 or expected.shape[1] < 2:
        what = f"a tensor of {tuple(expected.shape)}" if isinstance(expected, torch.Tensor) else type(expected).__name__
        problem = f"returns {what}, where logits (images, classes) are needed"
        raise MkfaError(type(own_model).__name__, problem, "graft a network with a classifier")
    own = [own_model.get_submodule(name).weight.detach().clone() for name in names]
    program = Program(own_model, tuple(names), own, norms, False, device)
    traced = _traced(program)
    if traced is not None:
        with torch.inference_mode():
            found = traced.run(example, [None] * len(traced.names))[0]
        if found.shape == expected.shape and bool(
            (found - expected).abs().max() <= _CLOSE * max(float(expected.std()), 1e-6)
        ):
            return traced
    return program


def _copied(model: Any) -> Any:
    """Copy a network; pruned and normalised weights are results of a computation, which PyTorch does not copy."""
    import torch

    computed = [
        (module, name, value)
        for module in model.modules()
        for name, value in module.__dict__.items()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    ]
    try:
        for module, name, value in computed:
            module.__dict__[name] = value.detach()
        return copy.deepcopy(model)
    finally:
        for module, name, value in computed:
            module.__dict__[name] = value


def _plain_weights(model: Any) -> None:
    """Turn weights that are computed from others (weight norm, spectral norm, pruning) into plain ones."""
    import torch
    from torch.nn.utils import parametrize
    from torch.nn.utils.prune import remove as unprune

    for part in model.modules():
        module: Any = part
        if not isinstance(module, torch.nn.Conv2d):
            continue
        if parametrize.is_parametrized(module):
            # not by remove_parametrizations: it changes the module's class, which the network itself has too
            computed: Any = module.parametrizations
            values = {name: getattr(module, name).detach() for name in computed}
            del module.parametrizations
            module.__class__ = type(module).__mro__[1]
            for name, value in values.items():
                module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
        if hasattr(module, "weight_mask"):
            unprune(module, "weight")  # type: ignore[no-untyped-call]
        if hasattr(module, "weight_g"):
            torch.nn.utils.remove_weight_norm(module)


def _has_statistics(module: Any) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _traced(program: Program) -> Program | None:
    """Return the program as a list of operations; None if the network cannot be traced, or calls a layer twice."""
    from torch import fx

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: Any, module_qualified_name: str) -> bool:
            import torch

            known = (torch.nn.Conv2d, torch.nn.modules.batchnorm._BatchNorm, *_untraced())
            return isinstance(m, known) or super().is_leaf_module(m, module_qualified_name)

    try:
        graph = Tracer().trace(program.model)
    except Exception:  # tracing runs the network's own code, which may do anything
        return None
    nodes = [n for n in graph.nodes if n.op == "output" or n.users or n.op == "placeholder"]
    place = {node: i for i, node in enumerate(nodes)}
    calls: dict[str, list[Any]] = {}
    for node in nodes:
        if node.op == "call_module":
            calls.setdefault(node.target, []).append(node)
    if any(len(calls.get(name, ())) != 1 for name in program.names):
        return None
    names = sorted(program.names, key=lambda name: place[calls[name][0]])
    own = dict(zip(program.names, program.own, strict=True))
    cut = {layer: place[calls[name][0]] for layer, name in enumerate(names)}
    last: dict[int, list[Any]] = {}
    until = {node: max((place[u] for u in node.users if u in place), default=i) for i, node in enumerate(nodes)}
    for node, at in until.items():
        last.setdefault(at, []).append(node)
    live = {layer: [n for n, end in until.items() if place[n] < at <= end] for layer, at in cut.items()}
    _keep_values(program.model, nodes, calls)
    folds, folded = _folds_of(program, nodes, calls, names)
    return Program(
        program.model,
        tuple(names),
        [own[name] for name in names],
        program.norms,
        True,
        program.device,
        nodes,
        cut,
        live,
        last,
        folds,
        folded,
    )


def _untraced() -> tuple[type, ...]:
    """Return timm's modules that torch.fx must not look into."""
    try:
        from timm.models._features_fx import get_notrace_modules
    except ImportError:
        return ()
    return tuple(get_notrace_modules())  # type: ignore[no-untyped-call]


def _keep_values(model: Any, nodes: Sequence[Any], calls: dict[str, list[Any]]) -> None:
    """Stop operations from changing their input, which another variant may need; directly after a layer they may."""
    import operator

    import torch

    plain = {
        operator.iadd: operator.add,
        operator.imul: operator.mul,
        operator.isub: operator.sub,
        operator.itruediv: operator.truediv,
    }
    layers = (torch.nn.Conv2d, torch.nn.modules.batchnorm._BatchNorm)
    for node in nodes:
        if node.op == "call_function":
            node.target = plain.get(node.target, node.target)
            if node.kwargs.get("inplace"):
                node.kwargs = {**node.kwargs, "inplace": False}
        elif node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
            if hasattr(torch.Tensor, node.target[:-1]):
                node.target = node.target[:-1]
        elif node.op == "call_module":
            module = model.get_submodule(node.target)
            source: Any = node.args[0] if node.args else None
            after_layer = (
                getattr(source, "op", "") == "call_module"
                and isinstance(model.get_submodule(source.target), layers)
                and len(source.users) == 1
                and len(calls[node.target]) == 1
            )
            for part in module.modules():
                if getattr(part, "inplace", False) is True and not after_layer:
                    part.inplace = False


def _folds_of(program: Program, nodes: Sequence[Any], calls: Any, names: Sequence[str]) -> Any:
    """Return the convolutions that batch normalisation is folded into, by their own node and by the norm's node.

    Only where each is called once and nothing else uses the convolution's output.
    """
    import torch

    with_act = _timm_norm()
    folds: dict[Any, _Fold] = {}
    folded: dict[Any, _Fold] = {}
    for node in nodes:
        if node.op != "call_module" or len(node.users) != 1 or len(calls[node.target]) != 1 or node.kwargs:
            continue
        conv, after = program.model.get_submodule(node.target), next(iter(node.users))
        if not isinstance(conv, torch.nn.Conv2d) or after.op != "call_module" or len(calls[after.target]) != 1:
            continue
        norm = program.model.get_submodule(after.target)
        if type(norm) not in (torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm, *with_act) or not _has_statistics(norm):
            continue
        index = next(i for i, other in enumerate(program.norms) if other is norm)
        layer = names.index(node.target) if node.target in names else -1
        fold = _Fold(conv, norm, index, layer)
        with torch.inference_mode():
            fold.weight, fold.bias = _folded(conv.weight, conv.bias, norm, None)
        folds[node] = folded[after] = fold
    return folds, folded


def _timm_norm() -> tuple[type, ...]:
    try:
        from timm.layers.norm_act import BatchNormAct2d
    except ImportError:
        return ()
    return (BatchNormAct2d,)
