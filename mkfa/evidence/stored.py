"""Verdicts in files: those bundled with mkfa, those judged on this machine, and files of `mkfa claims check --out`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError
from mkfa.evidence.effects import Effect
from mkfa.evidence.run_table import Scale
from mkfa.evidence.statements import Finding
from mkfa.evidence.verdict import Claims, Judgement, Verdict
from mkfa.storage.folders import data_file, home
from mkfa.storage.json_text import JsonError, parse_record

BUNDLED = "verdicts.json"
BUNDLED_GRAFT = "graft_mobilenet_v2.json"
"""The bundled result that speaks to the claim about replacement: MobileNetV2 with all vocabularies at eight filters."""
_FOLDER = "claims"


def verdict_file(id: str, scale: str) -> Path:
    """Return where `mkfa claims run` keeps a verdict on this machine."""
    return home() / _FOLDER / f"{id}-{scale}.json"


def bundled_verdicts() -> dict[str, Judgement]:
    """Return the bundled verdicts by claim."""
    path = data_file(BUNDLED)
    return {j.id: j for j in read_claims(path, place="bundled").judgements} if path.is_file() else {}


def bundled_graft() -> Path:
    """Return the graft that claims are judged by where none is named."""
    return data_file(BUNDLED_GRAFT)


def verdicts_here() -> dict[str, Judgement]:
    """Return the verdicts of `mkfa claims run` on this machine by claim, those of the largest scale."""
    found: dict[str, Judgement] = {}
    for scale in ("laptop", "gpu", "paper"):
        for path in sorted((home() / _FOLDER).glob(f"*-{scale}.json")):
            found |= {j.id: j for j in read_claims(path, place="here").judgements}
    return found


def read_claims(path: str | Path, *, place: str = "") -> Claims:
    """Read verdicts from a file of `mkfa claims check --out` or `mkfa claims run`.

    Raises MkfaError: the file cannot be read, is of another format or a newer version, or is damaged.
    """
    path = Path(path)
    remedy = "'mkfa claims check --out FILE.json' makes one"
    try:
        record = parse_record(path.read_bytes())
    except OSError as error:
        raise MkfaError(path, f"cannot be read ({error.strerror})", "check the path") from None
    except JsonError as error:
        raise MkfaError(path, f"is not JSON, or damaged ({error})", remedy) from None
    if not isinstance(record, dict) or record.get("format") != "mkfa.claims":
        raise MkfaError(path, "does not hold verdicts", remedy)
    if record.get("format_version") != 1:
        raise MkfaError(path, f"has version {record.get('format_version')}, unknown to this mkfa", "update mkfa")
    try:
        return Claims(tuple(_judgement(entry, place or str(path)) for entry in record["claims"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"is damaged ({type(error).__name__}: {str(error)[:80]})"
        raise MkfaError(path, problem, "judge the claims again: mkfa claims check") from None


def _judgement(entry: Mapping[str, Any], place: str) -> Judgement:
    return Judgement(
        **{key: str(entry[key]) for key in ("id", "sentence", "source", "number", "judged")},
        scales=tuple(entry["scales"]),
        chosen=_verdict(entry["verdict"]),
        others=tuple(map(_verdict, entry["others"])),
        printed=None if entry["printed"] is None else _verdict(entry["printed"]),
        place=place,
    )


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    values = _known(Verdict, entry)
    values["scale"] = None if entry["scale"] is None else Scale(**_known(Scale, entry["scale"]))
    values["effect"] = None if entry["effect"] is None else _effect(entry["effect"])
    values["findings"] = tuple(map(_finding, entry["findings"]))
    values["missing"] = tuple(entry["missing"])
    return Verdict(**values)


def _finding(entry: Mapping[str, Any]) -> Finding:
    values = _known(Finding, entry)
    values["effect"] = None if entry["effect"] is None else _effect(entry["effect"])
    values["units"] = tuple(map(_effect, entry["units"]))
    values["lacks"] = tuple(entry.get("lacks", ()))
    values["p"] = math.nan if entry["p"] is None else float(entry["p"])
    return Finding(**values)


def _effect(entry: Mapping[str, Any]) -> Effect:
    values = {key: math.nan if value is None else value for key, value in _known(Effect, entry).items()}
    return Effect(**values | {"seeds": tuple(entry["seeds"])})


def _known(kind: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: entry[f.name] for f in fields(kind) if f.name in entry}
