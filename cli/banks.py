"""`mkfa harvest`, `mkfa banks`, `mkfa show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.outputs import (
    Force,
    Json,
    check_outputs,
    print_json,
    print_table,
    progress,
    save_figure,
    say,
    warn,
)

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank
    from mkfa.readers.collect import Harvested
    from mkfa.readers.harvesting import HarvestOptions


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command("harvest")(harvest)
    app.command("banks")(banks)
    app.command("show")(show)


def harvest(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Checkpoint or folder, timm name or glob, hf-hub:OWNER/NAME."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the bank to this file (one source); default: the library.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the bank (one source).")] = "",
    arch: Annotated[str, typer.Option("--arch", help="timm architecture of a local checkpoint.")] = "",
    training_set: Annotated[str, typer.Option("--training-set", help="Provenance, where the source is silent.")] = "",
    task: Annotated[str, typer.Option("--task", help="Provenance, where the source is silent.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Provenance, where the source is silent.")] = "",
    allow_nonfinite: Annotated[
        bool, typer.Option("--allow-nonfinite", help="Store NaN and infinite weights; analyses leave them out.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Collect the depthwise filters of trained networks into banks."""
    from mkfa.errors import MkfaError
    from mkfa.readers.collect import collect, expand_sources, failures
    from mkfa.readers.harvesting import HarvestOptions

    options = HarvestOptions(name, arch, allow_nonfinite, training_set, task, licence)
    wanted = expand_sources(sources)
    if len(wanted) > 1 and (out or name):
        raise MkfaError(
            "--out and --name",
            f"stand for one bank, but {len(wanted)} sources were given",
            "leave them out: each bank goes into the library under its network's name",
        )
    if out is not None:
        _harvest_to_file(wanted[0], options, out, force=force, as_json=as_json)
        return
    with progress("harvest", len(wanted)) as advance:

        def tell(result: Harvested) -> None:
            advance(1)
            if result.error and len(wanted) > 1:
                warn(str(result.error))

        done = collect(wanted, options, force=force, tell=tell)
    if len(done) == 1 and done[0].error:
        raise done[0].error
    _print_harvested(done, as_json)
    if error := failures(done):
        raise error


def _harvest_to_file(source: str, options: HarvestOptions, out: Path, *, force: bool, as_json: bool) -> None:
    from mkfa.banks.bank_file import write_bank
    from mkfa.errors import MkfaError
    from mkfa.readers.harvesting import harvest as take
    from mkfa.storage.atomic import check_target

    if out.suffix.lower() != ".h5":
        raise MkfaError(out, "has an ending that stands for no bank", "end it in .h5")
    check_target(out, overwrite=force)
    with progress(f"harvest {source}", None):
        bank = take(source, options)
    write_bank(bank, out, overwrite=force)
    if as_json:
        print_json(_facts(bank, out))
        return
    _print_bank(bank, out, layers=False)
    say(f"Wrote {out}.")


def _print_harvested(done: tuple[Harvested, ...], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "source": h.source,
                    "name": h.name,
                    "state": h.state,
                    "path": h.path,
                    "layers": h.layers,
                    "filters": h.filters,
                    "notes": h.notes,
                    "error": str(h.error) if h.error else None,
                }
                for h in done
            ]
        )
        return
    if len(done) == 1:
        from mkfa.banks.bank_file import read_bank

        _print_bank(read_bank(done[0].path), done[0].path, layers=False)
        verb = "Wrote" if done[0].state == "harvested" else "Was there already (--force harvests again):"
        say(f"{verb} {done[0].path}")
        return
    rows = [(h.name, h.state, h.layers or None, h.filters or None) for h in done]
    print_table("Harvested", ("bank", "", "layers", "filters"), rows, left=2, notes=[f"In {done[0].path.parent}"])


def banks(as_json: Json = False) -> None:
    """List the banks at hand: the library and the bundled ones."""
    from mkfa.banks.bank_file import read_bank
    from mkfa.banks.library import library_folder, list_banks
    from mkfa.errors import MkfaError

    rows: list[dict[str, Any]] = []
    for entry in list_banks():
        row: dict[str, Any] = {"name": entry.name, "path": entry.path, "bundled": entry.bundled}
        try:
            bank = read_bank(entry.path)
        except MkfaError as error:
            rows.append(row | {"error": str(error)})
            continue
        kernels = " ".join(f"{kind}" for kind in bank.kinds)
        rows.append(
            row
            | {
                "layers": len(bank.layers),
                "filters": len(bank),
                "kernels": kernels,
                "training_set": bank.provenance.training_set,
                "error": None,
            }
        )
    if as_json:
        print_json(rows)
        return
    cells = [
        (
            r["name"],
            r.get("kernels"),
            r.get("training_set"),
            "bundled" if r["bundled"] else "library",
            r.get("layers"),
            r.get("filters"),
        )
        for r in rows
    ]
    columns = ("bank", "kernels", "trained on", "where", "layers", "filters")
    print_table("Banks", columns, cells, left=4, notes=[f"Library: {library_folder()}"])
    for row in rows:
        if row["error"]:
            warn(row["error"])


