"""The verbs about claims: list them, judge them from what is there, and train what is missing first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from mkfa.arguments import check_arguments
from mkfa.evidence.claims import Claim, find_claims
from mkfa.evidence.judge import judge_printed, judge_runs, without_evidence
from mkfa.evidence.plans import Work, as_the_scale_says, plan_work
from mkfa.evidence.programme import Entry, check_scale, find_entry, programme
from mkfa.evidence.stored import bundled_graft, bundled_verdicts, verdict_file, verdicts_here
from mkfa.evidence.verdict import Claims, Judgement, Verdict
from mkfa.experiments.options import TrainingOptions, check_names
from mkfa.progress import Progress, follow
from mkfa.several import as_several

if TYPE_CHECKING:
    from mkfa.banks.library import BankLike, Banks
    from mkfa.evidence.reproduction import Reproduction
    from mkfa.results.record import RunRecord
    from mkfa.results.runs import Place

Ids = str | Sequence[str]


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
    place: Place | Iterable[Place] = None,
    banks: Banks = (),
    grafts: str | Path | Iterable[str | Path] | None = None,
    scale: str = "",
    progress: Progress = None,
) -> Claims:
    """Judge claims from what is there; nothing is trained.

    Parameters
    ----------
    ids : as in `claims`.
    place : folder (the `out` of a training command), file of packed runs or "bundled", or several
        Where runs are read from. Default: mkfa's data folder and the bundled experiments.
    banks : name, path or bank, or several
        For claims about banks. Default: the bundled ones.
    grafts : path, or several
        Results of `mkfa graft` in JSON. Default: the bundled one of MobileNetV2.
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
    check_arguments(check_claims, locals())
    from mkfa.results.archive import BUNDLED
    from mkfa.results.runs import read_runs

    if scale:
        check_scale(scale)
    chosen = find_claims(ids)
    trained = any(not claim.about_banks for claim in chosen)
    records = read_runs((None, BUNDLED) if place is None else place) if trained else ()
    given = as_several(banks), as_several(bundled_graft() if grafts is None else grafts)
    made = []
    with follow(progress, "claims", len(chosen)) as advance:
        for claim in chosen:
            made.append(_judgement(claim, _verdicts(claim, records, *given, scale), _today()))
            advance(1)
    return Claims(tuple(made))


def run_claims(
    ids: Ids = (), *, scale: str = "laptop", progress: Progress = None, **options: Unpack[TrainingOptions]
) -> Claims:
    """Train the runs that claims need and that are missing, judge them, and keep the verdicts on this machine.

    Parameters
    ----------
    ids : as in `claims`.
    scale : "laptop", "gpu" or "paper".
    progress : as in `mkfa.train`; counts runs.
    **options
        Of the training verbs (`mkfa.experiments.options.TrainingOptions`); they replace those of the scale. With
        another network, recipe or number of steps than the scale's, verdicts are returned and not kept.

    Raises
    ------
    MkfaError, WorkError
        A claim cannot be judged at this scale; or as the training verbs.

    Examples
    --------
    >>> import tempfile
    >>> small = {"arch": "resmixer_4_2", "equal_steps": 1, "seeds": 1, "set": {"batch": 4}, "threads": 1, "jobs": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = run_claims("C15", out=folder, device="cpu", **small)
    >>> found["C15"].chosen.missing[0]
    'seeds: 1 of 5'
    """
    check_arguments(run_claims, locals())
    check_names(options, TrainingOptions)
    chosen = find_claims(ids)
    work = plan_claims(chosen, scale, options)
    if work is not None:
        work.carry_out(progress)
    return judge_work(chosen, scale, work, keep=as_the_scale_says(options))


def plan_claims(chosen: Sequence[Claim], scale: str, options: TrainingOptions, **how: Any) -> Work | None:
    """Return the runs that claims need at a scale; None if all of them are about banks. `how` as in `plan_work`."""
    asked = [claim for claim in chosen if not claim.about_banks]
    for claim in asked:
        check_scale(scale, of=claim.id, known=claim.scales)
    names = dict.fromkeys(name for claim in asked for name in claim.runs)
    if not names:
        return None
    folder = f"claims-{'-'.join(claim.id for claim in asked[:4])}-{scale}"
    return plan_work([programme()[n] for n in names], scale, options, name=folder, **how)


def judge_work(chosen: Sequence[Claim], scale: str, work: Work | None, *, keep: bool) -> Claims:
    """Judge claims by the finished runs of a plan; with `keep`, keep the verdicts on this machine."""
    from mkfa.results.gather import records_of

    records = [run for plan in (work.plans if work else ()) for run in records_of(plan.runs, plan.root)]
    made = [_judgement(claim, _verdicts(claim, records, (), (bundled_graft(),), ""), _today()) for claim in chosen]
    for judgement in made if keep else ():
        path = verdict_file(judgement.id, scale)
        path.parent.mkdir(parents=True, exist_ok=True)
        Claims((judgement,)).save(path, overwrite=True)
    return Claims(tuple(made))


def reproduce(
    name: str, *, scale: str = "laptop", progress: Progress = None, **options: Unpack[TrainingOptions]
) -> Reproduction:
    """Train the runs of a figure or table of the paper, and put them beside its values.

    Parameters
    ----------
    name : "figure4", "Table 2", or another entry of the programme.
    scale : "laptop": bundled images; "gpu": small public data sets; "paper": the paper's data, network and recipe.
    progress, **options
        As in `run_claims`.

    Raises
    ------
    UnknownNameError
        The programme has no such entry.
    MkfaError, WorkError
        It has no such scale; or as the training verbs.

    Examples
    --------
    >>> import tempfile
    >>> small = {"arch": "resmixer_4_2", "equal_steps": 1, "seeds": 1, "set": {"batch": 4}, "threads": 1, "jobs": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = reproduce("table1", out=folder, device="cpu", **small)
    >>> found
    <Reproduction: Table 1, laptop scale, 7 of 7 runs>
    >>> [(v.label, v.paper) for v in found.values if v.paper == v.paper][1]
    ('transfer, imagenet-manmade -> imagenet-natural', 0.869)
    """
    check_arguments(reproduce, locals())
    check_names(options, TrainingOptions)
    entry = find_entry(name)
    work = plan_entry(entry, scale, options)
    work.carry_out(progress)
    return reproduction_of(entry, work)


def plan_entry(entry: Entry, scale: str, options: TrainingOptions, **how: Any) -> Work:
    """Return the runs of an entry at a scale; `how` as in `mkfa.evidence.plans.plan_work`."""
    return plan_work([entry], scale, options, name=f"{entry.name}-{scale}", **how)


def reproduction_of(entry: Entry, work: Work) -> Reproduction:
    """Return the finished runs of an entry beside the paper's values."""
    from mkfa.evidence.reproduction import compare_with_paper
    from mkfa.results.gather import records_of

    records = [run for plan in work.plans for run in records_of(plan.runs, plan.root)]
    return compare_with_paper(entry, work.scale, records)


def _verdicts(
    claim: Claim, records: Iterable[RunRecord], banks: tuple[BankLike, ...], grafts: tuple[str | Path, ...], scale: str
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
