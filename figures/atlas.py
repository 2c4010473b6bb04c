"""The atlas: prototypes with their shares, and the map of filters in three colourings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.clusters.atlas import CLASS_GROUPS, CLASSES, Atlas
from mkfa.clusters.pool import DEPTHS
from mkfa.colours import AMOUNT, SIGNED, bank_looks, group_look
from mkfa.figures.style import NARROW, draw_filter, new_figure, shortened, style, width_of, wrapped
from mkfa.patterns.families import FAMILIES
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_MOST_PROTOTYPES = 16
_MOST_THUMBNAILS = 18
_THUMBNAIL = 0.17
"""Side of a thumbnail on the map, inches."""
_MAP_HEIGHT = 2.9


def draw(data: Atlas, fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw prototypes with their shares and, if the atlas has one, the map below; into `fig` or a new figure.

    Examples
    --------
    >>> import mkfa
    >>> atlas = mkfa.build_atlas(["ppocrv4_det"], kernel_size="3x3", clusters=4, sample=40)
    >>> draw(atlas).savefig("atlas.png")
    """
    wide = width_of(fig, width)
    narrow = wide < NARROW
    shown = min(len(data.clusters.prototype), _MOST_PROTOTYPES)
    columns = 4 if narrow else 8
    rows = math.ceil(shown / columns)
    owners = len(data.pool.banks) + len(DEPTHS)
    top = rows * ((1.0 if narrow else 1.2) + 0.15 * owners) + (0.7 if narrow else 0.4)
    maps = _MAP_HEIGHT * (3 if narrow else 1) + (1.3 if narrow else 0.9)
    with style():
        figure: Figure | SubFigure = fig or new_figure(wide, top + (maps if data.map is not None else 0))
        if data.map is None:
            _prototypes(figure, data, shown, columns, wide)
        else:
            upper, lower = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=(top, maps))))
            _prototypes(upper, data, shown, columns, wide)
            _maps(lower, data, wide)
    return figure.figure


def _prototypes(figure: Figure | SubFigure, data: Atlas, shown: int, most: int, width: float) -> None:
    clusters = data.clusters
    columns = max(min(shown, most), 4)
    rows = math.ceil(shown / columns)
    owners = [*data.pool.banks, *DEPTHS]
    share = np.vstack([data.bank_share, data.third_share])
    shares = data.pool.shares(clusters.label, len(clusters.prototype))
    colours = [look.colour for look in bank_looks(data.pool.banks).values()] + ["#707070"] * len(DEPTHS)
    ratios = (1, 0.16 * len(owners)) * rows
    axes = figure.subplots(2 * rows, columns, height_ratios=ratios, squeeze=False)
    longest = float(np.nanmax(share[:, :shown])) or 1.0
    for j in range(rows * columns):
        y, x = divmod(j, columns)
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
        names = [shortened(owner, 14 if width < NARROW else 22) for owner in owners]
        bars.set_yticks(range(len(owners)), names if x == 0 else [""] * len(owners))
    more = "" if shown == len(clusters.prototype) else f" (the {shown} largest of {len(clusters.prototype)})"
    title = f"Prototypes of {len(data.pool)} {data.pool.kind} filters{more}; share of each bank and depth in each"
    figure.suptitle(wrapped(title, width, 9), x=0.01, ha="left")


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


