"""Where a command's result goes: checked before the work, files first, then JSON or tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from mkfa.cli.shared.options import OUTPUT, Force, Json, Width, option
from mkfa.cli.shared.printing import print_json, say_wrote

ENDINGS = (".json", ".csv", ".h5")
"""Endings of the files that a result can be written to."""
PICTURES = (".png", ".pdf", ".svg")
"""Endings of the pictures that a figure can be drawn into."""


@dataclass(frozen=True)
class Output:
    """Where the result of one verb goes."""

    out: Annotated[Path | None, option("--out -o", "FILE", "Write the result: .json, .csv or .h5.", **OUTPUT)] = None
    figure: Annotated[Path | None, option("--figure", "FILE", "Draw the result: .png, .pdf or .svg.", **OUTPUT)] = None
    width: Width = "page"
    force: Force = False
    as_json: Json = False

    def check(self, banks: Sequence[str] = ()) -> None:
        """Refuse files that cannot be written, or that are one of `banks`, before any work is done."""
        check_output(self.out, ENDINGS, force=self.force, banks=banks)
        check_output(self.figure, PICTURES, force=self.force, banks=banks)
        check_width(self.width, self.figure, "--figure")

    def deliver(self, result: Any, *, show: Callable[[], None], draw: Callable[[str], Any]) -> None:
        """Write and print a result: files first, then JSON or tables with the names of the files.

        Parameters
        ----------
        result : has `save` and `to_dict`.
        show : prints the tables.
        draw : returns the matplotlib figure; called with the width.
        """
        if self.out is not None:
            result.save(self.out, overwrite=self.force)
        if self.figure is not None:
            save_figure(draw(self.width), self.figure, overwrite=self.force)
        if self.as_json:
            print_json(result)
            return
        show()
        say_wrote(self.out, self.figure)


def check_output(path: Path | None, endings: Sequence[str], *, force: bool, banks: Sequence[str] = ()) -> None:
    """Refuse a file that cannot be written, has another ending, or is one of `banks`: --force must not lose a bank."""
    from mkfa.banks.library import resolve_path
    from mkfa.errors import MkfaError
    from mkfa.storage.atomic import check_target

    if path is None:
        return
    if path.suffix.lower() not in endings:
        raise MkfaError(path, "has an unknown ending", f"end the name in {' or '.join(endings)}")
    check_target(path, overwrite=force)
    for bank in (resolve_path(name) for name in banks) if path.exists() else ():
        if bank.exists() and bank.samefile(path):
            raise MkfaError(path, "is a bank that the result is made from", "choose another --out")


def check_width(width: str, path: Path | None, option: str) -> None:
    """Refuse a width where no figure is drawn."""
    from mkfa.errors import MkfaError

    if path is None and width != "page":
        raise MkfaError("--width", "is the width of a figure, and none was asked for", f"name one by {option}")


def save_figure(figure: Any, path: Path, *, overwrite: bool) -> None:
    """Write a matplotlib figure atomically, in the format of the path's ending."""
    import io

    from matplotlib.text import Text

    from mkfa.errors import printable
    from mkfa.storage.atomic import atomic_write

    for text in figure.findobj(Text):
        text.set_text("\n".join(printable(line) for line in text.get_text().split("\n")))
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower().lstrip("."), dpi=200)
    atomic_write(path, buffer.getbuffer(), overwrite=overwrite)
