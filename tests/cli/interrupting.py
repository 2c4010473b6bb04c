"""Start a verb, send it a signal at some moment, and see what it says, leaves and makes of a second run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from small import SMALL, pack_small_domain

from mkfa.engines.work import SAVED

MKFA = (sys.executable, "-m", "mkfa.cli.app")
SMALL_RUN = f"{' '.join(SMALL)} --seeds 1 --out out/runs"
VERBS: dict[str, str] = {
    "harvest": "harvest in/ppocr_cls.safetensors --out out/bank.h5",
    "banks": "banks",
    "show": "show efficientnet_lite0 --json",
    "compare": "compare efficientnet_lite0 ppocrv4_rec --kernel-size 5x5 --draws 19 --sample 64 --out out/c.json "
    "--figure out/c.png",
    "assign": "assign in/bank.h5 --draws 99 --out out/a.h5",
    "atlas": "atlas ppocrv4_det --kernel-size 3x3 --clusters 4 --sample 150 --out out/a.json --figure out/a.png",
    "keys": "keys ppocrv4_det --kernel-size 3x3 --keys 4 --candidates 12 --sample 300 --out out/k.csv",
    "figure": "figure filters ppocrv4_det --out out/f.pdf",
    "graft": "graft mobilenetv2_035 --weights in/network.pt --images in/pictures --vocabulary keys:in/bank.h5 "
    "--sizes 2 --count 8 --size 32 --device cpu --draws 1 --out out/g.json --figure out/g.png",
    "pack": "domains pack in/pictures --size 16 --workers 2 --out out/d.h5",
    "train": f"train in/bright.h5 {' '.join(SMALL)} --seeds 2 --out out/runs",
    "train in processes": f"train in/bright.h5 {' '.join(SMALL)} --seeds 2 --jobs 2 --out out/runs",
    "transfer": f"transfer --source in/dark.h5 --target in/bright.h5 --layers all --arms transfer,random {SMALL_RUN}",
    "transfer-curve": f"transfer-curve --source in/dark.h5 --target in/bright.h5 --layers 1..2 {SMALL_RUN}",
    "transfer-sweep": "transfer-sweep --source in/dark.h5 --target in/bright.h5 --channels 4,8 --arms transfer,random "
    f"{SMALL_RUN}",
    "transfer-matrix": f"transfer-matrix --target in/bright.h5,in/dark.h5 --layers 1 {SMALL_RUN}",
    "work": "work out/orders/runs/*",
    "claims": "claims check --out out/v.json",
    "reproduce": "reproduce figure4 --scale paper --dry-run",
    "plan": "plan paper --out out/p.csv",
    "runs": "runs draw bundled --experiment fashion-digits --out out/r.png",
    "report": "report in/bank.h5 bundled --no-compute --out out/page.html",
    "explain": "explain selffer",
    "doctor": "doctor",
}
"""Name -> command, with inputs in `in` and outputs in `out`; `banks` changes nothing."""
VOLATILE = re.compile(r"created|seconds|started|finished|_at$|command|host|pid|attempts|path|time|_per_s|resumed|crc32")
"""Names of what differs from run to run."""


def prepare(folder: Path) -> None:
    """Write the inputs of all verbs."""
    from mkfa.storage.folders import data_file

    given = folder / "in"
    given.mkdir()
    (folder / "out").mkdir()
    shutil.copy(data_file("ppocr_cls.safetensors"), given)
    rng = np.random.default_rng(0)
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (given / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (48, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(given / "pictures" / name / f"{i}.png")
    pack_small_domain(given, "bright")
    pack_small_domain(given, "dark")
    _run(folder, "harvest in/ppocr_cls.safetensors --out in/bank.h5", check=True)
    _run(folder, f"train in/dark.h5 {' '.join(SMALL)} --seeds 1 --engine orders --out out/orders", check=True)
    write_network(given / "network.pt")


def write_network(path: Path) -> None:
    """Write the weights of an untrained network for photographs."""
    import timm
    import torch

    torch.manual_seed(0)
    torch.save(timm.create_model("mobilenetv2_035").state_dict(), path)


def _words(command: str, folder: Path) -> list[str]:
    """Return the words that start a command; a word with an asterisk stands for the folder that it matches."""
    return [*MKFA, *(str(next(folder.glob(word))) if "*" in word else word for word in command.split())]


def _run(folder: Path, command: str, *, check: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_words(command, folder), cwd=folder, capture_output=True, text=True, check=check)


def content(folder: Path) -> dict[str, object]:
    """Return what the outputs say, without times and hosts; what cannot be read raises an error."""
    found: dict[str, object] = {}
    for path in sorted((folder / "out").rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = _stable(json.loads(path.read_text()))
        elif path.suffix == ".h5":
            found[name] = _arrays(path)
        elif path.suffix == ".csv":
            found[name] = path.read_text().split("\n", 1)[1]
        elif path.suffix == ".png":
            found[name] = np.asarray(Image.open(path)).tobytes()
        elif path.suffix == ".html":
            found[name] = path.read_bytes().rstrip().endswith(b"</html>")
        elif path.suffix == ".pdf":
            found[name] = path.read_bytes().rstrip().endswith(b"%%EOF")
    if (folder / "in" / "bank.h5").exists():
        found["in/bank.h5"] = _arrays(folder / "in" / "bank.h5")
    return found


def _stable(value: object) -> object:
    if isinstance(value, dict):
        return {k: _stable(v) for k, v in value.items() if not VOLATILE.search(k)}
    return [_stable(v) for v in value] if isinstance(value, list) else value


def _arrays(path: Path) -> dict[str, bytes]:
    import h5py

    found: dict[str, bytes] = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    return {name: value for name, value in found.items() if not VOLATILE.search(name)}


@dataclass
class Calm:
    """A verb that nobody stopped."""

    verb: str
    folder: Path
    seconds: float = 0.0
    result: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        started = time.monotonic()
        copy = self.copy("calm")
        _run(copy, VERBS[self.verb], check=True)
        self.seconds = time.monotonic() - started
        self.before, self.result = content(self.folder), content(copy)
        shutil.rmtree(copy)

    def copy(self, name: str) -> Path:
        """Return a new folder with the inputs."""
        return Path(shutil.copytree(self.folder, self.folder.parent / f"{self.folder.name}-{name}"))

    def interrupt(self, after: float, number: int = signal.SIGINT) -> str:
        """Send the signal to the verb's processes after some seconds; return what is wrong, or ""."""
        copy = self.copy("stopped")
        try:
            return self._interrupt(copy, after, number)
        finally:
            shutil.rmtree(copy)

    def _interrupt(self, copy: Path, after: float, number: int) -> str:
        words = _words(VERBS[self.verb], copy)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(words, cwd=copy, text=True, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
            try:
                time.sleep(after)
                asked = time.monotonic()
                if process.poll() is None:
                    _send_to_group(process.pid, number)
                said, errors = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                return f"still there a minute after the signal at {after:.2f} s"
        waited = time.monotonic() - asked
        saved = self.verb == "work" and process.returncode == SAVED  # schedulers read it, and start it again
        lines = [
            line for line in errors.splitlines() if ("saving the current run" if saved else "mkfa: stopped") in line
        ]
        if process.returncode == 0:
            wrong = "" if not lines and content(copy) == self.result else "exit code 0, yet not as if undisturbed"
        elif process.returncode != (SAVED if saved else 128 + number) or len(lines) != 1:
            wrong = f"exit code {process.returncode}"
        elif waited > max(12, self.seconds):  # a starved machine takes a minute for what takes five seconds
            wrong = f"ended {waited:.0f} s later"
        elif "Traceback" in errors + said or "Error" in errors + said:
            wrong = "an error is shown"
        else:
            wrong = self._compare(copy)
        return f"signal after {after:.2f} s: {wrong}; stderr {errors[-1500:]!r}" if wrong else ""

    def _compare(self, copy: Path) -> str:
        left = content(copy)  # raises where a file is half-written
        for name, value in left.items():
            if value not in (self.result.get(name), self.before.get(name)) and "runs/" not in name:
                return f"{name} is neither absent nor complete"
        again = _run(copy, VERBS[self.verb])
        if again.returncode and not ("exists already" in again.stderr and left.keys() >= self.result.keys()):
            if "exists already" not in again.stderr:
                return f"a second run ends with {again.returncode}: {again.stderr[-500:]}"
            again = _run(copy, VERBS[self.verb] + " --force")
        after = content(copy)
        differing = [name for name in self.result if after.get(name) != self.result[name]]
        return f"a second run gives another {', '.join(differing)}" if differing else ""


def _send_to_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)  # as a terminal does: workers get it too
