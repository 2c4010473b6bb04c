"""Key filters: how much they explain, beside the nulls, and the nearest named pattern of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mkfa.clusters.keys import COVERED, Keys
from mkfa.clusters.named_match import AS_ORIENTED, KEYS_TO_SET
from mkfa.colours import DASHED, null_look
from mkfa.figures.style import NARROW, draw_filter, new_figure, style, width_of, wrapped
from mkfa.stats.p_values import p_text
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_MOST = 24


def draw(data: Keys, fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw two curves and below them each key over its nearest named pattern, into `fig` or a new figure.

    The pattern has the sign and orientation in which it is nearest to the key.

    Examples
    --------
    >>> import mkfa
    >>> keys = mkfa.find_keys(["ppocrv4_det"], kernel_size="3x3", keys=4, candidates=8, sample=100)
    >>> draw(keys).savefig("keys.png")
    """
    wide = width_of(fig, width)
    narrow = wide < NARROW
    shown = min(len(data.clusters.prototype), _MOST)
    most = 5 if narrow else 12
    curves = 5.2 if narrow else 2.8
    keys = (0.8 + 1.6 * -(-shown // most)) if narrow else 0.4 + 1.7 * -(-shown // most)
    with style():
        figure: Figure | SubFigure = fig or new_figure(wide, curves + keys)
        upper, lower = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=(curves, keys))))
        above, below = upper.subplots(*((2, 1) if narrow else (1, 2)))
        _explained(above, data)
        _covered(below, data)
        handles, labels = above.get_legend_handles_labels()
        upper.legend(handles, labels, loc="outside lower center", ncols=1 if narrow else 2, frameon=False)
        _keys(lower, data, shown, most, wide)
    return figure.figure


def _explained(ax: Axes, data: Keys) -> None:
    curve, n, look = data.curve, len(data.clusters.prototype), null_look(data.null)
    count = range(1, len(curve.r2) + 1)
    band = curve.null_r2 - 2 * curve.null_sd, curve.null_r2 + 2 * curve.null_sd
    ax.plot(count, curve.r2, color="black", lw=1.5, label="these filters, their own keys")
    label = f"{data.null} null, its own keys (mean of {data.nulls})"
    ax.plot(count, curve.null_r2, color=look.colour, ls=look.line, label=label)
    ax.fill_between(count, *band, color=look.colour, alpha=0.25, linewidth=0, label="band: ±2 SD of the nulls")
    ax.plot(count, curve.cross_r2, color=look.colour, ls=(0, DASHED), label=f"{data.null} null, the real keys")
    ax.axvline(n, color="black", linewidth=0.8, linestyle=":")
    ax.annotate(counted(n, "key"), (n, 1.0), xytext=(3, -2), textcoords="offset points", va="top")
    ax.set(xlabel="number of keys", ylabel="mean R² of the best key", ylim=(0, 1))
    ax.set_title("Explained up to gain and offset", loc="left")


def _covered(ax: Axes, data: Keys) -> None:
    curve, look = data.curve, null_look(data.null)
    count = range(1, len(curve.r2) + 1)
    ax.plot(count, curve.coverage, color="black", lw=1.5)
    ax.plot(count, curve.null_coverage, color=look.colour, ls=look.line)
    ax.axvline(len(data.clusters.prototype), color="black", linewidth=0.8, linestyle=":")
    ax.set(xlabel="number of keys", ylabel=f"share with R² ≥ {COVERED}", ylim=(0, 1))
    ax.set_title(f"Coverage ({counted(data.sample, 'filter')} of {data.pool.kind}, seed {data.seed})", loc="left")


def _keys(figure: Figure | SubFigure, data: Keys, shown: int, most: int, width: float) -> None:
    clusters, match, kind = data.clusters, data.match, data.pool.kind
    shares = data.pool.shares(clusters.label, len(clusters.prototype))
    columns = max(min(shown, most), 5 if width < NARROW else 6)
    rows = -(-shown // columns)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    for j in range(shown):
        y, x = divmod(j, columns)
        key, partner = axes[2 * y, x], axes[2 * y + 1, x]
        for ax, picture in ((key, clusters.prototype[j]), (partner, match.partner[j])):
            ax.set_axis_on()
            ax.spines[:].set_visible(False)
            draw_filter(ax, picture.reshape(kind.kh, kind.kw))
        key.set_title(f"{shares[j]:.0%}", fontsize=7, pad=2)
        partner.set_title(f"|cos| {match.cosine[j]:.2f}", fontsize=7, pad=2)
        if x == 0:
            key.set_ylabel("key", fontsize=7)
            partner.set_ylabel(f"of '{match.name}'", fontsize=7)
    near, oriented = (match.answers[question].summary() for question in (KEYS_TO_SET, AS_ORIENTED))
    more = "" if shown == len(clusters.prototype) else f" ({shown} of {len(clusters.prototype)})"
    title = (
        f"Keys{more} with their share of filters, over the nearest of '{match.name}' up to sign and symmetry; "
        f"mean |cos| {near['mean_cosine']:.2f}, keys of {data.null} nulls {near[match.libraries]['mean']:.2f} "
        f"(p = {p_text(near[match.libraries]['p'])}); one to one, as oriented: {oriented['mean_cosine']:.2f}, "
        f"{oriented[match.libraries]['mean']:.2f} (p = {p_text(oriented[match.libraries]['p'])})"
    )
    figure.suptitle(wrapped(title, width), x=0.01, ha="left", fontsize=8)
