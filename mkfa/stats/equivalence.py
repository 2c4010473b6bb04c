"""Equivalence, superiority and non-inferiority of a difference: one-sided tests against a margin.

"Not significantly different" is no evidence of equality: a noisy experiment never shows a difference. Equality within a
margin is shown by two one-sided tests (TOST; Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15,
657-680): the difference is above -margin, and it is below margin. At the level (1 - LEVEL) / 2 this is the same as an
interval of `mkfa.stats.intervals.LEVEL` that lies inside the margins.
"""

from __future__ import annotations

import math

from mkfa.stats.intervals import LEVEL

SIDE = (1 - LEVEL) / 2
"""Level of each one-sided test: with it, tests and 95 % intervals say the same."""


def p_above(difference: float, error: float, freedom: float, *, margin: float) -> float:
    """Return the p-value of the test that the true difference is above `margin`; NaN if the error is unknown or 0.

    Parameters
    ----------
    difference, error, freedom : estimate, standard error and degrees of freedom of Student's t.

    Examples
    --------
    >>> round(p_above(0.03, 0.01, 8, margin=0.01), 4)
    0.0403
    """
    from scipy.stats import t

    if not (error > 0 and freedom > 0):
        return math.nan
    return float(t.sf((difference - margin) / error, freedom))


def p_below(difference: float, error: float, freedom: float, *, margin: float) -> float:
    """Return the p-value of the test that the true difference is below `margin`; parameters as `p_above`."""
    return p_above(-difference, error, freedom, margin=-margin)


def tost(difference: float, error: float, freedom: float, *, margin: float) -> float:
    """Return the p-value of two one-sided tests that the true difference lies within -margin and margin.

    It is the larger one of both; the difference is within the margins at the level `SIDE` exactly if its interval is.

    Examples
    --------
    >>> round(tost(0.002, 0.003, 8, margin=0.01), 4)
    0.0143
    >>> tost(0.02, 0.003, 8, margin=0.01) > 0.99
    True
    """
    sides = p_above(difference, error, freedom, margin=-margin), p_below(difference, error, freedom, margin=margin)
    return math.nan if any(math.isnan(side) for side in sides) else max(sides)
