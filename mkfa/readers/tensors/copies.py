"""Which tensors of a file are the network: copies of it, averaged or of other epochs, and other networks beside it.

A key is a path, and a subtree of paths that contains a whole network is a *state*. States with the same layers are
copies of one network or different networks of one architecture. Their numbers tell which (twins correlate), their
names and the writer which copy is averaged. There is no list of wrappers and prefixes.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.errors import SourceError
from mkfa.readers.options import DEFAULT, ReadOptions, matches
from mkfa.readers.reading import TensorFile, TensorInfo
from mkfa.readers.tensors.dtypes import FLOATS
from mkfa.readers.tensors.roles import is_depthwise_shape, is_optimiser, is_weight_name
from mkfa.words import counted

OPTIMISER = "optimiser state"
NOT_AVERAGED = "not averaged (the EMA twin was taken)"
AVERAGED = "averaged copy (the raw one was taken)"
SECOND_COPY = "second averaged copy"
OTHER_STATE = "another state of the same network"
NOT_NAMED = "of a copy or network that --include does not name"
BESIDE = "buffer beside the weight"
ARGUMENT = "argument of the network (hyper_parameters)"

ALIKE = 0.5
"""Correlation of weights from which two states are copies of one network; unrelated networks have about 0."""

PROBES = 3
"""Layers of each state whose numbers are compared."""

Root = tuple[str, ...]
Shapes = Mapping[str, tuple[int, ...]]

_EMA = frozenset(["ema", "emas", "modelema", "averaged", "average", "averaging", "swa", "shadow", "polyak"])
_EMA |= {"avg", "smoothed", "ewma"}
_PARTS = frozenset(["block", "blocks", "stage", "stages", "layer", "layers", "level", "levels", "branch", "branches"])
_PARTS |= {"head", "heads", "unit", "units", "features", "cell", "cells", "stack", "group", "groups", "seq", "conv"}
_SOFT = frozenset(["teacher", "target", "momentum"])
_RAW = frozenset(["online", "raw", "student"])
_NOT_SOFT = frozenset(["source", "src"])
_SLOTS = frozenset(["momentum", "momenta", "moment", "moments", "mu", "nu", "m", "v", "velocity", "slots"])
_SLOTS |= {"grad", "grads", "gradient", "gradients", "exp", "sq", "opt", "variance", "accumulator", "adam", "rmsprop"}
_PLAIN = frozenset(["state", "dict", "model", "models", "net", "network", "params", "parameters", "weights", "weight"])
_PLAIN |= {"module", "student", "online", "raw", "main", "backbone", "encoder", "callbacks"}
_LAST = frozenset(["last", "latest", "final", "current", "end"])
_OTHER_STATES = frozenset(["best", "epoch", "epochs", "step", "steps", "iter", "iteration", "snapshot", "snapshots"])
_OTHER_STATES |= {"checkpoints", "checkpoint", "ckpts", "ckpt", "states", "ep"}
_OTHER_STATES |= {"fold", "folds", "init", "initial", "start", "pretrained", "backup", "previous", "prev", "old"}
_OTHER_STATES |= {"seed", "run", "round", "cv", "kfold", "history", "acc", "loss", "val", "min", "max"}
_STATES = _EMA | _SLOTS | _LAST | _OTHER_STATES


@dataclass(frozen=True, slots=True)
class Roles:
    """`left_out` maps a key to the reason why it is not a weight of the network; all other keys are.

    `copy` is "ema" or "raw" for a network of which that copy was taken, else "".
    """

    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()
    copy: str = ""


@dataclass(slots=True)
class _State:
    """One copy of a network: its path, and its depthwise layers by their name within it."""

    root: Root
    layers: dict[str, str]
    swapped: str = ""

    @property
    def name(self) -> str:
        return ".".join(self.root)

    @property
    def words(self) -> frozenset[str]:
        """The words of the path that all its layers share, up to a numbered part."""
        return frozenset(word for part in self._path for word in _words(part))

    @property
    def is_named_averaged(self) -> bool:
        """True if its path says so, unless a later part says that this is the raw copy: `ema.online_model`."""
        told = [bool(words & _EMA) for part in self._path if (words := set(_words(part))) & (_EMA | _RAW)]
        return bool(told) and told[-1]

    @property
    def _path(self) -> Root:
        shared = _shared(self.layers.values())
        cut = next((i for i, part in enumerate(shared) if _numbered(part)), len(shared))
        return (*self.root, *shared[len(self.root) : cut])


@dataclass(slots=True)
class _Verdict:
    left_out: dict[str, str]
    notes: list[str] = field(default_factory=list)
    copy: str = ""


def settle_copies(
    file: TensorFile, options: ReadOptions = DEFAULT, *, thing: object = "the checkpoint", read: bool = True
) -> Roles:
    """Separate the network's tensors from optimiser state and from other copies and states of the network.

    Averaged (EMA) weights are preferred to raw ones unless `options.weights` says otherwise. Of several states of one
    network the one under a plain name ("state_dict") is taken, else the last, else the best. Different networks are
    all taken. `options.include` chooses states too: those whose layers it all matches.

    Parameters
    ----------
    read : False to go by names alone, without numbers.
    thing : named in errors.

    Raises SourceError: the file has several numbered states (folds, epochs) or networks with a common parent, and no
    rule tells which to take.
    """
    infos = file.tensors
    verdict = _Verdict({key: OPTIMISER for key in infos if is_optimiser(key)})
    _leave_out_buffers(infos, verdict, options)
    _leave_out_arguments(infos, verdict, options)
    layers = {
        key: info.shape
        for key, info in infos.items()
        if key not in verdict.left_out
        and is_depthwise_shape(info.shape)
        and is_weight_name(key)
        and info.dtype in FLOATS
        and not matches(key, options.exclude)
    }
    groups = _groups(layers, infos)
    alone = _alone(groups, layers)
    parts = [root for root in alone if read and not groups and _settle_part(root, file, layers, options, verdict)]
    _note_others([root for root in alone if root not in parts], groups, layers, verdict)
    for group in groups:
        _settle(group, file if read else None, infos, options, verdict, thing)
    if not parts:
        taken = {key: shape for key, shape in layers.items() if key not in verdict.left_out}
        _note_networks(taken, infos, groups, verdict)
    if not verdict.copy and any(key.rsplit(".", 1)[-1] == "n_averaged" for key in infos):
        verdict.copy = "ema"  # torch.optim.swa_utils.AveragedModel
    if not verdict.copy and layers and all(_words_of(key) & _EMA for key in layers):
        verdict.copy = "ema"
    return Roles(verdict.left_out, tuple(verdict.notes), verdict.copy)


def roles(infos: Mapping[str, TensorInfo]) -> Roles:
    """As `settle_copies`, by names alone."""
    return settle_copies(_Header(infos), read=False)


@dataclass(frozen=True, slots=True)
class _Header:
    tensors: Mapping[str, TensorInfo]

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        raise NotImplementedError(keys)


def _leave_out_buffers(infos: Mapping[str, TensorInfo], verdict: _Verdict, options: ReadOptions) -> None:
    """Leave out tensors that are named after a weight beside them: `weight_init` beside `weight`.

    mmcv's EMA hook keeps one copy in buffers `ema_stem_conv_weight` beside `stem.conv.weight` and swaps the two when it
    saves: the buffers are the raw weights.
    """
    flat = {re.sub(r"[._]", "", key): key for key in infos}
    buffers = {}
    for key, info in infos.items():
        head, dot, leaf = key.rpartition(".")
        beside = infos.get(f"{head}{dot}weight")
        if leaf.startswith("weight_") and beside is not None and beside.shape == info.shape:
            verdict.left_out[key] = BESIDE
        elif leaf.startswith("ema_"):
            twin = flat.get(re.sub(r"[._]", "", f"{head}{dot}{leaf[4:]}"))
            if twin is not None and infos[twin].shape == info.shape:
                buffers[key] = twin
    if buffers:
        raw = options.weights == "raw"
        verdict.left_out |= dict.fromkeys(buffers.values(), AVERAGED) if raw else dict.fromkeys(buffers, NOT_AVERAGED)
        verdict.copy = "raw" if raw else "ema"
        verdict.notes.append(
            f"mmcv's EMA hook swaps its copies when it saves: the {verdict.copy} weights were taken,"
            f" {'from the buffers ema_*' if raw else 'the buffers ema_* are the raw ones'}"
        )


def _leave_out_arguments(infos: Mapping[str, TensorInfo], verdict: _Verdict, options: ReadOptions) -> None:
    """Leave out what Lightning saves of the arguments of a network beside its weights: another network, a mask."""
    if any(key.startswith("state_dict.") for key in infos):
        passed = [key for key in infos if key.startswith(("hyper_parameters.", "hparams."))]
        verdict.left_out |= dict.fromkeys((key for key in passed if not matches(key, options.include)), ARGUMENT)


def _groups(layers: Shapes, infos: Mapping[str, TensorInfo]) -> list[list[_State]]:
    """Return the groups of states with the same layers, at least two in each, the largest states first."""
    under: dict[Root, list[str]] = {}
    for key in layers:
        parts = tuple(key.split(".")[:-1])
        for i in range(1, len(parts) + 1):
            under.setdefault(parts[:i], []).append(key)
    outer: dict[frozenset[str], Root] = {}
    for root in sorted(under, key=len):  # of nested paths with the same layers, the outermost
        outer.setdefault(frozenset(under[root]), root)
    stems = {root for key, info in infos.items() if _takes_images(key, info) for root in _roots(key)}
    same: dict[frozenset[tuple[str, tuple[int, ...]]], list[_State]] = {}
    for keys, root in outer.items():
        if _is_part(root):
            continue
        named = _words(root[-1]) and (_is_state_name(root) or (set(_words(root[-1])) & _EMA and not _has_number(root)))
        if root in stems or named or _is_outermost(root, under, len(layers)):
            within = _within({key: layers[key] for key in keys})
            same.setdefault(frozenset((name, layers[key]) for name, key in within.items()), []).append(
                _State(root, within)
            )
    groups, taken = [], set[str]()
    for states in sorted(same.values(), key=lambda states: -len(states[0].layers)):
        free = [state for state in states if not taken & set(state.layers.values())]
        rest = {key: shape for key, shape in layers.items() if not any(_is_under(key, state.root) for state in free)}
        averaged = [state for state in free if state.words & (_EMA | _SOFT)]
        if averaged and len(averaged) == len(free) and rest:
            twin = _twin(rest, averaged[0], layers)
            free += [twin] if twin else []
        if len(free) > 1:
            groups.append(free)
            taken.update(key for state in free for key in state.layers.values())
    return groups


def _is_part(root: Root) -> bool:
    """True for a numbered part of a network: `stages.0`, `block3`."""
    at = next((i for i, part in enumerate(root) if _numbered(part)), None)
    return at is not None and bool(_PARTS & set(_words(root[at]) or _words(root[max(at - 1, 0)])))


def _alone(groups: Sequence[Sequence[_State]], layers: Shapes) -> list[Root]:
    """Return the paths of averaged and teacher networks that have no twin."""
    twins = {key for group in groups for state in group for key in state.layers.values()}
    alone: dict[Root, None] = {}
    for key in layers:
        root = next((r for r in _roots(key) if not _numbered(r[-1]) and set(_words(r[-1])) & (_EMA | _SOFT)), None)
        if root is not None and key not in twins:
            alone[root] = None
    return list(alone)


def _settle_part(root: Root, file: TensorFile, layers: Shapes, options: ReadOptions, verdict: _Verdict) -> bool:
    """Settle an average of some layers of a network, as of those that were trained on; False if it is none."""
    own = {".".join(key.split(".")[len(root) :]).removeprefix("module."): key for key in layers if _is_under(key, root)}
    rest = [key for key in layers if not _is_under(key, root)]
    first = next(iter(own))
    starts = [key.removesuffix(first) for key in rest if f".{key}".endswith(f".{first}")]
    raw = next((start for start in starts if all(layers.get(start + n) == layers[own[n]] for n in own)), None)
    if raw is None or len(own) == len(rest) or not set(_words(root[-1])) & _EMA:
        return False
    averaged, plain = _State(root, own), _State(tuple(raw.split(".")), {name: raw + name for name in own})
    r = _r(averaged, plain, _numbers([averaged, plain], file))
    if r < ALIKE:
        return False
    verdict.copy = "raw" if options.weights == "raw" else "ema"
    other, why = (averaged, AVERAGED) if verdict.copy == "raw" else (plain, NOT_AVERAGED)
    verdict.left_out |= dict.fromkeys(other.layers.values(), why)
    share = f"{len(own)} of the {counted(len(rest), 'depthwise layer')}"
    has = f"'{'.'.join(root)}' has averaged (EMA) weights of {share} (r = {r:.2f})"
    verdict.notes.append(has + (": the raw ones were taken" if verdict.copy == "raw" else ": they were taken"))
    return True


def _note_others(alone: Sequence[Root], groups: Sequence[Sequence[_State]], layers: Shapes, verdict: _Verdict) -> None:
    """Note averaged or teacher networks that have no twin, but other layers beside them."""
    for root in alone:
        rest = sum(not _is_under(key, root) for key in layers)
        if rest and not groups:
            verdict.notes.append(f"'{'.'.join(root)}' does not match the {rest} other depthwise layers: all were taken")


def _note_networks(
    layers: Shapes, infos: Mapping[str, TensorInfo], groups: Sequence[Sequence[_State]], verdict: _Verdict
) -> None:
    """Note that several networks, each with a first layer for images, are taken, as of generator and discriminator."""
    stems = {root for key, info in infos.items() if _takes_images(key, info) for root in _roots(key)}
    common = _shared(layers)
    at = next((i for i, part in enumerate(common) if not layers or _numbered(part)), len(common))
    counts: Counter[Root] = Counter(tuple(key.split(".")[: at + 1]) for key in layers)
    whole = {root: n for root, n in counts.items() if root in stems and not _numbered(root[-1])}
    known = {state.root for group in groups for state in group}
    if len(whole) > 1 and not known & whole.keys():
        listed = ", ".join(f"'{'.'.join(root)}' ({n})" for root, n in whole.items())
        verdict.notes.append(f"the depthwise layers of several networks were taken: {listed}")


def _is_outermost(root: Root, under: Mapping[Root, Sequence[str]], count: int) -> bool:
    """True for one of several unnumbered paths, at the start of all keys, that hold all layers between them."""
    if _numbered(root[-1]):
        return False
    parent, depth = root[:-1], len(root)
    inside = len(under.get(parent, ())) if parent else count
    siblings = sum(len(other) == depth and other[:-1] == parent for other in under)
    return inside == count and len(under[root]) >= PROBES and siblings > 1


def _twin(rest: Shapes, averaged: _State, layers: Shapes) -> _State | None:
    """Return the state among other layers that has the same layers as an averaged one."""
    wanted = frozenset((name, layers[key]) for name, key in averaged.layers.items())
    roots: dict[Root, None] = {(): None}
    for key in rest:
        for root in _roots(key):
            if _numbered(root[-1]):
                break
            roots[root] = None
    for root in sorted(roots, key=len):
        inside = {key: shape for key, shape in rest.items() if _is_under(key, root)}
        if len(inside) == len(wanted):
            within = _within(inside)
            if frozenset((name, layers[key]) for name, key in within.items()) == wanted:
                return _State(root, within)
    return None


def _settle(
    group: list[_State],
    file: TensorFile | None,
    infos: Mapping[str, TensorInfo],
    options: ReadOptions,
    verdict: _Verdict,
    thing: object,
) -> None:
    """Decide which states of a group are taken, and leave the tensors of the others out."""
    named = [state for state in group if all(matches(key, options.include) for key in state.layers.values())]
    if named:
        _leave_out([state for state in group if state not in named], group, infos, verdict, NOT_NAMED)
        if len(named) < len(group):
            verdict.notes.append(f"{_listed(named)} taken of {_listed(group)}, as --include says")
        return
    numbers = _numbers(group, file) if file is not None else {}
    slots = [state for state in group if _is_slot(state, group, numbers)]
    _leave_out(slots, group, infos, verdict, OPTIMISER)
    states = [state for state in group if state not in slots]
    if len(states) < 2:
        return
    kinds = _kinds(states, infos, numbers)
    averaged, raw = ([s for s in states if kinds[id(s)] == kind] for kind in ("ema", "raw"))
    if numbers and averaged:  # a network of another kind is not a raw copy, and stays
        raw = [s for s in raw if _is_state_name(s.root) or _r(_first(averaged), s, numbers) >= ALIKE] or raw
    if averaged and raw:
        wanted, other = (raw, averaged) if options.weights == "raw" else (averaged, raw)
        chosen = _first(wanted)
        twin = _first(other)
        verdict.copy = "raw" if options.weights == "raw" else "ema"
        reason = AVERAGED if verdict.copy == "raw" else NOT_AVERAGED
        _leave_out(other, group, infos, verdict, reason)
        _leave_out([s for s in wanted if s is not chosen], group, infos, verdict, SECOND_COPY)
        kind = "raw" if verdict.copy == "raw" else "averaged (EMA)"
        plain = f"those under '{twin.name}'" if twin.root else "the plain ones"
        place = f"under '{chosen.name}'" if chosen.root else "under no name"
        more = [s for s in wanted if s is not chosen]
        also = f", and than {_listed(more)}, other {kind} ones" if more else ""
        words = f"{kind} weights {place} were taken rather than {plain}{_alike(chosen, twin, numbers)}{also}"
        verdict.notes.append(words)
        return
    _settle_states(states, group, infos, verdict, numbers, thing)


def _settle_states(
    states: list[_State],
    group: list[_State],
    infos: Mapping[str, TensorInfo],
    verdict: _Verdict,
    numbers: Mapping[int, AnyArray],
    thing: object,
) -> None:
    """Decide between states of which none, or all, are averaged."""
    one_network = _are_state_names([state.root for state in states])
    r = min((_r(states[0], state, numbers) for state in states[1:]), default=0.0) if numbers else 0.0
    if not one_network and r < ALIKE:
        if numbers:
            words = f"{_listed(states)} are different networks of one architecture (r = {r:.2f}): all were taken"
            verdict.notes.append(words)
        return
    if r == 1 and all(np.array_equal(numbers[id(states[0])], numbers[id(state)]) for state in states):
        one_network = True  # one network stored again
    enumerated = r < 1 and len({re.sub(r"\d+", "#", state.name) for state in states}) < len(states)
    if not one_network or enumerated:
        what = f"have a common parent (r = {r:.2f})" if r >= ALIKE else "are several states or networks"
        problem = f"has {len(states)} sets of the same layers, {_listed(states)}, which {what}"
        pattern = f"{states[0].name}.*"
        raise SourceError(thing, problem, f"name one with --include '{pattern}', or take all with --include '*'")
    chosen = _first(states)
    _leave_out([s for s in states if s is not chosen], group, infos, verdict, OTHER_STATE)
    known = f", r = {r:.2f}" if numbers else ""
    verdict.notes.append(f"'{chosen.name}' was taken of {_listed(states)}, states of one network{known}")


def _kinds(
    states: Sequence[_State], infos: Mapping[str, TensorInfo], numbers: Mapping[int, AnyArray]
) -> dict[int, str]:
    """Return "ema" or "raw" by the id of each state; all raw if none is known to be averaged."""
    kinds = {id(state): "ema" if state.is_named_averaged else "raw" for state in states}
    for state in states if numbers else ():
        others = [other for other in states if kinds[id(other)] == "raw"]
        if kinds[id(state)] == "ema" and others and not _is_state_name(state.root):
            # A word in the name of a module proves nothing if the numbers are others: `decoder.ema_attention`.
            kinds[id(state)] = "ema" if max(_r(state, other, numbers) for other in others) >= ALIKE else "raw"
    soft = [s for s in states if s.words & _SOFT or _is_key_encoder(s, states)]
    if "ema" not in kinds.values() and 0 < len(soft) < len(states) and not any(s.words & _NOT_SOFT for s in states):
        plain = next(s for s in states if s not in soft)
        kinds |= {id(s): "ema" for s in soft if not numbers or _r(plain, s, numbers) >= ALIKE}
    elif "ema" in kinds.values() and not numbers:
        kinds |= {id(s): "ema" for s in soft}
    for state in states:
        kinds[id(state)] = _by_writer(state, states, infos) or kinds[id(state)]
    return kinds


def _by_writer(state: _State, states: Sequence[_State], infos: Mapping[str, TensorInfo]) -> str:
    """Return "ema" or "raw" where the program that wrote the file is known to swap the copies, else "".

    mmengine's EMAHook saves the averaged weights as `state_dict` and the raw ones as `ema_state_dict`, whose `steps`
    tell it from others; so does Lightning's WeightAveraging, with `current_model_state` for the raw ones.
    """
    names = {each.root[0]: each for each in states if each.root}
    first = state.root[0] if state.root else ""
    if {"state_dict", "ema_state_dict"} <= names.keys() and "ema_state_dict.steps" in infos:
        return {"state_dict": "ema", "ema_state_dict": "raw"}.get(first, "")
    if {"state_dict", "current_model_state"} <= names.keys():
        return {"state_dict": "ema", "current_model_state": "raw"}.get(first, "")
    return ""


def _is_key_encoder(state: _State, states: Sequence[_State]) -> bool:
    """True for MoCo's `encoder_k` beside `encoder_q`, and for ALBEF's `encoder_m` beside `encoder`."""
    last = state.root[-1] if state.root else ""
    twin = {"_k": last[:-1] + "q", "_m": last[:-2]}.get(last[-2:])
    return any(other.root and other.root[-1] == twin for other in states)


def _is_slot(state: _State, states: Sequence[_State], numbers: Mapping[int, AnyArray]) -> bool:
    """True for the moments that an optimiser keeps under the names of the weights.

    Second moments have no negative number, other than any weights; first moments are named so and do not correlate.
    """
    plain = [other for other in states if other is not state and not other.words & _SLOTS]
    if not plain:
        return False
    if not numbers:
        return bool(state.words & (_SLOTS - _SOFT))
    values, others = numbers[id(state)], numbers[id(plain[0])]
    if values.min() >= 0 > others.min():
        return True
    return bool(state.words & _SLOTS) and abs(_r(state, plain[0], numbers)) < ALIKE


def _numbers(states: Sequence[_State], file: TensorFile) -> dict[int, AnyArray]:
    """Return the weights of a few layers of each state, in the same order, by the id of the state."""
    names = sorted(states[0].layers)
    probes = [names[i] for i in sorted({0, len(names) // 2, len(names) - 1})][:PROBES]
    values = dict(file.read([state.layers[name] for state in states for name in probes]))
    return {
        id(state): np.concatenate([np.asarray(values[state.layers[name]], np.float64).ravel() for name in probes])
        for state in states
    }


def _r(a: _State, b: _State, numbers: Mapping[int, AnyArray]) -> float:
    """Return the correlation of two states' weights; 0 if it is not defined."""
    x, y = numbers[id(a)], numbers[id(b)]
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 and np.isfinite(norm) else 0.0


