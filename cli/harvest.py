"""`mkfa harvest`: collect filters into banks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.bank_facts import print_bank
from mkfa.cli.shared.options import OUTPUT, Force, Json, flag, option
from mkfa.cli.shared.outputs import check_output
from mkfa.cli.shared.printing import print_list, print_table, say, say_wrote, warn
from mkfa.cli.shared.progress import shown
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.readers.collect import HarvestedBank

SILENT = ", where the checkpoint does not record it."


def harvest(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="NETWORK", help="Checkpoint, folder, timm name or pattern, hf-hub:OWNER/NAME."),
    ],
    name: Annotated[str | None, option("--name", "NAME", "Name of the bank, for one network.")] = None,
    arch: Annotated[str, option("--arch", "NAME", "timm architecture of a local checkpoint.")] = "",
    weights: Annotated[
        str, option("--weights", "raw|ema", "The copy to take where a checkpoint has both; default: the averaged one.")
    ] = "",
    include: Annotated[
        list[str] | None,
        option(
            "--include",
            "PATTERN",
            "Take layers of these names whatever the rules say, or one of several states: 'fold0.*'; may be repeated.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, option("--exclude", "PATTERN", "Leave layers of these names out; may be repeated.")
    ] = None,
    dilation: Annotated[
        list[str] | None, option("--dilation", "PATTERN=3", "Dilation of the layers of these names; may be repeated.")
    ] = None,
    training_set: Annotated[str, option("--training-set", "TEXT", f"What the network was trained on{SILENT}")] = "",
    task: Annotated[str, option("--task", "TEXT", f"What it was trained for{SILENT}")] = "",
    licence: Annotated[str, option("--licence", "TEXT", f"Licence of the weights{SILENT}")] = "",
    allow_nonfinite: Annotated[
        bool, flag("--allow-nonfinite", "Store NaN and infinite weights; analyses leave them out.")
    ] = False,
    out: Annotated[
        Path | None,
        option("--out -o", "FILE.h5", "Write the bank here, for one network; default: the library.", **OUTPUT),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Collect the depthwise filters of trained networks into banks.

    Files: safetensors, PyTorch (state dicts, training checkpoints, networks pickled whole), TorchScript, ONNX,
    TFLite, Keras (.h5, .weights.h5, .keras) and TensorFlow.js (model.json). No code in them is run or imported.
    A checkpoint in several files is given by its folder, its index or any of its shards, and read whole.
    """
    from mkfa.banks.bank_file import read_bank
    from mkfa.banks.counts import dead_warning
    from mkfa.errors import MkfaError
    from mkfa.readers.collect import Harvests, expand_sources, harvest_all
    from mkfa.readers.options import make_options

    if name is not None and not name.strip():
        raise MkfaError("--name", "is empty", "name the bank, or leave the option out")
    if name and {"/", "\\"} & {*name}:
        raise MkfaError(f"--name {name}", "has a slash in it", "give a name, not a path")
    options: dict[str, Any] = {
        "name": name,
        "arch": arch,
        "weights": weights,
        "include": include or (),
        "exclude": exclude or (),
        "dilation": dilation or (),
        "training_set": training_set,
        "task": task,
        "licence": licence,
        "allow_nonfinite": allow_nonfinite,
    }
    check_output(out, (".h5",), force=force)
    make_options(arch=arch, weights=weights, include=include or (), exclude=exclude or (), dilation=dilation or ())
    wanted = expand_sources(sources)
    if len(wanted) > 1 and (out or name):
        raise MkfaError(
            "--out and --name",
            f"name one bank, but there are {counted(len(wanted), 'network')}",
            "leave them out: each bank goes into the library under its network's name",
        )
    if out is not None:
        done = Harvests((_harvest_to_file(wanted[0], options, out, force=force),))
        for note in done[0].changes:
            warn(f"{out}: {note}")
    else:

        def warn_of(result: HarvestedBank) -> None:
            alone = len(wanted) == 1  # its notes are printed with the bank
            for note in result.changes if alone or not Path(result.source).is_dir() else result.notes:
                warn(f"{result.name}: {note}")
            if not alone and result.state == "harvested" and (dead := dead_warning(read_bank(result.path))):
                warn(f"{result.name}: {dead}")
            if result.error and len(wanted) > 1:
                warn(str(result.error))

        done = harvest_all(wanted, force=force, on_result=warn_of, progress=shown(), **options)
    if len(done) == 1 and done[0].error:
        raise done[0].error
    if as_json:
        print_list("harvest", "banks", list(done))
    elif len(done) == 1:
        print_bank(read_bank(done[0].path), done[0].path, layers=False)
        if done[0].state in ("harvested", "updated"):
            say_wrote(done[0].path)
        else:
            say(f"The bank exists (--force harvests it again): {done[0].path}", wrap=False)
    else:
        rows = [(h.name, h.state, h.layers or None, h.filters or None) for h in done]
        print_table("Harvested", ("bank", "", "layers", "filters"), rows, left=2)
        say(f"In {done[0].path.parent}", wrap=False)
    if done.failure:
        raise done.failure


def _harvest_to_file(source: str, options: dict[str, Any], out: Path, *, force: bool) -> HarvestedBank:
    from mkfa.banks.bank_file import replace_bank, write_bank
    from mkfa.readers.collect import HarvestedBank
    from mkfa.readers.harvesting import harvest as read

    bank = read(source, **options, progress=shown())
    changes = replace_bank(bank, out) if force else ()
    if not force:
        write_bank(bank, out, overwrite=False)
    notes = (*bank.provenance.notes, *changes)
    return HarvestedBank(source, bank.name, "harvested", out, len(bank.layers), len(bank), notes, changes)
