"""Intervals of measures over the layers that training could have given as well.

The value of a comparison depends on which layers the two networks happen to have, and on which of their filters are in
the sample. An interval is to hold the mean value over such pairs of networks, in 92 to 97 % of pairs whatever the
layers are like. In simulation (tests/benchmarks/CALIBRATION.md) that is so for coverage, from `FEWEST` layers on and
for banks that are not too `unlike`; elsewhere there is no interval, and `no_interval` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mkfa.array_types import F64, I64
from mkfa.similarity.measures.table import MEASURES
from mkfa.similarity.pairs import Sample
from mkfa.similarity.score import score
from mkfa.stats.intervals import LEVEL

FEWEST = 8
"""Layers of each bank from which on intervals hold."""
UNPROVEN = "simulated intervals held the mean in less than 92 % or more than 97 %"
UNLIKE = 1.7
"""Between banks that are farther from one another, in distances between layers of one bank, intervals do not hold: the
jackknife is too wide where banks have other patterns (1.7 to 2.2), too narrow between patterns and noise (2.2 on)."""
INTERPLAY = 8
"""Most layers of a bank whose interplay with the other bank's is computed, evenly spaced."""


def no_interval(
    measures: Sequence[str], layers: tuple[int, int], *, shared: bool, apart: float = 1.0
) -> tuple[str, ...]:
    """Return for each measure why it has no interval, "" for those that have one.

    Parameters
    ----------
    layers : of each bank in its sample.
    shared : True where both banks have the same filters, or a common parent.
    apart : `unlike` of both samples.

    Examples
    --------
    >>> no_interval(("coverage", "mmd"), (9, 8), shared=False, apart=1.3)
    ('', 'simulated intervals held the mean in less than 92 % or more than 97 %')
    >>> no_interval(("coverage",), (9, 6), shared=False)
    ('intervals need 8 layers of each bank, and one has 6',)
    """

    def reason(name: str) -> str:
        measure = MEASURES.find(name)
        if measure.whole is not None:
            return "it is computed on all filters"
        if not measure.interval:
            return UNPROVEN
        if shared:
            return "the layers of the two banks are not independent"
        if min(layers) < FEWEST:
            return f"intervals need {FEWEST} layers of each bank, and one has {min(layers)}"
        if apart > UNLIKE:
            return f"the banks are {apart:.1f} times as far apart as layers of one, and intervals hold up to {UNLIKE}"
        return ""

    return tuple(map(reason, measures))


def unlike(a: Sample, b: Sample) -> float:
    """Return how far filters are from the other bank, over how far they are from other layers of their own.

    Both as the mean of 1 less the largest |cos|, over the filters of either bank: 1 for banks of one law. Where two
    banks have little in common, one sort of layer can bear most of what they have; a network may lack it, and the
    layers that are there cannot tell.

    Examples
    --------
    >>> from mkfa.similarity.score import make_plan
    >>> plan = make_plan((1, 2), ("coverage",), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
    >>> layer = np.array([0, 0, 1, 1])
    >>> right, steep = (np.array([[[x, y]] * 4], np.float32) for x, y in ((1.0, 0.0), (0.6, 0.8)))
    >>> mixed = np.concatenate([right[:, :2], steep[:, :2]], axis=1)
    >>> round(unlike(Sample(mixed, layer, 2, plan), Sample(right, layer, 2, plan)), 2)
    0.5
    """
    one, other = a.vector[0], b.vector[0]
    across = np.abs(one @ other.T)
    away = 2 - float(across.max(axis=1).mean()) - float(across.max(axis=0).mean())
    own = 2.0
    for sample, vector in ((a, one), (b, other)):
        beside = np.abs(vector @ vector.T)
        beside[sample.layer[:, None] == sample.layer[None]] = 0
        own -= float(beside.max(axis=1).mean())
    return away / own if own > 0 else np.inf


