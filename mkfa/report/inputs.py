"""What was named for a report: banks, result files, folders of runs, files of packed runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkfa.array_types import AnyArray
from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import Analysis, check_bank, get_bank, read_analyses
from mkfa.banks.library import BankLike, resolve_path
from mkfa.errors import BankError, MkfaError, as_path, one_line
from mkfa.evidence.stored import BUNDLED as VERDICTS
from mkfa.evidence.stored import BUNDLED_GRAFT
from mkfa.results.archive import BUNDLED, ENDING, PackedExperiment, bundled_file, read_experiments
from mkfa.results.gather import RESULTS, rebuild
from mkfa.results.runs import list_runs
from mkfa.storage.files import read_regular
from mkfa.storage.folders import data_file
from mkfa.storage.hdf5 import get_text, open_file
from mkfa.storage.json_text import JsonError, parse_json, parse_record
from mkfa.storage.records import Result, plain
from mkfa.storage.result_files import read_arrays

Item = BankLike | Result
"""What a report is made of: a bank, its name or file, a result or its file, a folder or file of runs, "bundled"."""

KNOWN = (
    *("comparison", "assignment", "atlas", "keys", "group_comparison", "graft"),
    *("curve", "table", "matrix", "sweep", "run_list", "claims"),
)
"""Formats of result files that a report shows."""
WITH_ARRAYS = ("atlas", "group_comparison")
"""Formats that are read from .h5 files too: their JSON lacks a map, or distances."""
_MARKS = {
    "matrix": {"bases", "cells"},
    "table": {"base", "rows"},
    "curve": {"base", "cells"},
    "comparison": {"comparisons"},
    "assignment": {"assignments"},
}
"""Keys by which the files of older versions, without a format, are known."""


@dataclass(slots=True)
class NamedBank:
    """A bank, where it was read from, and the analyses stored with it."""

    bank: FilterBank
    path: Path | None = None
    analyses: Mapping[str, Analysis] = field(default_factory=dict)


@dataclass(slots=True)
class Found:
    """A result to show: its format's name, where it came from, its JSON, and arrays where it has them."""

    kind: str
    source: str
    record: Mapping[str, Any]
    arrays: Mapping[str, AnyArray] = field(default_factory=dict)


@dataclass(slots=True)
class Inputs:
    """Everything that was named, sorted. `notes` are sentences on what could not be shown."""

    banks: list[NamedBank] = field(default_factory=list)
    results: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, *kinds: str) -> list[Found]:
        """Return the results of some formats, in the order in which they were named."""
        return [one for one in self.results if one.kind in kinds]


def sort_inputs(items: Sequence[Item]) -> Inputs:
    """Read what was named.

    Raises MkfaError: nothing was named, or one of the things is neither a bank nor a result; the message says what it
    is.
    """
    if not items:
        remedy = "name a bank, a result file or a folder of runs; 'mkfa banks' lists the banks at hand"
        raise MkfaError("report", "nothing was named", remedy)
    found = Inputs()
    for item in items:
        if isinstance(item, FilterBank):
            found.banks.append(NamedBank(item))
        elif isinstance(item, Result):
            arrays = item.to_arrays() if item.KIND in WITH_ARRAYS else {}
            _add(found, Found(item.KIND, "given", plain(item.to_dict()), arrays))
        else:
            _read(found, str(as_path(item, "report", "a bank, a result or the path of one")))
    _name_apart(found.banks)
    return found


def _read(found: Inputs, name: str) -> None:
    path = Path(name).expanduser()
    if name == BUNDLED and not path.exists():
        _read_packed(found, bundled_file())
        for result in (VERDICTS, BUNDLED_GRAFT):
            _read_json(found, data_file(result))
    elif path.is_dir():
        _read_folder(found, path)
    elif path.name.endswith(ENDING):
        _read_packed(found, path)
    elif path.suffix.lower() == ".json":
        _read_json(found, path)
    else:
        _read_hdf5(found, resolve_path(name))