def _alike(a: _State, b: _State, numbers: Mapping[int, AnyArray]) -> str:
    if not numbers:
        return ""
    r = _r(a, b, numbers)
    return f" (r = {r:.2f}{', so they hardly are one network' if r < ALIKE else ''})"


def _first(states: Sequence[_State]) -> _State:
    """Return the state under the plainest name, else the last, else the first in the file."""

    def rank(state: _State) -> tuple[bool, bool]:
        return bool(state.words & _OTHER_STATES or state.words & _LAST), not state.words & _LAST

    return min(states, key=rank)


def _leave_out(
    states: Sequence[_State], group: Sequence[_State], infos: Mapping[str, TensorInfo], verdict: _Verdict, why: str
) -> None:
    """Leave out the tensors under some states of a group, but not those of other states inside them."""
    for state in states:
        inner = [s.root for s in group if s is not state and len(s.root) > len(state.root)]
        for key in infos:
            if _is_under(key, state.root) and not any(_is_under(key, root) for root in inner):
                verdict.left_out.setdefault(key, why)


def _within(layers: Shapes) -> dict[str, str]:
    """Return name within the state -> key. Common starts and dots are removed, as some averagers remove dots.

    A single layer keeps its last two components.
    """
    if len(layers) == 1:
        (key,) = layers
        return {"".join(key.split(".")[-2:]): key}
    bare = {key.replace(".", ""): key for key in layers}
    low, high = min(bare), max(bare)  # all names share what these two share
    start = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return {name[start:]: key for name, key in bare.items()}


