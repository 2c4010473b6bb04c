"""Figures: one module a figure, each with a function `draw`.

Figures of one panel take `ax`, a matplotlib Axes to draw into; figures of several panels take `fig`, a Figure or
SubFigure. Without it they make a new figure, as wide as `width` says: "column" or "page". All return the Figure.
`FIGURES` is the table of them.
"""

from __future__ import annotations

from typing import NamedTuple

from mkfa.errors import MkfaError

WIDTHS = {"column": 3.4, "page": 7.0}
"""Name of a width -> inches: one column of a page with two, and the text of a whole page."""


def inches(width: str) -> float:
    """Return the inches of a named width.

    Raises
    ------
    MkfaError
        There is no such width.

    Examples
    --------
    >>> inches("column")
    3.4
    """
    if width not in WIDTHS:
        raise MkfaError(f"width {width}", "is not a width of a figure", f"choose {' or '.join(WIDTHS)}")
    return WIDTHS[width]


class FigureEntry(NamedTuple):
    """A figure: the name of its module, what it shows, what it is drawn from, and the command that draws it."""

    name: str
    shows: str
    needs: str
    command: str

    @property
    def from_banks(self) -> bool:
        """True if `mkfa figure` draws it, straight from banks; the module then has `compute` too."""
        return self.command.startswith("mkfa figure ")


FIGURES = {
    entry.name: entry
    for entry in (
        FigureEntry(
            "filters",
            "random filters of the first, middle and last layer of each bank",
            "banks",
            "mkfa figure filters BANK...",
        ),
        FigureEntry(
            "layer", "the filters of one layer", "a bank and a layer", "mkfa show BANK --layer N --figure FILE.png"
        ),
        FigureEntry(
            "compare",
            "similarity of layer pairs, coverage and every measure beside chance; a matrix for three banks or more",
            "a comparison",
            "mkfa compare --a A --b B --figure FILE.png",
        ),
        FigureEntry(
            "groups",
            "a map of networks in groups, and the distances of all pairs",
            "a comparison of groups",
            "mkfa compare --group NAME=BANK,BANK --group NAME=BANK,BANK --figure FILE.png",
        ),
        FigureEntry(
            "assign",
            "shares of the patterns in each layer, coverage beside the nulls, best and worst fits",
            "an assignment",
            "mkfa assign BANK --figure FILE.png",
        ),
        FigureEntry(
            "atlas",
            "prototypes of the groups of filters, and a map of all filters",
            "an atlas",
            "mkfa atlas BANK... --figure FILE.png",
        ),
        FigureEntry(
            "keys",
            "what key filters explain, and the named pattern nearest to each",
            "key filters",
            "mkfa keys BANK... --figure FILE.png",
        ),
        FigureEntry(
            "graft",
            "answers that a trained network keeps with other filters, over their number, layers and similarity",
            "a graft",
            "mkfa graft NETWORK --images FOLDER --figure FILE.png",
        ),
        FigureEntry(
            "curve",
            "accuracy against the number of frozen layers, a line for each arm",
            "a curve",
            "mkfa transfer-curve ...",
        ),
        FigureEntry(
            "scenarios",
            "a table of arms at one number of layers, with intervals",
            "a table of scenarios",
            "mkfa transfer ...",
        ),
        FigureEntry(
            "sweep",
            "learned less random filters along D / f^2, or along the steps, with the line through them",
            "a sweep",
            "mkfa transfer-sweep ...",
        ),
        FigureEntry(
            "matrix",
            "accuracy of every source on every target",
            "a matrix of sources and targets",
            "mkfa transfer-matrix ...",
        ),
        FigureEntry(
            "contact_sheet", "one image of each class", "a domain", "mkfa domains show DOMAIN --contact-sheet FILE.png"
        ),
    )
}
"""Every figure by name."""
