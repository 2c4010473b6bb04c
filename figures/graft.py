"""A graft: answers that a network keeps, over the number of filters, the layers and the similarity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mkfa.colours import Look, vocabulary_looks
from mkfa.figures.style import NARROW, SMALL, letters, new_figure, style, width_of, wrapped
from mkfa.grafts.result import KEPT
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from mkfa.grafts.result import Graft, Point

_TITLES = {
    "size": "Over the number of filters",
    "first": "Over layers: 1 to n replaced",
    "alone": "Over layers: each alone",
    "similarity": "Over similarity",
}
_AXES = {
    "size": "filters of each kernel size",
    "first": "layers replaced, from the first",
    "alone": "layer replaced",
    "similarity": "|cos| that a replacement needs",
}


def draw(
    data: Graft, fig: Figure | SubFigure | None = None, *, batch_norm: str | None = None, width: str = "page"
) -> Figure:
    """Draw a panel for each curve, into `fig` or a new figure.

    Vocabularies that were asked for have thick lines, controls thin ones; bands are 95 % intervals over images and
    draws. The dotted line is the share of answers that has to be kept.

    Parameters
    ----------
    batch_norm : "kept" or "re-estimated"; None: a row of panels for each that was measured.
    width : of a new figure: "column" or "page".

    Examples
    --------
    >>> import mkfa, torch
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.AdaptiveAvgPool2d(1),
    ...     torch.nn.Flatten(), torch.nn.Linear(8, 3),
    ... )
    >>> draw(mkfa.graft(network, images="emoji", size=16, count=8, sizes=[8])).savefig("graft.png")
    """
    wide = width_of(fig, width)
    curves = [name for name in _TITLES if any(p.curve == name for p in data.points)]
    norms = [batch_norm] if batch_norm else list(data.norms)
    panels = [(curve, norm) for norm in norms for curve in curves]
    columns = 1 if wide < NARROW else 2 if len(panels) > 1 else 1
    rows, legend = -(-len(panels) // columns), 1 if wide < NARROW else 2
    looks = _looks(data)
    with style():
        tall = 2.5 * rows + 0.6 + 0.15 * -(-len(looks) // legend)
        figure: Figure | SubFigure = fig or new_figure(wide, tall)
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for ax, (curve, norm) in zip(axes, panels, strict=False):
            _panel(ax, data, looks, curve=curve, norm=norm)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        handles, labels = axes[0].get_legend_handles_labels()
        most = letters(wide / legend, 7) - 8
        shown = [label if len(label) <= most else f"{label[: most - 1]}…" for label in labels]
        figure.legend(handles, shown, loc="outside lower center", ncols=legend, frameon=False)
        title = f"{data.network}: first class as without replacement, {counted(data.asked, 'image')} of {data.images}"
        figure.suptitle(wrapped(title, wide, 9), x=0.01, ha="left")
    return figure.figure


def _looks(data: Graft) -> dict[str, Look]:
    """Return a look for each vocabulary; of two with one look, as the nulls of two banks, the second is hollow."""
    names = [v["name"] for v in data.vocabularies]
    return vocabulary_looks([v["name"] for v in data.vocabularies if v["role"] == "asked"], names)


def _panel(ax: Axes, data: Graft, looks: Mapping[str, Look], *, curve: str, norm: str) -> None:
    from matplotlib.ticker import MaxNLocator

    seen: set[Look] = set()
    for vocabulary in data.vocabularies:
        points = data.curve(curve, vocabulary["name"], norm)
        if not points:
            continue
        look, asked = looks[vocabulary["name"]], vocabulary["role"] == "asked"
        x = [_place(point, curve) for point in points]
        y, low, high = ([100 * getattr(p.agreement, end) for p in points] for end in ("mean", "low", "high"))
        face = "white" if look in seen else look.colour
        seen.add(look)
        ax.plot(
            x,
            y,
            color=look.colour,
            linestyle=look.line,
            marker=look.marker,
            markersize=4,
            markerfacecolor=face,
            linewidth=1.8 if asked else 1.0,
            label=vocabulary["title"],
        )
        if len(x) > 1:
            ax.fill_between(x, low, high, color=look.colour, alpha=0.15 if asked else 0.06, linewidth=0)
        else:
            ax.vlines(x, low, high, color=look.colour, linewidth=1)
    ax.axhline(100 * data.keep, color="black", linewidth=0.8, linestyle=":")
    unchanged = 100 * data.unchanged(norm).agreement.mean
    if norm != KEPT:
        ax.axhline(unchanged, color="black", linewidth=0.8, linestyle="-.")
        place = (0.99, unchanged), ("axes fraction", "data")
        ax.annotate("unchanged", place[0], xycoords=place[1], ha="right", va="bottom", fontsize=SMALL)
    if curve == "size":
        ax.set_xscale("log", base=2)
        sizes = sorted({point.size for point in data.points if point.curve == "size" and point.size > 0})
        shown = [size for size, after in zip(sizes, [*sizes[1:], 1 << 40], strict=True) if after > 2 * size]
        ax.set_xticks(shown, [f"{size:,}" for size in shown])
        ax.minorticks_off()
    elif curve != "similarity":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=_AXES[curve], ylabel="same answer (%)", ylim=(0, 103))
    ax.set_title(f"{_TITLES[curve]}\nbatch statistics {norm}", loc="left")


def _place(point: Point, curve: str) -> float:
    if curve == "size":
        return point.size
    return point.threshold if curve == "similarity" else point.layers[-1]
