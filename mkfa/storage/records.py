"""The base class of results.

A result prints in one line, shows as a table in notebooks, and converts to a dictionary, to arrays, to a pandas frame
and to a file. Every file begins with `mkfa.storage.heading.heading`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, overload

from mkfa.array_types import AnyArray
from mkfa.errors import MkfaError, as_path, printable
from mkfa.frozen import ByContent
from mkfa.storage.atomic import atomic_write, check_target
from mkfa.storage.heading import heading
from mkfa.storage.json_text import with_checksum
from mkfa.storage.result_files import write_arrays
from mkfa.words import counted

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")

ENDINGS = (".json", ".csv", ".h5")
"""File formats of results."""
SHOWN = 200
"""Most rows of a table in a notebook."""


def to_json(value: Any) -> str:
    """Return `value` as JSON; numpy values, paths and tuples are converted, NaN and infinity become null."""
    return json.dumps(plain(value), indent=1, allow_nan=False)


def plain(value: Any) -> Any:
    """Convert `value` to dict, list, str, int, float, bool and None."""
    if isinstance(value, Result):
        return plain(value.facts())
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


def to_csv(rows: Sequence[Mapping[str, Any]], kind: str) -> str:
    """Return rows as comma-separated values; the first line, a comment, is the heading, the second has the columns.

    Columns are those of all rows, in order of appearance. To read: `pandas.read_csv(path, comment="#")`.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    text.write("# " + json.dumps(heading(kind)) + "\n")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: plain(value) for key, value in row.items()} for row in rows])
    return text.getvalue()


class Shown(ByContent):
    """An object that prints in one line, shows as a table in notebooks and converts to a pandas frame.

    Subclasses are dataclasses with `frozen=True, slots=True, eq=False, repr=False`.
    """

    __slots__ = ()

    @abstractmethod
    def headline(self) -> str:
        """Return one line that describes the result."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return the table for notebooks, frames and CSV files, one dictionary a row."""

    def to_frame(self) -> pandas.DataFrame:
        """Return `rows()` as a pandas frame; raises MkfaError if pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise MkfaError("to_frame", "needs pandas, which is not installed", "run pip install pandas") from None
        return pandas.DataFrame(self.rows())

    def __repr__(self) -> str:
        return printable(f"<{type(self).__name__}: {self.headline()}>")

    def _repr_html_(self) -> str:
        from html import escape

        every = self.rows()
        rows = every[:SHOWN]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        head = "".join(f"<th>{escape(printable(column))}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(printable(_short(row.get(column))))}</td>" for column in columns) + "</tr>"
            for row in rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
        if len(rows) < len(every):
            table += f"<p>The first {len(rows)} of {counted(len(every), 'row')}; to_frame() and save() have all.</p>"
        return f"<div><b>{escape(printable(self.headline()))}</b>{table}</div>"


class Result(Shown):
    """The result of a verb. Subclasses are dataclasses with `frozen=True, slots=True, eq=False, repr=False`.

    A subclass sets `KIND`, which names its format, and defines `headline`, `rows` and, if it has arrays, `to_arrays`
    and `facts`.
    """

    __slots__ = ()
    KIND: ClassVar[str]

    def facts(self) -> Any:
        """Return the content of the JSON file, without heading and without arrays of one row a filter."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values with its heading, ready for JSON."""
        return {**heading(self.KIND), **plain(self.facts())}

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return the arrays of the result by name; a "/" in a name makes a group in an HDF5 file."""
        return {}

    def attributes(self) -> Any:
        """Return the parameters that an HDF5 file records with the arrays."""
        return self.facts()

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the result by the path's ending: .json, .csv (`rows`), .h5 (`to_arrays`, `facts`); return the path.

        JSON and arrays have checksums.

        Raises MkfaError: the ending is unknown, the file exists and `overwrite` is False, or the folder cannot be
        written to.
        """
        path = as_path(path, "path")
        if path.suffix.lower() not in ENDINGS:
            raise MkfaError(path, "unknown file format", f"end the name in {', '.join(ENDINGS)}")
        check_target(path, overwrite=overwrite)
        if path.suffix.lower() == ".h5":
            attributes = plain(self.attributes())
            return write_arrays(
                path, kind=self.KIND, arrays=self.to_arrays(), attributes=attributes, overwrite=overwrite
            )
        made = to_json(with_checksum(self.to_dict())) + "\n" if path.suffix.lower() == ".json" else ""
        text = made or to_csv(self.rows(), self.KIND)
        atomic_write(path, text.encode(), overwrite=overwrite)
        return path


class Listing(Result, Sequence[T]):
    """A result that lists things of one kind: a sequence, equal to a tuple of the same things; slices are listings.

    A subclass has one field, the tuple of things; its name is that of the list in JSON.
    """

    __slots__ = ()

    @property
    def _name(self) -> str:
        return str(dataclasses.fields(self)[0].name)  # type: ignore[arg-type]

    @property
    def _things(self) -> tuple[T, ...]:
        things: tuple[T, ...] = getattr(self, self._name)
        return things

    def __len__(self) -> int:
        return len(self._things)

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> T | Self:
        return type(self)(self._things[index]) if isinstance(index, slice) else self._things[index]  # type: ignore[call-arg]

    def __add__(self, other: Sequence[T]) -> Self:
        return type(self)((*self, *other))  # type: ignore[call-arg]

    def __eq__(self, other: object) -> bool:
        return self._things == other if isinstance(other, tuple) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self._things)

    def facts(self) -> dict[str, Any]:
        """Return the rows under the name of the list."""
        return {self._name: self.rows()}


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "–"
    return str(value)
