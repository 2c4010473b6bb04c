"""A graft: answers that a network keeps, over the number of filters, the layers and the similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mkfa.figures.style import CLASSES, NULL_COLOURS, PAGE, new_figure, style

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
_OWN = "#222222"


def draw(data: Graft, fig: Figure | SubFigure | None = None, *, batch_norm: str | None = None) -> Figure:
    """Draw a panel for each curve, into `fig` or a new figure.

    Vocabularies that were asked for have full lines, controls dashed ones; bands are 95 % intervals over images and
    draws. The dotted line is the share of answers that has to be kept.

    Parameters
    ----------
    batch_norm : "kept" or "re-estimated"; None: a row of panels for each that was measured.

    Examples
    --------
    >>> import mkfa, torch
    >>> network = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.AdaptiveAvgPool2d(1),
    ...     torch.nn.Flatten(), torch.nn.Linear(8, 3),
    ... )
    >>> draw(mkfa.graft(network, images="emoji", size=16, count=8, sizes=[8])).savefig("graft.png")
    """
    curves = [name for name in _TITLES if any(p.curve == name for p in data.points)]
    norms = [batch_norm] if batch_norm else list(data.norms)
    with style():
        figure: Figure | SubFigure = fig or new_figure(PAGE, 0.6 + 2.3 * len(norms) + 0.17 * len(data.vocabularies) / 2)
        axes = figure.subplots(len(norms), len(curves), squeeze=False)
        for row, norm in zip(axes, norms, strict=True):
            for ax, curve in zip(row, curves, strict=True):
                _panel(ax, data, curve, norm)
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle(
            f"{data.network}: first class as without replacement, {data.asked} images of {data.images}",
            x=0.01,
            ha="left",
        )
    return figure.figure


def _panel(ax: Axes, data: Graft, curve: str, norm: str) -> None:
    asked = [v["name"] for v in data.vocabularies if v["role"] == "asked"]
    for vocabulary in data.vocabularies:
        points = data.curve(curve, vocabulary["name"], norm)
        if not points:
            continue
        colour, line = _look(vocabulary["name"], vocabulary["role"], asked)
        x = [_place(point, curve) for point in points]
        y = [100 * point.agreement.mean for point in points]
        low = [100 * point.agreement.low for point in points]
        high = [100 * point.agreement.high for point in points]
        ax.plot(x, y, line, color=colour, marker="o", markersize=2.5, linewidth=1.2, label=vocabulary["title"])
        if len(x) > 1:
            ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
        else:
            ax.vlines(x, low, high, color=colour, linewidth=1)
    ax.axhline(100 * data.keep, color="black", linewidth=0.8, linestyle=":")
    unchanged = 100 * data.unchanged(norm).agreement.mean
    if unchanged < 100:
        ax.axhline(unchanged, color="black", linewidth=0.8, linestyle="-.")
        ax.annotate("unchanged", (0.01, unchanged), xycoords=("axes fraction", "data"), va="bottom", fontsize=6.5)
    if curve == "size":
        ax.set_xscale("log", base=2)
        sizes = sorted({point.size for point in data.points if point.curve == "size" and point.size > 1})
        shown = [size for size, after in zip(sizes, [*sizes[1:], 1 << 40], strict=True) if after > 1.6 * size]
        ax.set_xticks(shown, [f"{size:,}" for size in shown])
        ax.minorticks_off()
    ax.set(xlabel=_AXES[curve], ylabel="same answer (%)", ylim=(0, 102))
    ax.set_title(f"{_TITLES[curve]}\nbatch statistics {norm}", loc="left")


def _place(point: Point, curve: str) -> float:
    if curve == "size":
        return point.size
    return point.threshold if curve == "similarity" else point.layers[-1]


def _look(name: str, role: str, asked: list[str]) -> tuple[Any, str]:
    """Return colour and line of a vocabulary; nulls have their colour of every figure."""
    bare = name.removeprefix("keys:")
    if role == "asked":
        return CLASSES[asked.index(name) % len(CLASSES)], "-"
    if bare in ("own", "delta"):
        return _OWN, "--" if bare == "own" else ":"
    return NULL_COLOURS.get(bare.split(":")[0], "#aa3377"), "--" if name.startswith("keys:") else ":"