def show(
    bank: Annotated[str, typer.Argument(help="Name or path of a bank.")],
    layer: Annotated[int | None, typer.Option("--layer", help="Show this layer (number in the layer table).")] = None,
    png: Annotated[bool, typer.Option("--png", help="With --layer: draw its filters into BANK-layerN.png.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="With --png: the picture's file (.png .pdf .svg).")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show a bank: layer table, kernel sizes, dead filters, provenance."""
    from mkfa.banks.bank_file import read_bank
    from mkfa.banks.library import resolve_path
    from mkfa.errors import MkfaError

    if (png or out) and layer is None:
        raise MkfaError("--png", "draws one layer, and none was named", "add --layer N")
    if out and not png:
        raise MkfaError("--out", "names the picture's file, and no picture was asked for", "add --png")
    path = resolve_path(bank)
    found = read_bank(path)
    target = out or Path(f"{path.stem}-layer{layer}.png")
    if png:
        check_outputs(None, target, force=force)
    if layer is not None and not 0 <= layer < len(found.layers):
        raise MkfaError(f"layer {layer}", f"is not in {found.name}", f"choose one from 0 to {len(found.layers) - 1}")
    if as_json:
        print_json(_facts(found, path) if layer is None else _layer_facts(found, layer))
    elif layer is None:
        _print_bank(found, path, layers=True)
    else:
        _print_layer(found, layer)
    if png and layer is not None:
        from mkfa.figures.layer import compute, draw

        save_figure(draw(compute(found, layer + 1)), target, overwrite=force)
        (warn if as_json else say)(f"Wrote {target}.")


def _print_bank(bank: FilterBank, path: Path, *, layers: bool) -> None:
    from mkfa.banks.counts import count_kinds

    origin = bank.provenance
    facts = [
        ("source", origin.source),
        ("architecture", origin.architecture),
        ("trained on", origin.training_set),
        ("task", origin.task),
        ("licence", origin.licence),
        ("sha256", origin.source_sha256),
        ("hub commit", origin.hub_commit),
        ("layers found by", origin.rule),
        ("harvested", origin.created),
        ("skipped", "; ".join(f"{n} {why}" for why, n in origin.skipped.items())),
    ]
    say(f"{bank.name}: {len(bank)} depthwise filters in {len(bank.layers)} layers  ({path})")
    for label, value in facts:
        if value:
            say(f"  {label:15} {value}")
    for note in origin.notes:
        say(f"  note            {note}")
    rows = [(str(c.kind), c.layers, c.filters, c.dead, c.flat, c.nonfinite) for c in count_kinds(bank)]
    print_table("", ("kernel", "layers", "filters", "dead", "flat", "non-finite"), rows)
    if bank.unknown_dilation:
        say("The source does not tell the dilation of some layers; it is taken as 1.")
    if layers:
        say("")
        columns = ("layer", "name", "kernel", "filters", "stride", "dilation", "stage", "bias", "stored as", "dead")
        print_table("", columns, [_row(bank, i) for i in range(len(bank.layers))], left=2)


def _row(bank: FilterBank, index: int) -> tuple[Any, ...]:
    facts = _layer_facts(bank, index)
    pair = {
        key: "?" if -1 in facts[key] else "x".join(str(v) for v in dict.fromkeys(facts[key]))
        for key in ("stride", "dilation")
    }
    stage = None if facts["stage"] < 0 else facts["stage"]
    bias = ("folded" if facts["bn_folded"] else "yes") if facts["has_bias"] else "no"
    kernel = f"{facts['kh']}x{facts['kw']}"
    return (
        index,
        facts["name"],
        kernel,
        facts["channels"],
        pair["stride"],
        pair["dilation"],
        stage,
        bias,
        facts["dtype"],
        facts["dead"],
    )


def _layer_facts(bank: FilterBank, index: int) -> dict[str, Any]:
    from mkfa.banks.canonical import canonical
    from mkfa.cli.shared.outputs import plain

    layer = bank.layers[index]
    form = canonical(bank.of_layer(index))
    counts = {"dead": int(form.dead.sum()), "flat": int(form.flat.sum()), "nonfinite": int(form.nonfinite.sum())}
    facts: dict[str, Any] = plain(layer)
    return facts | counts


def _print_layer(bank: FilterBank, index: int) -> None:
    say(f"{bank.name}, layer {index}")
    for key, value in _layer_facts(bank, index).items():
        if value not in (-1, [-1, -1], ""):
            say(f"  {key:12} {value}")


def _facts(bank: FilterBank, path: Path) -> dict[str, Any]:
    from mkfa.banks.counts import count_kinds
    from mkfa.cli.shared.outputs import plain

    kernels = [{**plain(c), "kind": str(c.kind)} for c in count_kinds(bank)]
    layers = [_layer_facts(bank, i) for i in range(len(bank.layers))]
    return {
        "name": bank.name,
        "path": path,
        "filters": len(bank),
        "provenance": bank.provenance,
        "kernels": kernels,
        "layers": layers,
    }
