"""`mkfa claims`: the claims with their verdicts; judge them from what is there; train what is missing first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared import evidence, training
from mkfa.cli.shared.evidence import Changes, Scale
from mkfa.cli.shared.options import OUTPUT, Force, Json, OutFolder, Running, add, new_group, option
from mkfa.cli.shared.outputs import check_output
from mkfa.cli.shared.printing import print_json, print_table, say, say_wrote
from mkfa.cli.shared.progress import shown
from mkfa.words import counted, listed

if TYPE_CHECKING:
    from mkfa.evidence.verdict import Claims, Judgement

ENDINGS = (".json", ".csv")
Ids = Annotated[list[str] | None, typer.Argument(metavar="CLAIM", help="Claims such as C12, or all; default: all.")]
Out = Annotated[Path | None, option("--out -o", "FILE", "Write the verdicts: .json or .csv.", **OUTPUT)]


def register(app: typer.Typer) -> None:
    """Add the verb of this module, and its own verbs, to the command line."""
    group = new_group(app, "claims", claims)
    add(group, "list", list_verdicts)
    add(group, "check", check)
    add(group, "run", run)


def claims(context: typer.Context, out: Out = None, force: Force = False, as_json: Json = False) -> None:
    """Which of the paper's claims hold, at which scale? Without a further word: list them with their verdicts.

    A verdict is supported, contradicted or inconclusive; an inconclusive one says what is missing.
    """
    if context.invoked_subcommand is None:
        list_verdicts(None, out, force, as_json)


def list_verdicts(ids: Ids = None, out: Out = None, force: Force = False, as_json: Json = False) -> None:
    """List claims with the verdicts known so far: those of this machine, else the bundled ones."""
    from mkfa.evidence import verbs

    check_output(out, ENDINGS, force=force)
    _deliver(verbs.claims(chosen(ids)), out, force=force, as_json=as_json)


def check(
    ids: Ids = None,
    places: Annotated[
        list[str] | None,
        option(
            "--from",
            "PLACE",
            "Read runs from the --out of a training command, a file of packed runs, or 'bundled'; may be repeated. "
            "Default: the home folder and the bundled runs.",
        ),
    ] = None,
    banks: Annotated[
        list[str] | None,
        option("--bank", "BANK", "Judge claims about banks by this one; may be repeated. Default: the bundled ones."),
    ] = None,
    grafts: Annotated[
        list[Path] | None,
        option("--graft", "FILE", "A .json of 'mkfa graft'; may be repeated. Default: the bundled one."),
    ] = None,
    scale: Annotated[str, option("--scale", "NAME", "Judge only runs at this scale: laptop, gpu or paper.")] = "",
    out: Out = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Judge claims from the runs, banks and grafts at hand; nothing is trained."""
    from mkfa.evidence.verbs import check_claims

    check_output(out, ENDINGS, force=force)
    found = check_claims(chosen(ids), place=places, banks=banks or (), grafts=grafts, scale=scale, progress=shown())
    _deliver(found, out, force=force, as_json=as_json)


def run(
    ids: Annotated[list[str], typer.Argument(metavar="CLAIM", help="Claims such as C12, or all.")],
    scale: Scale = "laptop",
    *,
    changes: Changes,
    running: Running,
    folder: OutFolder = None,
    as_json: Json = False,
) -> None:
    """Train the runs that claims need and that are missing, judge the claims, and keep the verdicts on this machine."""
    from mkfa.evidence.claims import find_claims
    from mkfa.evidence.plans import as_the_scale_says
    from mkfa.evidence.verbs import judge_work, plan_claims

    claims = find_claims(chosen(ids))
    options = evidence.options(changes, running, out=folder)
    work = evidence.plan(lambda **how: plan_claims(claims, scale, options, **how), running)
    outcomes: Any = []
    if work is None:
        say("These claims are judged from banks and grafts: nothing is trained.") if not as_json else None
    else:
        outcomes = evidence.carry_out(work, running, as_json=as_json)
    if outcomes is None:
        return
    found = judge_work(claims, scale, work, keep=as_the_scale_says(options))
    if as_json:
        print_json(found)
    else:
        show(found)
    training.exit_code(outcomes)


