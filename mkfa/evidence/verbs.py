"""The verbs about claims: list them, judge them from what is there, and train what is missing first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError
from mkfa.evidence.claims import SCALES, Claim, find_claims
from mkfa.evidence.judge import judge_printed, judge_runs, without_evidence
from mkfa.evidence.stored import bundled_verdicts, verdicts_here
from mkfa.evidence.verdict import Claims, Judgement, Verdict
from mkfa.progress import Progress

if TYPE_CHECKING:
    from mkfa.banks.library import BankLike
    from mkfa.results.record import RunRecord

Ids = str | Sequence[str]
Places = str | Path | Sequence[str | Path] | None


def claims(ids: Ids = ()) -> Claims:
    """Return the claims with the verdicts known so far: those judged on this machine, else the bundled ones.

    Nothing is trained or read but these verdicts; a claim that nobody has judged yet is inconclusive.

    Parameters
    ----------
    ids : str or list
        "C12", "C1,C3", ["C8a"]; "C8" means C8a and C8b; none means all.

    Raises
    ------
    UnknownNameError
        An id is unknown.

    Examples
    --------
    >>> claims("C6")["C6"].printed.state
    'contradicted'
    """
    known = bundled_verdicts() | verdicts_here()
    return Claims(
        tuple(
            replace(known[c.id], sentence=c.sentence, scales=c.scales) if c.id in known else _judgement(c, (), "")
            for c in find_claims(ids)
        )
    )


def check_claims(
    ids: Ids = (),
    *,
    place: Places = None,
    banks: Sequence[BankLike] = (),
    grafts: Sequence[str | Path] = (),
    scale: str = "",
    progress: Progress = None,
) -> Claims:
    """Judge claims from what is there; nothing is trained.

    Parameters
    ----------
    ids : as in `claims`.
    place : folder (the `out` of a training command), file of packed runs or "bundled", or several
        Where runs are read from. Default: mkfa's data folder and the bundled experiments.
    banks : names, paths or banks
        For claims about banks. Default: the bundled ones.
    grafts : paths
        Results of `mkfa graft` in JSON.
    scale : "laptop", "gpu", "paper" or ""
        Judge only settings of this scale.
    progress : as in `mkfa.progress.Progress`; counts claims.

    Raises
    ------
    MkfaError
        An unknown claim, scale, place or bank.

    Examples
    --------
    >>> found = check_claims("C12", place="bundled")
    >>> found["C12"].chosen.claim
    'C12'
    """
    from mkfa.progress import follow

    check_scale(scale)
    chosen = find_claims(ids)
    records = read_places(place) if any(not claim.about_banks for claim in chosen) else ()
    made = []
    with follow(progress, "claims", len(chosen)) as advance:
        for claim in chosen:
            made.append(_judgement(claim, _verdicts(claim, records, banks, grafts, scale), _today()))
            advance(1)
    return Claims(tuple(made))


def check_scale(scale: str) -> None:
    """Refuse a scale that there is not."""
    if scale not in ("", *SCALES):
        raise MkfaError(f"--scale {scale}", "is not a scale", f"choose one of {', '.join(SCALES)}")


def read_places(place: Places) -> tuple[RunRecord, ...]:
    """Return the runs of one or several places; see `check_claims`."""
    from mkfa.results.archive import BUNDLED
    from mkfa.results.runs import default_root, find_place, list_runs

    if place is None:
        own = list_runs(default_root()) if default_root().is_dir() else ()
        return (*own, *list_runs(find_place(BUNDLED)))
    places = [place] if isinstance(place, str | Path) else list(place)
    return tuple(run for one in places for run in list_runs(find_place(one)))


def _verdicts(
    claim: Claim, records: Iterable[RunRecord], banks: Sequence[BankLike], grafts: Sequence[str | Path], scale: str
) -> tuple[Verdict, ...]:
    if not claim.about_banks:
        return judge_runs(claim, records, scale=scale)
    if claim.supports[0].rule == "agreement":
        from mkfa.evidence.graft_claim import judge_grafts

        return (judge_grafts(claim, grafts),)
    from mkfa.evidence.bank_claims import judge_banks

    return (judge_banks(claim, banks),)


def _judgement(claim: Claim, verdicts: Sequence[Verdict], judged: str, place: str = "") -> Judgement:
    chosen, *others = verdicts or (without_evidence(claim),)
    facts: dict[str, Any] = {key: getattr(claim, key) for key in ("id", "sentence", "source", "number", "scales")}
    printed = judge_printed(claim)
    return Judgement(**facts, chosen=chosen, others=tuple(others), printed=printed, judged=judged, place=place)


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()
