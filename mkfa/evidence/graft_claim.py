"""Judge the claim about replacement without training from results of `mkfa graft`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, as_path
from mkfa.evidence.claims import Claim, Statement
from mkfa.evidence.effects import Effect
from mkfa.evidence.judge import verdict_of
from mkfa.evidence.run_table import Scale
from mkfa.evidence.statements import Finding, words
from mkfa.evidence.verdict import Verdict
from mkfa.several import as_several
from mkfa.stats.intervals import smallest_visible
from mkfa.storage.json_text import JsonError, parse_record
from mkfa.words import counted

SIZE = 8
"""Number of filters of each kernel size that a network may choose from."""
KEPT = "kept"
"""Batch statistics are the network's own."""


def judge_grafts(claim: Claim, files: str | Path | Iterable[str | Path]) -> Verdict:
    """Judge the claim by the networks of these results; without any, it is inconclusive.

    Raises MkfaError: a file cannot be read or is not a result of `mkfa graft`.
    """
    grafts = [read_graft(path) for path in as_several(files)]
    findings = tuple(
        _finding(statement, claim, grafts, side)
        for side in ("supports", "contradicts")
        for statement in getattr(claim, side)
    )
    missing = list(dict.fromkeys(f"runs: {f.note}" for f in findings if f.holds is None))
    networks = ", ".join(f"{graft['network']} ({_kernels(graft)})" for graft in grafts)
    images = ", ".join(f"{counted(graft['asked'], 'image')} of {graft['images']}" for graft in grafts)
    scale = Scale("graft", f"{networks}; {images}" if grafts else "no graft")
    return verdict_of(claim, findings, missing=missing, scale=scale, basis=networks, command=claim.command)


def read_graft(path: str | Path) -> Mapping[str, Any]:
    """Return the content of a result of `mkfa graft`; raises MkfaError for any other file."""
    remedy = "name a file of 'mkfa graft ... --out FILE.json'"
    file = as_path(path, "grafts")
    try:
        record = parse_record(file.read_bytes())
    except OSError as error:
        raise MkfaError(path, f"cannot be read ({error.strerror})", remedy) from None
    except JsonError as error:
        raise MkfaError(path, f"is not JSON, or damaged ({error})", remedy) from None
    keys = {"network", "images", "asked", "points"}
    if not isinstance(record, dict) or record.get("format") != "mkfa.graft" or not keys <= set(record):
        raise MkfaError(path, "is not a graft's result", remedy)
    return record


def _kernels(graft: Mapping[str, Any]) -> str:
    """Return the kernel sizes of the replaced layers: what holds at 3x3 need not hold at 7x7."""
    known = graft.get("layers", ())
    sizes = {str(layer.get("kernel", "")) for layer in known if isinstance(layer, Mapping)}
    return ", ".join(sorted(sizes - {""})) or "unknown kernels"


def _finding(statement: Statement, claim: Claim, grafts: Sequence[Mapping[str, Any]], side: str) -> Finding:
    text, margin = words(statement, claim), claim.margin_of(statement) / 100
    units = tuple(effect for graft in grafts if (effect := _agreement(graft, statement.of, needed=margin)) is not None)
    if not units:
        note = f"a graft of {SIZE} filters of {statement.of}"
        return Finding(text, side, None, note=note, rule=statement.rule)
    above = statement.side == "above"
    worst = min(units, key=lambda e: e.difference if above else -e.difference)
    # the claim is about every network; one network that fails contradicts it
    shown = [e.low >= margin if above else e.high < margin for e in units]
    holds = all(shown) if side == "supports" else any(shown)
    if side == "contradicts":
        worst = max(units, key=lambda e: e.difference if above else -e.difference)
    return Finding(text, side, holds, worst, units, rule=statement.rule, every=side == "supports")


def _agreement(graft: Mapping[str, Any], vocabulary: str, *, needed: float) -> Effect | None:
    """Return the share of answers that a network keeps, with its interval over images and draws.

    The vocabulary that keeps least says what the images can show; `needed` is the share that is asked for.
    """
    try:
        sized = [p for p in graft["points"] if (p["curve"], p["batch_norm"]) == ("size", KEPT)]
        for point in sized:
            known = (point["curve"], point["vocabulary"], point["size"], point["batch_norm"])
            if known == ("size", vocabulary, SIZE, KEPT):
                low, high = (math.nan if point[key] is None else float(point[key]) for key in _ENDS)
                draws = int(point["draws"])
                images = int(graft["asked"])
                worst = min(sized, key=lambda p: (float(p["agreement"]), p["size"]))
                return Effect(
                    f"{graft['network']}, {vocabulary}",
                    float(point["agreement"]),
                    low,
                    high,
                    seeds=(draws, draws),
                    detectable=smallest_visible(math.sqrt(needed * (1 - needed) / images)),
                    sensitivity=1 - float(worst["agreement"]),
                    control=f"{worst['vocabulary']} of size {worst['size']}",
                    unit="%",
                    sample=f"{counted(images, 'image')}; draws of a vocabulary: {draws}, seed {graft.get('seed', 0)}",
                )
    except (KeyError, TypeError, ValueError) as error:
        raise MkfaError("graft", f"has a damaged point ({error})", "run 'mkfa graft' again") from None
    return None


_ENDS = ("agreement_low", "agreement_high")
