"""Colours, dashes, markers and hatches: one table for nulls, one for classes, one for arms (standard library only).

Every figure and the report take them from here, so that a null or a class looks the same wherever it is shown. The
schemes are made for readers of any colour vision: Paul Tol's bright one for nulls and muted one for classes
(https://personal.sron.nl/~pault/), Okabe and Ito's for arms and banks (https://jfly.uni-koeln.de/color/). Colour is
never alone: nulls and arms have dashes and markers too, classes of one group hatches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

SIGNED = "RdBu_r"
"""Colour map where sign matters, centred at zero: blue is negative, red positive."""
AMOUNT = "viridis"
"""Colour map for amounts."""


@dataclass(frozen=True, slots=True)
class Look:
    """How one thing is drawn.

    Attributes
    ----------
    colour : "#rrggbb"
    dash : lengths of strokes and gaps in line widths, as in SVG's stroke-dasharray; () is a solid line.
    marker : matplotlib's letter of a marker.
    hatch : matplotlib's letters of a hatch; "" is none.
    """

    colour: str
    dash: tuple[float, ...] = ()
    marker: str = "o"
    hatch: str = ""

    @property
    def line(self) -> str | tuple[float, tuple[float, ...]]:
        """The dash as matplotlib's `linestyle`."""
        return (0.0, self.dash) if self.dash else "-"


DASHED, DOTTED, MIXED, LONG, SPARSE = (4.0, 2.0), (1.0, 1.5), (5.0, 1.5, 1.0, 1.5), (8.0, 2.0), (1.0, 3.0)

NULLS: Mapping[str, Look] = {
    "shuffled": Look("#999999", (), "|"),
    "gaussian": Look("#4477aa", DASHED, "x"),
    "blurred": Look("#228833", MIXED, "^"),
    "covariance": Look("#ee6677", DOTTED, "D"),
    "covariance-layer": Look("#aa3377", LONG, "s"),
    "init": Look("#ccbb44", SPARSE, "v"),
}
"""Null -> its look."""
OTHER_NULL = Look("#66ccee", (6.0, 1.0, 1.0, 1.0, 1.0, 1.0), "P")
"""The look of a null of the user's own."""

GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "blob": ("#332288", ("gaussian", "delta", "elongated_gaussian")),
    "centre-surround": ("#88ccee", ("laplacian", "centre_minus_laplacian", "dog")),
    "one-sided d/dx": ("#44aa99", ("forward_dx", "backward_dx")),
    "one-sided d/dy": ("#117733", ("forward_dy", "backward_dy")),
    "central d/dx": ("#999933", ("central_dx",)),
    "central d/dy": ("#ddcc77", ("central_dy",)),
    "oblique edge": ("#cc6677", ("oriented_first", "oblique_one_sided", "shifted_first", "elongated_first")),
    "second order": ("#882255", ("dxx", "dyy", "dxy", "oriented_second", "elongated_second")),
    "third order": ("#aa4499", ("oriented_third",)),
}
"""Group of classes -> its colour and the classes in it; those of one group differ by their hatches."""
NO_CLASS = Look("#dddddd")
"""Where no class fits, and classes that have no look of their own."""
_HATCHES = ("", "////", "xxxx", "....", "\\\\\\\\")
_CLASSES = {
    name: Look(colour, hatch=hatch)
    for colour, names in GROUPS.values()
    for name, hatch in zip(names, _HATCHES, strict=False)
}
_SAME = {f"{side} d/d{axis}": f"{side}_d{axis}" for side in ("forward", "backward", "central") for axis in "xy"} | {
    "T": "gaussian",
    "T - 0.5 Laplacian(T)": "centre_minus_laplacian",
}
"""Class of the set "eight" -> the family that it belongs to."""

CLASSES = tuple(colour for colour, _ in GROUPS.values())
"""The colours of the groups of classes, in their order."""
CATEGORIES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#999933")
"""Colours of things that have no look of their own, such as banks."""
MARKERS = "os^DvPX<>*hp"

ARMS: Mapping[str, Look] = {
    "transfer": Look("#0072b2", (), "o"),
    "transfer+": Look("#0072b2", DASHED, "o"),
    "selffer": Look("#009e73", (), "s"),
    "selffer+": Look("#009e73", DASHED, "s"),
    "random": Look("#e69f00", (), "v"),
    "shuffle": Look("#cc79a7", (), "^"),
    "shuffle-network": Look("#cc79a7", DASHED, "^"),
    "covariance": Look("#d55e00", (), "D"),
    "blurred": Look("#d55e00", DASHED, "d"),
    "delta": Look("#000000", (), "P"),
    "box": Look("#777777", (), "X"),
    "gauss": Look("#777777", DASHED, "H"),
    "impulse": Look("#000000", DASHED, "+"),
    "stack": Look("#56b4e9", (), "<"),
    "stack-gain": Look("#56b4e9", DOTTED, "<"),
    "first-k": Look("#56b4e9", DASHED, ">"),
    "basis": Look("#999933", (), "p"),
    "keys": Look("#882255", (), "h"),
    "pca": Look("#44aa99", MIXED, "8"),
    "file": Look("#332288", MIXED, "*"),
}
"""Arm -> its look; that of `first-5` is that of `first-k`, with a dash of its own beside another of that family."""


