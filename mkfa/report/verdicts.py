"""Verdicts on claims as the page shows them, from the JSON of `mkfa claims`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mkfa.report.inputs import Found
from mkfa.report.values import number, pick, rows, text, texts, whole

STATES = ("supported", "contradicted", "inconclusive")


def verdict_facts(found: Found) -> dict[str, Any]:
    """Return the claims of a result file with their verdicts; those on the paper's printed numbers stay apart."""
    made = [one for entry in rows(found.record.get("claims")) if (one := _claim(entry)) is not None]
    return {"from": text(found.source), "command": text(found.record.get("command")), "verdicts": made}


def _claim(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    verdict = _verdict(entry.get("verdict"))
    printed = _verdict(entry.get("printed"))
    if verdict is None and printed is None:
        return None
    return {
        **pick(entry, text, "id sentence source number judged place"),
        "verdict": verdict,
        "others": [one for other in rows(entry.get("others")) if (one := _verdict(other)) is not None],
        "printed": printed,
    }


def _verdict(entry: Any) -> dict[str, Any] | None:
    """Return one verdict; None for anything but one of the three states."""
    if not isinstance(entry, Mapping) or entry.get("state") not in STATES:
        return None
    scale = entry.get("scale")
    return {
        **pick(entry, text, "state sentence setting basis sample reason command"),
        "scale": text(scale.get("name")) if isinstance(scale, Mapping) else "",
        "seeds": whole(entry.get("seeds")),
        "effect": _effect(entry.get("effect")),
        **pick(entry, number, "sensitivity smallest_visible_difference"),
        "missing": texts(entry.get("missing")),
        "findings": [
            {
                **pick(one, text, "text side note"),
                "holds": one["holds"] if isinstance(one.get("holds"), bool) else None,
                "effect": _effect(one.get("effect")),
                "p": number(one.get("p")),
            }
            for one in rows(entry.get("findings"))
        ],
    }


def _effect(effect: Any) -> dict[str, Any] | None:
    if not isinstance(effect, Mapping):
        return None
    return pick(effect, text, "label unit control") | pick(effect, number, "difference low high p")
