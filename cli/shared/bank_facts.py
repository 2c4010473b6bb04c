"""What commands say of a bank: facts for JSON, tables for people. Layers are counted from 1 over the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.cli.shared.printing import print_table, say, terminal_width, warn
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank

FEW = 8
"""Doubtful layers that are printed."""

COLUMNS = ("layer", "name", "kernel", "filters", "stride", "dilation", "stage", "bias", "stored as", "dead")


def bank_facts(bank: FilterBank, path: Path) -> dict[str, Any]:
    """Return a bank's name, file, provenance, kernel sizes and layers."""
    from mkfa.banks.counts import count_kinds
    from mkfa.storage.records import plain

    return {
        "name": bank.name,
        "path": path,
        "filters": len(bank),
        "provenance": bank.provenance,
        "kernels": [{**plain(c), "kind": str(c.kind)} for c in count_kinds(bank)],
        "layers": [layer_facts(bank, i + 1) for i in range(len(bank.layers))],
    }


def layer_facts(bank: FilterBank, number: int) -> dict[str, Any]:
    """Return the facts of a layer, with its dead, flat and non-finite filters."""
    from mkfa.banks.canonical import canonical
    from mkfa.storage.records import plain

    form = canonical(bank.of_layer(number - 1))
    counts = {"dead": int(form.dead.sum()), "flat": int(form.flat.sum()), "nonfinite": int(form.nonfinite.sum())}
    facts: dict[str, Any] = {"layer": number} | plain(bank.layers[number - 1])
    return facts | counts


def print_bank(bank: FilterBank, path: Path, *, layers: bool) -> None:
    """Print where a bank comes from, its kernel sizes and, if asked, its layers."""
    from mkfa.banks.counts import count_kinds, dead_warning

    origin = bank.provenance
    say(f"{bank.name}: {counted(len(bank), 'depthwise filter')} in {counted(len(bank.layers), 'layer')}")
    say(f"  {'file':15} {path}", wrap=False)
    facts = (
        ("from", origin.source),
        ("architecture", origin.architecture),
        ("trained on", origin.training_set),
        ("task", origin.task),
        ("licence", origin.licence),
        ("sha256", origin.source_sha256),
        ("hub commit", origin.hub_commit),
        ("layers by", origin.rule),
        ("harvested", origin.created),
        ("weights", {"raw": "the raw copy", "ema": "the averaged (EMA) copy"}.get(origin.weights, "")),
        ("skipped", "; ".join(f"{n} {why}" for why, n in origin.skipped.items())),
        ("stood in for", _stood_in(origin.stood_in)),
        *(("note", note) for note in origin.notes),
        *(("doubtful", f"{name}: {why}") for name, why in list(origin.doubtful.items())[:FEW]),
    )
    for label, value in facts:
        if value:
            fits = 18 + max(map(len, str(value).split())) <= terminal_width()
            say(f"  {label:15} {value}", hang=18 if fits else 2)
    if len(origin.doubtful) > FEW:
        more = counted(len(origin.doubtful) - FEW, "more layer")
        say(f"  {'doubtful':15} and {more}; 'mkfa show --json' lists all")
    rows = [(str(c.kind), c.layers, c.filters, c.dead, c.flat, c.nonfinite) for c in count_kinds(bank)]
    print_table("", ("kernel", "layers", "filters", "dead", "flat", "non-finite"), rows)
    if warning := dead_warning(bank):
        warn(warning)
    if bank.unknown_dilation:
        say("The checkpoint does not give the dilation of some layers; it is taken as 1.")
    if layers:
        say("")
        print_table("", COLUMNS, [_row(layer_facts(bank, i + 1)) for i in range(len(bank.layers))], left=2)


def _stood_in(objects: Mapping[str, int]) -> str:
    """Say for which objects of a pickle inert data stood: the most frequent ones by name."""
    names, most = list(objects), 4
    listed = ", ".join(f"{objects[name]} {name}" for name in names[:most])
    rest = f" and {sum(objects[name] for name in names[most:])} more" if len(names) > most else ""
    return f"{listed}{rest} (nothing was imported or run)" if listed else ""


def print_layer(bank: FilterBank, number: int) -> None:
    """Print the facts of a layer, one a line."""
    say(f"{bank.name}, layer {number} of {len(bank.layers)}")
    for key, value in layer_facts(bank, number).items():
        if value not in (-1, [-1, -1], ""):
            say(f"  {key:12} {value}")


def _row(facts: dict[str, Any]) -> tuple[Any, ...]:
    pair = {
        key: "?" if -1 in facts[key] else "x".join(str(v) for v in dict.fromkeys(facts[key]))
        for key in ("stride", "dilation")
    }
    return (
        facts["layer"],
        facts["name"],
        f"{facts['kh']}x{facts['kw']}",
        facts["channels"],
        pair["stride"],
        pair["dilation"],
        None if facts["stage"] < 0 else facts["stage"],
        ("folded" if facts["bn_folded"] else "yes") if facts["has_bias"] else "no",
        facts["dtype"],
        facts["dead"],
    )