def chosen(ids: list[str] | None) -> list[str]:
    """Return the ids that were named; none if all were."""
    return [word for word in ids or () if word.lower() != "all"]


def _deliver(found: Claims, out: Path | None, *, force: bool, as_json: bool) -> None:
    if out is not None:
        found.save(out, overwrite=force)
    if as_json:
        print_json(found)
        return
    show(found)
    say_wrote(out)


def show(found: Claims) -> None:
    """Print one claim in full, or several as a table."""
    if len(found.judgements) == 1:
        show_one(found.judgements[0])
        return
    rows = [_row(judgement) for judgement in found.judgements]
    columns = ("claim", "verdict", "as printed", "sentence", "effect", "seeds", "at", "judged")
    from mkfa.evidence.verdict import count_states

    dates = sorted({j.judged for j in found.judgements if j.judged})
    notes = [
        f"{counted(len(rows), 'claim')}: {count_states(found.judgements)}.",
        "As printed: the paper's own numbers, without seeds or error bars, by the same rules.",
        "'mkfa claims list C12' says everything about one; 'mkfa claims run C12' trains what it lacks.",
    ]
    if dates and any(j.place == "bundled" for j in found.judgements):
        notes.insert(1, f"Verdicts bundled with mkfa, judged {dates[-1]}, at the scale that each names and no other.")
    print_table("Claims", columns, rows, left=4, notes=notes)


def _row(j: Judgement) -> tuple[Any, ...]:
    v = j.chosen
    printed = j.printed.state if j.printed else "–"
    return (
        j.id,
        v.state,
        printed,
        j.sentence,
        v.in_short,
        v.seeds or None,
        v.scale.name if v.scale else "–",
        j.judged or "–",
    )


def show_one(j: Judgement) -> None:
    """Print everything about one claim."""
    say(f"{j.id}: {j.sentence}")
    say(f"Source: {j.source}." + (f" Printed there: {j.number}." if j.number else ""))
    for title, verdict in [("Verdict", j.chosen), *(("At another setting", v) for v in j.others)]:
        show_verdict(title, verdict, judged=j.judged if title == "Verdict" else "", place=j.place)
    if j.printed is not None:
        show_verdict("As printed", j.printed)
    if j.scales:
        say(f"It can be judged at {listed(j.scales, 'or')} scale.")


def show_verdict(title: str, v: Any, *, judged: str = "", place: str = "") -> None:
    """Print a verdict: the sentence, its setting, every statement, and what is missing."""
    from mkfa.evidence.verdict import effect_text, sensitivity_text, visible_text

    say(f"\n{title}: {v.reason}")
    if v.scale is not None and not v.printed:
        say(f"Setting: {v.scale.name} scale, {v.scale.text}; {v.basis}.")
    if v.effect is not None and not v.printed:
        e = v.effect
        facts = [e.sample or counted(v.seeds, "seed")]
        if e.sensitivity == e.sensitivity:
            facts.append(f"sensitivity {sensitivity_text(e)}")
        if e.detectable == e.detectable:
            facts.append(f"smallest visible difference {visible_text(e)}")
        say(f"{'; '.join(facts)}.")
    rows = [
        (
            f.side,
            f.text,
            "open" if f.holds is None else "yes" if f.holds else "no",
            effect_text(f.effect) if f.effect is not None else "–",
            f.p,
        )
        for f in v.findings
    ]
    if rows:
        notes = dict.fromkeys(
            f"{f.text}: {'missing: ' if f.holds is None else ''}{f.note}." for f in v.findings if f.note
        )
        print_table("", ("", "statement", "holds", "effect (95 %)", "p"), rows, left=2, notes=list(notes))
    if v.command:
        say(f"To judge it: {v.command}", wrap=False)
    if judged:
        say(f"Judged {judged}{f', {place}' if place else ''}.")
