"""Random filters of the first, middle and last layer of each bank (the paper's Figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mkfa.array_types import F32
from mkfa.banks.bank import FilterBank
from mkfa.banks.canonical import canonical
from mkfa.banks.library import Banks, load_banks
from mkfa.colours import SIGNED
from mkfa.errors import MkfaError
from mkfa.figures.style import NARROW, SMALL, letters, new_figure, shortened, style, width_of, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

PER_LAYER = 30
_COLUMNS = 10


@dataclass(frozen=True, slots=True)
class LayerSample:
    """Filters sampled from one layer, (n, kh, kw) float32 as harvested, and a title for the panel."""

    title: str
    filters: F32


@dataclass(frozen=True, slots=True)
class FilterRows:
    """One row of three layers a bank: `rows` has (bank's name, (first, middle, last))."""

    rows: tuple[tuple[str, tuple[LayerSample, ...]], ...]
    seed: int


def compute(banks: Banks, *, seed: int) -> FilterRows:
    """Sample filters without replacement from the usable ones (not dead, flat or non-finite) of three layers a bank.

    `banks` are one or several names, paths or banks.

    Raises
    ------
    MkfaError
        No bank was named.
    """
    loaded = load_banks(banks)
    if not loaded:
        raise MkfaError("figure filters", "no bank was named", "name some: mkfa figure filters A B")
    rows = []
    for number, bank in enumerate(loaded):
        last = len(bank.layers) - 1
        wanted = (("first", 0), ("middle", last // 2), ("last", last))
        samples = tuple(
            _sample(bank, index, place=place, rng=np.random.default_rng((seed, number, index)))
            for place, index in wanted
        )
        rows.append((bank.name, samples))
    return FilterRows(tuple(rows), seed)


def _sample(bank: FilterBank, index: int, *, place: str, rng: np.random.Generator) -> LayerSample:
    layer, group = bank.layers[index], bank.of_layer(index)
    usable = np.flatnonzero(canonical(group).usable)
    chosen = np.sort(rng.choice(usable, min(PER_LAYER, len(usable)), replace=False))
    title = f"{place}: layer {index + 1}, {layer.kind}, {len(chosen)} of {layer.channels}"
    return LayerSample(title, group.weight[chosen])


def draw(data: FilterRows, fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw one row of three mosaics for each bank, into `fig` or a new figure.

    Each filter is scaled by its own largest |weight|; zero is white.

    Examples
    --------
    >>> import mkfa
    >>> from mkfa.figures.filters import compute, draw
    >>> figure = draw(compute("mobilenet_v2", seed=0))
    >>> [ax.get_title(loc="left") for ax in figure.axes[:2]]
    ['mobilenet_v2\\nfirst: layer 1, 3x3, 28 of 32', 'middle: layer 9, 3x3, 30 of 384']
    """
    with style():
        wide = width_of(fig, width)
        row = 1.15 if wide >= NARROW else 0.95
        figure: Figure | SubFigure = fig or new_figure(wide, 0.75 + row * len(data.rows))
        axes = figure.subplots(len(data.rows), 3, squeeze=False)
        for line, (name, samples) in zip(axes, data.rows, strict=True):
            for ax, sample in zip(line, samples, strict=True):
                _mosaic(ax, sample, wide / 3)
            own = line[0].get_title(loc="left")
            line[0].set_title(
                f"{shortened(name, int(0.8 * letters(wide / 3, 7)))}\n{own}", loc="left", fontsize=_size(wide)
            )
        figure.colorbar(
            axes[0, 0].images[0], ax=axes, location="bottom", aspect=60, shrink=0.5, pad=0.02, ticks=[-1, 0, 1]
        ).set_label("weight / largest |weight| of the filter")
        title = (
            f"Up to {PER_LAYER} random filters of three layers of each network; "
            f"dead, flat and non-finite ones are left out (seed {data.seed})"
        )
        figure.suptitle(wrapped(title, wide, 8), x=0.01, ha="left", fontsize=8)
    return figure.figure


def _size(width: float) -> float:
    return 7 if width >= NARROW else SMALL


def _mosaic(ax: Axes, sample: LayerSample, width: float) -> None:
    n, kh, kw = sample.filters.shape
    rows = -(-PER_LAYER // _COLUMNS)
    sheet = np.full((rows * (kh + 1) - 1, _COLUMNS * (kw + 1) - 1), np.nan)
    for i, filter_ in enumerate(sample.filters):
        y, x = divmod(i, _COLUMNS)
        sheet[y * (kh + 1) : y * (kh + 1) + kh, x * (kw + 1) : x * (kw + 1) + kw] = filter_ / np.abs(filter_).max()
    ax.imshow(sheet, cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest")
    size = _size(3 * width)
    title = sample.title if size > SMALL else "\n".join(sample.title.rsplit(", ", 1))
    ax.set_title(title, loc="left", fontsize=size)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    if not n:
        ax.text(0.5, 0.5, "no usable filter", ha="center", va="center", transform=ax.transAxes)
