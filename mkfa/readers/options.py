"""What the user decides about the layers of a source, and how a reading follows it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mkfa.banks.bank import UNKNOWN
from mkfa.errors import MkfaError, SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.reading import Reading
from mkfa.several import as_several

UNTOLD = "taken, but its dilation is not known: it is of a block of several"
"""Why a layer is doubtful whose name belongs to a dilated block and does not tell which dilation it has."""

EXCLUDED = "left out by --exclude"
COPIES = ("raw", "ema")
LARGEST_DILATION = 1 << 15


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user decides about a source; see `mkfa.harvest`.

    Attributes
    ----------
    architecture : timm architecture that the weights belong to; "" lets the reader identify it.
    weights : which copy to take, one of `COPIES`; "" lets the reader choose.
    include, exclude : patterns of layer names, as for `matches`.
    dilation : (pattern, (vertical, horizontal)), ....
    """

    architecture: str = ""
    weights: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    dilation: tuple[tuple[str, tuple[int, int]], ...] = ()


DEFAULT = ReadOptions()


def make_options(
    *,
    arch: str = "",
    weights: str = "",
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    dilation: Mapping[str, int | Sequence[int]] | str | Sequence[str] = (),
) -> ReadOptions:
    """Return the options of `mkfa.harvest`, checked.

    Raises MkfaError: `weights` is neither "raw" nor "ema", a pattern is empty, or a dilation is not a number from 1 on.

    Examples
    --------
    >>> make_options(dilation="*.dwconv.*=3").dilation
    (('*.dwconv.*', (3, 3)),)
    >>> make_options(dilation={"*_h.weight": (1, 2)}).dilation
    (('*_h.weight', (1, 2)),)
    """
    if weights not in ("", *COPIES):
        raise MkfaError(f"--weights {weights}", "is unknown", f"choose {' or '.join(COPIES)}, or leave it out")
    patterns = {}
    for name, given in (("include", include), ("exclude", exclude)):
        patterns[name] = as_several(given)
        if any(not pattern.strip() for pattern in patterns[name]):
            raise MkfaError(f"--{name}", "is empty", "give a pattern of layer names, in quotes: '*.dwconv.*'")
    return ReadOptions(arch, weights, patterns["include"], patterns["exclude"], _dilations(dilation))


def _dilations(
    given: Mapping[str, int | Sequence[int]] | str | Sequence[str],
) -> tuple[tuple[str, tuple[int, int]], ...]:
    if isinstance(given, Mapping):
        return tuple((pattern, _checked(pattern, value)) for pattern, value in given.items())
    out = []
    for text in (given,) if isinstance(given, str) else given:
        pattern, _, number = text.rpartition("=")
        numbers = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", number.strip())
        if not pattern or numbers is None:
            raise MkfaError(f"--dilation {text}", "cannot be read", "write PATTERN=NUMBER, e.g. '*.dwconv3.*=3'")
        out.append((pattern, _checked(pattern, (int(numbers[1]), int(numbers[2] or numbers[1])))))
    return tuple(out)


def _checked(pattern: str, value: int | Sequence[int]) -> tuple[int, int]:
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2 or not all(type(n) is int and 1 <= n <= LARGEST_DILATION for n in both):
        problem = f"cannot be {value}"
        raise MkfaError(f"the dilation of {pattern}", problem, "give a whole number from 1 on, or height x width")
    return both[0], both[1]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """True if a layer's name fits one of the patterns (`*`, `?`, `[]`); ".weight" at its end may be left out.

    Examples
    --------
    >>> matches("stages.0.dwconv.weight", ["*.dwconv"])
    True
    """
    names = (name, name.removesuffix(".weight"))
    return any(fnmatch.fnmatchcase(each, pattern) for each in names for pattern in patterns)


def follow(reading: Reading, options: ReadOptions, thing: object) -> Reading:
    """Leave out the excluded layers and set dilations.

    `include` and `weights` are followed by the reader, which knows more than the layers; here they are checked.

    Raises SourceError: a pattern matches no layer, or no layer is left; a dilation contradicts the graph; the source
    has one copy of the weights, and it is not known to be the one that was asked for.
    """
    names = [layer.key for layer in reading.layers]
    _check_patterns("--include", options.include, names, thing)
    _check_patterns("--exclude", options.exclude, [*names, *reading.left_out], thing)
    _check_patterns("--dilation", [pattern for pattern, _ in options.dilation], names, thing)
    if options.weights and reading.copy != options.weights and reading.layers:
        known = {"raw": "raw ones", "ema": "averaged (EMA) ones"}
        problem = f"has one copy of the weights{f', {known[reading.copy]}' if reading.copy else ''}"
        raise SourceError(thing, problem, f"leave --weights {options.weights} out")
    layers, skipped = [], dict(reading.skipped)
    for layer in reading.layers:
        if matches(layer.key, options.exclude):
            skipped[EXCLUDED] = skipped.get(EXCLUDED, 0) + 1
            continue
        given = [dilation for pattern, dilation in options.dilation if matches(layer.key, [pattern])]
        if given and reading.rule == "graph" and UNKNOWN not in layer.dilation and given[-1] != layer.dilation:
            problem = f"has {layer.key} with the dilation {layer.dilation[0]}x{layer.dilation[1]} in its graph"
            raise SourceError(thing, problem, "leave --dilation out for this layer")
        layers.append(replace(layer, dilation=given[-1]) if given else layer)
    if reading.layers and not layers:
        which = " ".join(f"--exclude {pattern}" for pattern in options.exclude)
        problem = f"has no depthwise layer left: {which} leaves out all {len(reading.layers)}"
        raise SourceError(thing, problem, "give narrower patterns")
    chosen = [f"--{name} {pattern}" for name in ("include", "exclude") for pattern in getattr(options, name)]
    if options.weights:
        chosen.insert(0, f"--weights {options.weights}")
    notes, doubtful = list(reading.notes), reading.doubtful
    if chosen:
        notes.append(f"layers chosen by the user: {' '.join(chosen)}")
    if options.dilation:
        given_for = [name for name in names if matches(name, [pattern for pattern, _ in options.dilation])]
        doubtful = FrozenDict({k: why for k, why in doubtful.items() if why != UNTOLD or k not in given_for})
        notes.append(f"dilations given by the user: {', '.join(f'{p}={h}x{w}' for p, (h, w) in options.dilation)}")
    return replace(
        reading,
        layers=tuple(layers),
        skipped=FrozenDict(dict(sorted(skipped.items()))),
        notes=tuple(notes),
        doubtful=doubtful,
    )


def _check_patterns(option: str, patterns: Iterable[str], names: Iterable[str], thing: object) -> None:
    known = list(names)
    for pattern in patterns:
        if not any(matches(name, [pattern]) for name in known):
            few = f"its depthwise layers have names such as {known[0]}" if known else "it has no depthwise layers"
            raise SourceError(thing, f"has no layer that matches {option} {pattern} ({few})", "check the pattern")
