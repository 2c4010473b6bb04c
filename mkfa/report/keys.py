"""Key filters as the page shows them: what 1, 2, ... of them explain beside nulls, and each with its pattern."""

from __future__ import annotations

from typing import Any

from mkfa.colours import null_look
from mkfa.report.inputs import Found
from mkfa.report.values import mapping, number, numbers, rows, text, whole

_CURVES = ("r2", "coverage", "null_r2", "null_sd", "null_coverage", "cross_r2")
MOST_TAPS = 31 * 31
"""Taps of a key that is drawn."""


def key_facts(found: Found) -> dict[str, Any]:
    """Return what the page shows of a result of `mkfa keys`."""
    record = found.record
    kernel, null = text(record.get("kernel"), most=20), text(record.get("null")) or "covariance"
    sides = [int(side) for side in kernel.split(" ")[0].split("x") if side.isdigit()]
    kh, kw = sides if len(sides) == 2 else (0, 0)
    curve, match = mapping(record.get("curve")), mapping(record.get("match"))
    return {
        "from": text(found.source),
        "command": text(record.get("command")),
        "banks": [text(name, most=200) for name in mapping(record.get("banks"))],
        "kind": kernel,
        "kh": kh,
        "kw": kw,
        **{key: whole(record.get(key)) for key in ("filters", "sample", "nulls", "seed", "keys")},
        **{key: number(record.get(key)) for key in ("p", "mean_r2", "coverage", "covered_r2")},
        "null": null,
        "null_colour": null_look(null).colour,
        "reason": text(record.get("reason")),
        "set": text(match.get("set")),
        "curve": {key: numbers(curve.get(key)) for key in _CURVES},
        "each": [
            {
                **{key: text(one.get(key)) for key in ("nearest", "assigned")},
                **{key: number(one.get(key)) for key in ("share", "cosine", "assigned_cosine")},
                "weights": _weights(one.get("key"), kh * kw),
            }
            for one in rows(record.get("each"))
        ],
    }


def _weights(values: Any, taps: int) -> list[float]:
    """Return a key's taps; empty where they are not as many as the kernel has, or too many to draw."""
    made = numbers(values, 4)
    return [one or 0.0 for one in made] if 0 < len(made) == taps <= MOST_TAPS else []
