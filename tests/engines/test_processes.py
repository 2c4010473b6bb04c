"""Sweeps over several processes: the same bits as one after the other, stops, kills, faults, orphans."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import signal
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

from mkfa.banks.library import load_bank
from mkfa.engines import group, processes
from mkfa.engines.engine import Died, unexpected
from mkfa.engines.estimate import estimate_on
from mkfa.engines.processes import Workers, divide, open_engine
from mkfa.engines.serial import Serial
from mkfa.engines.sweep import carry_out
from mkfa.engines.worker import SOURCE_BANK, Task, Worker
from mkfa.errors import MkfaError, UnknownBankError, WorkError
from mkfa.experiments.needed_runs import Domains, Setting, plan_bases, plan_cells
from mkfa.experiments.sources import Source
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.training.device import Execution
from mkfa.training.folder import ATTEMPTS, CHECKPOINT, METRICS, RESULT, TASK, RunFolder
from mkfa.training.planned import PlannedRun, bank_digest
from mkfa.training.recipe import load_recipe
from mkfa.training.run import Report
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
    origin = Source(domains[paths[0]].name, paths[0])
    cells = [(origin, paths[1], arm, n) for arm in ("transfer", "random") for n in (1, 3)]
    return plan_cells(made, domains, cells=cells, seeds=2)


def what_counts(plan: tuple[PlannedRun, ...], root: Path) -> list[tuple[bytes, str, str]]:
    """Return, run by run, the metrics, the digest of the final weights and the number of threads."""
    folders = [RunFolder(root, p.spec) for p in plan]
    results = [folder.result().record for folder in folders]
    return [
        ((f.path / METRICS).read_bytes(), r["weights_sha256"], r["execution"]["threads"])
        for f, r in zip(folders, results, strict=True)
    ]


@pytest.mark.slow
def test_two_at_a_time_give_the_bits_of_one_after_the_other(paths, tmp_path):
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = curve_plan(experiment(), domains, paths)
    serial = carry_out(plan, Serial(ONE, domains, tmp_path / "serial"), stop=Stop())
    ends: list[str] = []
    steps: list[int] = []
    with open_engine(TWO, plan, domains=domains, root=tmp_path / "engine") as engine:
        assert isinstance(engine, Workers)
        assert estimate_on(engine, plan).seconds > 0
        outcomes = carry_out(
            plan,
            engine,
            stop=Stop(),
            tell=lambda _, report: steps.append(report.step),
            ended=lambda o: ends.append(o.planned.spec.hash),
        )
        pids = [process.child.pid for process in engine.processes.values()]
    assert what_counts(plan, tmp_path / "engine") == what_counts(plan, tmp_path / "serial")
    assert [o.planned for o in outcomes] == [o.planned for o in serial]
    assert [(o.state, o.trained) for o in outcomes] == [("done", True)] * len(plan)
    assert [o.banks for o in outcomes] == [o.banks for o in serial]
    assert outcomes[0].banks is not None
    assert load_bank("a").name == "a"
    assert all(ends.index(p.source_run.hash) < ends.index(p.spec.hash) for p in plan if p.source_run)
    assert 3 in steps
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
    with open_engine(TWO, plan, domains=domains, root=tmp_path / "engine") as engine:
        assert isinstance(engine, Serial)  # nothing is left: no process is started
        assert not any(o.trained for o in carry_out(plan, engine, stop=Stop()))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three GPUs by name, and twelve cores."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("mkfa.training.device._has_bfloat16", lambda _: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> Execution:
    """Two devices for groups of runs, for which the CPU stands in twice."""
    monkeypatch.setattr(processes, "_devices", lambda _: ["cpu", "cpu"])
    return replace(ONE, strategy="stacked", jobs=4, checkpoint_seconds=0.0)


def events_of(planned: PlannedRun, root: Path) -> list[dict]:
    return [json.loads(line) for line in (RunFolder(root, planned.spec).path / ATTEMPTS).read_text().splitlines()]


@pytest.mark.slow
def test_groups_are_spread_over_all_devices_and_a_lost_one_goes_on(paths, tmp_path, two_devices):
    """Each device has a process of its own, which trains runs together; one of them is killed."""
    made = experiment(equal_steps=40)
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=[paths[0]], seeds=5)
    hit: list[list[PlannedRun]] = []
    said: list[str] = []
    with open_engine(two_devices, plan, domains=domains, root=tmp_path / "both") as engine:
        assert len(engine.places()) == 4

        def tell(planned: PlannedRun, report: Report) -> None:
            if not hit:
                assert [len(process.runs) for process in engine.processes.values()] == [2, 2]
                [process] = [p for p in engine.processes.values() if planned.spec.hash in p.runs]
                hit.append(list(process.runs.values()))
                process.child.kill()

        outcomes = carry_out(plan, engine, stop=Stop(), tell=tell, notify=said.append)
    assert [o.state for o in outcomes] == ["done"] * 5
    assert sum("with 2 runs at a time" in sentence for sentence in said) == 1  # it may have been for want of memory
    pids = [{event["pid"] for event in events_of(p, tmp_path / "both") if event["event"] == "started"} for p in plan]
    assert os.getpid() not in set.union(*pids) and len(set.union(*pids)) >= 3
    for p in hit[0]:
        assert "was killed (SIGKILL)" in " ".join(event["event"] for event in events_of(p, tmp_path / "both"))
    assert not list((tmp_path / "both").glob(f"*/{TASK}"))
    carry_out(plan[:2], Serial(ONE, domains, tmp_path / "alone"), stop=Stop())
    for p in plan[:2]:
        mine, theirs = (RunFolder(tmp_path / where, p.spec).result().record for where in ("both", "alone"))
        assert mine["execution"]["strategy"]["strategy"] == "stacked"
        assert mine["loss_test"] == pytest.approx(theirs["loss_test"], abs=1e-3)


def test_a_device_trains_runs_of_one_kind_at_a_time(paths, tmp_path, two_devices):
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    one, two = (
        plan_bases(replace(experiment(), arch=arch), domains, names=[paths[0]], seeds=5)
        for arch in ("convmixer_8_3", "convmixer_8_2")
    )
    with open_engine(two_devices, (*one, *two), domains=domains, root=tmp_path) as engine:
        busy = {0: {"a": one[0]}, 1: {"b": two[0], "c": two[1]}}
        engine.processes = {number: SimpleNamespace(runs=runs) for number, runs in busy.items()}
        assert engine.takes(one[1]) and not engine.takes(two[2])
        assert not engine.submit(two[2])
        engine.processes.clear()
        assert engine.takes(two[2])


@pytest.mark.slow
def test_asked_to_stop_the_groups_of_all_devices_save_their_runs(paths, tmp_path, two_devices):
    made = experiment(equal_steps=20000)
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=[paths[0]], seeds=5)
    stop, seen = Stop(), set()

    def tell(planned: PlannedRun, _: Report) -> None:
        seen.add(planned.spec.seed)
        stop.requested = len(seen) == 4

    with pytest.raises(Stopped), open_engine(two_devices, plan, domains=domains, root=tmp_path) as engine:
        carry_out(plan, engine, stop=stop, tell=tell)
    begun = [p for p in plan if RunFolder(tmp_path, p.spec).begun()]
    assert {p.spec.seed for p in begun} == seen
    assert all(events_of(p, tmp_path)[-1]["event"] == "stopped" for p in begun)


def test_a_group_that_its_device_fails_ends_its_process_and_each_of_its_runs(paths, tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(group.Together, "events", broken)
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = plan_bases(experiment(), domains, names=[paths[0]], seeds=1)
    how = replace(ONE, strategy="stacked", jobs=2)
    [folder] = [Task.of(planned, domains, how).write(tmp_path) for planned in plan]
    _, (name, end) = conversation([folder], tmp_path)
    assert name == folder.name
    assert end == Died("its group failed with an unexpected RuntimeError: CUDA error: unspecified launch failure")


@pytest.mark.parametrize(
    ("device", "jobs", "expected"),
    [
        ("auto", 0, [("cuda:0", 2), ("cuda:1", 2), ("cuda:2", 1)]),  # five runs are left
        ("auto", 4, [("cuda:0", 2), ("cuda:1", 1), ("cuda:2", 1)]),
        ("cuda", 2, [("cuda:0", 1), ("cuda:1", 1)]),
        ("cuda:1", 0, [("cuda:1", 4)]),
    ],
)
def test_every_gpu_gets_a_group(gpus, paths, tmp_path, monkeypatch, device, jobs, expected):
    monkeypatch.setattr(processes, "timer_of", lambda _, how: lambda name, spec, count: (1.0 / count, 0))
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = plan_bases(experiment(), domains, names=[paths[0]], seeds=5)
    execution = Execution(device=device, jobs=jobs, strategy="stacked")
    engine = open_engine(execution, plan, domains=domains, root=tmp_path)
    places = [place.execution for place in engine.places()]
    assert [(how.device, how.jobs) for how in places] == [one for one in expected for _ in range(one[1])]
    assert all(how.share == 1 / how.jobs and how.is_group and not how.compile for how in places)
    assert isinstance(engine, Workers) == (len(expected) > 1)


@pytest.mark.parametrize(
    ("fastest", "expected"),
    [("alone", ["cuda:0", "cuda:1", "cuda:2"]), ("processes", ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"])],
)
def test_the_fastest_strategy_of_one_gpu_is_used_on_all(gpus, paths, tmp_path, monkeypatch, fastest, expected):
    asked = []

    def timer_of(_: Domains, how: Execution):
        asked.append(how.device)
        return lambda name, spec, count: (1.0 if name == fastest else 9.0 * count, 0)

    monkeypatch.setattr(processes, "timer_of", timer_of)
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = plan_bases(experiment(), domains, names=[paths[0]], seeds=5)
    engine = open_engine(Execution(), plan, domains=domains, root=tmp_path)
    assert asked == ["cuda:0"]
    assert [place.execution.device for place in engine.places()] == expected
    assert {place.execution.chosen["strategy"] for place in engine.places()} == {fastest}


@pytest.mark.slow
def test_a_bank_is_borrowed_and_what_cannot_be_borrowed_fails_as_one_after_the_other(paths, tmp_path, bank_maker):
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)

    def plan(sizes: list[tuple[int, int, int]]) -> tuple[PlannedRun, ...]:
        origin = Source("made", bank=bank_maker(sizes))
        return plan_cells(experiment(), domains, cells=[(origin, paths[1], "transfer", 3)], seeds=2)

    good, bad = plan([(8, 7, 7)] * 3), plan([(8, 5, 5)] * 3)
    carry_out(good, Serial(ONE, domains, tmp_path / "serial"), stop=Stop())
    with open_engine(TWO, good, domains=domains, root=tmp_path / "engine") as engine:
        carry_out(good, engine, stop=Stop())
        assert what_counts(good, tmp_path / "engine") == what_counts(good, tmp_path / "serial")
        alone = carry_out(bad, Serial(ONE, domains, tmp_path / "serial"), stop=Stop())
        together = carry_out(bad, engine, stop=Stop())
    assert [(o.state, o.note) for o in alone] == [(o.state, o.note) for o in together]
    failed = [o.note for o in together if o.state == "failed"]
    assert len(failed) == 2
    assert all("5x5" in note for note in failed)


@pytest.mark.slow
def test_asked_to_stop_every_run_saves_itself_and_goes_on_to_the_same_bits(paths, tmp_path):
    made = experiment(equal_steps=600)
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=[paths[0]], seeds=3)
    stop = Stop()

    def tell(_: PlannedRun, report: object) -> None:
        folders = [RunFolder(tmp_path / "hit", p.spec).path for p in plan]
        busy = [f for f in folders if (f / METRICS).exists() and not (f / RESULT).exists()]
        stop.requested = stop.requested or len(busy) == 2  # one may end before the other's process has started

    with pytest.raises(Stopped), open_engine(TWO, plan, domains=domains, root=tmp_path / "hit") as engine:
        carry_out(plan, engine, stop=stop, tell=tell)
    begun = [RunFolder(tmp_path / "hit", p.spec).begun() for p in plan]
    assert sum(0 < step < 600 for step in begun) == 2
    with open_engine(TWO, plan, domains=domains, root=tmp_path / "hit") as engine:
        assert estimate_on(engine, plan).steps == 3 * 600 - sum(begun)
        assert [o.state for o in carry_out(plan, engine, stop=Stop())] == ["done"] * 3
    carry_out(plan, Serial(ONE, domains, tmp_path / "calm"), stop=Stop())
    assert what_counts(plan, tmp_path / "hit") == what_counts(plan, tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "told_of"), [(signal.SIGKILL, "was killed (SIGKILL)"), (signal.SIGTERM, "saved")])
def test_a_killed_process_loses_no_run_and_its_own_goes_on(paths, tmp_path, number, told_of):
    made = experiment(equal_steps=200)
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=[paths[0]], seeds=3)
    execution = replace(TWO, checkpoint_seconds=0.0)
    hit: list[str] = []
    said: list[str] = []

    with open_engine(execution, plan, domains=domains, root=tmp_path / "hit") as engine:

        def tell(planned: PlannedRun, report: object) -> None:
            if not hit and (RunFolder(tmp_path / "hit", planned.spec).path / CHECKPOINT).exists():
                hit.append(planned.spec.hash)
                [process] = [p for p in engine.processes.values() if planned.spec.hash in p.runs]
                process.child.send_signal(number)

        if number == signal.SIGKILL:
            assert estimate_on(engine, plan).jobs == 2  # by the processes that train afterwards
        outcomes = carry_out(plan, engine, stop=Stop(), tell=tell, notify=said.append)
    assert [(o.state, o.trained) for o in outcomes] == [("done", True)] * 3
    [sentence] = said
    [again] = [o for o in outcomes if o.planned.spec.hash == hit[0]]
    assert told_of in sentence
    assert sentence.startswith(again.planned.spec.label)
    assert again.result.record["resumed"] == 1
    lines = (RunFolder(tmp_path / "hit", again.planned.spec).path / ATTEMPTS).read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert [e for e in events if e != "stopped"][:1] + events[-2:] == ["started", "started", "done"]
    assert any(told_of in event for event in events)
    carry_out(plan, Serial(ONE, domains, tmp_path / "calm"), stop=Stop())
    assert what_counts(plan, tmp_path / "hit") == what_counts(plan, tmp_path / "calm")


@pytest.mark.slow
def test_a_run_whose_process_dies_every_time_is_lost_and_the_others_are_done(paths, tmp_path):
    made = experiment(equal_steps=60)
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=[paths[0]], seeds=3)
    killed: list[int] = []
    said: list[str] = []

    with open_engine(TWO, plan, domains=domains, root=tmp_path) as engine:

        def tell(planned: PlannedRun, report: object) -> None:
            [process] = [p for p in engine.processes.values() if planned.spec.hash in p.runs]
            if planned.spec.seed == 0 and process.child.pid not in killed:
                killed.append(process.child.pid)
                process.child.kill()

        outcomes = carry_out(plan, engine, stop=Stop(), tell=tell, notify=said.append)
    assert len(killed) == 3
    assert "with 1 run at a time" in said[0]  # as for want of memory
    assert [o.state for o in outcomes] == ["lost", "done", "done"]
    assert "was killed (SIGKILL), 3 times; run the command again" in outcomes[0].note


PARENT = """
import sys
from pathlib import Path
from mkfa.training.device import Execution
from mkfa.training.stopping import Stop
from mkfa.experiments.needed_runs import Setting, plan_bases
from mkfa.images.opened import Domains
from mkfa.training.recipe import load_recipe
from mkfa.engines.estimate import estimate_on
from mkfa.engines.processes import open_engine
from mkfa.engines.sweep import carry_out
made = Setting("convmixer_8_3", load_recipe("smoke", {"equal_steps": 20000, "batch": 8}))
domains = Domains(made.recipe.size, made.recipe.max_size)
plan = plan_bases(made, domains, names=[sys.argv[1]], seeds=2)
execution = Execution("cpu", threads=1, jobs=2)
with Stop().listening() as stop, open_engine(execution, plan, domains=domains, root=Path(sys.argv[2])) as engine:
    tell = lambda *_: print(*(p.child.pid for p in engine.processes.values()), flush=True)
    carry_out(plan, engine, stop=stop, tell=tell)
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
    assert "SIGINT received, saving the current run" in errors
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
    monkeypatch.setattr(processes, "_COMMAND", ("-c", "raise SystemExit(3)"))
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = plan_bases(experiment(), domains, names=[paths[0]], seeds=2)
    for use in (lambda engine: carry_out(plan, engine, stop=Stop()), lambda engine: estimate_on(engine, plan)):
        engine = open_engine(TWO, plan, domains=domains, root=tmp_path / "runs")
        with pytest.raises(WorkError, match=r"exit code 3 before it started a run; pass --jobs 1"), engine:
            use(engine)


