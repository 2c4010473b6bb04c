"""What `mkfa doctor --device` says of a device."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from mkfa.engines import device_checks
from mkfa.engines.device_checks import CHECKS, Check, _Bench, _distance, check_device
from mkfa.errors import MkfaError
from mkfa.training import optimizer, strategies
from mkfa.training.step import Step


def made(names, **more) -> dict[str, Check]:
    return {check.check: check for check in device_checks._run("cpu", names, **more)}


def test_every_path_of_a_cpu_holds_or_does_not_apply():
    """Compiling takes most of a minute, and is tried by the command only."""
    found = made([name for name in CHECKS if name not in ("compile", "processes")])
    states = {name: check.state for name, check in found.items()}
    apply_not = {"no waiting", "amp", "graph"}
    assert states == {name: "does not apply" if name in apply_not else "works" for name in found}
    assert found["training"].found == "trained again: the same as the plain path, bit for bit"
    assert found["stream"].found == "the same as the plain path, bit for bit"
    assert found["resume"].found == "stopped after step 2, the same as the plain path, bit for bit"
    assert found["graph"].found == "needs CUDA"


def test_a_path_that_trains_otherwise_fails(monkeypatch):
    monkeypatch.setattr(optimizer, "load_state", lambda *_: None)
    check = made(["resume"])["resume"]
    assert check.state == "fails"
    assert check.found.startswith("ValueError: weights are ")


def test_a_path_that_diverges_fails(monkeypatch):
    real = Step.compute
    monkeypatch.setattr(Step, "compute", lambda self, batch: real(self, batch) * float("nan"))
    check = made(["augmentations"])["augmentations"]
    assert (check.state, check.found) == ("fails", "ValueError: shift: the run diverged")


def test_an_error_of_a_path_is_its_reason(monkeypatch):
    def broken(_self, _batches):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(strategies.Stacked, "step", broken)
    check = made(["stacked"])["stacked"]
    assert (check.state, check.found) == ("fails", "RuntimeError: no kernel image is available")


def test_five_steps_move_weights_farther_than_any_bar(tmp_path):
    bench = _Bench("cpu", tmp_path)
    one, other = bench.plain
    assert _distance(one, other) > 0.5
    (shorter,) = bench.train("shorter", changes={"equal_steps": 4})
    assert _distance(shorter, one) > 0.02


def test_what_the_time_does_not_suffice_for_is_said():
    found = check_device("cpu", seconds=0.2, names=["training", "compile"])
    assert [check.state for check in found] == ["not tried", "not tried"]
    assert found[0].found == "not reached within 0 s"
    assert found[1].found == "the compiler needs more than 0 s here"


def test_the_compiler_has_the_whole_time_to_itself(monkeypatch):
    """Processes in name only: one never ends, and the compiler's ends at once."""
    commands, killed = [], []

    class Child:
        def __init__(self, command: list[str], *, stdout: Any, **_: Any) -> None:
            commands.append(command[command.index("cpu") + 1 :])
            self.compiles, self.pid = commands[-1] == ["compile"], len(commands)
            if self.compiles:
                stdout.write(json.dumps({"check": "compile", "state": "works", "found": "quick"}).encode())
                stdout.flush()

        def wait(self, seconds: float | None = None) -> int:
            if seconds is not None and not self.compiles:
                raise subprocess.TimeoutExpired("a child", seconds)
            return 0

    monkeypatch.setattr(device_checks.subprocess, "Popen", Child)
    monkeypatch.setattr(device_checks.os, "killpg", lambda pid, _: killed.append(pid))
    found = check_device("cpu")
    assert [check.check for check in found] == list(CHECKS)
    assert commands == [[name for name in CHECKS if name != "compile"], ["compile"]]
    assert found[-1] == Check("compile", "works", "quick")
    assert {(check.state, check.found) for check in found[:-1]} == {("not tried", "not reached within 60 s")}
    assert set(killed) == {1, 2}


def test_a_process_that_dies_is_said(monkeypatch):
    monkeypatch.setattr(device_checks.sys, "executable", "/bin/false")
    first, second = check_device("cpu", names=["amp", "stream"])
    assert (first.state, first.found) == ("fails", "the process of the checks died (exit 1)")
    assert (second.check, second.state) == ("stream", "not tried")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(MkfaError, match="--device mps: is not available on this machine"):
        check_device("mps")
