"""Key filters: how much they explain, beside the nulls, and the nearest named pattern of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mkfa.clusters.keys import COVERED, Keys
from mkfa.clusters.named_match import AS_ORIENTED, KEYS_TO_SET
from mkfa.figures.style import PAGE, draw_filter, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_MOST = 24
_COLUMNS = 12


def draw(data: Keys, fig: Figure | SubFigure | None = None) -> Figure:
    """Draw two curves and below them each key over its nearest named pattern, into `fig` or a new figure.

    The pattern has the sign and orientation in which it is nearest to the key.

    Examples
    --------
    >>> import mkfa
    >>> keys = mkfa.find_keys(["ppocrv4_det"], kernel_size="3x3", keys=4, candidates=8, sample=100)
    >>> draw(keys).savefig("keys.png")
    """
    shown = min(len(data.clusters.prototype), _MOST)
    rows = -(-shown // _COLUMNS)
    with style():
        figure: Figure | SubFigure = fig or new_figure(PAGE, 2.5 + 0.35 + 1.7 * rows)
        upper, lower = np.ravel(np.array(figure.subfigures(2, 1, height_ratios=(2.5, 0.35 + 1.7 * rows))))
        left, right = upper.subplots(1, 2)
        _explained(left, data)
        _covered(right, data)
        _keys(lower, data, shown)
    return figure.figure


def _explained(ax: Axes, data: Keys) -> None:
    curve, n = data.curve, len(data.clusters.prototype)
    count = range(1, len(curve.r2) + 1)
    ax.plot(count, curve.r2, color="#0072B2", label="these filters, their own keys")
    ax.plot(count, curve.null_r2, color="#D55E00", label=f"null filters, their own keys (mean of {data.nulls})")
    ax.fill_between(
        count,
        curve.null_r2 - 2 * curve.null_sd,
        curve.null_r2 + 2 * curve.null_sd,
        color="#D55E00",
        alpha=0.25,
        linewidth=0,
    )
    ax.plot(count, curve.cross_r2, color="#707070", linestyle="--", label="null filters, the real keys")
    ax.axvline(n, color="black", linewidth=0.8, linestyle=":")
    ax.annotate(f"{n} keys", (n, 1.0), xytext=(3, -2), textcoords="offset points", va="top")
    ax.set(xlabel="number of keys", ylabel="mean R² of the best key", ylim=(0, 1))
    ax.set_title("Explained up to gain and offset", loc="left")
    ax.legend(edgecolor="none", framealpha=1, loc="lower right")


def _covered(ax: Axes, data: Keys) -> None:
    curve = data.curve
    count = range(1, len(curve.r2) + 1)
    ax.plot(count, curve.coverage, color="#0072B2", label="these filters")
    ax.plot(count, curve.null_coverage, color="#D55E00", label="null filters, their own keys")
    ax.axvline(len(data.clusters.prototype), color="black", linewidth=0.8, linestyle=":")
    ax.set(xlabel="number of keys", ylabel=f"share with R² ≥ {COVERED}", ylim=(0, 1))
    ax.set_title(f"Coverage ({data.sample} filters of {data.pool.kind}, seed {data.seed})", loc="left")
    ax.legend(edgecolor="none", framealpha=1, loc="upper right")


def _keys(figure: Figure | SubFigure, data: Keys, shown: int) -> None:
    clusters, match, kind = data.clusters, data.match, data.pool.kind
    shares = data.pool.shares(clusters.label, len(clusters.prototype))
    rows = -(-shown // _COLUMNS)
    columns = max(min(shown, _COLUMNS), 6)
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
    figure.suptitle(
        f"Keys{more} with their share of filters, over the nearest of '{match.name}' up to sign and symmetry; "
        f"mean |cos| {near['mean_cosine']:.2f},\nkeys of {data.null} nulls {near[match.libraries]['mean']:.2f} "
        f"(p = {near[match.libraries]['p']:.2f}); one to one, as oriented: {oriented['mean_cosine']:.2f}, "
        f"{oriented[match.libraries]['mean']:.2f} (p = {oriented[match.libraries]['p']:.2f})",
        x=0.01,
        ha="left",
        fontsize=8,
    )
