"""Which file of a folder is the network: by the conventions of the programs that write checkpoints, and said.

Left aside is what trainers store beside the weights (Hugging Face Trainer, Accelerate, DeepSpeed: optimiser, scheduler,
random states). Files that differ in format or precision only (`model.safetensors` and `pytorch_model.bin`,
`NAME.fp16.safetensors`) are one network. Of several states of one training, the best by its name is taken, else the
last, by its name, by what `last_checkpoint` (mmengine, detectron2) or `trainer_state.json` say, or by its number.
Several networks are refused, by name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.graphs.keras_shards import INDEX as KERAS_INDEX
from mkfa.readers.graphs.keras_shards import shards_of
from mkfa.readers.graphs.tfjs import is_tfjs
from mkfa.readers.graphs.tfjs import shards_of as shards_of_web
from mkfa.readers.tensors.shard_names import INDEX, families, missing, shard_name
from mkfa.readers.tensors.shards import are_networks, json_file, open_any
from mkfa.storage.files import read_regular
from mkfa.storage.json_text import parse_json
from mkfa.words import counted

DEEPEST = 3
"""Folders below the given one that are looked into, if there is no checkpoint above."""

PIPELINE = "model_index.json"
"""The file that makes a folder a pipeline of several networks (diffusers)."""

_TENSORS = (".safetensors", ".bin", ".pth", ".pt", ".pt2", ".ckpt")
_FORMATS = (*_TENSORS, ".onnx", ".tflite", ".keras", ".h5", ".pdparams", ".pkl")
"""Endings of checkpoints, the preferred one first; `.tar` behind them is ignored."""
_WEB_MODEL = "model.json"
"""What TensorFlow.js calls a model, whose shards lie beside it."""
_PART = re.compile(r".+\.part\d+")
_INCOMPLETE = 100
"""Added to the rank of shards of which some are missing."""
_VARIANT = re.compile(r"(?P<stem>.+)[._-](?P<variant>fp16|bf16|fp32|float16|float32|bfloat16|half|int8|non_ema)", re.I)
_FRAMEWORK = re.compile(r"^((?:open_clip_)?)(?:pytorch|tf|flax)_(?=model($|_\d))")
"""What names of Hugging Face have before "model" in formats other than safetensors."""
_ASIDE = re.compile(
    r"(.*[-_])?(optim(izer)?(_states?)?|(lr_?)?scheduler|(grad_?)?scaler|sampler|dl_state_dict|train(ing|er)?_args|args|"
    r"rng_states?|random_states?|custom_checkpoint|train(er|ing)_state)([-_.]?\d+)*",
    re.I,
)
_BEST, _LAST = frozenset({"best"}), frozenset({"last", "latest", "final"})
_COUNTED = frozenset(
    {"epoch", "ep", "step", "steps", "iter", "iters", "iteration", "checkpoint", "ckpt", "model", "global"}
)
_COUNTED |= {"recovery", "snapshot", "resume"}
_PLAIN = frozenset({"weights", "state", "dict", "net", "network", "ema"})
_COPIES = re.compile(r"optim|exp_avg|momentum|ema", re.I)
_AVERAGE = re.compile(r"model[-_.]?ema|ema([-_.]?model)?", re.I)
_MOST_COMPARED = 24


@dataclass(frozen=True, slots=True)
class Chosen:
    """The file or folder that was chosen, sentences on the choice, and "raw" or "ema" if names tell both copies."""

    path: Path
    notes: tuple[str, ...] = ()
    copy: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    """A file that may be a network: `stem` is its name without format and precision."""

    name: str
    stem: str
    variant: str
    rank: int


@dataclass(frozen=True, slots=True)
class _State:
    """What a name says of a state of a training; `rest` are the words that are not about that."""

    best: bool
    last: bool
    ema: bool
    numbers: tuple[int, ...]
    rest: tuple[str, ...]


def choose(folder: Path, *, prefer_ema: bool = False) -> Chosen:
    """Choose the network of a folder.

    Parameters
    ----------
    prefer_ema : of two states that differ only in "ema", take that one.

    Raises SourceError: the folder cannot be read, has no checkpoint, only shards without an index, or several networks.
    """
    return _choose(folder, DEEPEST, prefer_ema)


def _choose(folder: Path, depth: int, ema: bool) -> Chosen:
    names = _names(folder)
    listed = _listed(folder, names)
    files = _files([name for name in names if name not in listed], folder)
    if files:
        return _of_files(folder, files, names, ema)
    if _WEB_MODEL in names and is_tfjs(folder / _WEB_MODEL):
        return Chosen(folder / _WEB_MODEL)
    inner = _inner(folder, names, depth)
    if len(inner) > 1 and PIPELINE in names:
        problem = f"is a pipeline of {counted(len(inner), 'network')} ({', '.join(inner)})"
        raise SourceError(folder, problem, f"name one of them, such as {folder / inner[0]}")
    if inner:
        name, why = _of_states(folder, inner, ema)
        below = _choose(folder / name, depth - 1, ema)
        others = [other for other in inner if other != name]
        return Chosen(below.path, (*_note(name, why, others), *below.notes), below.copy)
    if any(name.endswith(".distcp") for name in names):
        return Chosen(folder / ".metadata")
    inside = [name for name in names if (folder / name).is_dir()]  # Accelerate writes one beside its own files
    if inside := [name for name in inside if any(inner.endswith(".distcp") for inner in _names(folder / name))]:
        networks = [name for name in inside if not _ASIDE.fullmatch(name)]
        if len(networks) > 1:
            raise _several(folder, networks)
        return Chosen(folder / (networks or inside)[0] / ".metadata")
    if any(_PART.fullmatch(_stripped(name)) for name in names if name.endswith(_FORMATS)):
        problem = "has parts of a checkpoint, but not the index that lists them (*.index.json)"
        raise SourceError(folder, problem, "fetch the index too")
    raise SourceError(
        folder, "is a folder without a checkpoint", "name a file, or a folder with model.safetensors in it"
    )


def parts_of_pipeline(folder: Path) -> list[Path]:
    """Return the folders of the networks of a pipeline (diffusers), [] for other folders and for a single network."""
    names = _names(folder)
    inner = _inner(folder, names, DEEPEST) if PIPELINE in names and not _files(names) else []
    return [folder / name for name in inner] if len(inner) > 1 else []


def is_saved_model(folder: Path) -> bool:
    """True for a folder of TensorFlow (SavedModel, TensorFlow.js before version 1) without a checkpoint beside it."""
    names = _names(folder)
    kept = {"saved_model.pb", "saved_model.pbtxt", "tensorflowjs_model.pb"} & set(names)
    return bool(kept) and not _files(names) and _WEB_MODEL not in names


def _listed(folder: Path, names: Iterable[str]) -> set[str]:
    """Return the shards that the folder's indexes list; an index that cannot be read is left to its reader."""
    shards = set(shards_of_web(folder / _WEB_MODEL)) if _WEB_MODEL in names else set[str]()
    for name in names:
        if name.endswith(KERAS_INDEX):
            with contextlib.suppress(SourceError):
                shards |= set(shards_of(folder / name))
        elif INDEX.fullmatch(name):
            with contextlib.suppress(SourceError, LookupError, AttributeError, TypeError):
                shards |= set(json_file(folder / name)["weight_map"].values()) if (folder / name).is_file() else set()
    return shards


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise SourceError(folder, f"cannot be read ({error.strerror or error})", "check its permissions") from error