def _read_hdf5(found: Inputs, path: Path) -> None:
    with open_file(path) as f:
        kind = get_text(f, "format").removeprefix("mkfa.")
        if kind == "filterbank":
            check_bank(f)
            bank = get_bank(f)
    if kind == "filterbank":
        found.banks.append(NamedBank(bank, path, read_analyses(path)))
    elif kind in WITH_ARRAYS:
        arrays, facts = read_arrays(path, kind=kind)
        _add(found, Found(kind, path.name, {"format": f"mkfa.{kind}", **facts}, arrays))
    else:
        what = f"is {'a file of format mkfa.' + one_line(kind)[:40] if kind else 'not a file of mkfa'}"
        raise BankError(path, what, "name a bank, an atlas or a comparison of groups, or the .json of the result")


def _read_json(found: Inputs, path: Path) -> None:
    try:
        record = parse_record(read_regular(path), nan=True)
    except OSError as error:
        raise MkfaError(path, f"cannot be read ({error.strerror or error})", "check the path") from None
    except JsonError as error:
        raise MkfaError(path, f"is damaged ({error})", "write the result again") from None
    if not isinstance(record, dict):
        raise MkfaError(path, "is not a result of mkfa", "name a file that --out or a sweep wrote")
    _add(found, Found(_kind_of(record), path.name, record), path)


def _kind_of(record: Mapping[str, Any]) -> str:
    text = record.get("format")
    if isinstance(text, str):
        return text.removeprefix("mkfa.")
    return next((kind for kind, keys in _MARKS.items() if keys <= set(record)), "")


def _add(found: Inputs, one: Found, path: Path | None = None) -> None:
    if one.kind in KNOWN:
        found.results.append(one)
        return
    shown = ", ".join(KNOWN)
    what = f"is of format mkfa.{one_line(one.kind)[:40]}" if one.kind else "is not a result of mkfa"
    raise MkfaError(path or one.source, what, f"name one of: {shown}")


def _read_folder(found: Inputs, folder: Path) -> None:
    """Read a training command's folder: its curve, table and matrix, else its list of runs; or other results."""
    names = [*RESULTS, *sorted(p.name for p in folder.glob("*.json") if p.name not in RESULTS)]
    before = len(found.results)
    for path in (folder / name for name in names):
        if path.is_file() and (path.name in RESULTS or _is_known(path)):
            _read_json(found, path)
    runs = list_runs(folder / "runs" if (folder / "runs").is_dir() else folder)
    if runs and len(found.results) == before:
        rows = [plain(run.row()) for run in runs]
        found.results.append(Found("run_list", folder.name, {"format": "mkfa.run_list", "runs": rows}))
    if len(found.results) == before:
        remedy = "name the --out of a training command, or a folder with results in .json"
        raise MkfaError(folder, "nothing analysed yet: it has neither results nor runs", remedy)


def _is_known(path: Path) -> bool:
    """True for a JSON file of a format that a report shows; others in a folder are not ours to judge."""
    try:
        record = parse_json(read_regular(path), nan=True)
    except (OSError, JsonError):
        return False
    return isinstance(record, dict) and _kind_of(record) in KNOWN


def _read_packed(found: Inputs, path: Path) -> None:
    for experiment in read_experiments(path):
        found.results.append(_of_experiment(experiment))


def _of_experiment(experiment: PackedExperiment) -> Found:
    if experiment.kind == "runs":
        rows = [plain(run.row()) for run in experiment.runs]
        return Found("run_list", experiment.name, {"format": "mkfa.run_list", "runs": rows})
    result = rebuild(experiment)
    if result.KIND not in KNOWN:
        raise MkfaError(experiment.name, f"is a {result.KIND}, which a report does not show", "leave it out")
    return Found(result.KIND, experiment.name, result.to_dict() | {"command": experiment.command})


def _name_apart(banks: list[NamedBank]) -> None:
    """Give banks of one name distinct ones, as the page tells them apart by name."""
    from dataclasses import replace

    seen: dict[str, int] = {}
    for one in banks:
        name = one.bank.name
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            one.bank = replace(one.bank, name=f"{name} ({seen[name]})")
