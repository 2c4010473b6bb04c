"""Kill commands at random moments until they end by themselves, or run two at once on the same files.

    python tests/benchmarks/soak.py [--kills 500] [--seed 0] [--only WORD] [--log FILE]
    python tests/benchmarks/soak.py --together 600 [--seed 0]

Each command is started in a home of its own, in a process group of its own, and ended by SIGKILL after a random time;
then the same command is given again. Once it ends by itself, everything that counts is compared with what one
undisturbed run of it left: filters, stored results, decoded images, final weights and metrics, bit for bit. Kills are
shared equally between the commands. With `--log` a later call goes on where an earlier one was stopped.

With `--together`, pairs of commands run at the same time on one library, one bank and one sweep, until so many seconds
have passed; what they leave is compared with what the two left one after the other.

Prints a table; exit code 1 if anything differs, is lost or is left half written.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

MKFA = [sys.executable, "-m", "mkfa.cli.app"]
TRAIN = ["--arch", "convmixer_8_3", "--recipe", "smoke", "--set", "equal_steps=60", "--set", "batch=8"]
RUNNING = ["--device", "cpu", "--threads", "1", "--jobs", "1", "--out", "runs"]
SWEEP = ["--source", "letters", "--target", "digits", "--layers", "1,3", "--arms", "transfer,random", "--seeds", "1"]


@dataclass(frozen=True)
class Command:
    """A command, what it needs in its folder before, and a digest of what counts afterwards."""

    name: str
    words: list[str]
    prepare: Callable[[Path], None]
    digest: Callable[[Path], str]


@dataclass
class Row:
    """What became of one command: kills, ends, starts that ended with an error, and whether all ends were equal.

    `seconds` is what a start that nobody killed takes at most: kills come within it, on a busy machine later.
    """

    command: str
    calm_seconds: float = 0.0
    seconds: float = 0.0
    kills: int = 0
    ends: int = 0
    errors: list[str] = field(default_factory=list)
    different: int = 0
    left_over: list[str] = field(default_factory=list)


def make_checkpoint(folder: Path) -> None:
    """Write a network of 30 depthwise layers as safetensors."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    names = [f"stages.{i // 10}.blocks.{i % 10}.conv_dw.weight" for i in range(30)]
    save_file(
        {name: rng.standard_normal((256, 1, 7, 7)).astype(np.float32) for name in names}, folder / "net.safetensors"
    )


def make_bank(folder: Path) -> None:
    """Write a copy of a bundled bank."""
    import mkfa

    mkfa.write_bank(mkfa.load_bank("ppocrv4_rec"), folder / "bank.h5")


def make_images(folder: Path) -> None:
    """Write 1,200 JPEG images in four classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", 250), ("test", 50)):
        for label in "abcd":
            at = folder / "images" / part / label
            at.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (96, 128, 3), np.uint8)).save(at / f"{i:03}.jpg")


def nothing(_: Path) -> None:
    """Need nothing."""


def digest_of_banks(folder: Path) -> str:
    """Return a digest of all banks of a folder: filters, layers and the arrays of stored results."""
    from mkfa.banks.bank_file import read_analyses, read_bank

    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.h5")):
        bank = read_bank(path)
        total.update(repr((path.name, bank.layers)).encode())
        for group in bank.groups.values():
            total.update(group.weight.tobytes())
        for name, analysis in sorted(read_analyses(path).items()):
            total.update(name.encode())
            for key, array in sorted(analysis.arrays.items()):
                total.update(key.encode() + array.tobytes())
    return total.hexdigest()


def digest_of_images(folder: Path) -> str:
    """Return the digest that a packed domain has by its images."""
    from mkfa.images.domain_file import read_domain

    return read_domain(folder / "packed.h5").digest


def digest_of_runs(folder: Path) -> str:
    """Return a digest of all runs: metrics and final weights; and of the banks in the library."""
    total = hashlib.sha256()
    for result in sorted((folder / "runs").rglob("result.json")):
        record = json.loads(result.read_text())
        total.update(f"{result.parent.name} {record['weights_sha256']}".encode())
        total.update((result.parent / "metrics.jsonl").read_bytes())
    return total.hexdigest() + digest_of_banks(folder / "home")


COMMANDS = [
    Command("harvest", ["harvest", "net.safetensors"], make_checkpoint, digest_of_banks),
    Command("assign", ["assign", "bank.h5", "--draws", "99"], make_bank, digest_of_banks),
    Command("pack", ["domains", "pack", "images", "--out", "packed.h5"], make_images, digest_of_images),
    Command("train", ["train", "letters", "--seeds", "1", *TRAIN, *RUNNING], nothing, digest_of_runs),
    Command("transfer-curve", ["transfer-curve", *SWEEP, *TRAIN, *RUNNING], nothing, digest_of_runs),
]


def start(command: Command, folder: Path, log: str = "log.txt") -> subprocess.Popen[bytes]:
    """Start a command in its folder, in a process group of its own."""
    env = {**os.environ, "MKFA_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with (folder / log).open("wb") as file:
        return subprocess.Popen(
            [*MKFA, *command.words], cwd=folder, env=env, stdout=file, stderr=file, start_new_session=True
        )


def calm(commands: list[Command], folder: Path) -> tuple[float, str]:
    """Return the seconds and the digest of undisturbed runs, one after the other."""
    folder.mkdir(parents=True)
    commands[0].prepare(folder)
    began = time.perf_counter()
    for command in commands:
        if code := start(command, folder).wait():
            said = (folder / "log.txt").read_text()[-2000:]
            raise SystemExit(f"{command.name} ends with exit code {code}: {said}")
    return time.perf_counter() - began, commands[0].digest(folder)


def left_over(folder: Path) -> list[str]:
    """Return the names of temporary files."""
    return [p.name for pattern in ("*.tmp", "*.part*") for p in folder.rglob(pattern)]


def soak(command: Command, kills: int, row: Row, seed: int, work: Path) -> Iterator[Row]:
    """Kill a command until it was killed `kills` times, in as many homes as that takes; yield after each end."""
    row.calm_seconds, expected = calm([command], work / "calm")
    row.seconds = max(row.seconds, row.calm_seconds)
    while row.kills < kills:
        rng = random.Random(f"{seed} {command.name} {row.ends}")
        folder = work / f"hit-{row.ends}"
        folder.mkdir()
        command.prepare(folder)
        while True:
            began = time.perf_counter()
            process = start(command, folder)
            # Work done before is kept, so kills must not come too late; a fifth of the first starts ends by itself.
            limit = rng.uniform(0, 1.2 * row.seconds) if row.kills < kills else None
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                row.kills += 1
                continue
            text = (folder / "log.txt").read_text()
            if code and "exists already" not in text:  # killed between the last write and the exit
                row.errors.append(text[-300:])
            row.seconds = max(row.seconds, time.perf_counter() - began)
            break
        row.ends += 1
        row.different += command.digest(folder) != expected
        row.left_over += left_over(folder)
        shutil.rmtree(folder)
        yield row


# --- two at once -------------------------------------------------------------------------------------------------


def make_checkpoints(folder: Path) -> None:
    """Write two checkpoints with different filters."""
    make_checkpoint(folder)
    data = bytearray((folder / "net.safetensors").read_bytes())
    data[-400:] = bytes(400)
    (folder / "other.safetensors").write_bytes(data)


_ASSIGN = ["assign", "bank.h5", "--draws", "99"]
_CURVE = ["transfer-curve", *SWEEP, *TRAIN, *RUNNING]
PAIRS = [
    [
        Command("library", ["harvest", "net.safetensors"], make_checkpoints, digest_of_banks),
        Command("library", ["harvest", "other.safetensors"], make_checkpoints, digest_of_banks),
    ],
    [
        Command("library, one name", ["harvest", "net.safetensors", "--force"], make_checkpoint, digest_of_banks),
        Command("library, one name", ["harvest", "net.safetensors", "--force"], make_checkpoint, digest_of_banks),
    ],
    [
        Command("bank", _ASSIGN, make_bank, digest_of_banks),
        Command("bank", [*_ASSIGN, "--basis", "eight"], make_bank, digest_of_banks),
    ],
    [Command("sweep", _CURVE, nothing, digest_of_runs), Command("sweep", _CURVE, nothing, digest_of_runs)],
]


def together(pair: list[Command], expected: str, row: Row, apart: float, work: Path) -> None:
    """Start two commands `apart` seconds from each other on the same files, and look at what they leave."""
    work.mkdir()
    pair[0].prepare(work)
    running = []
    for i, command in enumerate(pair):
        running.append(start(command, work, f"log-{i}.txt"))
        time.sleep(apart * (i == 0))
    for i, process in enumerate(running):
        if process.wait():
            row.errors.append((work / f"log-{i}.txt").read_text()[-300:])
    row.ends += 1
    row.different += pair[0].digest(work) != expected
    row.left_over += left_over(work)
    shutil.rmtree(work)


def soak_pairs(seconds: float, seed: int, work: Path) -> list[Row]:
    """Run the pairs in turns until `seconds` have passed, calm runs not counted."""
    rng, rows = random.Random(seed), []
    calmly = [calm(pair, work / f"calm-{i}") for i, pair in enumerate(PAIRS)]
    rows = [Row(pair[0].name, took) for pair, (took, _) in zip(PAIRS, calmly, strict=True)]
    until, turn = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        for i, (pair, row, (took, expected)) in enumerate(zip(PAIRS, rows, calmly, strict=True)):
            apart = rng.choice((0.0, rng.uniform(0, took / 2)))
            together(pair, expected, row, apart, work / f"pair-{turn}-{i}")
        turn += 1
    return rows


def resumed(log: Path | None, command: str) -> Row:
    """Return the last row of a command in the log, or an empty one."""
    lines = log.read_text().splitlines() if log is not None and log.exists() else []
    kept = [row for row in map(json.loads, lines) if row["command"] == command]
    return Row(**kept[-1]) if kept else Row(command)


def main() -> int:
    """Run the commands and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--together", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--log", type=Path, help="a line of JSON for each end; read first")
    options = parser.parse_args()
    chosen = [command for command in COMMANDS if options.only in command.name]
    each = -(-options.kills // len(chosen))
    rows = []
    with tempfile.TemporaryDirectory() as work:
        if options.together:
            rows = soak_pairs(options.together, options.seed, Path(work))
        for command in () if options.together else chosen:
            row = resumed(options.log, command.name)
            for _ in soak(command, each, row, options.seed, Path(work) / command.name):
                print(f"{command.name}: {row.kills} kills, {row.ends} ends, {row.different} different", file=sys.stderr)
                if options.log is not None:
                    with options.log.open("a") as file:
                        file.write(json.dumps(asdict(row)) + "\n")
            rows.append(row)
    print(f"{dt.date.today()}, seed {options.seed}")
    print("| command | calm run | kills | ended by itself | errors | different | left over |")
    print("|" + "---|" * 7)
    for row in rows:
        counts = f"{row.kills} | {row.ends} | {len(row.errors)} | {row.different} | {len(row.left_over)}"
        print(f"| `{row.command}` | {row.calm_seconds:.1f} s | {counts} |")
    for row in rows:
        for error in row.errors:
            print(f"{row.command}: {error}", file=sys.stderr)
    return int(any(row.errors or row.different or row.left_over for row in rows))


if __name__ == "__main__":
    sys.exit(main())