def layer_intervals(a: Sample, b: Sample, value: F64) -> F64:
    """Return 95 % intervals of the measures over the layers of both banks, (2, M) float64; NaN for measures without.

    The measures are computed anew without each layer in turn, neighbours and moments included. The squared error is the
    sum over both banks of (L - 1) / L times the squared deviations from their mean (Quenouille 1956; for two samples
    Arvesen 1969). That counts the interplay of a layer of A and one of B twice; it is estimated from the values without
    one layer of each (the second differences of Efron & Stein 1981, equation 4.1, between two samples) and taken off
    once, down to half the squared error. The factor is Student's t; its degrees of freedom follow Satterthwaite (1946)
    from the contributions of both banks.

    Parameters
    ----------
    a, b : samples of one plan.
    value : (M,) the measures of both.
    """
    from scipy.special import stdtrit

    names = [name for name in a.plan.measures if MEASURES.find(name).interval]
    out = np.full((2, len(value)), np.nan)
    layers = [np.unique(sample.layer) for sample in (a, b)]
    if not names or min(map(len, layers)) < 2:
        return out
    places = [a.plan.measures.index(name) for name in names]
    without = [
        {int(layer): _without(sample, layer) for layer in here} for sample, here in zip((a, b), layers, strict=True)
    ]
    left_a = {i: score(x, b, measures=names).values[0] for i, x in without[0].items()}
    left_b = {j: score(a, y, measures=names).values[0] for j, y in without[1].items()}
    size = np.array([len(here) for here in layers], np.float64)
    parts = np.stack([(len(left) - 1) * np.var(list(left.values()), axis=0) for left in (left_a, left_b)])
    rows, columns = (_spread(here) for here in layers)
    both = np.array(
        [[score(without[0][i], without[1][j], measures=names).values[0] for j in columns] for i in rows], np.float64
    )
    chosen = np.array([left_a[i] for i in rows])[:, None], np.array([left_b[j] for j in columns])[None]
    total = parts.sum(axis=0)
    square = np.maximum(total - _interplay(value[places], *chosen, both, size=size), total / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = total**2 / (parts**2 / (size - 1)[:, None]).sum(axis=0)
        half = stdtrit(freedom, (1 + LEVEL) / 2) * np.sqrt(square)
    for place, name, reach in zip(places, names, half, strict=True):
        out[:, place] = _ends(name, float(value[place]), float(reach))
    return out


def _interplay(value: F64, left_a: F64, left_b: F64, both: F64, *, size: F64) -> F64:
    """Return the variance of the measures that comes from the interplay of layers of A with layers of B, (M,).

    Parameters
    ----------
    value : (M,); left_a : (I, 1, M) without a layer of A; left_b : (1, J, M) without one of B; both : (I, J, M).
    size : (2,) layers of A and of B.
    """
    m, n = size
    second = m * n * value - (m - 1) * n * left_a - m * (n - 1) * left_b + (m - 1) * (n - 1) * both
    second = second - second.mean(axis=0, keepdims=True)
    second -= second.mean(axis=1, keepdims=True)
    i, j = second.shape[:2]
    return np.asarray((second**2).sum(axis=(0, 1)) / ((i - 1) * (j - 1)) / (m * n), np.float64)


def _ends(name: str, value: float, half: float) -> tuple[float, float]:
    if not half > 0:  # nothing differs between layers, which is not certainty
        return np.nan, np.nan
    least, largest = MEASURES.find(name).bounds
    return max(value - half, least), min(value + half, largest)


def _spread(layers: I64) -> list[int]:
    """Return at most `INTERPLAY` layers, evenly spaced."""
    places = np.linspace(0, len(layers) - 1, min(len(layers), INTERPLAY)).round().astype(int)
    return [int(layer) for layer in layers[places]]


def _without(sample: Sample, layer: int) -> Sample:
    """Return the sample less the filters of one layer."""
    keep = sample.layer != layer
    return replace(sample, vector=sample.vector[:, keep], layer=sample.layer[keep])