def _takes_images(key: str, info: TensorInfo) -> bool:
    """True for the weight of a convolution of an RGB image: (C, 3, kh, kw), or (C, k, k, 3) with channels last."""
    shape = info.shape
    last = len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2] > 1
    return len(shape) == 4 and (shape[1] == 3 or last) and is_weight_name(key)


def _is_state_name(root: Root) -> bool:
    """True if a path says nothing of what a network is for, only which state of it this is."""
    words = {word for part in root for word in _words(part)}
    return bool(words & (_STATES | {"state", "dict"})) and words <= _STATES | _PLAIN | _SOFT


def _are_state_names(roots: Sequence[Root]) -> bool:
    """True if paths differ only in words for states of one network."""
    words = [{word for part in root for word in _words(part)} for root in roots]
    return any(each & _STATES for each in words) and all(each <= _STATES | _PLAIN | _SOFT for each in words)


def _shared(keys: Iterable[str]) -> list[str]:
    """Return the components with which the modules' paths of all keys begin."""
    paths = zip(*(key.split(".")[:-1] for key in keys), strict=False)
    return [parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, paths)]


def _has_number(root: Root) -> bool:
    return any(_numbered(part) for part in root)


def _numbered(part: str) -> bool:
    return bool(re.search(r"\d$", part))


def _words(part: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part).lower()
    return [word for word in re.split(r"[_\W\d]+", spaced) if word] + (["modelema"] if "modelema" in spaced else [])


def _words_of(key: str) -> set[str]:
    return {word for part in key.split(".")[:-1] for word in _words(part)}


def _roots(key: str) -> Iterable[Root]:
    parts = tuple(key.split(".")[:-1])
    return (parts[:i] for i in range(1, len(parts) + 1))


def _is_under(key: str, root: Root) -> bool:
    return tuple(key.split(".")[: len(root)]) == root


def _listed(states: Sequence[_State]) -> str:
    names = [f"'{state.name}'" if state.root else "the weights without a prefix" for state in states]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