def _files(names: Iterable[str], folder: Path | None = None) -> list[_File]:
    """Return the files of a folder that may be networks; pickles of any kind (.pkl) only if there is nothing else.

    Of shards that belong together it is the first. With `folder` their tensors decide whether they belong together.
    """
    names = list(names)
    found: list[_File] = []
    later, lacking, apart = set[str](), set[str](), set[str]()
    for shards in families(names).values():
        if folder is None or not _are_networks([folder / shard.name for shard in shards]):
            later |= {shard.name for shard in shards[1:]}
            lacking |= {shards[0].name} if missing(shards) else set()
        else:
            apart |= {shard.name for shard in shards}
    for name in names:
        if name in later:
            continue
        index = INDEX.fullmatch(name)
        if index:
            stem, rank = index["stem"], _FORMATS.index(f".{index['format']}") * 2 + 1
            found.append(_File(name, _FRAMEWORK.sub(r"\1", stem), index["variant"] or "", rank))
            continue
        if name.endswith(KERAS_INDEX):
            stem, rank = name.removesuffix(KERAS_INDEX), 2 * _FORMATS.index(".h5") + 1
            found.append(_File(name, _FRAMEWORK.sub(r"\1", stem), "", rank))
            continue
        plain = name.removesuffix(".tar")
        ending = next(
            (ending for ending in _FORMATS if plain.lower().endswith(ending)), ".tar" if plain != name else ""
        )
        stem = plain.removesuffix(ending) if name in apart else _stripped(name)
        if not ending or not stem or _PART.fullmatch(stem) or _ASIDE.fullmatch(stem):
            continue
        variant = _VARIANT.fullmatch(stem)
        stem, kind = (variant["stem"], variant["variant"]) if variant else (stem, "")
        rank = 2 * (_FORMATS.index(ending) if ending in _FORMATS else len(_FORMATS)) + _INCOMPLETE * (name in lacking)
        found.append(_File(name, _FRAMEWORK.sub(r"\1", stem), kind, rank))
    return [file for file in found if not file.name.endswith(".pkl")] or found


