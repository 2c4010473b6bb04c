"""Give mutated and hostile files to the `mkfa` command, through its entry point, in one process.

    python tests/benchmarks/fuzz_command.py [--inputs 100000] [--seed 0] [--log FILE] [--only NUMBER]

Each input is a small file that a verb reads: a checkpoint of every format (`harvest`), a bank (`show`, `banks
export`), a packed domain, an image folder, packed runs, a folder of runs, a recipe. It is mutated, or made by a builder
of shared references (`hostile_files`), or both. The command must end with exit code 0, 1, 2 or 130, with one line if it
is not 0, without "internal error" and traceback, within 10 s of processor time and a gigabyte.

Input number i depends on the seed and i alone; with `--log` a later call goes on where an earlier one was stopped. The
exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import functools
import gzip
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "readers")]

from fuzz_readers import TARGETS, Mutate, mutated  # noqa: E402
from hostile_files import BUILDERS  # noqa: E402

SECONDS, BYTES, HARD_SECONDS = 10.0, 1 << 30, 1800
Files = dict[str, bytes]


@dataclass(frozen=True)
class Kind:
    """A kind of input: sound files (the first is mutated), the command that reads it, how often it is chosen."""

    sound: Callable[[], list[Files]]
    words: tuple[str, ...]
    weight: float = 1.0
    inside: Mutate | None = None


@dataclass
class Tally:
    """What became of the inputs so far."""

    inputs: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    largest: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def of_reader(name: str) -> Callable[[], list[Files]]:
    """Return the sound files of a reader, as `fuzz_readers` has them."""
    return lambda: [{f"m{TARGETS[name].suffix}": data} for data in TARGETS[name].seeds()]


def keras_files() -> list[Files]:
    from keras_files import model, network, new_image, write_keras, write_old

    layers = network()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_old(folder / "a.h5", layers, config=True)
        write_old(folder / "b.h5", layers, config=False)
        write_keras(folder / "c.keras", model(layers), new_image(layers))
        found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return [
        {"m.h5": found["a.h5"]},
        {"m.h5": found["b.h5"]},
        {"m.keras": found["c.keras"]},
        {"m.h5": new_image(layers)},
    ]


def tfjs_files() -> list[Files]:
    return [BUILDERS[name](1) for name in ("shared_readers_in_tfjs", "many_keras_layers")]


def stored(name: str) -> Callable[[], list[Files]]:
    return lambda: [{Path(name).name: (TESTS / "old_files" / name).read_bytes()}]


def packed_domain() -> list[Files]:
    import numpy as np

    from mkfa.images.domain_file import make_domain, write_domain

    rng = np.random.default_rng(0)
    sides = [(rng.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8), np.arange(n) % 3) for n in (12, 6)]
    with tempfile.TemporaryDirectory() as folder:
        made = make_domain("d", ["a", "b", "c"], train=sides[0], test=sides[1], licence="CC0")
        return [{"d.h5": write_domain(made, Path(folder) / "d.h5", facts={"source": "x"}).read_bytes()}]


def pictures() -> list[Files]:
    import numpy as np
    from PIL import Image

    rng, sets = np.random.default_rng(0), []
    for form in ("png", "jpeg", "gif", "bmp", "tiff"):
        files = {}
        for i, name in enumerate(("train/a/0", "train/b/0", "test/a/0", "test/b/0")):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (9 + i, 9, 3), np.uint8)).save(buffer, form)
            files[f"{name}.{form}"] = buffer.getvalue()
        sets.append(files)
    return sets


def runs_folder() -> list[Files]:
    root = TESTS / "old_files" / "sweep"
    files = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    small = {name: data for name, data in files.items() if len(data) < 1 << 16}
    first = [name for name in small if name.endswith((".json", ".jsonl"))]
    return [{name: small[name], **small} for name in first]


def recipe() -> list[Files]:
    text = 'base = "smoke"\nlr = 0.01\nbatch = 8\nequal_steps = 20\nmixup = 0.0\n'
    return [{"r.toml": text.encode()}]


def in_gzip(rng: random.Random, data: bytes) -> bytes:
    """Change what is inside a gzip file."""
    try:
        return gzip.compress(mutated(rng, gzip.decompress(data), b""), 1)
    except (OSError, EOFError, ValueError, zlib.error):
        return mutated(rng, data, b"")


PACK = ("domains", "pack", "{folder}/in", "--size", "8", "--workers", "1", "--out", "{folder}/d.h5", "--force")
HARVEST = ("harvest", "{file}", "--out", "{folder}/out.h5", "--force")
KINDS = {
    **{
        name: Kind(of_reader(name), HARVEST, 1.0, TARGETS[name].inside)
        for name in ("safetensors", "torch", "onnx", "tflite")
    },
    "keras": Kind(keras_files, HARVEST),
    "tfjs": Kind(tfjs_files, HARVEST, 0.5),
    "bank": Kind(of_reader("bank"), ("show", "{file}")),
    "bank, exported": Kind(of_reader("bank"), ("banks", "export", "{file}", "{folder}/out.npz", "--force"), 0.5),
    "domain": Kind(packed_domain, ("domains", "show", "{file}"), 0.3),
    "pictures": Kind(pictures, PACK, 0.05),
    "packed runs": Kind(stored("archive.json.gz"), ("runs", "--from", "{file}"), 0.3, in_gzip),
    "runs": Kind(runs_folder, ("runs", "--from", "{folder}/in"), 0.3),
    "recipe": Kind(recipe, ("train", "letters", "--arch", "convmixer_8_3", "--recipe", "{file}", "--dry-run"), 0.05),
}
SHARED = 0.02
"""Part of the inputs that builders of shared references make: one costs as much as fifty mutated files."""


class Fuzzer:
    """Makes inputs and gives them to the command."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.sound: dict[str, list[Files]] = {}
        self.built: dict[tuple[str, int], Files] = {}

    def make(self, number: int) -> tuple[str, Files, tuple[str, ...]]:
        """Return the kind, files and command of an input."""
        rng = random.Random(f"{self.seed} {number}")
        if rng.random() < SHARED:
            name, size = rng.choice(list(BUILDERS)), rng.choice((1, 1, 2, 3))
            if (name, size) not in self.built:
                self.built[name, size] = BUILDERS[name](size)
            files = dict(self.built[name, size])
            first = next(iter(files))
            if rng.random() < 0.5:
                files[first] = mutated(rng, files[first], b"")
            reader = {"bank.h5": "bank, exported", "domain.h5": "domain"}.get(first)
            return name, files, KINDS[reader].words if reader else HARVEST
        kind = rng.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]
        if kind not in self.sound:
            self.sound[kind] = KINDS[kind].sound()
        files = dict(rng.choice(self.sound[kind]))
        first = next(iter(files))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            change = KINDS[kind].inside if rng.random() < 0.5 else None
            data = files[first]
            other = next(iter(rng.choice(self.sound[kind]).values()))
            files[first] = change(rng, data) if change else mutated(rng, data, other)
        return kind, files, KINDS[kind].words

    def run(self, files: Files, words: tuple[str, ...]) -> tuple[int, str, float]:
        """Write the files and run the command; return exit code, what it printed, and processor time."""
        from mkfa.cli.app import main

        inside = self.folder / "in"
        shutil.rmtree(inside, ignore_errors=True)
        for name, data in files.items():
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            (inside / name).write_bytes(data)
        at = {"file": str(inside / next(iter(files))), "folder": str(self.folder)}
        sys.argv = ["mkfa", *(word.format(**at) for word in words)]
        out, code, began = io.StringIO(), -1, time.process_time()
        faulthandler.dump_traceback_later(HARD_SECONDS, exit=True)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:
            out.write(f"Traceback: {type(error).__name__}: {error}")
        faulthandler.cancel_dump_traceback_later()
        return code, out.getvalue(), time.process_time() - began


