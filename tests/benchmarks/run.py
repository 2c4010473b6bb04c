"""Measure every promise of speed and memory: `python tests/benchmarks/run.py [--only WORD] [--repeats 3] [--json F]`.

Each line is a whole process, start-up included: wall seconds (median of the repeats after one warm-up) and the
operating system's own figure of its peak memory. The alternative, what a user would run instead, is measured in the
same run, in turn with ours. Nothing here is a test: times depend on the machine, and the table says which it was.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job import Job

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Measured:
    """Median wall seconds and peak resident megabytes (10^6 bytes) of one command."""

    seconds: float
    megabytes: float
    runs: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run the jobs whose name holds this word")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-alternative", action="store_true", help="leave the alternatives out")
    parser.add_argument("--work", type=Path, help="keep the inputs in this folder and use them again")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    jobs = [job for job in all_jobs() if options.only.lower() in job.name.lower()]
    if not jobs:
        sys.exit(f"no job's name holds {options.only!r}")
    print(machine(), flush=True)
    rows = []
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mkfa-bench-")))
        work.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            rows.append(run_job(job, work, options.repeats, not options.no_alternative))
            print(line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "jobs": rows}, indent=1))


def all_jobs() -> Iterator[Job]:
    for path in sorted(HERE.glob("bench_*.py")):
        yield from importlib.import_module(path.stem).JOBS


def run_job(job: Job, work: Path, repeats: int, with_alternative: bool) -> dict[str, Any]:
    if job.prepare:  # in a process of its own: a command's peak memory counts that of the process that started it
        process = multiprocessing.get_context("fork").Process(target=job.prepare, args=(work,))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{job.name}: its inputs could not be made")
    row: dict[str, Any] = {"name": job.name, "limit_s": job.limit_s, "limit_mb": job.limit_mb, "note": job.note}
    ours, other = [], []
    for i in range(repeats + 1):
        found = measure(job, job.ours, work)
        if i:  # the first run warms the caches
            ours.append(found)
        if with_alternative and job.alternative and i == min(i, 1):
            other.append(measure(job, job.alternative, work))
    row["ours"] = summary(ours, 1.0)
    row["alternative"] = summary(other[-1:], job.scale) if other else None
    return row


def measure(job: Job, command: list[str], work: Path) -> Measured:
    command = [part.replace("{work}", str(work)).replace("{python}", sys.executable) for part in command]
    context = job.around(work) if job.around else contextlib.nullcontext({})
    with context as extra, tempfile.TemporaryFile() as log:  # type: ignore[attr-defined]
        environment = {**os.environ, **(extra or {})}
        started = time.perf_counter()
        pid = os.posix_spawnp(
            command[0],
            command,
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
        )
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - started
        if status:
            log.seek(0)
            sys.exit(f"{' '.join(command)[:200]}\nfailed:\n{log.read().decode(errors='replace')[-2000:]}")
    return Measured(seconds, usage.ru_maxrss * 1024 / 1e6, 1)


def summary(runs: list[Measured], scale: float) -> dict[str, float]:
    seconds = [r.seconds for r in runs]
    return {
        "seconds": statistics.median(seconds) * scale,
        "fastest": min(seconds) * scale,
        "slowest": max(seconds) * scale,
        "megabytes": max(r.megabytes for r in runs),
        "runs": len(runs),
        "scale": scale,
    }


def line(row: dict[str, Any]) -> str:
    def figures(found: dict[str, float] | None) -> str:
        if not found:
            return "not run"
        extrapolated = f" (x{found['scale']:g} of a part)" if found["scale"] != 1 else ""
        return f"{found['seconds']:.2f} s, {found['megabytes']:.0f} MB{extrapolated}"

    limits = [f"{row[key]:g} {unit}" for key, unit in (("limit_s", "s"), ("limit_mb", "MB")) if row[key]]
    limit = ", ".join(limits)
    ratio = f", {row['alternative']['seconds'] / row['ours']['seconds']:.1f}x" if row["alternative"] else ""
    promise = f" | promised {limit}" if limit else ""
    note = f" | {row['note']}" if row["note"] else ""
    return f"{row['name']}: {figures(row['ours'])}{promise} | instead: {figures(row['alternative'])}{ratio}{note}"


def machine() -> str:
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((text.split(":", 1)[1].strip() for text in lines if text.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0))
    return f"{name}, {cores} cores, Python {platform.python_version()}, {dt.datetime.now(dt.UTC):%Y-%m-%d}"


if __name__ == "__main__":
    main()
