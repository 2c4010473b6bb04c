"""Judge a claim by a table of runs, by printed numbers, or by everything that is at hand.

The order is fixed: the first question is whether the evidence is there and could have shown an effect (runs, targets,
seeds, sensitivity), the second what it says. If several settings say something about a claim, each gives a verdict; the
one that is shown is chosen by how much evidence there is (arms, seeds, targets, steps), never by what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from mkfa.evidence.claims import Claim, Statement
from mkfa.evidence.effects import MOST_SEEDS, Effect
from mkfa.evidence.printed import printed_table
from mkfa.evidence.run_table import Point, RunTable, Scale, tables_of
from mkfa.evidence.statements import SEEN_BESIDE_CONTROLS, Finding, evaluate, sensitive, words
from mkfa.evidence.verdict import State, Verdict, effect_text, sensitivity_in_errors, visible_text
from mkfa.networks.names import architecture
from mkfa.results.image_error import Answers
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import mean
from mkfa.words import counted, listed

UNPRINTED = "not printed: "
"""How a clause begins on what the paper does not print."""


def judge_runs(claim: Claim, records: Iterable[RunRecord], *, scale: str = "") -> tuple[Verdict, ...]:
    """Judge a claim by runs; one verdict per setting, that with most evidence first; without runs, one that says so.

    Parameters
    ----------
    scale : only settings of this scale; "" for all.
    """
    known = [scale] if scale else claim.scales
    if claim.other_architectures:
        records = [record for record in records if not _of_own_architecture(record)]
    tables = [t for t in tables_of(records) if t.scale.name in known and t.scale.name in claim.scales]
    groups = _groups(claim, [_well_seeded(claim, t) for t in tables])
    verdicts = [(_evidence(claim, group), judge_tables(claim, group)) for group in groups]
    ranked = [verdict for _, verdict in sorted(verdicts, key=lambda pair: (_spoken(pair[1]), pair[0]), reverse=True)]
    return tuple(ranked) or (without_evidence(claim, scale),)


def _well_seeded(claim: Claim, table: RunTable) -> RunTable:
    """Return a table without the depths of a curve that have fewer seeds than others of it and than the claim asks for.

    Such depths add nothing that may count, and would make the whole curve count for as few seeds as they have.
    """
    most: dict[tuple[str, str, str], int] = {}
    for p, answers in table.points.items():
        key = (p.arm, p.source, p.target)
        most[key] = max(most.get(key, 0), len(answers.top1))
    enough = {key: min(seeds, claim.seeds) for key, seeds in most.items()}
    kept = {p: a for p, a in table.points.items() if len(a.top1) >= enough[p.arm, p.source, p.target]}
    return replace(table, points=kept)


def _of_own_architecture(record: RunRecord) -> bool:
    """True for stacked filters of a network that differs from the target's in size at most."""
    network = record.source.partition("+")[2]
    if record.spec is None or not record.arm.startswith("stack") or not network:
        return False
    return architecture(network) == architecture(record.spec.arch)


def judge_printed(claim: Claim) -> Verdict | None:
    """Judge the paper's printed numbers by the claim's rules; None if there are none that these rules can take."""
    if claim.printed.keys() & {"kept", "knee"}:
        return _kept_as_printed(claim)
    table = printed_table(claim)
    return None if table is None else judge_tables(claim, (table,))


def judge_tables(claim: Claim, tables: Sequence[RunTable]) -> Verdict:
    """Judge a claim by one table, or for the width law and for tuned rates by several of one family."""
    first = tables[0]
    findings = tuple(
        evaluate(statement, claim, tables, side=side)
        for side in ("supports", "contradicts")
        for statement in getattr(claim, side)
    )
    findings = tuple(replace(f, lacks=_lacks(claim, f, printed=first.printed)) for f in findings)
    missing = () if first.printed else _missing_units(claim, first, findings)
    basis = first.scale.network if first.printed else _basis(claim, tables)
    command = "" if first.printed else run_command(claim, first.scale.name)
    return verdict_of(
        claim, findings, missing=missing, scale=first.scale, basis=basis, command=command, printed=first.printed
    )