def keep_options() -> None:
    """Build the table of options of each verb once: to build it for every input takes two thirds of the time."""
    import typer

    from mkfa.cli import verbs

    group = typer.main.get_group(verbs.app)
    group.get_command = functools.cache(group.get_command)  # type: ignore[method-assign]
    verbs.app = group


def problem_of(code: int, said: str, seconds: float, grown: int) -> str:
    """Return what is wrong, or ""."""
    if code not in (0, 1, 2, 130) or "Traceback" in said:
        return f"exit code {code}: {said[-600:]!r}"
    if "internal error" in said or (code and sum(line.startswith("mkfa: ") for line in said.splitlines()) != 1):
        return f"exit code {code}, not one sentence: {said[-600:]!r}"
    if seconds > SECONDS or grown > BYTES:
        return f"{seconds:.1f} s and {grown >> 20} MB"
    return ""


def peak() -> int:
    """Return the most memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fuzz(until: int, seed: int, tally: Tally, *, log: Path | None = None) -> Tally:
    """Run the inputs from `tally.inputs` on."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as name:
        os.environ["MKFA_HOME"] = f"{name}/home"
        fuzzer, began = Fuzzer(Path(name), seed), time.monotonic()
        keep_options()
        before = tally.seconds
        while tally.inputs < until:
            kind, files, words = fuzzer.make(tally.inputs)
            had = peak()
            code, said, seconds = fuzzer.run(files, words)
            grown = peak() - had
            if seconds > SECONDS:  # of a busy machine, or of the input: only the latter takes them again
                print(f"input {tally.inputs} ({kind}): {seconds:.1f} s, so run again", file=sys.stderr, flush=True)
                code, said, seconds = fuzzer.run(files, words)
            if problem := problem_of(code, said, seconds, grown):
                tally.failures.append(f"input {tally.inputs} ({kind}): {problem}")
                print(tally.failures[-1], file=sys.stderr, flush=True)
            tally.inputs += 1
            for table, key in ((tally.codes, str(code)), (tally.kinds, kind)):
                table[key] = table.get(key, 0) + 1
            tally.slowest, tally.largest = max(tally.slowest, seconds), max(tally.largest, grown)
            tally.seconds = before + time.monotonic() - began
            if log is not None and (tally.inputs % 500 == 0 or tally.inputs == until):
                with log.open("a") as file:
                    file.write(json.dumps(asdict(tally)) + "\n")
    return tally


