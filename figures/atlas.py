"""The atlas: prototypes with their shares, and the map of filters in three colourings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.clusters.atlas import CLASSES, Atlas
from mkfa.clusters.pool import DEPTHS
from mkfa.colours import AMOUNT
from mkfa.figures.style import PAGE, draw_filter, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe and Ito's colours, which readers of any colour vision can tell apart; grey stands for no class.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000", "#C8C8C8")
_MOST_PROTOTYPES = 16
_COLUMNS = 8
_MAP_HEIGHT = 3.1


def draw(data: Atlas, fig: Figure | SubFigure | None = None) -> Figure:
    """Draw prototypes with their shares and, if the atlas has one, the map below; into `fig` or a new figure.

    Examples
    --------
    >>> import mkfa
    >>> atlas = mkfa.build_atlas(["ppocrv4_det"], kernel_size="3x3", clusters=4, sample=40)
    >>> draw(atlas).savefig("atlas.png")
    """
    shown = min(len(data.clusters.prototype), _MOST_PROTOTYPES)
    rows = math.ceil(shown / _COLUMNS)
    owners = len(data.pool.banks) + len(DEPTHS)
    top = rows * (1.2 + 0.15 * owners) + 0.4
    with style():
        figure: Figure | SubFigure = fig or new_figure(PAGE, top + (_MAP_HEIGHT if data.map is not None else 0))
        if data.map is None:
            _prototypes(figure, data, shown)
        else:
            upper, lower = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=(top, _MAP_HEIGHT))))
            _prototypes(upper, data, shown)
            _maps(lower, data)
    return figure.figure


def _prototypes(figure: Figure | SubFigure, data: Atlas, shown: int) -> None:
    clusters = data.clusters
    columns = min(shown, _COLUMNS)
    rows = math.ceil(shown / columns)
    owners = [*data.pool.banks, *DEPTHS]
    share = np.vstack([data.bank_share, data.third_share])
    shares = data.pool.shares(clusters.label, len(clusters.prototype))
    colours = [COLOURS[i % (len(COLOURS) - 1)] for i in range(len(data.pool.banks))] + ["#707070"] * len(DEPTHS)
    ratios = (1, 0.16 * len(owners)) * rows
    axes = figure.subplots(2 * rows, max(columns, 4), height_ratios=ratios, squeeze=False)
    longest = float(np.nanmax(share[:, :shown])) or 1.0
    for j in range(rows * max(columns, 4)):
        y, x = divmod(j, max(columns, 4))
        picture, bars = axes[2 * y, x], axes[2 * y + 1, x]
        if j >= shown:
            picture.set_axis_off()
            bars.set_axis_off()
            continue
        draw_filter(picture, clusters.prototype[j].reshape(data.pool.kind.kh, data.pool.kind.kw))
        picture.spines[:].set_visible(False)
        picture.set_title(f"{j + 1}: {shares[j]:.0%}")
        picture.set_xlabel(f"R² {clusters.mean_r2[j]:.2f}", fontsize=7, labelpad=2)
        _bars(bars, share[:, j], colours, longest=longest)
        bars.set_yticks(range(len(owners)), owners if x == 0 else [""] * len(owners))
    more = "" if shown == len(clusters.prototype) else f" (the {shown} largest of {len(clusters.prototype)})"
    title = f"Prototypes of {len(data.pool)} {data.pool.kind} filters{more}; share of each bank and depth in each"
    figure.suptitle(title, x=0.01, ha="left")


def _bars(ax: Axes, share: Any, colours: list[str], *, longest: float) -> None:
    ax.barh(range(len(share)), np.nan_to_num(share), color=colours, height=0.75)
    for i, value in enumerate(share):
        text = "–" if np.isnan(value) else f"{value:.0%}"
        ax.text(np.nan_to_num(value) + 0.03 * longest, i, text, va="center", fontsize=6)
    ax.set_xlim(0, 1.45 * longest)
    ax.invert_yaxis()
    ax.set_xticks([])
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "bottom"]].set_visible(False)


def _maps(figure: Figure | SubFigure, data: Atlas) -> None:
    assert data.map is not None
    row, place = data.map.row, data.map.position
    axes = figure.subplots(1, 3)
    # A fixed random order, so that no class always lies on top.
    order = np.random.default_rng(0).permutation(len(row))
    size = float(np.clip(4000 / len(row), 0.8, 8))
    common: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    label = data.filter_class[row]
    _scatter_labels(axes[0], place[order], label[order], names=CLASSES, common=common, title="best fitting family")
    depth = data.pool.depth[row][order]
    points = axes[1].scatter(*place[order].T, c=depth, cmap=AMOUNT, vmin=0, vmax=1, **common)
    axes[1].set_title("depth of the layer", loc="left")
    bar = figure.colorbar(points, ax=axes[1], location="bottom", shrink=0.7, pad=0.03, aspect=25)
    bar.set_ticks([0, 0.5, 1], labels=["first", "middle", "last"])
    bank = data.pool.bank[row]
    if len(data.pool.banks) > 1:
        _scatter_labels(axes[2], place[order], bank[order], names=data.pool.banks, common=common, title="bank")
    else:
        names = [f"cluster {j + 1}" for j in range(len(data.clusters.prototype))]
        cluster = data.clusters.label[row]
        _scatter_labels(axes[2], place[order], cluster[order], names=names, common=common, title="cluster")
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[["left", "bottom"]].set_visible(False)
    figure.suptitle(
        f"UMAP of {len(row)} of {len(data.pool)} filters, modulo sign, gain and offset (seed {data.seed})",
        x=0.01,
        ha="left",
    )


def _scatter_labels(ax: Axes, place: Any, label: Any, *, names: Any, common: dict[str, Any], title: str) -> None:
    from matplotlib.lines import Line2D

    cycle = COLOURS if names is CLASSES else COLOURS[:-1]
    colour = np.array([cycle[i % len(cycle)] for i in range(len(names))])
    ax.scatter(place[:, 0], place[:, 1], c=colour[label], **common)
    there = [i for i in range(len(names)) if (label == i).any()][:10]
    handles = [Line2D([], [], marker="o", linestyle="", markersize=3.5, color=colour[i], label=names[i]) for i in there]
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=2,
        frameon=False,
        handletextpad=0.1,
        columnspacing=0.8,
        labelspacing=0.25,
        fontsize=6.5,
    )
    ax.set_title(title, loc="left")