def verdict_of(
    claim: Claim,
    findings: tuple[Finding, ...],
    *,
    missing: Sequence[str],
    scale: Scale,
    basis: str,
    command: str,
    printed: bool = False,
) -> Verdict:
    """Return the verdict that findings lead to.

    A claim is contradicted by one statement whose own evidence is complete, whatever the others lack: a single unit
    with enough seeds and sensitivity decides a claim about every unit. It is supported if nothing is missing.

    Parameters
    ----------
    missing : targets or pairs that are missing; findings say themselves what they lack.
    """
    decided = next((f for f in findings if f.side == "contradicts" and f.holds and _counts(f, missing)), None)
    state: State = "contradicted" if decided else "inconclusive"
    supports = [f for f in findings if f.side == "supports"]
    lacks = list(dict.fromkeys((*missing, *(text for f in supports for text in f.lacks))))
    if decided is None and not lacks:
        if all(f.holds for f in supports):
            state, decided = "supported", supports[0]
        else:
            lacks = [_between(findings)]
            needed = _open_one(findings).seeds_needed
            command += f" --seeds {needed}" if needed and command else ""
    shown = tuple(lacks) if state == "inconclusive" else ()
    return Verdict(
        claim.id,
        claim.sentence,
        state,
        scale,
        basis,
        _shown_effect(findings, decided),
        findings,
        shown,
        _reason(state, decided, shown),
        printed=printed,
        command=command if state == "inconclusive" else "",
    )


def _counts(finding: Finding, missing: Sequence[str]) -> bool:
    """True if a statement that contradicts may decide: it lacks nothing, or only units that lack nothing were used."""
    return finding.some or not (finding.lacks or (finding.rule == "rank" and missing))


def without_evidence(claim: Claim, scale: str = "") -> Verdict:
    """Return the verdict on a claim about which nothing at hand says anything."""
    named = scale or (claim.scales[0] if claim.scales else "")
    missing = [f"runs: {', '.join(claim.arms)}" if claim.arms else f"runs: {claim.command}"]
    if claim.scales and named not in claim.scales:
        missing = [f"scale: it can be judged at {listed(claim.scales, 'or')} scale only"]
    elif not scale and claim.scales and "laptop" not in claim.scales:
        missing.append(f"scale: {claim.scales[0]}")
    reason = f"Inconclusive: {'; '.join(missing)}."
    command = run_command(claim, named) if named in claim.scales else ""
    return Verdict(
        claim.id, claim.sentence, "inconclusive", None, "", None, (), tuple(missing), reason, command=command
    )


def run_command(claim: Claim, scale: str) -> str:
    """Return the command that gives what a verdict lacks."""
    if claim.about_banks:
        return claim.command
    known = scale if scale in claim.scales else claim.scales[0]
    return f"mkfa claims run {claim.id} --scale {known}"


def _shown_effect(findings: Sequence[Finding], decided: Finding | None) -> Effect | None:
    """Return the effect of the statement that decided; else of the first that is open, else of the first known."""
    if decided is not None and decided.effect is not None:
        return decided.effect
    supports = [f for f in findings if f.side == "supports" and f.effect is not None]
    undecided = [f for f in supports if not f.holds]
    return next((f.effect for f in (*undecided, *supports, *findings) if f.effect is not None), None)


def _missing_units(claim: Claim, table: RunTable, findings: Sequence[Finding]) -> tuple[str, ...]:
    """Return how many targets or pairs are missing at this scale."""
    units = max((len(f.units) or f.effect is not None for f in findings if f.effect is not None), default=0)
    needed = claim.units.get(table.scale.name, 1)
    if not units or units >= needed:
        return ()
    kind = "pairs" if any(statement.by == "pair" for statement in claim.statements) else "targets"
    return (f"runs: {units} of {needed} {kind}",)