def test_a_machine_without_room_for_a_process_is_one_sentence(paths, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(processes.subprocess, "Popen", full)
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    plan = plan_bases(experiment(), domains, names=[paths[0]], seeds=2)
    with (
        pytest.raises(WorkError, match="cannot be started"),
        open_engine(TWO, plan, domains=domains, root=tmp_path / "runs") as engine,
    ):
        carry_out(plan, engine, stop=Stop())


def conversation(orders: list[object], root: Path) -> list[object]:
    """Return what a worker in a thread of this process answers."""
    ours, other_end = multiprocessing.Pipe()
    worker = Worker(other_end)
    thread = threading.Thread(target=worker.work)
    thread.start()
    answers = [ours.recv()]
    for order in orders:
        ours.send(order)
        answers.append(ours.recv())
        while isinstance(answers[-1], tuple) and isinstance(answers[-1][1], Report):
            answers.append(ours.recv())
    ours.close()
    thread.join()
    return answers


def test_a_worker_reads_its_order_from_the_runs_folder(paths, tmp_path, bank_maker):
    domains = Domains(experiment().recipe.size, experiment().recipe.max_size)
    bank = bank_maker([(8, 7, 7)] * 3)
    [_, planned] = plan_cells(
        experiment(), domains, cells=[(Source("made", bank=bank), paths[1], "transfer", 3)], seeds=1
    )
    assert planned.spec.source == f"bank:{bank_digest(bank)}"
    task = Task.of(planned, domains, ONE)
    assert task.names == {"b": paths[1]}
    folder = task.write(tmp_path / "runs")
    again = Task.read(folder)
    assert (again.names, again.execution, again.planned.spec) == (task.names, ONE, planned.spec)
    assert bank_digest(again.planned.bank) == bank_digest(bank)
    specimen = Task.of(PlannedRun(replace(planned.spec, arm="random", source=""), ""), domains, ONE)
    stale = replace(planned.spec, domain_digest="another")
    changed = Task.of(replace(planned, spec=stale), domains, ONE).write(tmp_path / "runs")
    answers = conversation([specimen, Worker.TIME, folder, changed, tmp_path], tmp_path / "runs")
    ready, built, timing, *runs = answers
    named, (*reports, outcome, error, without) = zip(*runs, strict=True)
    assert (ready, built) == (Worker.READY, Worker.BUILT)
    assert timing.step > 0 < timing.image
    assert named == (*[folder.name] * (len(reports) + 1), changed.name, tmp_path.name)
    assert [report.step for report in reports][-1] == 3
    assert (outcome.state, outcome.trained, outcome.planned.spec) == ("done", True, planned.spec)
    assert "has changed since the plan was made" in str(error)
    assert "has no task.json" in str(without)
    assert not {TASK, SOURCE_BANK} & {path.name for path in folder.iterdir()}
    assert RunFolder(tmp_path / "runs", planned.spec).result().done


def test_errors_cross_the_pipe():
    for error in (
        MkfaError("x", "is wrong", "do y"),
        WorkError("x", "is full", "free some"),
        UnknownBankError("x", "y"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        again = pickle.loads(pickle.dumps(unexpected(error)))
    named = processes._named(again, "letters seed 0")
    assert isinstance(named, WorkError)
    assert str(named).startswith("letters seed 0: failed with an unexpected ZeroDivisionError: by nothing;")
    assert "test_processes.py" in named.__notes__[0]


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
    plan = [SimpleNamespace(source_run=None)] * 3 + [SimpleNamespace(source_run=1)] * 4
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
def test_gpus_get_a_run_each(gpus, device, jobs, expected):
    found = divide(Execution(device=device, jobs=jobs), [SimpleNamespace(source_run=None)] * 5)
    assert [e.device for e in found] == expected
    assert {e.threads for e in found} == {12 // len(expected)}
    for device in expected:  # the runs of a device do not take more room than it has
        assert sum(e.share for e in found if e.device == device) <= 1
    assert len({e.share for e in found}) == 1
