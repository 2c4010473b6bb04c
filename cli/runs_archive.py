"""`mkfa runs pack`, `mkfa runs draw`: experiments in one small file, and their results from it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.options import OUTPUT, Force, Json, Width, WithPaper, add, flag, option
from mkfa.cli.shared.outputs import PICTURES, check_output, check_width, save_figure
from mkfa.cli.shared.printing import print_json, say
from mkfa.cli.shared.result_tables import draw_result, papers_values, print_result
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.results.archive import PackedExperiment


def register(group: typer.Typer) -> None:
    """Add the verbs of this module to `mkfa runs`."""
    add(group, "pack", pack, former={"--out": "--from", "--experiment": "--result"})
    add(group, "draw", draw)


def pack(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.json.gz", help="The file to write.")],
    from_: Annotated[
        Path | None, option("--from", "FOLDER", "The --out of the command that trained; default: the home folder.")
    ] = None,
    result: Annotated[
        Path | None,
        option(
            "--result",
            "FILE.json",
            "A curve.json, table.json, matrix.json or sweep.json: pack exactly its runs; default: all that have ended.",
        ),
    ] = None,
    name: Annotated[str, option("--name", "NAME", "Name of the experiment; default: its folder's.")] = "",
    command: Annotated[
        str,
        option("--command", "TEXT", "The command line that trained the runs; default: as recorded in the JSON file."),
    ] = "",
    add: Annotated[
        bool, flag("--add", "Add to a file that exists; --force replaces an experiment of the same name.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Keep specifications and results of finished runs in one small file, with the command that made them."""
    from mkfa.errors import MkfaError
    from mkfa.results.archive import check_ending, read_experiments, write_experiments
    from mkfa.storage.atomic import check_target
    from mkfa.storage.heading import heading

    check_ending(file)
    check_target(file, overwrite=force or add)
    kept = read_experiments(file) if add and file.exists() else ()

    def check_name(title: str) -> None:
        if any(e.name == title for e in kept) and not force:
            remedy = "choose another --name, or pass --force to replace it"
            raise MkfaError(title, f"is an experiment of {file} already", remedy)

    check_name(name)
    found = _gather(result, from_ or context.obj, name=name, command=command)
    check_name(found.name)
    write_experiments(file, (*(e for e in kept if e.name != found.name), found), overwrite=force or add)
    over = sum(r.result is not None for r in found.runs)
    if as_json:
        print_json(
            heading("packed_experiment")
            | {
                "name": found.name,
                "kind": found.kind,
                "runs": len(found.runs),
                "over": over,
                "file": file,
                "bytes": file.stat().st_size,
                "experiments": len(kept) + 1,
            }
        )
        return
    missing = f", {len(found.runs) - over} of its runs are not over" if over < len(found.runs) else ""
    say(f"Packed {found.name} ({found.kind}): {counted(over, 'run')}{missing}.")
    say(f"Wrote {file}, {counted(file.stat().st_size, 'byte')}.", wrap=False)


def draw(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A file of 'mkfa runs pack', a curve.json, table.json, matrix.json or sweep.json, or 'bundled'.",
        ),
    ],
    experiment: Annotated[str, option("--experiment", "NAME", "One of several in the file.")] = "",
    out: Annotated[Path | None, option("--out -o", "FILE", "Draw into this file.", **OUTPUT)] = None,
    with_paper: WithPaper = False,
    width: Width = "page",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a result's table and figure again from its runs, without training."""
    from mkfa.errors import MkfaError
    from mkfa.results.archive import find_experiment, read_experiments
    from mkfa.results.gather import count_test_images, rebuild
    from mkfa.results.runs import find_place

    check_output(out, PICTURES, force=force)
    check_width(width, out, "--out")
    if with_paper and out is None:
        raise MkfaError("--with-paper", "changes the picture, and none was asked for", "name one by --out")
    path = Path(file).expanduser()
    if path.suffix == ".json":
        chosen = _gather(path, None, name="", command="")
    else:
        chosen = find_experiment(read_experiments(_results_file(find_place(Path(file)))), experiment)
    found: Any = rebuild(chosen)
    if out is not None:
        sources = (
            {row.cell.source for row in found.scenarios} - {"", found.base.target} if found.KIND == "table" else ()
        )
        what = found.parameters["what"]
        paper = papers_values(found.KIND, what, sources=len(sources) > 1) if with_paper else None
        save_figure(draw_result(found, paper, width=width), out, overwrite=force)
    if as_json:
        print_json(found.to_dict() | {"experiment": chosen.name, "files": [out] if out else []})
        return
    images = 0
    notes = [f"From {chosen.name} of {path}."]
    notes += [f"Wrote {out}"] if out else []
    if found.KIND in ("curve", "table"):
        images = count_test_images(chosen, found.base.target)
    print_result(found, test_images=images, notes=notes)
    say(f"Trained by: {chosen.command or 'a command that was not recorded'}", wrap=False)


def print_experiments(place: Path, name: str) -> None:
    """Print which experiments a results file holds, or one of them, with their commands."""
    from mkfa.results.archive import read_experiments

    for e in read_experiments(place):
        if name in ("", e.name):
            over = sum(r.result is not None for r in e.runs)
            known = "trained by:" if e.command else "command not recorded."
            say(f"{e.name}: {e.kind}, {over} of {counted(len(e.runs), 'run')} over; {known}")
            if e.command:
                say(f"  {e.command}", wrap=False)


def _gather(experiment: Path | None, out: Path | None, *, name: str, command: str) -> PackedExperiment:
    """Gather runs; without `out`, those of a results folder with runs/ in it, else of the default folder."""
    from mkfa.results.gather import gather_experiment, gather_folder, recorded_command
    from mkfa.results.runs import default_root, find_place

    if experiment is None:
        root, title = find_place(out), out.resolve().name if out else "runs"
        return gather_folder(root, name=name or title, command=command or (recorded_command(out) if out else ""))
    beside = experiment.expanduser().resolve().parent
    root = beside / "runs" if (beside / "runs").is_dir() else default_root()
    if out is not None:
        root = find_place(out)
    return gather_experiment(experiment.expanduser(), root, name=name or beside.name, command=command)


def _results_file(place: Path) -> Path:
    from mkfa.errors import MkfaError

    if not place.is_file():
        remedy = "pack it first, mkfa runs pack, or name the curve.json, table.json, matrix.json or sweep.json in it"
        raise MkfaError(place, "is a folder of runs, not a results file", remedy)
    return place