def _lacks(claim: Claim, finding: Finding, *, printed: bool) -> tuple[str, ...]:
    """Return what must be there before a finding counts: runs, seeds, sensitivity."""
    if finding.holds is None:
        return (f"{UNPRINTED if printed else 'runs: '}{finding.note}",)
    effect = finding.effect
    if printed or effect is None:
        return ()
    lacks = []
    seen = finding.units if finding.every else (effect,)
    seeds = min(min(e.seeds) for e in seen)
    if seeds < claim.seeds:
        lacks.append(f"seeds: {seeds} of {claim.seeds}")
    elif any(not e.known for e in seen) and finding.rule not in ("knee", "straight"):
        lacks.append("seeds: they do not differ, or too much for so few")
    if finding.rule in SEEN_BESIDE_CONTROLS and (text := _blind(claim, seen)):
        lacks.append(text)
    return tuple(lacks)


def _blind(claim: Claim, effects: Sequence[Effect]) -> str:
    """Return why effects could not have been seen; "" if they could have been."""
    none = [e for e in effects if math.isnan(e.sensitivity)]
    if none:
        return f"sensitivity: no run of {' or '.join(claim.controls)}"
    if any(math.isnan(sensitivity_in_errors(e)) for e in effects):
        return ""  # there is no interval, which is said as missing seeds
    weak = [e for e in effects if not sensitive(e, claim)]
    if not weak:
        return ""
    worst = min(weak, key=sensitivity_in_errors)
    ratio = f"{sensitivity_in_errors(worst):.1f} standard errors of the contrast, {claim.sensitivity:g} are needed"
    count = f" (so on {len(weak)} of {len(effects)})" if len(effects) > 1 else ""
    verb = "cost" if " and " in worst.control or ", " in worst.control else "costs"
    return f"sensitivity: {worst.control} {verb} {100 * worst.sensitivity:.1f} points, {ratio}{count}"


def _open_one(findings: Sequence[Finding]) -> Finding:
    """Return the first statement in support of the claim that is not shown."""
    return next((f for f in findings if f.side == "supports" and not f.holds), findings[0])


def _between(findings: Sequence[Finding]) -> str:
    """Say which statement the interval leaves open, and what would settle it."""
    opened = _open_one(findings)
    if opened.effect is None:
        return f"runs: {opened.note}"
    if opened.effect.printed:
        return f"the printed {effect_text(opened.effect)} does not settle whether {opened.text}"
    if opened.refuted:
        also = "its opposite is shown, which the criterion does not count as a contradiction"
        return f"not shown that {opened.text}: {effect_text(opened.effect)}, {also}"
    what = "settings" if opened.needs else "seeds"
    text = f"{what}: {effect_text(opened.effect)} does not settle whether {opened.text}"
    if not math.isnan(opened.effect.detectable):
        text += f"; these show {visible_text(opened.effect)} or more"
    return text + _would_settle(opened)


def _would_settle(opened: Finding) -> str:
    """Say what would settle a statement: other settings, a number of seeds, or neither."""
    effect = opened.effect
    if opened.needs:
        return f"; {opened.needs}"
    if opened.seeds_needed:
        return f"; about {counted(opened.seeds_needed, 'seed')} would settle it, if the difference stays as it is"
    if effect is None or opened.rule not in ("above", "below", "within"):
        return ""
    images = (
        f", of which ±{100 * 1.96 * effect.test_error:.1f} points are the test images'" if effect.test_error else ""
    )
    return f"; {MOST_SEEDS:,} seeds would not, if the difference stays as it is: it is too near the margin{images}"


def _reason(state: State, decided: Finding | None, missing: Sequence[str]) -> str:
    if state == "inconclusive" or decided is None:
        unprinted = [text.removeprefix(UNPRINTED) for text in missing if text.startswith(UNPRINTED)]
        rest = [text for text in missing if not text.startswith(UNPRINTED)]
        return f"Inconclusive: {'; '.join([*([UNPRINTED + ', '.join(unprinted)] if unprinted else []), *rest])}."
    effect = f": {effect_text(decided.effect)} ({decided.effect.label})" if decided.effect is not None else ""
    note = f"; {decided.note}" if decided.note else ""
    return f"{state.capitalize()}: {decided.text}{effect}{note}."


