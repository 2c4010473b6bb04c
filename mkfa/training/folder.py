"""A run's identity and its folder: specification, lock, metrics, checkpoint, result."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, WorkError, one_line
from mkfa.storage.atomic import atomic_write
from mkfa.storage.files import read_regular
from mkfa.storage.heading import now
from mkfa.storage.json_text import JsonError, parse_json, with_checksum, without_checksum
from mkfa.storage.locks import LockHeldError, hold, is_held
from mkfa.storage.zip_records import damaged_record
from mkfa.training.result import RunResult
from mkfa.training.spec import RunSpec

SPEC, METRICS, CHECKPOINT, RESULT, FAILURE, WEIGHTS, LOCK = (
    "spec.json",
    "metrics.jsonl",
    "checkpoint.pt",
    "result.json",
    "failure.json",
    "weights.pt",
    "lock",
)
TASK = "task.json"
"""The order to train a run, for a process that reads it from the run's folder; there until the run is over."""
ATTEMPTS = "attempts.jsonl"
"""Every start of a run and how it ended, a line each; see `RunFolder.note_attempt`."""
OUT_OF_MEMORY = "runs out of memory"
"""Words of the failure of a run whose device has too little memory."""
BANK = "bank.h5"
"""The filters of a base run."""


class RunLocked(MkfaError):
    """Another process is training this run."""


class Diverged(WorkError):
    """A run that other runs depend on diverged: its loss became NaN or infinite."""


class RunFolder:
    """The files of one run; `lock()` is held during training.

    `result.json` is written last: its presence means that the run is finished (done or diverged). The metrics file is
    rewritten from the checkpoint, so the two never disagree.
    """

    def __init__(self, root: Path, spec: RunSpec) -> None:
        self.spec, self.path = spec, root / spec.hash
        self._check: Callable[[], None] = lambda: None

    def prepare(self) -> None:
        """Create the folder and write spec.json. Raises WorkError or MkfaError if that fails."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot be created ({error.strerror})"
            raise WorkError(self.path, problem, "choose another --out") from error
        if not (self.path / SPEC).exists():
            record = self.spec.record
            self.write_json(SPEC, record)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for this process; the operating system releases the lock however the process ends.

        Raises RunLocked: another process holds the lock. Raises WorkError or MkfaError: the folder cannot be written.
        """
        self.prepare()
        with contextlib.ExitStack() as held:
            try:
                self._check = held.enter_context(hold(self.path / LOCK))
            except LockHeldError:
                raise RunLocked(
                    f"run {self.spec.hash}",
                    "is being trained by another process",
                    "wait for it to finish: finished runs are reused, not repeated",
                ) from None
            yield

    def result(self) -> RunResult | None:
        """Return the result, or None while the run is unfinished; raises WorkError if it is damaged."""
        return read_result(self.path)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one of the folder's JSON files atomically, with a checksum."""
        text = json.dumps(with_checksum(value), indent=1, sort_keys=True, allow_nan=False)
        atomic_write(self.path / name, (text + "\n").encode())

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write metrics.jsonl: one line per epoch, each with a checksum."""
        text = "".join(json.dumps(with_checksum(row), sort_keys=True) + "\n" for row in rows)
        atomic_write(self.path / METRICS, text.encode())

    def save(self, name: str, state: Mapping[str, Any]) -> None:
        """Write tensors atomically: an interrupted write keeps the previous file. Raises WorkError (disk full)."""
        import torch

        self._check()
        buffer = io.BytesIO()
        torch.save({key: _alone(value) for key, value in state.items()}, buffer)
        atomic_write(self.path / name, buffer.getbuffer())

    def load(self, name: str) -> dict[str, Any] | None:
        """Read what `save` wrote, on the CPU; None if there is nothing. Raises WorkError if the file is damaged."""
        return load_tensors(self.path / name)

    def begun(self) -> int:
        """Return the optimiser step of the checkpoint without reading its tensors; 0 if there is none."""
        return int(self._of_checkpoint("step", 0))

    def begun_on(self) -> str:
        """Return the kind of device that the checkpoint is from, without reading its tensors; "" if there is none."""
        return str(self._of_checkpoint("device", ""))

    def _of_checkpoint(self, key: str, otherwise: Any) -> Any:
        if not (self.path / CHECKPOINT).is_file():
            return otherwise
        import torch

        try:
            return torch.load(self.path / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)[key]
        except Exception:  # damaged: reported when the run is started
            return otherwise

    def finish(self, result: Mapping[str, Any]) -> RunResult:
        """Write result.json, remove the files that only an unfinished run needs, and return the result."""
        self._check()
        self.write_json(RESULT, result)
        for name in (CHECKPOINT, FAILURE):
            (self.path / name).unlink(missing_ok=True)
        return RunResult.of(result)

    def note_attempt(self, event: str, **facts: Any) -> None:
        """Append a line to attempts.jsonl: when, on which host and in which process what happened to the run.

        A process that dies leaves a start without an end. That a line cannot be written is no reason to stop.
        """
        line = {"time": now(), "host": platform.node(), "pid": os.getpid(), "event": one_line(event), **facts}
        with contextlib.suppress(OSError), (self.path / ATTEMPTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def ran_out_of_memory(self) -> bool:
        """Return whether the run's last attempt failed for lack of a device's memory."""
        with contextlib.suppress(WorkError):
            return OUT_OF_MEMORY in str((read_json(self.path / FAILURE) or {}).get("error"))
        return False

    def forget_failure(self) -> None:
        """Remove the failure note of an earlier call, since the run is resumed."""
        (self.path / FAILURE).unlink(missing_ok=True)

    def fail(self, error: BaseException) -> None:
        """Record why the run failed; it can be started again."""
        message = one_line(str(error)) or type(error).__name__
        with contextlib.suppress(MkfaError, OSError):
            self.write_json(FAILURE, {"error": message})


def _alone(value: Any) -> Any:
    """Return a tensor, or a dictionary of tensors, without the rest of the memory that they are views of.

    Views are saved with all of that memory, and the tensors of runs that are computed as one share theirs.
    """
    import torch

    if isinstance(value, dict):
        return {key: _alone(part) for key, part in value.items()}
    if isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value


def load_tensors(path: Path) -> dict[str, Any] | None:
    """Read a file that `RunFolder.save` wrote; None if it is missing. Raises WorkError if it is damaged."""
    import torch

    if not path.exists():
        return None
    consequence = "the run then starts over" if path.name == CHECKPOINT else "it is then trained again"
    remedy = f"remove {'it' if path.name == CHECKPOINT else 'the run folder'}: {consequence}"
    if not path.is_file():
        raise WorkError(path, "is not a regular file", remedy)
    try:
        with path.open("rb") as file:
            record = damaged_record(file, most_bytes=path.stat().st_size)
            file.seek(0)
            tensors: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WorkError(path, f"is damaged ({type(error).__name__})", remedy) from error
    if record:
        raise WorkError(path, f"is damaged: its record {one_line(record)[:60]} is not as it was written", remedy)
    if not isinstance(tensors, dict):
        raise WorkError(path, "is damaged (not a dictionary of tensors)", remedy)
    return tensors


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object from a file; None if the file is missing.

    Raises WorkError: the file cannot be read, is not a JSON object, or differs from what `RunFolder.write_json` wrote.
    """
    try:
        value = parse_json(read_regular(path))
        if isinstance(value, dict):
            return without_checksum(value)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WorkError(path, f"cannot be read ({error.strerror})", "remove the run's folder") from error
    except JsonError as error:
        raise WorkError(path, f"is damaged ({error})", "remove the run's folder") from error
    raise WorkError(path, "is not a JSON object", "remove the run's folder")


