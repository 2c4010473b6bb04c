"""Find the network that filters are grafted into: timm's, torchvision's or one in memory, with its weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.array_types import F32
from mkfa.errors import MkfaError, SourceError, UnknownNameError, WorkError, nearest, one_line
from mkfa.grafts.preprocessing import Changes, Preprocessing, Transform, assumed, changed, of_timm, of_torchvision
from mkfa.storage.files import sha256_of
from mkfa.words import counted

if TYPE_CHECKING:
    from torch import nn

TORCHVISION = "torchvision:"
"""Prefix of a name that means torchvision's network where timm has one of the same name."""

_STATISTICS = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network with its preprocessing and the names of its classes.

    Attributes
    ----------
    name : str
    model : the network.
    preprocessing : how images are prepared.
    labels : names of the classes as a folder would call them (WordNet ids of ImageNet), in order of the logits; () if
        they are not known.
    source : where its weights come from, in words.
    sha256 : of the file of weights, "" if there is none.
    notes : sentences for the reader.
    """

    name: str
    model: nn.Module
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    source: str
    sha256: str = ""
    notes: tuple[str, ...] = ()


def find_network(
    network: str | Path | nn.Module,
    *,
    weights: str | Path | None = None,
    changes: Changes | None = None,
    transform: Transform | None = None,
) -> Network:
    """Return a network with its weights and its preprocessing.

    Parameters
    ----------
    network : str, Path or torch.nn.Module
        A timm name, with or without tag; a torchvision name ("torchvision:NAME" where timm has one of that name too);
        "hf-hub:OWNER/NAME"; or a network in memory.
    weights : checkpoint with its weights (safetensors or PyTorch); None: the published ones, which are downloaded. No
        code of a checkpoint runs.
    changes : of its preprocessing.
    transform : instead of its preprocessing, from an RGB image to (C, H, W) float32.

    Raises
    ------
    UnknownNameError
        Neither timm nor torchvision has that name.
    SourceError
        The checkpoint is not readable or does not fit the network.
    WorkError
        The weights cannot be downloaded.
    """
    if not isinstance(network, str | Path):
        found = _in_memory(network, weights)
    else:
        name = str(network)
        if name.startswith(TORCHVISION) or not _is_timm(name):
            found = _torchvision(name.removeprefix(TORCHVISION), weights)
        else:
            found = _timm(name, weights)
    own = found.preprocessing
    if transform is not None:
        own = Preprocessing(own.size, own.crop_pct, own.interpolation, own.mean, own.std, "given", transform=transform)
    prepared = changed(own, changes or Changes())
    return Network(found.name, found.model, prepared, found.labels, found.source, found.sha256, found.notes)


def _is_timm(name: str) -> bool:
    import timm

    return name.startswith("hf-hub:") or timm.is_model(name.split(".")[0])


def _in_memory(model: Any, weights: str | Path | None) -> Network:
    from torch import nn

    from mkfa.readers.modules import module_name, unwrapped

    if not isinstance(model, nn.Module):
        problem = f"is a {type(model).__name__}"
        raise MkfaError("network", problem, "pass a timm or torchvision name, or a torch.nn.Module")
    if weights is not None:
        raise MkfaError("weights", "was given for a network in memory, which has its own", "leave it out")
    model = unwrapped(model)
    config = getattr(model, "pretrained_cfg", None)
    stated = isinstance(config, Mapping) and "mean" in config
    prepared = of_timm(model) if stated and not hasattr(model, "image_shape") else assumed(model)
    return Network(module_name(model), model, prepared, _imagenet_labels(model) if stated else (), "memory")


def _timm(name: str, weights: str | Path | None) -> Network:
    import timm

    def make(**options: Any) -> Any:
        try:
            return timm.create_model(name, **options)
        except (RuntimeError, ValueError) as error:
            remedy = nearest(name, timm.list_pretrained(f"{name.split('.')[0]}*")) or "leave the tag out"
            raise UnknownNameError(name, f"cannot be built by timm ({one_line(str(error))[:120]})", remedy) from error

    if weights is None:
        try:
            model = make(pretrained=True)
        except MkfaError:
            raise
        except Exception as error:  # the hub's client has many errors of its own
            raise _not_fetched(name, error) from error
        return Network(name, model, of_timm(model), _imagenet_labels(model), f"timm's published weights of {name}")
    if name.startswith("hf-hub:"):
        raise MkfaError(name, "is a repository with weights of its own", "leave --weights out, or give a timm name")
    model, notes, digest = _with_checkpoint(make, Path(weights).expanduser())
    labels = _imagenet_labels(model)
    return Network(name, model, of_timm(model), labels, str(weights), digest, notes)


def _torchvision(name: str, weights: str | Path | None) -> Network:
    import timm
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        remedy = nearest(name, [*timm.list_models(), *known]) or "choose from timm.list_models() or torchvision's"
        raise UnknownNameError(name, "unknown network, neither in timm nor in torchvision", remedy)
    entries = list(models.get_model_weights(name))
    labels = _labels_of("imagenet-1k")
    if weights is None:
        try:
            model = models.get_model(name, weights="DEFAULT")
        except Exception as error:  # torch.hub's and urllib's
            raise _not_fetched(name, error) from error
        entry = models.get_model_weights(name).DEFAULT
        return Network(name, model.eval(), of_torchvision(entry), labels, f"torchvision's {entry}")
    path = Path(weights).expanduser()
    model, notes, digest = _with_checkpoint(lambda **o: models.get_model(name, weights=None, **o), path)
    named = [e for e in entries if e.url.rsplit("/")[-1] == path.name]
    entry = (named or entries)[0]
    if not named and len(entries) > 1:
        others = ", ".join(e.name for e in entries)
        notes = (
            *notes,
            f"{path.name} is not one of torchvision's own files ({others}); the first one's transforms are used.",
        )
    known_classes = labels if _classes(model) == len(labels) else ()
    return Network(name, model, of_torchvision(entry), known_classes, str(weights), digest, notes)


def _not_fetched(name: str, error: Exception) -> WorkError:
    problem = f"its weights could not be downloaded ({one_line(str(error))[:120]})"
    return WorkError(name, problem, "check the network, or give a checkpoint: --weights FILE")


def _imagenet_labels(model: Any) -> tuple[str, ...]:
    from timm.data.imagenet_info import infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    labels = _labels_of(subset) if subset else ()
    return labels if len(labels) == _classes(model) else ()


def _labels_of(subset: str) -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_names())  # type: ignore[no-untyped-call]


def _classes(model: Any) -> int:
    """Return the number of outputs of the last linear layer, 0 if there is none."""
    import torch

    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    return int(linear[-1].out_features) if linear else 0


def _with_checkpoint(make: Any, path: Path) -> tuple[Any, tuple[str, ...], str]:
    """Return the network that `make` builds with the weights of a checkpoint, notes, and the file's digest."""
    import torch

    tensors = read_tensors(path)
    model = make()
    wanted = _parameters(model)
    found = _match(tensors, wanted, model)
    if found is None and (classes := _other_classes(tensors, wanted)):
        model = make(num_classes=classes)
        wanted = _parameters(model)
        found = _match(tensors, wanted, model)
    if found is None:
        raise SourceError(path, _misfit(tensors, wanted), "name the architecture that these weights belong to")
    matched, notes = found
    state = {key: torch.from_numpy(value).reshape(wanted[key]) for key, value in matched.items()}
    model.load_state_dict(state, strict=False)
    return model.eval(), notes, sha256_of(path)


