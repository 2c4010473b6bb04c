"""Try every path of training on a device, five steps each, and say what holds: `mkfa doctor --device`.

The checks run in a process of their own, and the compiler, which takes longer than all others together, in another one
beside it. Both are ended when the time is over; a check that was not reached, or in which the process died, is reported
as such. Each check compares its path's final weights with those of the plain path: one run at a time, float32, nothing
compiled.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mkfa.engines.estimate import Specimen
from mkfa.engines.group import Together
from mkfa.engines.processes import Workers
from mkfa.engines.serial import Serial
from mkfa.errors import MkfaError, one_line
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import WEIGHTS, RunFolder, load_tensors
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import Recipe, load_recipe
from mkfa.training.run import Report
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop

SECONDS = 60.0
"""Time for all checks."""
STEPS = 5
_COMPILE = "compile"
"""The check with a process of its own. On a CPU it takes 38 seconds, most of them in a C++ compiler; all others take
19."""
NETWORK, DOMAIN = "convmixer_8_2", "digits"
CLOSE, _TF32, _AMP = 5e-3, 2e-2, 1e-1
"""Relative distance of weights that counts as rounding in float32, TF32 and bfloat16. Five steps move them by 0.25, and
AdamW makes a step of the whole learning rate from a gradient that is nothing but rounding."""
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "shift": {"crop": "shift", "shift": 0.1},
    "resized crops": {"crop": "resized"},
    "flip": {"flip": 0.5},
    "RandAugment": {"rand_augment": "rand-m9-mstd0.5-inc1"},
    "erasing": {"erasing": 0.5},
    "mixup": {"mixup": 0.8},
    "cutmix": {"cutmix": 1.0},
    "stochastic depth": {"drop_path": 0.3},
    "moving average": {"ema": 0.9},
}
Weights = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """What one path does: `state` is "works", "fails", "does not apply" or "not tried"."""

    check: str
    state: str
    found: str


def check_device(device: str, *, seconds: float = SECONDS, names: Sequence[str] = ()) -> tuple[Check, ...]:
    """Try the paths of a device; `names` chooses some of `CHECKS`.

    Raises
    ------
    MkfaError
        This machine has no such device.
    """
    named = str(Execution(device=device).resolved().device)
    wanted = tuple(names) or tuple(CHECKS)
    parts = [[name for name in wanted if (name == _COMPILE) == alone] for alone in (False, True)]
    parts = [part for part in parts if part]
    until = time.monotonic() + seconds
    with contextlib.ExitStack() as files:
        outs = [files.enter_context(tempfile.TemporaryFile()) for _ in parts]
        with contextlib.ExitStack() as stack:
            children = [stack.enter_context(_child(named, *one)) for one in zip(parts, outs, strict=True)]
            codes = [_wait(child, until) for child in children]
        ends = zip(parts, outs, codes, strict=True)
        found = {check.check: check for end in ends for check in _checks_of(*end, f"{seconds:.0f}")}
    return tuple(found[name] for name in wanted)


@contextlib.contextmanager
def _child(device: str, names: Sequence[str], out: Any) -> Iterator[Any]:
    """Return a process that makes these checks; it is killed after the body, with whatever it has started."""
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "mkfa.engines.device_checks", device, *names],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _wait(child: Any, until: float) -> int | None:
    """Return a process's exit code, None if it has not ended by a moment of the monotonic clock."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return int(child.wait(max(0.0, until - time.monotonic())))
    return None


def _checks_of(names: Sequence[str], out: Any, code: int | None, seconds: str) -> Iterator[Check]:
    """Return the results of a process, and why there is none for the checks that lack one."""
    out.seek(0)
    found = [Check(**json.loads(line)) for line in out.read().splitlines()]
    yield from found
    how, state = f"not reached within {seconds} s", "not tried"
    if list(names) == [_COMPILE]:
        how = f"the compiler needs more than {seconds} s here"
    if code:
        how = f"the process of the checks died ({signal.Signals(-code).name if code < 0 else f'exit {code}'})"
        state = "fails"
    for name in names[len(found) :]:
        yield Check(name, state, how)
        state = "not tried"


class _DoesNotApplyError(Exception):
    """The path is not for this device; the text says why."""