def _are_networks(paths: Sequence[Path]) -> bool:
    try:
        return are_networks(paths)
    except MkfaError:  # what is wrong with a shard is said when it is read
        return False


def _stripped(name: str) -> str:
    """Return a file's name without the ending of a format, by which forms of one network are known as such.

    The names of banks follow another rule (`mkfa.readers.harvesting.network_name`) and must: net.weights.h5 and
    net.keras are forms of "net", but a bank of the first has always been called "net.weights"; and a file of an unknown
    ending, whose bank is named without it, is no form of a checkpoint.
    """
    if shard := shard_name(name):
        return shard.stem
    name = name.removesuffix(".tar")
    for ending in (".weights.h5", *_FORMATS):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _inner(folder: Path, names: Iterable[str], depth: int) -> list[str]:
    """Return the folders in a folder that have a checkpoint in or below them."""
    if depth < 1:
        return []
    return [name for name in names if (folder / name).is_dir() and _has_any(folder / name, depth - 1)]


def _has_any(folder: Path, depth: int) -> bool:
    try:
        names = _names(folder)
    except SourceError:
        return False
    return bool(_files(names)) or _WEB_MODEL in names or bool(_inner(folder, names, depth))


def _of_files(folder: Path, files: Sequence[_File], names: Sequence[str], ema: bool) -> Chosen:
    groups: dict[str, list[_File]] = {}
    for file in sorted(files, key=lambda file: (bool(file.variant), file.rank, file.name)):
        groups.setdefault(file.stem, []).append(file)
    firsts = {stem: group[0].name for stem, group in groups.items()}
    others = [name for stem, name in firsts.items() if stem != "model"]
    if "model" in groups and any(re.fullmatch(r"model_\d+", stem) for stem in groups):
        raise _several(folder, list(firsts.values()))  # Accelerate writes so what it prepared together
    averaged = {name for stem, name in firsts.items() if "ema" in _words(stem)}
    if "model" in groups and ema and (twin := next((stem for stem in firsts if _AVERAGE.fullmatch(stem)), "")):
        name, why = firsts[twin], "the averaged copy by its name"
        others = [other for other in firsts.values() if other != name]
    elif "model" in groups:
        name, why = firsts["model"], "the usual name of a network's weights"
    elif len(groups) == 1:
        name, why = next(iter(firsts.values())), ""
    else:
        name, why = _of_states(folder, list(firsts.values()), ema)
        others = [other for other in firsts.values() if other != name]
    stem = next(stem for stem, first in firsts.items() if first == name)
    twins = [file.name for file in groups[stem][1:]]
    notes = list(_note(name, why, others if why else []))
    if twins:
        verb = "is" if len(twins) == 1 else "are"
        notes.append(f"{name} was taken; {', '.join(twins)} {verb} by name the same network in another form.")
    aside = [name for name in names if _ASIDE.fullmatch(_stripped(name)) and name.endswith((*_FORMATS, ".tar"))]
    if aside and not notes:
        notes.append(f"{name} was taken; the other files are not weights by their names ({_few(aside)}).")
    copies = "ema" if name in averaged else "raw" if averaged else ""
    return Chosen(folder / name, tuple(notes), copies if len(firsts) > 1 else "")


