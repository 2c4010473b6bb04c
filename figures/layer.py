"""The filters of one layer as a mosaic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mkfa.array_types import F32
from mkfa.banks.canonical import canonical
from mkfa.banks.library import BankLike, load_bank
from mkfa.colours import SIGNED
from mkfa.errors import MkfaError
from mkfa.figures import inches
from mkfa.figures.style import NARROW, new_figure, style, wrapped
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 240
"""Most filters drawn; of a larger layer, evenly spaced ones are shown, and the title says so."""


@dataclass(frozen=True, slots=True)
class LayerMosaic:
    """Filters to draw, (n, kh, kw) float32, their channels (n,), which are usable (n,), and the title."""

    title: str
    filters: F32
    channels: tuple[int, ...]
    usable: tuple[bool, ...] = ()


def compute(bank: BankLike, number: int) -> LayerMosaic:
    """Choose the filters of one layer of a bank (name, path or bank); layers are numbered from 1.

    Raises
    ------
    MkfaError
        The bank has no such layer.
    """
    bank = load_bank(bank)
    if not 1 <= number <= len(bank.layers):
        raise MkfaError(f"layer {number}", f"is not in {bank.name}", f"choose one from 1 to {len(bank.layers)}")
    layer, group = bank.layers[number - 1], bank.of_layer(number - 1)
    n, usable = len(group), canonical(group).usable
    chosen = np.unique(np.linspace(0, n - 1, min(n, MOST)).round().astype(int))
    part = (
        f"{len(chosen)} of {counted(n, 'filter')}, evenly spaced" if len(chosen) < n else f"all {counted(n, 'filter')}"
    )
    title = f"{bank.name}, layer {number} ({layer.kind}): {part}\n{layer.name}"
    if not usable[chosen].all():
        title += "; crossed: dead, flat or not finite"
    return LayerMosaic(title, group.weight[chosen], tuple(map(int, chosen)), tuple(map(bool, usable[chosen])))


def draw(data: LayerMosaic, ax: Axes | None = None, *, width: str = "page") -> Figure:
    """Draw the mosaic into `ax` or a new figure; each filter is scaled by its own largest |weight|, zero is white.

    Examples
    --------
    >>> import mkfa
    >>> from mkfa.figures.layer import compute, draw
    >>> figure = draw(compute("mobilenet_v2", 1))
    >>> print(figure.axes[0].get_title(loc="left"))
    mobilenet_v2, layer 1 (3x3): all 32 filters
    features.1.conv.0.0.weight; crossed: dead, flat or not finite
    """
    n, kh, kw = data.filters.shape
    wide = inches(width)
    columns = max(4, min(20 if wide >= NARROW else 12, math.ceil(math.sqrt(n * 1.6))))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (kh + 1) - 1, columns * (kw + 1) - 1), np.nan)
    for i, filter_ in enumerate(data.filters):
        finite = np.where(np.isfinite(filter_), filter_, 0)
        y, x = divmod(i, columns)
        top = float(np.abs(finite).max()) or 1.0
        sheet[y * (kh + 1) : y * (kh + 1) + kh, x * (kw + 1) : x * (kw + 1) + kw] = finite / top
    with style():
        title = wrapped(data.title, wide if wide < NARROW else 0.85 * wide) if ax is None else data.title
        part, around = (0.94, 0.7) if wide < NARROW else (0.88, 0.2)  # of the width, and inches of the bar below
        tall = around + 0.14 * len(title.splitlines()) + part * wide * sheet.shape[0] / sheet.shape[1]
        ax = ax or new_figure(wide, tall).add_subplot()
        picture = ax.imshow(sheet, cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
        for i in (i for i, good in enumerate(data.usable) if not good):
            y, x = divmod(i, columns)
            corner = x * (kw + 1) - 0.5, y * (kh + 1) - 0.5
            ax.plot([corner[0], corner[0] + kw], [corner[1], corner[1] + kh], color="black", linewidth=0.8)
        ax.set_axis_off()
        ax.set_title(title, loc="left")
        if wide < NARROW:
            bar = ax.figure.colorbar(picture, ax=ax, location="bottom", pad=0.02, aspect=40, ticks=[-1, 0, 1])
        else:
            share = min(1.0, 2.2 / (0.7 + 0.94 * wide * rows / columns))
            bar = ax.figure.colorbar(picture, ax=ax, shrink=share, pad=0.01)
        bar.set_label("weight / largest |weight| of the filter")
    return ax.figure.figure
