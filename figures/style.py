"""Sizes, colours and scales shared by all figures."""

from __future__ import annotations

import textwrap
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import SIGNED, ink_on
from mkfa.errors import MkfaError
from mkfa.figures import inches
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

NARROW = 5.0
"""Figures narrower than this, inches, put their panels below one another."""
SMALL = 6.0
"""Size of the smallest text, points; figures are as wide as they are printed."""
_LETTER = 0.53
"""Mean width of a letter of the default font, in sizes of the font."""
SETTINGS: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "text.parse_math": False,  # a "$" in a name is a "$"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "figure.dpi": 100,
    "svg.hashsalt": "mkfa",
    "pdf.fonttype": 42,
}


def width_of(fig: Figure | SubFigure | None, width: str) -> float:
    """Return the width of a figure that is drawn into, or of a new one of a named width; inches."""
    return inches(width) if fig is None else fig.bbox.width / fig.dpi


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, width and height in inches, without pyplot's global state. Use under `style()`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def style() -> AbstractContextManager[None]:
    """Return the context that figures are made in: `with style(): ...`."""
    import matplotlib as mpl

    context: AbstractContextManager[None] = mpl.rc_context(rc=dict(SETTINGS))  # type: ignore[arg-type]
    return context


def refuse_both(ax: Axes | None, paper: object) -> None:
    """Raise MkfaError if the paper's panels are asked for and only one panel is there."""
    if ax is not None and paper:
        raise MkfaError("paper", "takes panels of its own, and ax is one panel", "leave out ax or paper")


def hatch(ax: Axes) -> None:
    """Hatch what a picture leaves empty; the title has to say what it means."""
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, hatch="////", edgecolor="#aaaaaa", lw=0, zorder=-1)
    )


def signed(points: float) -> str:
    """Return a number with its sign, a true minus, and one decimal."""
    return f"{points:+.1f}".replace("-", "−")


def letters(width: float, size: float = 8.0) -> int:
    """Return how many letters of a size in points fit into a width in inches.

    Examples
    --------
    >>> letters(3.4)
    57
    """
    return max(8, int(72 * width / (_LETTER * size)))


def wrapped(text: str, width: float, size: float = 8.0) -> str:
    """Break the lines of a text that are longer than a width, inches, in a font of some size, points."""
    return "\n".join(textwrap.fill(line, letters(width, size)) for line in text.split("\n"))


def shortened(name: str, most: int) -> str:
    """Return a name with its middle left out if it has more letters than `most`.

    Examples
    --------
    >>> shortened("convnext_tiny.in12k_ft_in1k", 17)
    'convnext…ft_in1k'
    """
    keep = max(1, (most - 1) // 2)
    return name if len(name) <= most else f"{name[:keep]}…{name[-keep + 1 :]}" if keep > 1 else name[:most]


def ink(picture: Any, value: float) -> str:
    """Return black or white, whichever is easier to read on the colour that a picture gives a value."""
    from matplotlib.colors import to_hex

    return ink_on(to_hex(picture.cmap(picture.norm(value))))


def beyond_axis(
    ax: Axes, place: float, row: float, *, text: str, colour: str = "black", size: float = SMALL, margin: bool = False
) -> None:
    """Mark a value outside the axis at its edge: an arrowhead that points to it, and the value beside it.

    The limits of the x axis must be set. With `margin` the value of a place beyond the right edge stands outside the
    axis, where it covers nothing.
    """
    left, right = ax.get_xlim()
    low = place < left
    edge, marker, side, shift = (left, "<", "left", 5) if low else (right, ">", "right", -5)
    if margin and not low:
        side, shift = "left", 5
    ax.plot([edge], [row], marker, color=colour, ms=4, clip_on=False, zorder=5)
    ax.annotate(
        text,
        (edge, row),
        xytext=(shift, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=size,
        color=colour,
        bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 0.3},
        zorder=5,
    )


def in_few_words(sources: str) -> str:
    """Return names joined by commas; only their number if they are too long for a title."""
    return sources if len(sources) <= 40 else counted(sources.count(",") + 1, "source")


def draw_filter(ax: Axes, filter_: Any, *, limit: float | None = None) -> None:
    """Draw one filter, (kh, kw), with a colour scale centred at zero; row 0 is at the top, as in the stored array."""
    values = np.asarray(filter_, dtype=float)
    top = limit if limit is not None else float(np.nanmax(np.abs(values), initial=0)) or 1.0
    ax.imshow(values, cmap=SIGNED, vmin=-top, vmax=top, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