def _basis(claim: Claim, tables: Sequence[RunTable]) -> str:
    """Return the pairs of source and target of the runs."""
    arm = next((arm for arm in claim.arms if tables[0].targets(arm)), "")
    points = [p for p in tables[0].points if p.arm == arm]
    pairs = dict.fromkeys(f"{p.source} -> {p.target}" if p.source else p.target for p in points)
    more = f", {counted(len(tables), 'setting')}" if len(tables) > 1 else ""
    shown = list(pairs)[:6]
    return ", ".join(shown) + (f" and {len(pairs) - 6} more" if len(pairs) > 6 else "") + more


def _groups(claim: Claim, tables: Sequence[RunTable]) -> list[tuple[RunTable, ...]]:
    """Return the tables that could judge a claim: those with the right layers and one of its arms."""
    fitting = [t for t in tables if t.arms & set(claim.arms) and t.scale.what == claim.what]
    if claim.tuned:
        return [(_best(group),) for group in _families(fitting, lambda t: _untuned(t, claim.tuned))]
    if any(s.rule == "trend" for s in claim.statements):
        return [
            tuple(group) for group in _families([t for t in fitting if t.family], lambda t: (t.family, t.scale.layers))
        ]
    return [(table,) for table in fitting]


def _families(tables: Sequence[RunTable], key: Callable[[RunTable], object]) -> list[list[RunTable]]:
    groups: dict[object, list[RunTable]] = {}
    for table in tables:
        groups.setdefault(key(table), []).append(table)
    return list(groups.values())


def _untuned(table: RunTable, fields: Sequence[str]) -> str:
    values = {key: value for key, value in (table.values or {}).items() if key not in fields}
    return repr((table.scale.network, table.scale.training_version, sorted(values.items())))


def _best(tables: Sequence[RunTable]) -> RunTable:
    """Return a table in which every point is of the setting where it has the highest accuracy."""
    points: dict[Point, Answers] = {}
    for table in tables:
        for point, answers in table.points.items():
            before = points.get(point)
            if before is None or mean(list(answers.top1.values())) > mean(list(before.top1.values())):
                points[point] = answers
    return replace(tables[0], points=points)


def _spoken(verdict: Verdict) -> bool:
    """True if the runs of a setting are enough to evaluate at least one statement, whatever came out."""
    return any(finding.holds is not None for finding in verdict.findings)


def _evidence(claim: Claim, tables: Sequence[RunTable]) -> tuple[int, int, int, int, int]:
    """Return how much evidence tables have, whatever their verdicts are."""
    table = tables[0]
    arms = len(table.arms & set(claim.arms))
    seeds = [len(a.top1) for p, a in table.points.items() if p.arm in claim.arms]
    targets = {(p.source, p.target) for p in table.points if p.arm in claim.arms}
    controls = len(table.arms & set(claim.controls))
    return (
        arms,
        min(controls, 1),
        min(min(seeds, default=0), claim.seeds),
        len(targets) * len(tables),
        table.scale.steps,
    )


def _kept_as_printed(claim: Claim) -> Verdict:
    """Judge printed shares and knees, which the paper states in words: no accuracies stand behind them."""
    values = {"kept": claim.printed.get("kept"), "knee": claim.printed.get("knee")}

    def finding(statement: Statement, side: str) -> Finding:
        value = values.get(statement.rule)
        holds = statement.low <= value <= statement.high if value is not None else False
        note = f"{value:g}{' %' if statement.rule == 'kept' else ' layers'} as printed" if value is not None else ""
        return Finding(words(statement, claim), side, holds, note=note)

    findings = tuple(finding(s, side) for side in ("supports", "contradicts") for s in getattr(claim, side))
    scale = Scale("printed", f"as printed, {claim.source}")
    return verdict_of(claim, findings, missing=(), scale=scale, basis=scale.network, command="", printed=True)
