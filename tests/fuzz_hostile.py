"""Give the command hostile files of many sizes, and report the processor time and memory that each costs.

    python tests/fuzz_hostile.py --files 300
    python tests/fuzz_hostile.py --megabytes 15

The first makes files of up to some megabytes, in a minute; the second one of each kind of about 15 MB, as far as a kind
grows: files that claim gigabytes in some kilobytes stay small.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import pkgutil
import random
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

SECONDS = 10.0
BYTES = 1 << 30
_MOST = 60_000


@dataclass(frozen=True)
class Cost:
    """What one file cost: processor time, memory above that of the process before, the command's exit code."""

    name: str
    size: int
    seconds: float
    bytes: int
    code: int
    error: str

    @property
    def problem(self) -> str:
        """What is wrong, "" for a file that was read or refused in one line within the limits."""
        if self.code not in (0, 2) or (self.code and len(self.error.splitlines()) != 1):
            return f"exit code {self.code}: {self.error[-300:]}"
        return "" if self.seconds <= SECONDS and self.bytes <= max(BYTES, 2 * self.size) else "too dear"


def cost_of(name: str, n: int, folder: Path) -> Cost:
    """Build a file, and harvest it in a child that is forked when all modules are imported."""
    from hostile_files import BUILDERS

    from mkfa.cli.app import main

    files = BUILDERS[name](n)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    source = folder / next(iter(files))
    there, here = os.pipe()
    child = os.fork()
    if not child:
        have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (have + 2 * BYTES, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CPU, (int(3 * SECONDS), int(3 * SECONDS) + 1))
        before, out = _peak(), io.StringIO()
        start, code = time.process_time(), 3
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                harvest = ["harvest", str(source), "--name", f"n{os.getpid()}"]
                export = ["banks", "export", str(source), str(folder / "out.h5"), "--force"]
                show = ["domains", "show", str(source)]
                sys.argv = ["mkfa", *{"bank.h5": export, "domain.h5": show}.get(source.name, harvest)]
                main()
                code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:
            out.write(f"{type(error).__name__}: {error}")
        report = f"{time.process_time() - start} {_peak() - before} {code} {out.getvalue()[-900:]}"
        os.write(here, report.encode())
        os._exit(0)
    os.close(here)
    with os.fdopen(there, "rb") as f:
        parts = f.read().decode("utf-8", "replace").split(" ", 3)
    os.waitpid(child, 0)
    size = sum(map(len, files.values()))
    if len(parts) < 4:
        return Cost(name, size, 3 * SECONDS, 0, 3, "killed")
    return Cost(name, size, float(parts[0]), int(parts[1]), int(parts[2]), parts[3])


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def import_all() -> None:
    """Import what the command would import in each child."""
    import h5py  # noqa: F401
    import onnx  # noqa: F401
    import tflite  # noqa: F401

    import mkfa.cli.banks
    import mkfa.cli.domains
    import mkfa.cli.harvest
    import mkfa.cli.verbs
    import mkfa.readers

    for module in pkgutil.walk_packages(mkfa.readers.__path__, "mkfa.readers."):
        if ".timm" not in module.name:
            importlib.import_module(module.name)


def costs(count: int, seed: int, names: Sequence[str] = (), largest: int = 1000) -> list[Cost]:
    """Return what `count` files cost; builders take turns, sizes are drawn evenly in the logarithm."""
    from hostile_files import BUILDERS

    import_all()
    rng, found = random.Random(seed), []
    listed = list(names or BUILDERS)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MKFA_HOME"] = str(Path(folder) / "home")
        for i in range(count):
            n = round(largest ** rng.random()) if i >= len(listed) else largest
            found.append(cost_of(listed[i % len(listed)], max(n, 1), Path(folder)))
    return found


def scale_of(name: str, megabytes: float) -> int:
    """Return the number that makes a builder's first file as large; at most `_MOST`."""
    from hostile_files import BUILDERS

    low, high = (len(next(iter(BUILDERS[name](n).values()))) for n in (20, 40))
    return min(_MOST, max(1, round(20 + 20 * (megabytes * 1e6 - low) / max(high - low, 1))))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--largest", type=int, default=20, help="largest number that a builder is given")
    parser.add_argument("--megabytes", type=float, help="one file of each kind, about so large")
    parser.add_argument("--only", action="append", default=[], help="name of a builder; may be given again")
    options = parser.parse_args()
    from hostile_files import BUILDERS

    began, read = time.process_time(), _children()
    if options.megabytes:
        found = []
        for name in options.only or BUILDERS:
            found += costs(1, options.seed, [name], scale_of(name, options.megabytes))
            print(found[-1], flush=True)
    else:
        found = costs(options.files, options.seed, options.only, options.largest)
    made, read = time.process_time() - began, _children() - read
    by_name: dict[str, list[Cost]] = {}
    for cost in found:
        by_name.setdefault(cost.name, []).append(cost)
    for name, own in by_name.items():
        worst, most = max(own, key=lambda c: c.seconds), max(own, key=lambda c: c.bytes)
        print(
            f"{name}: {len(own)} files up to {max(c.size for c in own) / 1e6:.2f} MB, "
            f"at most {worst.seconds:.2f} s and {most.bytes / 1e6:.0f} MB, {sum(c.code == 0 for c in own)} read"
        )
    problems = [cost for cost in found if cost.problem]
    for cost in problems[:20]:
        print(f"{cost.name}, {cost.size} bytes, {cost.seconds:.1f} s, {cost.bytes / 1e6:.0f} MB: {cost.problem}")
    print(f"{len(found)} files, {len(problems)} problems; {made:.0f} s of processor time to make, {read:.0f} s to read")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
