"""How much goes on a page: each limit has a name, a default, and a sentence that the page shows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from mkfa.errors import MkfaError

MOST_FILTERS, MAP_FILTERS, MOST_PAIRS, MOST_RUNS = 200_000, 4_000, 6, 500
"""The defaults of the limits."""
DRAWS = 199
"""Draws of each null in a comparison that is computed for a report."""
MOST = {"most_filters": 2_000_000, "map_filters": 20_000, "most_pairs": 200, "most_runs": 100_000}
"""The largest values: what a browser, or for the map the memory of this machine (4 n² bytes), can bear."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes on a page.

    Attributes
    ----------
    most_filters : filters over all banks. Where there are more, each layer gives as many, evenly over its channels.
    map_filters : points of each map; where there are more filters, they are drawn.
    most_pairs : pairs of banks that are compared.
    most_runs : rows of each list of runs.
    """

    most_filters: int = MOST_FILTERS
    map_filters: int = MAP_FILTERS
    most_pairs: int = MOST_PAIRS
    most_runs: int = MOST_RUNS

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            least = 20 if name == "map_filters" else 1
            if not least <= getattr(self, name) <= most:
                option = "--" + name.replace("_", "-")
                raise MkfaError(
                    f"{option} {getattr(self, name)}", f"is not in {least} to {most:,}", "give a number in this range"
                )

    def rows(self, used: dict[str, int]) -> list[dict[str, Any]]:
        """Return one row a limit for the page: name, value, how many there are, and the sentence.

        Examples
        --------
        >>> Limits().rows({"most_filters": 1_000_000})[0]["sentence"]
        'Here: 200,000 of 1,000,000 filters; each layer gives as many, evenly over its channels.'
        """
        out = []
        for field in fields(self):
            limit, there = getattr(self, field.name), used.get(field.name, 0)
            reached = there > limit
            text = _SENTENCES[field.name][reached].format(limit=f"{limit:,}", there=f"{there:,}")
            out.append(
                {
                    "name": "--" + field.name.replace("_", "-"),
                    "value": limit,
                    "there": there,
                    "reached": reached,
                    "sentence": text,
                }
            )
        return out


_SENTENCES = {
    "most_filters": (
        "All filters ({there}) are here; the page takes up to {limit}.",
        "Here: {limit} of {there} filters; each layer gives as many, evenly over its channels.",
    ),
    "map_filters": (
        "A map that is computed shows all filters of its kernel size, up to {limit}.",
        "A map shows {limit} of up to {there} filters of its kernel size, drawn at random.",
    ),
    "most_pairs": (
        "All pairs of banks are compared, up to {limit}.",
        "Compared: {limit} of {there} pairs of banks, those first that were named first.",
    ),
    "most_runs": (
        "Lists of runs are complete; one takes up to {limit}.",
        "A list of {there} runs shows its first {limit}.",
    ),
}
"""By limit: the sentence where it is not reached, and where it is."""
