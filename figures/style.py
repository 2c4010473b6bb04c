"""Sizes, colours and scales shared by all figures."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import SIGNED
from mkfa.errors import MkfaError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.4
"""Width of one text column, inches."""
PAGE = 7.0
"""Width of a page's text, inches."""
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


def new_figure(width: float = PAGE, height: float = 3.0) -> Figure:
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


def in_few_words(sources: str) -> str:
    """Return names joined by commas; only their number if they are too long for a title."""
    return sources if len(sources) <= 40 else f"{sources.count(',') + 1} sources"


def draw_filter(ax: Axes, filter_: Any, *, limit: float | None = None) -> None:
    """Draw one filter, (kh, kw), with a colour scale centred at zero; row 0 is at the top, as in the stored array."""
    values = np.asarray(filter_, dtype=float)
    top = limit if limit is not None else float(np.nanmax(np.abs(values), initial=0)) or 1.0
    ax.imshow(values, cmap=SIGNED, vmin=-top, vmax=top, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
