"""Verdicts on claims as the page shows them, from the JSON of `mkfa claims`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mkfa.report.inputs import Found
from mkfa.report.values import number, rows, text

STATES = ("supported", "contradicted", "inconclusive")
"""Verdicts; any other state, such as "not run", is shown as it is."""
_FIRST = ("id", "claim", "verdict", "state", "sentence", "title")


def verdict_facts(found: Found) -> dict[str, Any]:
    """Return the verdicts of a result file: id, the sentence that is judged, verdict, and everything else as rows."""
    entries = found.record.get("verdicts") or found.record.get("claims")
    made = [one for entry in rows(entries) if (one := _verdict(entry)) is not None]
    return {"from": text(found.source), "command": text(found.record.get("command")), "verdicts": made}


def _verdict(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    claim = entry.get("claim")
    claim = claim if isinstance(claim, Mapping) else {"id": claim}
    known = {**claim, **entry}
    state = text(known.get("verdict") or known.get("state"))
    name = text(known.get("id") or claim.get("id"))
    if not state or not name:
        return None
    facts = [[_words(key), _value(value)] for key, value in entry.items() if key not in _FIRST]
    return {
        "id": name,
        "sentence": text(known.get("sentence") or known.get("title")),
        "verdict": state,
        "facts": [fact for fact in facts if fact[1]],
    }


def _words(key: Any) -> str:
    return text(key, most=80).replace("_", " ")


def _value(value: Any) -> str:
    """Return a value of any shape in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        rounded = number(value, 4)
        return "" if rounded is None else f"{rounded:g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(key)}: {shown}" for key, one in value.items() if (shown := _value(one)))[:2000]
    if isinstance(value, list | tuple):
        return "; ".join(shown for one in value if (shown := _value(one)))[:2000]
    return text(value)