def main() -> int:
    """Run the inputs and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="a line of JSON after each 500 inputs; read first")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run this input alone and print what it says")
    options = parser.parse_args()
    if options.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MKFA_HOME"] = f"{folder}/home"
            fuzzer = Fuzzer(Path(folder), options.seed)
            kind, files, words = fuzzer.make(options.only)
            code, said, seconds = fuzzer.run(files, words)
        print(kind, {name: len(data) for name, data in files.items()}, f"exit code {code}, {seconds:.2f} s", said)
        return int(bool(problem_of(code, said, seconds, 0)))
    lines = options.log.read_text().splitlines() if options.log is not None and options.log.exists() else []
    tally = Tally(**json.loads(lines[-1])) if lines else Tally()
    fuzz(options.inputs, options.seed, tally, log=options.log)
    shared = sum(count for kind, count in tally.kinds.items() if kind in BUILDERS)
    print(f"{tally.inputs} inputs, {shared} of shared references, seed {options.seed}, {tally.seconds / 60:.0f} min")
    print("exit codes:", dict(collections.Counter(tally.codes).most_common()))
    print(f"slowest {tally.slowest:.2f} s, most memory {tally.largest >> 20} MB, {len(tally.failures)} failures")
    for failure in tally.failures[:50]:
        print(" ", failure)
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