def read_tensors(path: Path) -> dict[str, F32]:
    """Return all float tensors of a checkpoint by key, without running anything in it.

    Raises SourceError: the file is missing, damaged or neither a safetensors nor a PyTorch file.
    """
    from mkfa.readers.formats import looks_like_safetensors
    from mkfa.readers.reading import read_head
    from mkfa.readers.tensors.pytorch import open_torch
    from mkfa.readers.tensors.safetensors import open_safetensors

    if path.is_dir():
        raise SourceError(path, "is a folder", "give the checkpoint in it")
    file: Any = open_safetensors(path) if looks_like_safetensors(read_head(path, 512), path) else open_torch(path)
    keys = [key for key, info in file.tensors.items() if info.dtype in ("float32", "float16", "bfloat16", "float64")]
    if not keys:
        keys = [key for key, info in file.tensors.items() if info.dtype.upper() in ("F32", "F16", "BF16", "F64")]
    if not keys:
        raise SourceError(path, "has no float tensors", "give a checkpoint with weights")
    return dict(file.read(keys))


def _parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what a checkpoint must have: all weights, biases and batch statistics."""
    state = model.state_dict()
    return {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point() and not k.endswith(_STATISTICS)}


def _match(
    tensors: Mapping[str, F32], wanted: Mapping[str, tuple[int, ...]], model: Any
) -> tuple[dict[str, F32], tuple[str, ...]] | None:
    """Return the checkpoint's tensors by the network's names and a note; None if they do not fit.

    By name, behind any prefix; after timm's own renaming for this family; or in order, where all shapes agree.
    """
    if (named := _by_name(tensors, wanted)) is not None:
        return named
    if (renamed := _by_timm(tensors, wanted, model)) is not None:
        return renamed, ("Names of the weights were translated by timm.",)
    order = [key for key in tensors if not key.endswith(_STATISTICS)]
    if [tensors[key].shape for key in order] == list(wanted.values()):
        note = "The checkpoint's names differ from the network's; weights were matched in order, and all shapes agree."
        return dict(zip(wanted, (tensors[key] for key in order), strict=True)), (note,)
    return None


def _by_name(
    tensors: Mapping[str, F32], wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, F32], tuple[str, ...]] | None:
    first = next(iter(wanted))
    prefixes = [
        key[: -len(first)] for key in tensors if key.endswith(first) and (key == first or key[-len(first) - 1] == ".")
    ]
    fitting = [
        prefix
        for prefix in prefixes
        if all(prefix + key in tensors and tensors[prefix + key].shape == shape for key, shape in wanted.items())
    ]
    if not fitting:
        return None
    prefix = next((p for p in fitting if "ema" in p.lower()), fitting[0])
    notes = (f"Of {len(fitting)} sets of weights, {prefix.rstrip('.')} was taken.",) if len(fitting) > 1 else ()
    return {key: tensors[prefix + key] for key in wanted}, notes


def _by_timm(tensors: Mapping[str, F32], wanted: Mapping[str, tuple[int, ...]], model: Any) -> dict[str, F32] | None:
    """Return the tensors renamed by timm's converter for this family of networks."""
    import sys

    import torch

    convert = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return None
    for prefix in _wrappers(tensors):
        inner = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in tensors.items() if k.startswith(prefix)}
        try:
            converted = {k: v.numpy() for k, v in convert(inner, model).items() if v.is_floating_point()}
        except (KeyError, RuntimeError, ValueError, AttributeError, TypeError):
            continue
        if all(key in converted and converted[key].shape == shape for key, shape in wanted.items()):
            return {key: converted[key] for key in wanted}
    return None


