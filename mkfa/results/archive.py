"""Many runs in one small file: experiments, their results, and the commands that produced them.

The file is gzipped JSON; `zcat FILE | python -m json.tool` shows it. The output is deterministic. The device and the
library versions are recorded, but no paths of the training machine.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError, nearest, one_line
from mkfa.results.record import RunRecord
from mkfa.storage.atomic import atomic_write
from mkfa.storage.folders import data_file
from mkfa.storage.json_text import JsonError, parse_json
from mkfa.training.result import RunResult
from mkfa.training.spec import RunSpec

FORMAT, VERSION, ENDING = "mkfa.results", 1, ".json.gz"
KINDS = ("curve", "table", "matrix", "sweep", "runs")
BUNDLED = "bundled"
"""Names the results file bundled with mkfa; accepted wherever a results file is."""
_BUNDLED_FILE = "experiments.json.gz"
_LARGEST = 1 << 28
"""Maximum bytes of text read, so that a damaged or hostile file cannot exhaust memory."""
_PLACE = re.compile(r"(?<![\w/:.~])(?:~[\w.-]*|(?:/[^\s/'\":;,()]+))(?:/[^\s/'\":;,()]+)+")


@dataclass(frozen=True, slots=True)
class PackedExperiment:
    """Runs that belong together.

    `kind` is "curve", "table", "matrix" or "sweep", with the `parameters` of that result, or "runs" for all runs of a
    folder.
    """

    name: str
    kind: str
    command: str
    parameters: Mapping[str, Any]
    runs: tuple[RunRecord, ...]


def write_experiments(path: Path, experiments: Sequence[PackedExperiment], *, overwrite: bool) -> None:
    """Write a results file atomically.

    Raises MkfaError: the path does not end in .json.gz, two experiments have the same name, or as
    `mkfa.storage.atomic.atomic_write`.
    """
    check_ending(path)
    names = [e.name for e in experiments]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise MkfaError(twice[0], "is the name of two experiments", "choose another --name")
    record = {"format": FORMAT, "version": VERSION, "experiments": [_as_record(e) for e in experiments]}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=9) as f:
        f.write(text.encode())
    atomic_write(path, buffer.getbuffer(), overwrite=overwrite)


def read_experiments(path: Path) -> tuple[PackedExperiment, ...]:
    """Read a results file and check that each result belongs to the specification beside it.

    Raises MkfaError: the file is missing, damaged, in another format or from a newer version.
    """
    text = _text(path)
    try:
        record = parse_json(text)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise MkfaError(path, "is not a results file of mkfa", "'mkfa runs pack' makes one")
        if record["version"] != VERSION:
            raise MkfaError(path, f"has version {record['version']}, which this mkfa does not know", "update mkfa")
        return tuple(_experiment(path, entry) for entry in record["experiments"])
    except JsonError as error:
        raise MkfaError(path, f"is damaged ({error})", "pack the runs again") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"is damaged ({type(error).__name__}: {one_line(str(error))[:80]})"
        raise MkfaError(path, problem, "pack the runs again") from None


def bundled_file() -> Path:
    """Return the results file bundled with mkfa. Raises MkfaError if this version has none."""
    path = data_file(_BUNDLED_FILE)
    if not path.is_file():
        raise MkfaError(BUNDLED, "no results are bundled with this version of mkfa", "name a folder or a results file")
    return path


def find_experiment(experiments: Sequence[PackedExperiment], name: str) -> PackedExperiment:
    """Return an experiment by name; "" if the file has only one.

    Raises UnknownNameError: no experiment has that name, or the name is "" and there are several.
    """
    names = [e.name for e in experiments]
    if name in names:
        return experiments[names.index(name)]
    if not name and len(names) == 1:
        return experiments[0]
    known = f"the file has {', '.join(names) or 'none'}"
    if not name:
        raise UnknownNameError("--experiment", "is required, because the file has several experiments", known)
    raise UnknownNameError(name, "is not an experiment in the file", nearest(name, names) or known)


def check_ending(path: Path) -> None:
    """Refuse a path without the ending of a results file."""
    if not path.name.endswith(ENDING):
        raise MkfaError(path, "does not have the ending of a results file", f"end it in {ENDING}")


def without_places(text: str) -> str:
    """Return a text with each absolute or home path shortened to its last component."""
    return _PLACE.sub(lambda match: match[0].rsplit("/", 1)[1], text)


def command_without_places(command: str) -> str:
    """Return a command line with paths shortened as by `without_places`, including quoted paths with spaces."""
    try:
        words = shlex.split(command)
    except ValueError:  # an unbalanced quote: not a shell command, perhaps a sentence
        return without_places(command)
    return shlex.join(_word(word) for word in words)


def _word(word: str) -> str:
    option, equals, value = word.partition("=")
    parts = (value if equals else word).split(",")
    parts = [p.rstrip("/").rsplit("/", 1)[1] if p.startswith(("/", "~")) and "/" in p.rstrip("/") else p for p in parts]
    return f"{option}{equals}{','.join(parts)}" if equals else ",".join(parts)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_places(value)
    if isinstance(value, Mapping):
        return {key: _clean(v) for key, v in value.items()}
    return [_clean(v) for v in value] if isinstance(value, list | tuple) else value


def _as_record(entry: PackedExperiment) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "command": command_without_places(entry.command),
        "parameters": _clean(entry.parameters),
        "runs": [_run_record(r) for r in entry.runs],
    }


def _run_record(run: RunRecord) -> dict[str, Any]:
    return {
        **{key: getattr(run, key) for key in ("hash", "source", "target", "arm", "layers", "seed")},
        "spec": None if run.spec is None else run.spec.record,
        "result": None if run.result is None else _result_record(run.result),
    }


def _result_record(result: RunResult) -> dict[str, Any]:
    """Return a result without paths; which images it got right is base64, in which slashes are not those of paths."""
    answers = {"test_right": result.test_right} if result.right else {}
    return {**_clean(result.record), **answers}


def _text(path: Path) -> bytes:
    if not path.is_file():
        raise MkfaError(path, "does not exist", "check the path; 'mkfa runs pack' makes results files")
    try:
        with gzip.open(path, "rb") as f:
            text = f.read(_LARGEST + 1)
    except (OSError, EOFError, ValueError) as error:
        problem = f"cannot be read as gzip ({one_line(str(error))[:80]})"
        raise MkfaError(path, problem, "name a file that 'mkfa runs pack' made") from None
    except Exception as error:  # zlib.error is not an OSError
        raise MkfaError(path, f"is damaged ({one_line(str(error))[:80]})", "pack the runs again") from None
    if len(text) > _LARGEST:
        raise MkfaError(path, f"has more than {_LARGEST >> 20} MiB of text", "name a file that mkfa made")
    return text


def _experiment(path: Path, entry: Mapping[str, Any]) -> PackedExperiment:
    if entry["kind"] not in KINDS:
        raise ValueError(f"an experiment of kind {entry['kind']!r}")
    runs = tuple(_run(path, run, str(entry["name"])) for run in entry["runs"])
    parameters = dict(entry["parameters"])
    return PackedExperiment(str(entry["name"]), entry["kind"], str(entry["command"]), parameters, runs)


def _run(path: Path, entry: Mapping[str, Any], experiment: str) -> RunRecord:
    spec = None if entry["spec"] is None else RunSpec.of(entry["spec"])
    if spec is not None and spec.hash != entry["hash"]:
        raise MkfaError(path, f"run {entry['hash']} has a specification of hash {spec.hash}", "pack the runs again")
    result = entry["result"]
    if result is not None:
        if result["run"]["hash"] != entry["hash"]:
            raise MkfaError(path, f"run {entry['hash']} has the result of another", "pack the runs again")
        if result["state"] == "done":
            float(result["top1_last"])
    return RunRecord(
        source=str(entry["source"]),
        target=str(entry["target"]),
        arm=str(entry["arm"]),
        layers=int(entry["layers"]),
        seed=int(entry["seed"]),
        result=None if result is None else RunResult.of(result),
        spec=spec,
        hash=str(entry["hash"]),
        path=path,
        experiment=experiment,
    )