def _note(name: str, why: str, others: Sequence[str]) -> tuple[str, ...]:
    if not others:
        return ()
    return (f"{name} was taken ({why}); left out: {_few(others)}.",)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _of_states(folder: Path, names: Sequence[str], ema: bool) -> tuple[str, str]:
    """Choose among states of one training; return (name, why), or raise SourceError if they are several networks."""
    if len(names) == 1:
        return names[0], ""
    states = {name: state for name in names if (state := _state(_stripped(name))) is not None}
    rests = {state.rest for state in states.values() if state.rest}
    if len(states) < len(names) or len(rests) > 1 or not _same_tensors([folder / name for name in names]):
        raise _several(folder, names)

    def order(name: str) -> tuple[bool, tuple[int, ...], str]:
        return states[name].ema == ema, states[name].numbers, name

    if pointed := _best_of_trainer(folder, names):
        return pointed, "the best by trainer_state.json"
    if best := [name for name in names if states[name].best]:
        return max(best, key=order), "the best by its name"
    if pointed := _pointed(folder, names):
        return pointed, "the last by the file that names it"
    if last := [name for name in names if states[name].last]:
        return max(last, key=order), "the last by its name"
    return max(names, key=lambda name: (states[name].numbers, states[name].ema == ema)), "the last by its number"


def _several(folder: Path, names: Sequence[str]) -> SourceError:
    problem = f"has {counted(len(names), 'checkpoint')} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"
    return SourceError(folder, problem, "name one of them, or all of them to harvest each")


def _state(stem: str) -> _State | None:
    """Return what a name says of a state of a training; None if it says nothing."""
    words = _words(stem)
    best = last = counted = ema = False
    numbers: list[int] = []
    rest: list[str] = []
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        if word in _BEST:
            best = True
        elif word in _LAST:
            last = True
        elif word in _COUNTED or word in _PLAIN:
            ema = ema or word == "ema"
        elif word == "v" and (best or last):
            pass  # Lightning's second "last.ckpt" is "last-v1.ckpt"
        elif word[0].isdigit() and before in {"v", *_COUNTED} and "." not in word:
            numbers.append(int(word))
            counted = True
        elif not word[0].isdigit():
            rest.append(word)
    if set(words) <= _COUNTED:
        last = True  # "checkpoint.pth": the state that the next one replaces
    if not (best or last or counted):
        return None
    return _State(best, last, ema, tuple(numbers), tuple(rest))


def _words(stem: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Za-z]+|\d+(?:\.\d+)?", stem)]


def _pointed(folder: Path, names: Sequence[str]) -> str:
    """Return the name that `last_checkpoint` (mmengine, detectron2) or `latest` (DeepSpeed) gives, "" if none does."""
    for pointer in ("last_checkpoint", "latest"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = read_regular(folder / pointer, most_bytes=4096).decode().strip()
            for name in (PurePosixPath(text).name, PureWindowsPath(text).name):
                if name in names:
                    return name
    return ""


def _best_of_trainer(folder: Path, names: Sequence[str]) -> str:
    """Return the folder that the newest `trainer_state.json` of a Hugging Face Trainer calls best, "" if none."""
    newest: tuple[float, str] = (-1.0, "")
    for name in names:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            state = parse_json(read_regular(folder / name / "trainer_state.json"), nan=True)
            best = PureWindowsPath(str(state.get("best_model_checkpoint") or "")).name
            if best in names:
                newest = max(newest, (float(state.get("global_step") or 0), best))
    return newest[1]


def _same_tensors(paths: Sequence[Path]) -> bool:
    """True unless the convolutions of two checkpoints have other shapes; copies kept by optimisers do not count."""
    shapes = None
    for path in paths[:_MOST_COMPARED]:
        if not path.is_file() or not path.name.removesuffix(".tar").endswith(_TENSORS) or shard_name(path.name):
            continue
        try:
            tensors = open_any(path).tensors
        except MkfaError:
            continue
        own = sorted(info.shape for key, info in tensors.items() if len(info.shape) == 4 and not _COPIES.search(key))
        if not own:
            continue
        if shapes is not None and own != shapes:
            return False
        shapes = own
    return True


def config_facts(folder: Path) -> Mapping[str, str]:
    """Return what a `config.json` that timm wrote says: architecture, training_set, licence; "" where it is silent."""
    from mkfa.readers.timm.catalogue import training_set_of

    try:
        config = json_file(folder / "config.json")
    except SourceError:
        return {"architecture": "", "training_set": "", "licence": ""}
    cfg = config.get("pretrained_cfg")
    cfg = cfg if isinstance(cfg, dict) else {}
    name = config.get("architecture")
    return {
        "architecture": name if isinstance(name, str) else "",
        "training_set": training_set_of(str(cfg.get("tag") or "")),
        "licence": str(cfg.get("license") or ""),
    }
