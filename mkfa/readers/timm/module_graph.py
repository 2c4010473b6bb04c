"""Depthwise layers of a timm architecture, from its modules on torch's meta device.

The network is built without weights; one forward pass on the meta device gives the order of execution.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mkfa.errors import UnknownNameError, nearest
from mkfa.frozen import FrozenDict
from mkfa.readers.modules import depthwise_modules, graph_layer, in_order, output_sizes
from mkfa.readers.reading import GraphLayer


@dataclass(frozen=True, slots=True)
class ModuleGraph:
    """The depthwise layers of one architecture.

    Attributes
    ----------
    layers : in order of execution if `order` is "forward", in order of definition if it is "definition".
    aliases : other name -> name, for weights that a state dict has more than once (tied modules).
    names : `names_digest` of the state dict.
    """

    architecture: str
    layers: tuple[GraphLayer, ...]
    order: str
    aliases: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    names: str = ""


def names_digest(keys: Iterable[str]) -> str:
    """Return a short digest of a state dict's names, in any order, without counters of batches."""
    text = "\n".join(sorted(key for key in keys if not key.endswith("num_batches_tracked")))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def module_graph(architecture: str) -> ModuleGraph:
    """Build `architecture` on the meta device and return its depthwise layers; takes seconds.

    Raises UnknownNameError: the installed timm does not have it or cannot build it.
    """
    with quiet_timm():
        model = meta_model(architecture)
        named = depthwise_modules(model)
        size = tuple(model.pretrained_cfg.get("input_size") or (3, 224, 224))
        sizes = output_sizes(model, [module for _, module in named], [(1, *size)]) if named else {}
    layers = [graph_layer(*item) for item in in_order(named, sizes)]
    aliases = _aliases(model, [layer.key for layer in layers])
    names = names_digest(model.state_dict())
    return ModuleGraph(architecture, tuple(layers), "forward" if sizes else "definition", aliases, names)


def meta_model(architecture: str) -> Any:
    """Return the timm model (torch.nn.Module, evaluation mode) with all parameters on the meta device."""
    import timm
    import torch

    if not timm.is_model(architecture):
        raise _unknown(architecture)
    try:
        with torch.device("meta"):
            return timm.create_model(architecture, pretrained=False).eval()
    except Exception as error:  # constructors raise errors of any kind
        problem = f"cannot be built by timm {timm.__version__} ({type(error).__name__})"
        raise UnknownNameError(architecture, problem, "upgrade timm or choose another architecture") from error


def renamed_keys(architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Map timm's names of weights to those of a file, through the key filter of the architecture's family.

    The filter runs on meta tensors; a tensor that it only renames stays the same object. Tensors that it changes
    (reshapes, sums) are not in the result; {} if there is no filter or it fails.
    """
    import torch

    with quiet_timm():
        model, keep = _model_and_filter(architecture)
        if keep is None:
            return {}
        tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
        names = {id(tensor): key for key, tensor in tensors.items()}
        try:
            with torch.no_grad():
                passed = keep(dict(tensors), model)
        except Exception:  # a filter may fail anywhere on a file that is not its family's
            return {}
    return {str(name): names[id(tensor)] for name, tensor in passed.items() if id(tensor) in names}


def _model_and_filter(architecture: str) -> tuple[Any, Any]:
    """Return the meta model and the `pretrained_filter_fn` that its constructor passes to timm, or None.

    timm does not store the function, so the call is intercepted.
    """
    from timm.models._registry import _model_to_module

    caught: list[Any] = []
    module = importlib.import_module(f"timm.models.{_model_to_module.get(architecture, '_builder')}")
    build = getattr(module, "build_model_with_cfg", None)
    if build is None:
        return meta_model(architecture), None

    def watched(*args: Any, **kwargs: Any) -> Any:
        caught.append(kwargs.get("pretrained_filter_fn"))
        return build(*args, **kwargs)

    module.build_model_with_cfg = watched  # type: ignore[attr-defined]
    try:
        model = meta_model(architecture)
    finally:
        module.build_model_with_cfg = build  # type: ignore[attr-defined]
    return model, caught[0] if caught else None


def architectures() -> list[str]:
    """Return the names of all architectures of the installed timm except deprecated ones."""
    import timm

    return [str(name) for name in timm.list_models()]


def deprecated_names() -> dict[str, str]:
    """Map timm's deprecated names to present ones (`architecture` or `architecture.tag`)."""
    from timm.models._registry import get_deprecated_models

    return {str(old): str(new) for old, new in get_deprecated_models().items() if new}


def tags_of(architecture: str) -> list[dict[str, Any]]:
    """Return the pretrained tags of an architecture of the installed timm, its default first; [] without weights.

    Each has, if timm records them, tag, hub, file, url, licence, first_conv (of one-channel networks) and classes.
    Raises UnknownNameError for an unknown architecture.
    """
    import timm
    from timm.models import get_pretrained_cfg
    from timm.models._registry import get_arch_pretrained_cfgs

    if not timm.is_model(architecture):
        raise _unknown(architecture)
    with quiet_timm():
        default = get_pretrained_cfg(architecture)
        cfgs = get_arch_pretrained_cfgs(architecture)
    first = (default.tag or "") if default and default.has_weights else ""  # in timm, no tag is the default tag
    tags = [_tag(cfg) for cfg in cfgs.values() if cfg.has_weights]
    return sorted(tags, key=lambda entry: entry.get("tag", "") != first)


def _tag(cfg: Any) -> dict[str, Any]:
    """Return the needed parts of a pretrained configuration, without empty and usual values."""
    url = cfg.url[0] if isinstance(cfg.url, tuple | list) else cfg.url
    entry = {
        "tag": cfg.tag,
        "hub": cfg.hf_hub_id,
        "file": cfg.hf_hub_filename,
        "url": None if cfg.hf_hub_id else url,
        "licence": cfg.license,
        "first_conv": cfg.first_conv if cfg.input_size[0] == 1 else None,
        "classes": cfg.num_classes or None,
    }
    return {key: value for key, value in entry.items() if value is not None}


@contextlib.contextmanager
def quiet_timm() -> Iterator[None]:
    """Silence the warnings of timm and torch (deprecated names, meta kernels)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _unknown(architecture: str) -> UnknownNameError:
    remedy = nearest(architecture, architectures()) or "timm.list_models() lists the names"
    return UnknownNameError(architecture, "is not an architecture of the installed timm", remedy)


def _aliases(model: Any, keys: list[str]) -> Mapping[str, str]:
    """Map the other names of tied weights to the first one."""
    state = model.state_dict(keep_vars=True)
    first, known = {id(state[key]): key for key in keys}, set(keys)
    return FrozenDict({k: first[id(value)] for k, value in state.items() if id(value) in first and k not in known})
