"""`mkfa reproduce`: a figure or table of the paper, trained at a scale, beside the paper's values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared import evidence, training
from mkfa.cli.shared.evidence import Changes, Scale
from mkfa.cli.shared.options import Json, OutFolder, Running
from mkfa.cli.shared.outputs import save_figure
from mkfa.cli.shared.printing import print_json, print_list, print_table, say
from mkfa.cli.shared.result_tables import draw_result, papers_values

if TYPE_CHECKING:
    from pathlib import Path

    from mkfa.evidence.plans import Work
    from mkfa.evidence.programme import Entry
    from mkfa.evidence.reproduction import Reproduction


def reproduce(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="figure4, table2, ...; default: list what there is.")
    ] = None,
    scale: Scale = "laptop",
    *,
    changes: Changes,
    running: Running,
    out: OutFolder = None,
    as_json: Json = False,
) -> None:
    """Train the runs of a figure or table of the paper, and show its values beside ours.

    At paper scale with the paper's data, network and recipe; at the others with affordable data and networks. Our
    values and the paper's are never mixed.
    """
    from mkfa.evidence.programme import check_scale, find_entry
    from mkfa.evidence.reproduction import data_set_sizes
    from mkfa.evidence.verbs import plan_entry, reproduction_of

    if name is None:
        _list(as_json=as_json)
        return
    entry = find_entry(name)
    if entry.paper == "Table 6":
        _print_sizes(entry, data_set_sizes(), as_json=as_json)
        return
    check_scale(scale, of=entry.title, known=tuple(entry.runs))
    options = evidence.options(changes, running, out=out)
    work: Work = evidence.plan(lambda **how: plan_entry(entry, scale, options, **how), running)
    outcomes = evidence.carry_out(work, running, as_json=as_json)
    if outcomes is None:
        return
    found = reproduction_of(entry, work)
    paths = _write(entry, work, found)
    if as_json:
        print_json(found.to_dict() | {"files": paths})
    else:
        _print(found)
        say(f"Wrote {', '.join(p.name for p in paths)} in {work.plans[0].results}", wrap=False)
    training.exit_code(outcomes)


def _list(*, as_json: bool) -> None:
    from mkfa.evidence.programme import programme

    entries = programme().values()
    if as_json:
        listed = [
            {"name": e.name, "title": e.title, "question": e.question, "claims": e.claims, "scales": list(e.runs)}
            for e in entries
        ]
        print_list("programme", "entries", listed)
        return
    rows = [(e.name, e.title, e.question, ", ".join(e.claims) or "–", ", ".join(e.runs) or "–") for e in entries]
    notes = [
        "'mkfa reproduce figure4' trains one at laptop scale; --scale paper --dry-run shows what the paper's takes.",
        "Figures 1, 2a and 3 are not listed: their numbers are not known, so runs cannot be compared with them.",
    ]
    print_table("Programme", ("name", "of", "question", "claims", "scales"), rows, left=5, notes=notes)


def _print_sizes(entry: Entry, rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_list("data_sets", "data_sets", rows)
        return
    columns = tuple(rows[0])
    titles = [column.replace("paper_", "paper's ") for column in columns]
    note = "The paper rounds its sizes; 0: unknown before the images are listed."
    print_table(f"{entry.title}: {entry.question}", titles, [tuple(row.values()) for row in rows], notes=[note])


def _print(found: Reproduction) -> None:
    from mkfa.evidence.reproduction import as_text

    rows = [
        (label, as_text((v.ours, v.low, v.high)), v.seeds or None, as_text((v.paper, float("nan"), float("nan"))))
        for label, v in zip(found.labels(), found.values, strict=True)
    ]
    notes = [f"Ours: {'; '.join(found.settings) or 'no finished run'}.", found.note, *found.sayings]
    columns = ("", "ours, top-1 % (95 %)", "seeds", "the paper's")
    print_table(f"{found.title} at {found.scale} scale: {found.question}", columns, rows, notes=notes)


def _write(entry: Entry, work: Work, found: Reproduction) -> list[Path]:
    """Write the comparison, and for each verb that was asked its own result and figure, as the verb does."""
    results = work.plans[0].results
    paths = [results / f"{entry.name}.json", results / f"{entry.name}.csv"]
    for path in paths:
        found.save(path, overwrite=True)
    parts = [part for part in work.parts if part.plan.kind != "train"]
    for number, part in enumerate(parts, 1):
        result: Any = part.plan.summarise()
        stem = part.plan.kind + (f"-{number}" if len(parts) > 1 else "")
        for ending in ("json", "csv"):
            result.save(results / f"{stem}.{ending}", overwrite=True)
            paths.append(results / f"{stem}.{ending}")
        picture = results / f"{stem}.png"
        kind, what = part.plan.kind, part.plan.setting.what
        printed = part.entry.paper and (kind != "table" or what == "depthwise")
        paper = papers_values(kind, what, sources=part.plan.sources > 1) if printed else None
        save_figure(draw_result(result, paper), picture, overwrite=True)
        paths.append(picture)
    return paths