class _Bench:
    """Trains small runs on a device, in a folder for each."""

    def __init__(self, device: str, root: Path) -> None:
        self.device, self.root = device, root
        self.how = Execution(device=device, threads=1, amp=False, compile=False)
        self.kind = self.how.kind
        self.recipe = load_recipe("smoke", {"equal_steps": STEPS, "batch": 16})
        self.domains = Domains(self.recipe.size, self.recipe.max_size)

    @cached_property
    def plain(self) -> list[Weights]:
        """Weights of two seeds, one run after the other."""
        return self.train("plain", seeds=2)

    def planned(self, recipe: Recipe, seed: int = 0) -> PlannedRun:
        digest = self.domains[DOMAIN].digest
        return PlannedRun(RunSpec(NETWORK, DOMAIN, digest, recipe.name, recipe.identity, seed), "")

    def train(
        self, name: str, *, seeds: int = 1, stop_at: int = 0, changes: dict[str, Any] | None = None, **how: Any
    ) -> list[Weights]:
        """Train runs under a strategy, by default alone; return their weights. `stop_at` stops them after a step."""
        strategy, execution = how.pop("strategy", "alone"), replace(self.how, **how)
        recipe, root = load_recipe("smoke", {**self.recipe.identity, **(changes or {})}), self.root / name
        runs = [self.planned(recipe, seed) for seed in range(seeds)]
        engine: Any = Serial(execution, self.domains, root)
        if strategy == "processes":
            engine = Workers([execution] * seeds, self.domains, root)
        elif strategy != "alone":
            engine = Together(execution, strategy, seeds, self.domains, root)
        left, stop = list(runs), Stop()

        def tell(_planned: PlannedRun, report: Report) -> None:
            stop.requested |= 0 < stop_at <= report.step

        with engine:
            busy = 0
            while left or busy:
                while left and engine.submit(left[0]):
                    left.pop(0)
                    busy += 1
                for _, end in engine.events(tell, stop):
                    busy -= 1
                    if isinstance(end, MkfaError):
                        raise end
        if stop_at:
            return []
        weights = [load_tensors(RunFolder(root, run.spec).path / WEIGHTS) for run in runs]
        if None in weights:
            raise ValueError("the run diverged")
        return [w for w in weights if w is not None]

    def compare(self, found: Sequence[Weights], limit: float = 0.0) -> str:
        """Return how far weights are from the plain ones; raises ValueError beyond the limit (0: rounding)."""
        distance = max(_distance(a, b) for a, b in zip(found, self.plain, strict=False))
        if not distance <= (limit or (CLOSE if self.kind == "cpu" else _TF32)):
            raise ValueError(f"weights are {distance:.1e} from those of the plain path")
        return f"{distance:.1e} from the plain path" if distance else "the same as the plain path, bit for bit"

    def only(self, *kinds: str, needs: str) -> None:
        if self.kind not in kinds:
            raise _DoesNotApplyError(f"needs {needs}")


def _distance(a: Weights, b: Weights) -> float:
    """Return the relative distance of weights."""
    pairs = [(x.double(), b[name].double()) for name, x in a.items() if x.is_floating_point()]
    size = sum(float(y.square().sum()) for _, y in pairs)
    return math.sqrt(sum(float((x - y).square().sum()) for x, y in pairs) / size)


def _training(bench: _Bench) -> str:
    again = bench.compare(bench.train("again", seeds=2))
    if bench.kind == "cpu":
        return f"trained again: {again}"
    other = bench.compare(bench.train("cpu", device="cpu"), 2 * _TF32)
    return f"trained again: {again}; on the CPU: {other}"


def _channels_last(bench: _Bench) -> str:
    return bench.compare(bench.train("contiguous", channels_last=False))


def _quick(bench: _Bench) -> str:
    bench.only("cpu", needs="a CPU")
    return bench.compare(bench.train("quick", quick=False))


def _stream(bench: _Bench) -> str:
    return bench.compare(bench.train("stream", data="stream"))


def _resume(bench: _Bench) -> str:
    bench.train("resumed", stop_at=STEPS // 2)
    return f"stopped after step {STEPS // 2}, {bench.compare(bench.train('resumed'))}"


def _augmentations(bench: _Bench) -> str:
    for name, changes in AUGMENTATIONS.items():
        try:
            bench.train(name.replace(" ", "-"), changes=changes)
        except Exception as error:
            raise ValueError(f"{name}: {error}") from error
    return ", ".join(AUGMENTATIONS)


def _no_waiting(bench: _Bench) -> str:
    bench.only("cuda", needs="CUDA, which tells when the host waits")
    import torch

    run = Specimen(bench.planned(bench.recipe).spec, bench.domains, bench.how).run
    with run.how.in_force():
        rows = torch.arange(run.batch, device=run.train_set.labels.device)
        run.take_step(0, rows)
        try:
            torch.cuda.set_sync_debug_mode("error")
            for number in range(1, 1 + STEPS):
                run.take_step(number, rows)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return "the host never waits for the device within a step"


def _amp(bench: _Bench) -> str:
    bench.only("cuda", needs="CUDA")
    return bench.compare(bench.train("amp", amp=True), _AMP)


def _stacked(bench: _Bench) -> str:
    return f"2 runs as one network: {bench.compare(bench.train('stacked', seeds=2, strategy='stacked'))}"


def _graph(bench: _Bench) -> str:
    bench.only("cuda", needs="CUDA")
    return f"2 runs captured: {bench.compare(bench.train('graph', seeds=2, strategy='graph'))}"


def _processes(bench: _Bench) -> str:
    return f"2 runs in 2 processes: {bench.compare(bench.train('processes', seeds=2, strategy='processes'))}"


def _compile(bench: _Bench) -> str:
    return bench.compare(bench.train("compile", compile=True))


CHECKS: dict[str, Callable[[_Bench], str]] = {
    "training": _training,
    "channels_last": _channels_last,
    "quick gradients": _quick,
    "stream": _stream,
    "resume": _resume,
    "no waiting": _no_waiting,
    "amp": _amp,
    "stacked": _stacked,
    "graph": _graph,
    "augmentations": _augmentations,
    "processes": _processes,
    _COMPILE: _compile,
}
"""The checks, by name; those that may take long come last."""


def _run(device: str, names: Sequence[str]) -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(device, Path(folder))
        for name in names:
            try:
                yield Check(name, "works", CHECKS[name](bench))
            except _DoesNotApplyError as reason:
                yield Check(name, "does not apply", str(reason))
            except Exception as error:  # whatever a device or a compiler raises
                yield Check(name, "fails", one_line(f"{type(error).__name__}: {error}")[:300])


def main(words: list[str]) -> None:
    """Print a JSON line for each check; `words` are the device and the names of the checks."""
    for check in _run(words[0], words[1:]):
        print(json.dumps(asdict(check)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
