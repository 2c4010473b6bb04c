"""What commands share: tables for people, JSON for machines, progress bars, the options they have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank, Kind

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Banks = Annotated[list[str], typer.Argument(metavar="BANK", help="Names or paths of banks.")]
Kernel = Annotated[str, typer.Option("--kernel", help="Kernel, such as 5x5; default: the most frequent.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw; recorded in the result.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]

Advance = Callable[[float], None]

WIDTH = 100
"""Characters in a line of printed text."""

PICTURES = (".png", ".pdf", ".svg")
"""Endings of the picture formats that figures are written in."""


def print_json(value: Any) -> None:
    """Print `value` as JSON; NaN and infinity, which JSON does not know, become null."""
    typer.echo(to_json(value))


def to_json(value: Any) -> str:
    """Return `value` as JSON; numpy values, paths and tuples are converted, NaN and infinity become null."""
    return json.dumps(plain(value), indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Return `value` with only dict, list, str, int, float, bool and None in it."""
    import dataclasses
    import math

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, notes: Sequence[str] = (), left: int = 1
) -> None:
    """Print a table: the first `left` columns left-aligned, the others right-aligned; notes as lines below it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=200)  # a pipe or file has no width: do not fold tables to 80 columns
    if title:  # a table's own title would fold to the table's width; not markup: a bank may be called [bold]
        console.print(Text(title, style="bold"))
    table = Table(header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(show(cell)) for cell in row))
    console.print(table)
    for note in notes:
        say(note)


def show(value: Any) -> str:
    """Return a cell's text: floats with three significant decimals, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3f}"
    return str(value)


def say(text: str) -> None:
    """Print a line as it is (no markup)."""
    typer.echo(text)


def say_wrapped(text: str) -> None:
    """Print a long sentence in lines of at most `WIDTH` characters."""
    import textwrap

    say(textwrap.fill(text, WIDTH))


def percent(share: Any) -> str:
    """Return a share as a whole percentage, a dash for none."""
    return "–" if share != share else f"{100 * float(share):.0f}%"


def warn(text: str) -> None:
    """Print a line on stderr."""
    typer.echo(f"mkfa: {text}", err=True)


@contextmanager
def progress(label: str, total: float | None) -> Iterator[Advance]:
    """Show a bar with an estimate on stderr while the body works; the body calls the yielded `advance(amount)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)

        def advance(amount: float = 1.0) -> None:
            bar.update(task, advance=amount)

        yield advance


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file atomically; refuses an existing one unless `overwrite`."""
    from mkfa.storage.atomic import atomic_write

    atomic_write(path, text.encode(), overwrite=overwrite)


def save_figure(figure: Any, path: Path, *, overwrite: bool) -> None:
    """Write a matplotlib figure atomically as PNG, PDF or SVG, by the path's ending."""
    import io

    from mkfa.errors import MkfaError
    from mkfa.storage.atomic import atomic_write

    ending = path.suffix.lower()
    if ending not in PICTURES:
        raise MkfaError(path, "has an ending that stands for no format", f"end it in {' or '.join(PICTURES)}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending.lstrip("."), dpi=200)
    atomic_write(path, buffer.getbuffer(), overwrite=overwrite)


def check_outputs(
    out: Path | None,
    figure: Path | None,
    *,
    force: bool,
    banks: Sequence[str] = (),
    endings: Sequence[str] = (".h5", ".json"),
) -> None:
    """Refuse result and picture paths that cannot be written or that are one of `banks`, before work starts."""
    from mkfa.errors import MkfaError
    from mkfa.storage.atomic import check_target

    for path, known in ((out, endings), (figure, PICTURES)):
        if path is None:
            continue
        if path.suffix.lower() not in known:
            raise MkfaError(path, "has an ending that stands for no format", f"end it in {' or '.join(known)}")
        check_target(path, overwrite=force)
        _keep_banks(path, banks)


def read_banks(names: Sequence[str], kernel: str) -> tuple[list[FilterBank], Kind | None]:
    """Return the banks named, and the kind of filters that `kernel` names among them, None where it is empty."""
    from mkfa.banks.library import load_bank
    from mkfa.clusters.pool import find_kind

    banks = [load_bank(name) for name in names]
    return banks, find_kind(kernel, banks) if kernel else None


def deliver(
    out: Path | None,
    figure: Path | None,
    facts: Callable[[], Any],
    *,
    write: Callable[[Path], object],
    draw: Callable[[], Any],
    tell: Callable[[], None],
    force: bool,
    as_json: bool,
) -> None:
    """Bring a result to where the user wants it: files first, then JSON or tables with the names of the files.

    Parameters
    ----------
    out, figure : paths that `check_outputs` has passed; None for none
    facts : what JSON says of the result, on screen and in an `out` that ends in .json
    write : writes an `out` of any other ending
    draw : returns the matplotlib figure
    tell : prints the tables
    """
    if out is not None and out.suffix.lower() == ".json":
        write_text(out, to_json(facts()), overwrite=force)
    elif out is not None:
        write(out)
    if figure is not None:
        save_figure(draw(), figure, overwrite=force)
    if as_json:
        print_json(facts())
        return
    tell()
    for path in (out, figure):
        if path is not None:
            say(f"Wrote {path}.")


def _keep_banks(out: Path, banks: Sequence[str]) -> None:
    """Refuse a result path that is one of the banks the result is made from: even --force must not lose a bank."""
    from mkfa.banks.library import resolve_path
    from mkfa.errors import MkfaError

    if not out.exists():
        return
    for name in banks:
        path = resolve_path(name)
        if path.exists() and path.samefile(out):
            raise MkfaError(out, "is a bank that the result is made from", "choose another --out")