def read_metrics(path: Path) -> tuple[dict[str, Any], ...]:
    """Read a metrics.jsonl, one dictionary an epoch; () if it is missing. Raises WorkError if it is damaged."""
    try:
        rows = [parse_json(line, nan=True) for line in read_regular(path).splitlines()]
        if all(isinstance(row, dict) for row in rows):
            return tuple(map(without_checksum, rows))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise WorkError(path, f"cannot be read ({error.strerror})", "remove the file") from error
    except JsonError as error:
        raise WorkError(path, f"is damaged ({error})", "remove the file") from error
    raise WorkError(path, "has a line without the fields of an epoch", "remove the file")


def read_result(folder: Path) -> RunResult | None:
    """Read the result of a run folder; None if there is none. Raises WorkError if it is damaged."""
    record = read_json(folder / RESULT)
    if record is None:
        return None
    if record.get("state") not in ("done", "diverged"):
        raise WorkError(folder / RESULT, "is damaged (unknown state)", "remove the run's folder")
    for key in ("top1_last", "top1_best", "chance", "step", "test_images"):
        if not isinstance(record.get(key, 0), int | float):
            raise WorkError(folder / RESULT, f"is damaged (its {key} is not a number)", "remove the run's folder")
    if not isinstance(record.get("test_right", ""), str):
        raise WorkError(folder / RESULT, "is damaged (its test_right is not text)", "remove the run's folder")
    return RunResult.of(record)


def read_spec(folder: Path) -> RunSpec | None:
    """Read the specification of a run folder; None if there is none. Raises WorkError if it is damaged."""
    values = read_json(folder / SPEC)
    if values is None:
        return None
    known = RunSpec.__dataclass_fields__
    if odd := sorted(set(values) - set(known)):
        problem = f"has fields that this version of mkfa does not know ({', '.join(odd)[:80]})"
        raise WorkError(folder / SPEC, problem, "use the version that trained it, or remove the folder")
    needed = ("arch", "domain", "domain_digest", "recipe_name", "recipe", "seed")
    if lacking := [key for key in needed if key not in values]:
        raise WorkError(
            folder / SPEC, f"is not a run specification (it lacks {', '.join(lacking)})", "remove the folder"
        )
    texts = all(isinstance(values.get(key, ""), str) for key in ("arch", "domain", "recipe_name", "arm", "source"))
    numbers = all(isinstance(values.get(key, 0), int) for key in ("seed", "layers", "training_version"))
    if not texts or not numbers or not all(isinstance(values.get(key, {}), dict) for key in ("recipe", "options")):
        raise WorkError(folder / SPEC, "is not a run specification (a field has the wrong type)", "remove the folder")
    return RunSpec.of(values)


def is_locked(folder: Path) -> bool:
    """True while a process is training the run in this folder."""
    return is_held(folder / LOCK)
