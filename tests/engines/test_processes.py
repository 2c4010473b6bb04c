"""Sweeps over several processes: the same bits as one after the other, stops, kills, faults, orphans."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mkfa.banks.bank_file import write_bank
from mkfa.banks.library import load_bank
from mkfa.engines.processes import Serial, Slots, divide, open_slots
from mkfa.engines.serial import carry_out
from mkfa.engines.worker import Line, Worker, heard, order_of, told
from mkfa.errors import MkfaError, WorkError
from mkfa.experiments.plan import Domains, Setting, plan_bases, plan_cells
from mkfa.experiments.sources import Origin
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.training.device import Execution
from mkfa.training.folder import CHECKPOINT, METRICS, RESULT, RunFolder
from mkfa.training.planned import PlannedRun, bank_digest
from mkfa.training.recipe import load_recipe
from mkfa.training.stopping import Stop, Stopped

ONE = Execution(device="cpu", threads=1)
TWO = replace(ONE, jobs=2)


def experiment(**changes: object) -> Setting:
    return Setting("convmixer_8_3", load_recipe("smoke", {"equal_steps": 3, "batch": 8, **changes}))


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    """Return packed domains a and b, read by their paths as a user would name them."""
    found = []
    for number, name in enumerate("ab"):
        rng = np.random.default_rng(number)
        y = np.arange(36, dtype=np.int64) % 3
        x = (rng.integers(0, 160, (36, 16, 16, 1)) + 30 * y[:, None, None, None]).astype(np.uint8)
        made = make_domain(name, ("k", "l", "m"), train=(x[:24], y[:24]), test=(x[24:], y[24:]))
        found.append(str(write_domain(made, tmp_path / f"{name}.h5", facts={"source": "made"})))
    return found[0], found[1]


def curve_plan(made: Setting, domains: Domains, paths: tuple[str, str]) -> tuple[PlannedRun, ...]:
    origin = Origin(domains[paths[0]].name, paths[0])
    cells = [(origin, paths[1], arm, n) for arm in ("transfer", "random") for n in (1, 3)]
    return plan_cells(made, domains, cells=cells, seeds=2)


def what_counts(plan: tuple[PlannedRun, ...], root: Path) -> list[tuple[bytes, str, str]]:
    """Return, run by run, the metrics, the digest of the final weights and the number of threads."""
    folders = [RunFolder(root, p.spec) for p in plan]
    results = [folder.result() or {} for folder in folders]
    return [
        ((f.path / METRICS).read_bytes(), r["weights_sha256"], r["execution"]["threads"])
        for f, r in zip(folders, results, strict=True)
    ]


@pytest.mark.slow
def test_two_at_a_time_give_the_bits_of_one_after_the_other(paths, tmp_path):
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = curve_plan(experiment(), domains, paths)
    serial = carry_out(plan, domains, root=tmp_path / "serial", execution=ONE, stop=Stop())
    ends: list[str] = []
    steps: list[int] = []
    with open_slots(TWO, plan, domains=domains, root=tmp_path / "slots") as slots:
        assert isinstance(slots, Slots)
        assert slots.estimate(plan).seconds > 0
        outcomes = slots.carry_out(
            plan,
            stop=Stop(),
            tell=lambda _, report: steps.append(report.step),
            ended=lambda o: ends.append(o.planned.spec.hash),
        )
        pids = [process.child.pid for process in slots.processes.values()]
    assert what_counts(plan, tmp_path / "slots") == what_counts(plan, tmp_path / "serial")
    assert [o.planned for o in outcomes] == [o.planned for o in serial]
    assert [(o.state, o.trained) for o in outcomes] == [("done", True)] * len(plan)
    assert [o.banks for o in outcomes] == [o.banks for o in serial]
    assert outcomes[0].banks is not None
    assert load_bank("a").name == "a"
    assert all(ends.index(p.needs.hash) < ends.index(p.spec.hash) for p in plan if p.needs)
    assert 3 in steps
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
    with open_slots(TWO, plan, domains=domains, root=tmp_path / "slots") as slots:
        assert isinstance(slots, Serial)  # nothing is left: no process is started
        assert not any(o.trained for o in slots.carry_out(plan, stop=Stop()))


@pytest.mark.slow
def test_a_bank_is_borrowed_and_what_cannot_be_borrowed_fails_as_one_after_the_other(paths, tmp_path, bank_maker):
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)

    def plan(sizes: list[tuple[int, int, int]]) -> tuple[PlannedRun, ...]:
        origin = Origin("made", bank=bank_maker(sizes))
        return plan_cells(experiment(), domains, cells=[(origin, paths[1], "transfer", 3)], seeds=2)

    good, bad = plan([(8, 7, 7)] * 3), plan([(8, 5, 5)] * 3)
    carry_out(good, domains, root=tmp_path / "serial", execution=ONE, stop=Stop())
    with open_slots(TWO, good, domains=domains, root=tmp_path / "slots") as slots:
        slots.carry_out(good, stop=Stop())
        assert what_counts(good, tmp_path / "slots") == what_counts(good, tmp_path / "serial")
        with pytest.raises(MkfaError) as alone:
            carry_out(bad, domains, root=tmp_path / "serial", execution=ONE, stop=Stop())
        with pytest.raises(MkfaError) as together:
            slots.carry_out(bad, stop=Stop())
    assert str(together.value) == str(alone.value)
    assert together.value.exit_code == alone.value.exit_code


@pytest.mark.slow
def test_asked_to_stop_every_run_saves_itself_and_goes_on_to_the_same_bits(paths, tmp_path):
    made = experiment(equal_steps=600)
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=[paths[0]], seeds=3)
    stop = Stop()

    def tell(_: PlannedRun, report: object) -> None:
        busy = [p for p in plan if (RunFolder(tmp_path / "hit", p.spec).path / METRICS).exists()]
        stop.requested = len(busy) == 2

    with pytest.raises(Stopped), open_slots(TWO, plan, domains=domains, root=tmp_path / "hit") as slots:
        slots.carry_out(plan, stop=stop, tell=tell)
    begun = [RunFolder(tmp_path / "hit", p.spec).begun() for p in plan]
    assert sum(0 < step < 600 for step in begun) == 2
    with open_slots(TWO, plan, domains=domains, root=tmp_path / "hit") as slots:
        assert slots.estimate(plan).steps == 3 * 600 - sum(begun)
        assert [o.state for o in slots.carry_out(plan, stop=Stop())] == ["done"] * 3
    carry_out(plan, domains, root=tmp_path / "calm", execution=ONE, stop=Stop())
    assert what_counts(plan, tmp_path / "hit") == what_counts(plan, tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "told_of"), [(signal.SIGKILL, "was killed (SIGKILL)"), (signal.SIGTERM, "saved")])
def test_a_killed_process_loses_no_other_run_and_its_own_goes_on(paths, tmp_path, number, told_of):
    made = experiment(equal_steps=200)
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=[paths[0]], seeds=3)
    execution = replace(TWO, checkpoint_seconds=0.0)
    hit: list[str] = []

    with open_slots(execution, plan, domains=domains, root=tmp_path / "hit") as slots:

        def tell(planned: PlannedRun, report: object) -> None:
            if not hit and (RunFolder(tmp_path / "hit", planned.spec).path / CHECKPOINT).exists():
                hit.append(planned.spec.hash)
                [process] = [p for p in slots.processes.values() if p.planned is planned]
                process.child.send_signal(number)

        if number == signal.SIGKILL:
            assert slots.estimate(plan).jobs == 2  # by the processes that train afterwards
        outcomes = slots.carry_out(plan, stop=Stop(), tell=tell)
    assert sorted(o.state for o in outcomes) == ["done", "done", "lost"]
    [lost] = [o for o in outcomes if o.state == "lost"]
    assert lost.planned.spec.hash == hit[0]
    assert told_of in lost.note
    assert lost.note.startswith(lost.planned.spec.label)
    again = carry_out(plan, domains, root=tmp_path / "hit", execution=ONE, stop=Stop())
    assert [o.trained for o in again] == [o.state == "lost" for o in outcomes]
    assert next(o.result for o in again if o.trained)["resumed"] == 1
    carry_out(plan, domains, root=tmp_path / "calm", execution=ONE, stop=Stop())
    assert what_counts(plan, tmp_path / "hit") == what_counts(plan, tmp_path / "calm")


PARENT = """
import sys
from pathlib import Path
from mkfa.training.device import Execution
from mkfa.training.stopping import Stop
from mkfa.experiments.plan import Setting, plan_bases
from mkfa.images.opened import Domains
from mkfa.training.recipe import load_recipe
from mkfa.engines.processes import open_slots
made = Setting("convmixer_8_3", load_recipe("smoke", {"equal_steps": 20000, "batch": 8}))
domains = Domains(made.recipe.size, made.recipe.max_size)
plan = plan_bases(made, domains, names=[sys.argv[1]], seeds=2)
execution = Execution("cpu", threads=1, jobs=2)
with Stop().listening() as stop, open_slots(execution, plan, domains=domains, root=Path(sys.argv[2])) as slots:
    tell = lambda *_: print(*(p.child.pid for p in slots.processes.values()), flush=True)
    slots.carry_out(plan, stop=stop, tell=tell)
