"""Groups of networks: a map on which near networks are alike, and the distances of all pairs, for each kernel size."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import AMOUNT, bank_looks
from mkfa.figures.style import NARROW, SMALL, new_figure, shortened, style, width_of, wrapped
from mkfa.similarity.group_comparison import GroupComparison, GroupKind
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

NAMED = 30
"""Networks that are numbered on the map and named beside the distances; of more only the groups are named."""


def draw(data: GroupComparison, fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw a map and a matrix of distances by the primary measure for each kernel size, into `fig` or a new figure.

    Hollow points are networks with a parent in common with another one: they are shown and not tested.

    Examples
    --------
    >>> import mkfa
    >>> groups = {"text": ["ppocrv4_det", "ppocrv4_rec"], "imagenet": ["mobilenet_v2", "efficientnet_lite0"]}
    >>> figure = draw(mkfa.compare_groups(groups, kernel_size="3x3", draws=19))
    >>> figure.axes[0].get_title(loc="left").split(",")[0]
    '3x3: map of 4 networks by coverage'
    """
    wide = width_of(fig, width)
    narrow = wide < NARROW
    kinds = len(data.kinds)
    with style():
        if narrow:
            figure: Figure | SubFigure = fig or new_figure(wide, 6.4 * kinds + 0.3)
            rows = figure.subplots(2 * kinds, 1, squeeze=False).reshape(kinds, 2)
        else:
            figure = fig or new_figure(wide, 3.3 * kinds + 0.3)
            rows = figure.subplots(kinds, 2, squeeze=False, width_ratios=(1, 1))
        panel = wide if narrow else wide / 2
        for (left, right), kind in zip(rows, data.kinds, strict=True):
            _map(left, kind, list(data.groups), panel)
            _distances(right, kind, panel)
        handles: dict[str, Any] = {}
        for ax in rows[:, 0]:
            found, labels = ax.get_legend_handles_labels()
            handles |= dict(zip(labels, found, strict=True))
        shown = [label for label in data.groups if label in handles]
        names = [shortened(label, 24) for label in shown]
        columns = 2 if narrow else 4
        points = [handles[label] for label in shown]
        figure.legend(points, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure.figure


def _map(ax: Axes, kind: GroupKind, groups: list[str], width: float) -> None:
    measure = kind.measures[0]
    looks = bank_looks(groups)
    for group in groups:
        rows = [i for i, m in enumerate(kind.members) if m.group == group]
        if not rows:
            continue
        look, x = looks[group], measure.place[rows]
        once = np.array([kind.members[i].counted for i in rows])
        point: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": "", "markersize": 5}
        ax.plot(*x[once].T, label=group, **point)
        ax.plot(*x[~once].T, markerfacecolor="none", **point)
        if once.sum() > 1:
            ax.plot(*x[once].mean(axis=0), marker="+", color=look.colour, markersize=9, markeredgewidth=1.4)
    if len(kind.members) <= NAMED:
        _number_points(ax, kind, width)
    first, second = measure.map_share
    ax.margins(0.18)
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xlabel(f"first axis ({first:.0%} of the distances)")
    ax.set_ylabel(f"second axis ({second:.0%})")
    test = measure.between
    p = f", p = {test.p:.3g} (at least {test.least:.2g})" if np.isfinite(test.p) else ", not tested"
    title = f"{kind.kind}: map of {counted(len(kind.members), 'network')} by {measure.measure}{p}; +: mean of a group"
    ax.set_title(wrapped(title, 0.62 * width if width < NARROW else 0.8 * width), loc="left")


def _number_points(ax: Axes, kind: GroupKind, width: float) -> None:
    """Write the number of each network beside its point, on a side where it covers no other point or number."""
    place = kind.measures[0].place
    scale = 72 * 0.6 * width / np.ptp(place, axis=0).max().clip(1e-9)  # points of print, roughly
    taken = [tuple(xy) for xy in place * scale]
    for number, i in enumerate(_in_groups(kind), 1):
        x, y = place[i] * scale
        sides = [(r * np.cos(t), r * np.sin(t)) for r in (10, 16, 22) for t in np.arange(8) * np.pi / 4]
        room = [min(np.hypot(x + dx - u, y + dy - v) for u, v in taken) for dx, dy in sides]
        best = next((k for k, free in enumerate(room) if free > 9), int(np.argmax(room)))
        taken.append((x + sides[best][0], y + sides[best][1]))
        ax.annotate(
            str(number),
            place[i],
            xytext=sides[best],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=SMALL,
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#999999", "shrinkA": 0, "shrinkB": 2},
        )


def _in_groups(kind: GroupKind) -> list[int]:
    """Return the rows of the networks, those of one group beside each other."""
    groups = [member.group for member in kind.members]
    return sorted(range(len(groups)), key=lambda i: groups.index(groups[i]))


def _distances(ax: Axes, kind: GroupKind, width: float) -> None:
    """Draw the distances in the order of groups, with lines between groups."""
    measure, members = kind.measures[0], kind.members
    order = _in_groups(kind)
    distance = np.sqrt(np.clip(measure.squared, 0, None))[np.ix_(order, order)]
    picture = ax.imshow(distance, cmap=AMOUNT, vmin=0, interpolation="nearest")
    ax.figure.colorbar(picture, ax=ax, fraction=0.05, pad=0.03, label=f"distance by {measure.measure} (0: alike)")
    groups = [members[i].group for i in order]
    edges = [i for i in range(1, len(groups)) if groups[i] != groups[i - 1]]
    for edge in edges:
        ax.axhline(edge - 0.5, color="white", lw=1.2)
        ax.axvline(edge - 0.5, color="white", lw=1.2)
    if len(members) <= NAMED and (width - 1.7) / len(members) > 0.1:
        names = [f"{shortened(members[i].name, 16)} {number}" for number, i in enumerate(order, 1)]
        ax.set_xticks(range(len(names)), [str(number) for number in range(1, len(names) + 1)], fontsize=SMALL)
        ax.set_yticks(range(len(names)), names, fontsize=SMALL)
    else:
        bounds = [0, *edges, len(groups)]
        middles = [(a + b - 1) / 2 for a, b in pairwise(bounds)]
        names = [shortened(groups[a], 12) for a in bounds[:-1]]
        ax.set_xticks(middles, names, rotation=90, fontsize=SMALL)
        ax.set_yticks(middles, names, fontsize=SMALL)
    ax.tick_params(length=0)
    ax.set_title(f"{kind.kind}: distances, {counted(kind.n, 'filter')} of each", loc="left")
