"""What values mean beside the draws of a null: p-values of banks, of pairs of layers and of pairs of stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mkfa.array_types import F32, F64, BoolArray
from mkfa.similarity.kind_comparison import NullResult, fraction
from mkfa.similarity.measures.table import MEASURES, layer_measures
from mkfa.similarity.replacement import Draws
from mkfa.similarity.score import Scores
from mkfa.stats.p_values import holm, p_value


def summarise(
    draws: Draws, observed: Scores, floor: F64, *, measures: tuple[str, ...], groups: tuple[F32, F32]
) -> NullResult:
    """Set the observed values beside the draws; `groups` are the stages of both banks, see `by_stage`."""
    alike = np.array([MEASURES[name].alike_is_more for name in measures], bool)
    value, layers = observed.values[0], observed.layers[0]
    parts = [draws.values[:count, :, i] for i, count in enumerate(draws.counts)]
    p_sides, farther = (_one_sided(value, parts, larger) for larger in (alike, ~alike))
    mean = np.array([part.mean() for part in parts])
    low, high = np.array([np.quantile(part, (0.025, 0.975)) for part in parts]).reshape(-1, 2).T
    alike_is_more = [MEASURES[name].alike_is_more for name in layer_measures(measures)]
    sign = np.where(alike_is_more, np.float32(1), np.float32(-1))[:, None, None]
    layer_p, layer_p_max = pair_p(sign * layers, sign * draws.layers)
    stage_p, _ = pair_p(by_stage(sign * layers, groups), by_stage(sign * draws.layers, groups))
    # Elsewhere the gap is noise, or the null is more alike than halves of one network: no place in it means anything.
    apart = np.where(alike, floor > high, floor < low)
    return NullResult(
        null=draws.null,
        m=len(draws.values),
        draws=draws.counts,
        mean=mean,
        low=low,
        high=high,
        p_sides=p_sides,
        p=p_sides.max(axis=0),
        p_farther=farther.max(axis=0),
        fraction=np.where(apart, fraction(value, floor, mean), np.nan),
        curve=np.stack([draws.curve.mean(axis=0), *np.quantile(draws.curve, (0.025, 0.975), axis=0)]),
        layer_mean=draws.layers.mean(axis=(0, 1)),
        layer_p=layer_p,
        layer_p_holm=_holm_each(layer_p),
        layer_p_max=layer_p_max,
        stage_p=stage_p.astype(np.float64),
        stage_p_holm=_holm_each(stage_p).astype(np.float64),
    )


def by_stage(layers: F32, groups: tuple[F32, F32]) -> F64:
    """Return the mean over the layer pairs of each pair of stages, (..., S_a, S_b).

    Parameters
    ----------
    groups : (S_a, L_a) and (S_b, L_b) indicators of the stages.
    """
    known = np.isfinite(layers)
    sums = groups[0] @ np.where(known, layers, 0) @ groups[1].T
    counts = groups[0] @ known.astype(np.float32) @ groups[1].T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / counts, np.float64)


def _one_sided(observed: F64, draws: Sequence[F64], larger: BoolArray) -> F64:
    """Return p-values (2, M) from the draws (m, 2) of each of M measures, one direction for each measure."""
    p = [p_value(x, part, larger=bool(up)) for x, part, up in zip(observed, draws, larger, strict=True)]
    return np.array(p).reshape(-1, 2).T


def widened(null: NullResult, places: Sequence[int], total: int) -> NullResult:
    """Return a null's result with entries for `total` measures, these at `places`, and NaN for measures without it."""
    each = ("mean", "low", "high", "p_sides", "p", "p_farther", "fraction")
    more: dict[str, Any] = {name: widen(getattr(null, name), places, total) for name in each}
    draws = np.zeros(total, np.int64)
    draws[list(places)] = null.draws
    return replace(null, draws=draws, **more)


def widen(values: F64, places: Sequence[int], total: int) -> F64:
    """Return (..., total) values, these at `places` of the last axis and NaN elsewhere."""
    out = np.full((*values.shape[:-1], total), np.nan)
    out[..., list(places)] = values
    return out


def strictest_nulls(nulls: Sequence[NullResult], measures: Sequence[str]) -> tuple[str, ...]:
    """Return for each measure the strictest null, whose mean is most alike.

    Where two banks are closer than the mean of every null, it is the null whose mean lies nearest to their value. The
    name is empty for a measure without chance.
    """
    names = []
    for i, measure in enumerate(measures):
        sign = 1 if MEASURES.find(measure).alike_is_more else -1
        known = [null for null in nulls if np.isfinite(null.mean[i])]
        names.append(max(known, key=lambda null: sign * null.mean[i]).null if known else "")
    return tuple(names)


def pair_p(observed: np.ndarray, draws: np.ndarray) -> tuple[F32, F32]:
    """Return p-values for pairs of layers, plain and adjusted for the maximum over pairs; larger is more alike.

    Parameters
    ----------
    observed : (J, L_a, L_b); draws : (m, 2, J, L_a, L_b). NaN stays NaN.

    The adjusted p-value is the share of draws in which the largest standardised statistic of any pair reaches the
    pair's own (Westfall & Young 1993, single step). Standardisation is by all draws with the observed one, which
    keeps it symmetric between them.
    """
    plain, adjusted = [], []
    for side in (0, 1):
        part = np.concatenate([observed[None], draws[:, side]])
        gap = np.isnan(observed)
        sd = part.std(axis=0)
        part -= part.mean(axis=0)
        part /= np.where(sd > 0, sd, 1)
        plain.append(np.where(gap, np.nan, (part >= part[0]).mean(axis=0)))
        top = np.sort(np.where(gap, -np.inf, part).max(axis=(2, 3)), axis=0)  # (1 + m, J)
        reached = np.stack([len(top) - np.searchsorted(top[:, i], part[0, i]) for i in range(len(top.T))])
        adjusted.append(np.where(gap, np.nan, reached / len(top)))
    return np.maximum(*plain).astype(np.float32), np.maximum(*adjusted).astype(np.float32)


def _holm_each(p: F32) -> F32:
    return np.stack([holm(x) for x in p]).astype(np.float32)