_NO_NULLS = {"own": Look("#000000", DASHED, "o"), "delta": Look("#000000", DOTTED, "P")}
"""Controls of a graft that are not nulls: the network's own filters, and the identity."""


def null_look(null: str) -> Look:
    """Return the look of a null; of one of the user's own, `OTHER_NULL`.

    Examples
    --------
    >>> null_look("covariance").colour
    '#ee6677'
    """
    return NULLS.get(null, OTHER_NULL)


def class_look(name: str) -> Look:
    """Return the look of a class of patterns, or of a row of several classes that coincide: that of the first.

    Examples
    --------
    >>> class_look("dxx") == class_look("dxx/dyy"), class_look("dxx").colour == class_look("dyy").colour
    (True, True)
    """
    return _CLASSES.get(_first(name), NO_CLASS)


def group_of(name: str) -> str:
    """Return the group of a class, or of the first of several; "" for none.

    Examples
    --------
    >>> group_of("laplacian"), group_of("of my own")
    ('centre-surround', '')
    """
    return next((group for group, (_, names) in GROUPS.items() if _first(name) in names), "")


def _first(name: str) -> str:
    """Return the family of a class, or of the first one of a row of several such as "gaussian/dog"."""
    first = name if name in _SAME else name.split("/")[0]
    return _SAME.get(first, first)


def group_look(group: str) -> Look:
    """Return the look of a group of classes; `NO_CLASS` for another name."""
    return Look(GROUPS[group][0]) if group in GROUPS else NO_CLASS


def bank_looks(names: Iterable[str]) -> dict[str, Look]:
    """Return a look for each bank, or other thing that has none of its own, in their order."""
    return {name: _category(i) for i, name in enumerate(dict.fromkeys(names))}


def arm_looks(names: Iterable[str]) -> dict[str, Look]:
    """Return a look for each arm or series, all different.

    An arm with a number has the colour of its family. Names that are not arms get the categories that are left.

    Examples
    --------
    >>> looks = arm_looks(["random", "random-8", "mine"])
    >>> looks["random"].colour == looks["random-8"].colour, looks["random"] == looks["random-8"]
    (True, False)
    """
    names = list(dict.fromkeys(names))
    made = {name: ARMS[name] for name in names if name in ARMS}
    for name in names:
        family = _family(name)
        if name not in made and family:
            look, taken = ARMS[family], set(made.values())
            dashes, markers = (look.dash, (), DASHED, DOTTED, MIXED, LONG, SPARSE), (look.marker, *MARKERS)
            looks = (replace(look, dash=dash, marker=marker) for marker in markers for dash in dashes)
            made[name] = next(free for free in looks if free not in taken)
    colours = {look.colour for look in made.values()}
    left = [i for i, colour in enumerate(CATEGORIES) if colour not in colours] or list(range(len(CATEGORIES)))
    at = 0
    for name in (n for n in names if n not in made):
        while (look := _category(left[at % len(left)] + len(CATEGORIES) * (at // len(left)))) in made.values():
            at += 1
        made[name] = look
        at += 1
    return {name: made[name] for name in names}


def vocabulary_looks(asked: Iterable[str], others: Iterable[str] = ()) -> dict[str, Look]:
    """Return a look for each vocabulary of a graft: those asked about as banks, nulls with theirs in every figure.

    Examples
    --------
    >>> looks = vocabulary_looks(["keys:mine"], ["keys:covariance:mine", "keys:own", "delta"])
    >>> looks["keys:covariance:mine"] == null_look("covariance"), looks["delta"].colour
    (True, '#000000')
    """
    looks = bank_looks(asked)
    for name in others:
        bare = name.removeprefix("keys:").split(":")[0]
        looks.setdefault(name, NULLS.get(bare) or _NO_NULLS.get(bare, _NO_NULLS["own"]))
    return looks


def _category(i: int) -> Look:
    dashes = ((), DASHED, DOTTED, MIXED, LONG, SPARSE)
    turn, at = divmod(i, len(CATEGORIES))
    return Look(CATEGORIES[at], dashes[turn % len(dashes)], MARKERS[(at + 5 * turn) % len(MARKERS)])


def _family(name: str) -> str:
    """Return the arm whose name a name starts with before a number, a file or both: "box3", "file:x", "keys-8:x"."""
    if re.fullmatch(r"first-\d+", name):
        return "first-k"
    stem = re.match(r"([a-z]+)(?:-?\d+)?(?::.*)?$", name)
    return stem[1] if stem and stem[1] in ARMS else ""


def luminance(colour: str) -> float:
    """Return the relative luminance of "#rrggbb", 0 to 1 (WCAG 2.2).

    Examples
    --------
    >>> luminance("#ffffff"), luminance("#000000")
    (1.0, 0.0)
    """
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2); text needs 4.5.

    Examples
    --------
    >>> round(contrast("#000000", "#ffffff"), 1)
    21.0
    """
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def ink_on(background: str) -> str:
    """Return black or white, whichever is easier to read on a colour; its contrast is at least 4.58.

    Examples
    --------
    >>> ink_on("#4393c3"), ink_on("#332288")
    ('#000000', '#ffffff')
    """
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, background))
