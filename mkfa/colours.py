"""The colours of nulls and of classes, the same in figures and in the report (no imports, so that anything may)."""

from __future__ import annotations

NULL_COLOURS = {
    "shuffled": "#888888",
    "gaussian": "#4477aa",
    "blurred": "#228833",
    "covariance": "#ee6677",
    "covariance-layer": "#aa3377",
    "init": "#ccbb44",
}
"""Null -> its colour everywhere."""
CLASSES = ("#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499")
"""Colours of classes beside one another, told apart by colour-blind readers too (Paul Tol's muted scheme)."""


def null_colour(null: str) -> str:
    """Return the colour of a null; one of your own is violet.

    Examples
    --------
    >>> null_colour("blurred"), null_colour("mine")
    ('#228833', '#aa3377')
    """
    return NULL_COLOURS.get(null, "#aa3377")