def _maps(figure: Figure | SubFigure, data: Atlas, width: float) -> None:
    assert data.map is not None
    narrow = width < NARROW
    row, place = data.map.row, data.map.position
    axes = figure.subplots(*((3, 1) if narrow else (1, 3)), squeeze=False).ravel()
    # A fixed random order, so that no class always lies on top.
    order = np.random.default_rng(0).permutation(len(row))
    size = float(np.clip(4000 / len(row), 0.8, 8))
    common: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": True}
    label = data.filter_class[row]
    colours = [group_look(title).colour for title in CLASSES]
    _scatter_labels(axes[0], place[order], label[order], names=CLASSES, colours=colours, common=common)
    axes[0].set_title("best fitting class", loc="left")
    depth = data.pool.depth[row][order]
    points = axes[1].scatter(*place[order].T, c=depth, cmap=AMOUNT, vmin=0, vmax=1, **common)
    axes[1].set_title("depth of the layer", loc="left")
    bar = figure.colorbar(points, cax=axes[1].inset_axes((0.15, -0.06, 0.7, 0.03)), orientation="horizontal")
    bar.set_ticks([0, 0.5, 1], labels=["first", "middle", "last"])
    bank = data.pool.bank[row]
    if len(data.pool.banks) > 1:
        title, names, own = "bank", data.pool.banks, bank
    else:
        title, names = "cluster", tuple(f"cluster {j + 1}" for j in range(len(data.clusters.prototype)))
        own = data.clusters.label[row]
    colours = [look.colour for look in bank_looks(names).values()]
    handles = _scatter_labels(axes[2], place[order], own[order], names=names, colours=colours, common=common)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 1 if len(names) < 4 else 2}
    small: dict[str, Any] = {"frameon": False, "handletextpad": 0.1, "labelspacing": 0.25, "fontsize": 6.5}
    axes[2].legend(handles=handles, **below, **small)
    axes[2].set_title(title, loc="left")
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[["left", "bottom"]].set_visible(False)
    inner = width * 0.95 if narrow else width / 3.1
    _thumbnails(axes[0], data, inner)
    there = [i for i in range(len(CLASSES)) if (label == i).any()]
    figure.legend(
        handles=_handles([_class_title(CLASSES[i]) for i in there], [group_look(CLASSES[i]).colour for i in there]),
        loc="outside lower center",
        ncols=1 if narrow else 2,
        **small,
    )
    title = (
        f"UMAP of {len(row)} of {counted(len(data.pool), 'filter')}, modulo sign, gain, offset (seed {data.seed}); "
        "thumbnails: filters at their places"
    )
    figure.suptitle(wrapped(title, width, 9), x=0.01, ha="left")


def _thumbnails(ax: Axes, data: Atlas, width: float) -> None:
    """Draw some filters where they lie on the map: of the fullest squares of a grid, the one nearest to the centre."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    assert data.map is not None
    place, kind = data.map.position.astype(float), data.pool.kind
    low, size = place.min(axis=0), np.ptp(place, axis=0).clip(1e-9)
    cells = np.array([width, 0.75 * _MAP_HEIGHT]) // (2.0 * _THUMBNAIL)
    cell = np.minimum((place - low) / size * cells, cells - 1e-6).astype(int)
    number = cell[:, 0] * int(cells[1]) + cell[:, 1]
    which, count = np.unique(number, return_counts=True)
    for square in which[np.argsort(-count, kind="stable")][:_MOST_THUMBNAILS]:
        inside = np.flatnonzero(number == square)
        middle = low + (cell[inside[0]] + 0.5) / cells * size
        nearest = inside[np.argmin((((place[inside] - middle) / size * cells) ** 2).sum(axis=1))]
        values = data.pool.filters[data.map.row[nearest]]
        top = float(np.abs(values).max()) or 1.0
        picture = OffsetImage(
            values, zoom=72 * _THUMBNAIL / kind.kw, cmap=SIGNED, norm=_signed_norm(top), interpolation="nearest"
        )
        box = {"linewidth": 0.5, "edgecolor": "black"}
        ax.add_artist(AnnotationBbox(picture, tuple(place[nearest]), pad=0.05, bboxprops=box, zorder=4))


def _signed_norm(top: float) -> Any:
    from matplotlib.colors import Normalize

    return Normalize(-top, top)


def _class_title(group: str) -> str:
    """Return the name of a group of classes with those in it, by the names of `mkfa assign`."""
    titles = {family.name: family.title for family in FAMILIES}
    inside = [titles[name] for title, names in CLASS_GROUPS if title == group for name in names]
    return group if len(inside) < 2 else f"{group}: {', '.join(inside)}"


def _scatter_labels(
    ax: Axes, place: Any, label: Any, *, names: Sequence[str], colours: Sequence[str], common: dict[str, Any]
) -> list[Any]:
    """Scatter points in the colours of their labels; return handles for a legend of those that are there."""
    ax.scatter(place[:, 0], place[:, 1], c=np.array(colours)[label], **common)
    there = [i for i in range(len(names)) if (label == i).any()][:10]
    return _handles([shortened(names[i], 22) for i in there], [colours[i] for i in there])


def _handles(names: Sequence[str], colours: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    point: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 3.5}
    return [Line2D([], [], color=colour, label=name, **point) for name, colour in zip(names, colours, strict=True)]