"""


@pytest.fixture
def parent(paths: tuple[str, str], tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Start a sweep in a process of its own; yields it and its workers' ids once both train."""
    root = tmp_path / "runs"
    child = subprocess.Popen(
        [sys.executable, "-c", PARENT, paths[0], str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids: list[int] = []
    try:
        while len(list(root.glob(f"*/{METRICS}"))) < 2:
            line = child.stdout.readline()
            assert line, child.stderr.read()
            pids = [int(word) for word in line.split()]
        assert len(pids) == 2
        yield SimpleNamespace(child=child, pids=pids, root=root)
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        child.kill()
        child.communicate()


@pytest.mark.slow
def test_workers_save_their_runs_and_end_when_the_parent_is_killed(parent):
    parent.child.kill()
    parent.child.wait()
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in parent.pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in parent.pids)
    assert len(list(parent.root.glob(f"*/{CHECKPOINT}"))) == 2
    assert not list(parent.root.glob(f"*/{RESULT}"))


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_to_the_parent_or_to_the_terminals_processes_saves_every_run(parent, to_all):
    """Ctrl-C reaches the workers too: they leave it to the parent."""
    (os.killpg if to_all else os.kill)(parent.child.pid, signal.SIGINT)
    _, errors = parent.child.communicate(timeout=60)
    assert "saving what is being trained (SIGINT)" in errors
    assert "Stopped" in errors
    assert not any(alive(pid) for pid in parent.pids)
    steps = [json.loads(p.read_text().splitlines()[-1])["step"] for p in parent.root.glob(f"*/{METRICS}")]
    assert len(list(parent.root.glob(f"*/{CHECKPOINT}"))) == 2 == len(steps)


def alive(pid: int) -> bool:
    """True for a process that runs; one that has ended but was not waited for counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_cannot_start_is_one_sentence(paths, tmp_path, monkeypatch):
    from mkfa.engines import processes as module

    monkeypatch.setattr(module, "_COMMAND", "raise SystemExit(3)")
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = plan_bases(experiment(), domains, names=[paths[0]], seeds=2)
    for use in (lambda slots: slots.carry_out(plan, stop=Stop()), lambda slots: slots.estimate(plan)):
        slots = open_slots(TWO, plan, domains=domains, root=tmp_path / "runs")
        with pytest.raises(WorkError, match=r"exit code 3 before it took up a run; pass --jobs 1"), slots:
            use(slots)


def test_a_machine_without_room_for_a_process_is_one_sentence(paths, tmp_path, monkeypatch):
    from mkfa.engines import processes as module

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(module.subprocess, "Popen", full)
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = plan_bases(experiment(), domains, names=[paths[0]], seeds=2)
    with (
        pytest.raises(WorkError, match="cannot be started"),
        open_slots(TWO, plan, domains=domains, root=tmp_path / "runs") as slots,
    ):
        slots.carry_out(plan, stop=Stop())


def conversation(orders: list[dict], domains: Domains, root: Path) -> list[dict]:
    """Return what a worker in a thread of this process answers."""
    ours, theirs = socket.socketpair()
    with theirs, ours:
        worker, line = Worker(Line(theirs)), Line(ours)
        line.send(
            do="begin",
            size=domains.size,
            max_size=domains.max_size,
            root=str(root),
            execution={"device": "cpu", "threads": 1},
        )
        for order in orders:
            line.send(**order)
        ours.shutdown(socket.SHUT_WR)
        listener = threading.Thread(target=worker.listen)
        listener.start()
        listener.join()
        worker.stop.requested = False  # the end of the socket came while no run was in progress
        worker.work()
        theirs.shutdown(socket.SHUT_WR)
        found: list[dict] = []
        while (messages := line.receive()) is not None:
            found += messages
    return found


def test_what_a_worker_is_told_and_answers(paths, tmp_path, bank_maker):
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    bank = bank_maker([(8, 7, 7)] * 3)
    write_bank(bank, tmp_path / "bank.h5")
    [_, planned] = plan_cells(
        experiment(), domains, cells=[(Origin("made", bank=bank), paths[1], "transfer", 3)], seeds=1
    )
    order = order_of(planned, domains, tmp_path / "bank.h5")
    assert order["domains"] == {"b": paths[1]}
    assert planned.spec.source == f"bank:{bank_digest(bank)}"
    stale = {**order, "spec": {**order["spec"], "domain_digest": "another"}}
    found = conversation(
        [
            {
                "do": "place",
                **order_of(
                    PlannedRun(planned.needs or replace(planned.spec, arm="random", source=""), ""), domains, None
                ),
            },
            {"do": "time"},
            {"do": "train", **order},
            {"do": "train", **stale},
        ],
        domains,
        tmp_path / "runs",
    )
    assert [m["say"] for m in found if m["say"] != "step"] == ["ready", "placed", "timed", "over", "failed"]
    assert found[2]["step"] > 0 < found[2]["image"]
    assert [m["report"]["step"] for m in found if m["say"] == "step"][-1] == 3
    assert "has changed since the plan was made" in str(heard(found[-1], "run"))
    assert (RunFolder(tmp_path / "runs", planned.spec).result() or {})["state"] == "done"


def test_errors_cross_the_socket():
    for error in (MkfaError("x", "is wrong", "do y"), WorkError("x", "is full", "free some")):
        again = heard(json.loads(json.dumps(told(error))), "run")
        assert (str(again), again.exit_code) == (str(error), error.exit_code)
    assert isinstance(heard(told(MemoryError("no room")), "run"), MemoryError)
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        again = heard(told(error), "letters seed 0")
    assert isinstance(again, WorkError)
    assert str(again).startswith("letters seed 0: failed with an unexpected ZeroDivisionError: by nothing;")
    assert "test_processes.py" in again.__notes__[0]


@pytest.mark.parametrize(
    ("cores", "given", "expected"),
    [
        (2, {}, ["cpu 1"] * 2),
        (2, {"threads": 2}, ["cpu 2"]),
        (2, {"jobs": 1}, ["cpu 2"]),
        (8, {"jobs": 3}, ["cpu 2"] * 3),
        (2, {"jobs": 3}, ["cpu 1"] * 3),
        (2, {"jobs": 2, "threads": 4}, ["cpu 4"] * 2),
        (64, {}, ["cpu 64"]),
        (1, {}, ["cpu 1"]),
    ],
)
def test_cores_are_divided(monkeypatch, cores, given, expected):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    plan = [SimpleNamespace(needs=None)] * 3 + [SimpleNamespace(needs=1)] * 4
    found = divide(Execution(device="cpu", **given), plan)
    assert [f"{e.device} {e.threads}" for e in found] == expected
    assert all((e.jobs, e.share) == (1, 1 / len(found)) for e in found)


@pytest.mark.parametrize(
    ("device", "jobs", "expected"),
    [
        ("auto", 0, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 0, ["cuda:1"]),
        ("cuda:1", 2, ["cuda:1", "cuda:1"]),
        ("auto", 4, ["cuda:0", "cuda:1", "cuda:2", "cuda:0"]),
    ],
)
def test_gpus_get_a_run_each(monkeypatch, device, jobs, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
    found = divide(Execution(device=device, jobs=jobs), [SimpleNamespace(needs=None)] * 5)
    assert [e.device for e in found] == expected
    assert {e.threads for e in found} == {12 // len(expected)}
    for device in expected:  # the runs of a device do not take more room than it has
        assert sum(e.share for e in found if e.device == device) <= 1
    assert len({e.share for e in found}) == 1