def _wrappers(tensors: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    heads = {key.split(".")[0] for key in tensors}
    if len(heads) <= 3:
        yield from sorted(f"{head}." for head in heads)


def _other_classes(tensors: Mapping[str, F32], wanted: Mapping[str, tuple[int, ...]]) -> int:
    """Return the number of classes of a checkpoint whose last bias alone tells them; 0 if it does not."""
    last = [v for k, v in tensors.items() if k.endswith("bias") and v.ndim == 1]
    own = [s for k, s in wanted.items() if k.endswith("bias")]
    return int(last[-1].shape[0]) if last and own and last[-1].shape != own[-1] else 0


def _misfit(tensors: Mapping[str, F32], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Say how a checkpoint differs from the network."""
    ends = {re.sub(r"^(module|model|state_dict|model_ema|ema)\.", "", key): v.shape for key, v in tensors.items()}
    if lacking := [key for key in wanted if key not in ends]:
        lacks = f"lacks {len(lacking)} of the network's {len(wanted)}, first {lacking[0]}"
        return f"has {counted(len(tensors), 'tensor')}, and {lacks}"
    odd = next((k for k, shape in wanted.items() if ends[k] != shape), next(iter(wanted)))
    return f"has {odd} of shape {_x(ends[odd])}, where the network has {_x(wanted[odd])}"


def _x(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape) or "one number"
