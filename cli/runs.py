"""`mkfa runs`, `mkfa runs show`, `mkfa runs compare`: training runs, one by one and summed up over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli import runs_archive
from mkfa.cli.shared.options import Json, add, flag, new_group, option
from mkfa.cli.shared.printing import print_json, print_list, print_table, say, show
from mkfa.cli.shared.streams import emit
from mkfa.errors import printable
from mkfa.training.spec import TRAINING_VERSION
from mkfa.words import counted, listed

if TYPE_CHECKING:
    from mkfa.results.differences import RunComparison
    from mkfa.results.groups import GroupTable
    from mkfa.results.record import RunRecord

From = Annotated[
    Path | None,
    option(
        "--from",
        "FOLDER|FILE",
        "The --out of the command that trained, a file of 'mkfa runs pack', or 'bundled'; "
        "default: the home folder (MKFA_HOME).",
    ),
]
Within = Annotated[str, option("--experiment", "NAME", "Only runs of this experiment of a packed file.")]
FORMER = {"--out": "--from"}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    group = new_group(app, "runs", runs, former=FORMER)
    add(group, "show", show_run, former=FORMER)
    add(group, "compare", compare, former=FORMER)
    runs_archive.register(group)


def _has_option(context: typer.Context, verb: str, option: str) -> bool:
    group: Any = context.command
    return any(option in parameter.opts for parameter in group.get_command(context, verb).params)


def runs(
    context: typer.Context,
    from_: From = None,
    experiment: Within = "",
    as_json: Json = False,
    as_csv: Annotated[bool, flag("--csv", "Print comma-separated values.")] = False,
) -> None:
    """List, show, compare and pack training runs, and draw their results."""
    from mkfa.errors import MkfaError

    if verb := context.invoked_subcommand:
        given = (
            ("--experiment", bool(experiment)),
            ("--json", as_json),
            ("--csv", as_csv),
            ("--from", from_ is not None and verb == "draw"),
        )
        for option, is_given in given:
            if is_given:
                known = _has_option(context, verb, option)
                remedy = (
                    f"write it after {verb}" if known else f"leave it out; 'mkfa runs {verb} --help' says what it takes"
                )
                raise MkfaError(option, f"before {verb} is an option of the list", remedy)
        context.obj = from_
        return
    from mkfa.engines.slurm_jobs import note_stuck
    from mkfa.results import runs as of
    from mkfa.results.record import STATES

    if as_json and as_csv:
        raise MkfaError("--json and --csv", "are two forms of one list", "ask for one of them")
    place = of.find_place(from_)
    note_stuck(place)
    entries = of.list_runs(place, experiment=experiment)
    if as_json:
        print_json(entries)
        return
    if as_csv:
        from mkfa.storage.records import to_csv

        for line in to_csv(entries.rows(), entries.KIND).rstrip("\n").split("\n"):
            emit(printable(line))
        return
    for name in dict.fromkeys(e.experiment for e in entries) or [""]:
        _print_entries(name, [e for e in entries if e.experiment == name])
    counts = ", ".join(f"{sum(e.state == s for e in entries)} {s}" for s in STATES)
    say(f"{counts}. In {place}", wrap=False)
    if place.is_file():
        runs_archive.print_experiments(place, experiment)


def show_run(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Hash of a run, or the beginning of it.")],
    from_: From = None,
    experiment: Within = "",
    as_json: Json = False,
) -> None:
    """Show one run: specification, result, accuracy epoch by epoch."""
    from mkfa.engines.slurm_jobs import note_stuck
    from mkfa.engines.work import read_progress
    from mkfa.results.runs import find_place, load_run, run_details
    from mkfa.storage.heading import heading
    from mkfa.storage.records import plain

    place = find_place(from_ or context.obj)
    note_stuck(place)
    details = run_details(load_run(place, run, experiment=experiment))
    if as_json:
        print_json(heading("run_details") | plain(details))
        return
    entry, result = details["run"], details["result"] or {}
    own = "hash state domain arch arm layers what recipe training_version seed source"
    own += " error experiment path"
    facts = [(key, entry[key]) for key in own.split() if entry[key] not in ("", None)]
    if entry["state"] == "running" and (report := read_progress(Path(entry["path"]))):
        facts.append(("progress", f"step {report.step} of {report.steps}"))
    keys = "top1_last top1_best best_epoch chance loss_test images_per_second seconds resumed train_images test_images"
    keys += " parameters trained_parameters planted weights_sha256"
    facts += [(key, result[key]) for key in keys.split() if result.get(key) is not None]
    print_table("Run", ("", ""), facts)
    metrics = details["metrics"]
    if entry["experiment"]:
        say("A results file has no values of single epochs.")
        return
    rows = [(r["epoch"], r["step"], r["loss_train"], r["loss_test"], r["top1"]) for r in metrics[-20:]]
    notes = [f"The last 20 of {counted(len(metrics), 'epoch')}."] if len(metrics) > 20 else []
    print_table("Epochs", ("epoch", "step", "training loss", "test loss", "top-1"), rows, left=0, notes=notes)


def compare(
    context: typer.Context,
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Hashes, or the beginnings of them, or paths of run folders."),
    ] = None,
    by: Annotated[
        str, option("--by", "FIELDS", "Instead of single runs, compare groups over seeds, split by fields: arm,layers.")
    ] = "",
    from_: From = None,
    experiment: Within = "",
    as_json: Json = False,
) -> None:
    """Compare runs: what differs in the specifications and in the results; or groups of them over seeds."""
    from mkfa.errors import MkfaError
    from mkfa.results.differences import compare_runs
    from mkfa.results.groups import group_runs
    from mkfa.results.runs import find_place, list_runs, load_run
    from mkfa.storage.heading import heading
    from mkfa.storage.records import plain

    if bool(run) == bool(by):
        problem = "compares single runs or groups, and both were asked for" if run else "needs to know what to compare"
        raise MkfaError("runs compare", problem, "name two runs, or pass --by arm,layers")
    place = find_place(from_ or context.obj)
    if by:
        fields = [name.strip() for name in by.split(",")]
        found = group_runs(list_runs(place, experiment=experiment), fields)
        if as_json:
            print_list("run_groups", "tables", [table.record() for table in found])
        else:
            _print_groups(found)
        return
    compared = compare_runs([load_run(place, name, experiment=experiment) for name in run or []])
    if as_json:
        print_json(heading("run_comparison") | plain(compared))
    else:
        _print_comparison(compared)


def _print_entries(name: str, entries: Sequence[RunRecord]) -> None:
    columns = {key: key for key in ("state", "domain", "arch", "arm", "layers", "recipe", "seed", "top1")}
    columns |= {"arch": "network", "top1": "top-1"}
    facts = [e.row() | {"layers": e.layers or None} for e in entries]
    common = [key for key in ("arch", "recipe") if len(facts) > 1 and len({row[key] for row in facts}) == 1]
    title = ", ".join(
        [f"Runs of {name}" if name else "Runs", *(f"{columns.pop(key)} {facts[0][key]}" for key in common)]
    )
    rows = [(e.hash[:8], *(row[key] for key in columns)) for e, row in zip(entries, facts, strict=True)]
    notes = [f"{e.hash[:8]} failed: {e.error}" for e in entries if e.error]
    if older := sum(e.spec is not None and e.spec.training_version != TRAINING_VERSION for e in entries):
        notes.append(
            f"{counted(older, 'of these runs was', 'of these runs were')} trained by an earlier version of the "
            f"training (now {TRAINING_VERSION}). Commands neither resume them nor take them as done; 'mkfa runs show' "
            "names the version."
        )
    print_table(title, ("run", *columns.values()), rows, left=4 if "arch" in common else 5, notes=notes)


def _print_comparison(found: RunComparison) -> None:
    facts = {name: row for name, row in found.facts.items() if any(v is not None for v in row)}
    rows = [(name, *map(_short, row)) for name, row in (*found.differing.items(), *facts.items())]
    title = "Runs: what differs in their specifications, and their results"
    print_table(title, ("", *(h[:8] for h in found.hashes)), rows)
    d = found.difference
    if d is not None:
        known = f", 95 % interval {100 * d.low:+.2f} to {100 * d.high:+.2f}" if d.low == d.low else ""
        names = f"top-1 of {found.hashes[0][:8]} less that of {found.hashes[1][:8]}"
        say(f"{names}: {100 * d.value:+.2f} points{known} (n {d.images}).")
    if len(found.hashes) == 2:
        say(found.note)


def _print_groups(tables: Sequence[GroupTable]) -> None:
    for table in tables:
        rows = [
            (
                *(_short(g.values[c]) for c in table.columns),
                _count(g.cell),
                g.cell.mean,
                g.cell.std,
                _points(g.cell.relative),
                _points(g.cell.half_width or math.nan),  # 0: the seeds do not differ, which proves nothing
            )
            for g in table.groups
        ]
        setting = {**table.setting}
        version = setting.pop("training_version", TRAINING_VERSION)
        parts = [str(v) for v in setting.values() if v]
        parts += [f"training version {version}"] if version != TRAINING_VERSION else []
        title = "Runs" + (f": {', '.join(parts)}" if parts else "")
        images = f", {counted(table.test_images, 'test image')}" if table.test_images else ""
        chance = f"Chance {table.chance:.3f}{images}." if table.chance == table.chance else ""
        which = "them" if len(table.added) > 1 else "it"
        split = f"Split by {listed(table.added)} too, as runs differ in {which}." if table.added else ""
        print_table(
            title,
            (*table.columns, "n", "top-1", "SD", "change", "±"),
            rows,
            left=len(table.columns),
            notes=[" ".join(x for x in (chance, split) if x)] if chance or split else [],
        )
    say(
        "n: number of seeds; mean and SD of top-1 are over them. change: in points against the base runs of the same "
        "setting, with half its 95 % interval (Welch; over seeds and test images)."
    )


def _count(cell: Any) -> str:
    more = [f"{count} {word}" for count, word in ((cell.diverged, "diverged"), (cell.missing, "not over")) if count]
    return f"{len(cell.seeds)}" + (f" ({', '.join(more)})" if more else "")


def _points(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f}"


def _short(value: Any) -> Any:
    """Return what a narrow column shows: digests by their beginning, an empty text as a dash, large numbers whole."""
    if isinstance(value, str):
        head, colon, digest = value.rpartition(":")
        plain = digest if not colon else value
        if len(digest) in (16, 64) and all(c in "0123456789abcdef" for c in digest):
            return f"{head}{colon}{digest[:8]}"
        return plain or None
    if isinstance(value, float) and abs(value) >= 100:
        return f"{value:.0f}"
    if isinstance(value, float) and 0 < abs(value) < 0.01:
        return f"{value:.2g}"
    return show(value) if isinstance(value, float) else value
