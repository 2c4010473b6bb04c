"""One run from the order in its folder: exit codes, progress as a file, stops by file and by signal, and the queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mkfa.engines import slurm_jobs, slurm_queue
from mkfa.engines.choice import ENGINES, open_engine
from mkfa.engines.engine import Died, HandedOver
from mkfa.engines.sweep import carry_out
from mkfa.engines.unit import Outcome
from mkfa.engines.work import FAILED, OVER, PROGRESS, SAVED, STOP_FILE, exit_code, listening, read_progress, work
from mkfa.engines.worker import SOURCE_BANK, Task
from mkfa.errors import MkfaError, WorkError
from mkfa.experiments.needed_runs import Domains, Setting, plan_bases, plan_cells
from mkfa.experiments.options import make_execution
from mkfa.experiments.sources import Source
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.training.device import Execution
from mkfa.training.folder import CHECKPOINT, FAILURE, METRICS, RESULT, TASK, RunFolder
from mkfa.training.recipe import load_recipe
from mkfa.training.stopping import Stop, Stopped

ONE = Execution(device="cpu", threads=1)


def setting(steps: int = 3) -> Setting:
    return Setting("resmixer_8_2", load_recipe("smoke", {"equal_steps": steps, "batch": 8}), options={"patch": 4})


@pytest.fixture
def images(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    y = np.arange(36, dtype=np.int64) % 3
    x = (rng.integers(0, 160, (36, 16, 16, 1)) + 30 * y[:, None, None, None]).astype(np.uint8)
    made = make_domain("a", ("k", "l", "m"), train=(x[:24], y[:24]), test=(x[24:], y[24:]))
    return str(write_domain(made, tmp_path / "a.h5", facts={"source": "made"}))


def order(images: str, root: Path, steps: int = 3, **changes: object) -> Path:
    domains = Domains(setting().recipe.size, setting().recipe.max_size)
    [planned] = plan_bases(setting(steps), domains, names=[images], seeds=1)
    return Task.of(planned, domains, replace(ONE, **changes)).write(root)


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "mkfa.cli.app", "work", str(folder)]


def test_a_run_is_trained_from_its_folder(images, tmp_path):
    folder = order(images, tmp_path / "runs")
    end = work(folder, stop=Stop())
    assert isinstance(end, Outcome) and (end.state, end.trained, exit_code(end)) == ("done", True, OVER)
    assert not {TASK, SOURCE_BANK, PROGRESS} & {path.name for path in folder.iterdir()}
    assert (folder / RESULT).exists()


def test_a_process_trains_on_other_images_of_the_same_name(images, tmp_path):
    first, other = order(images, tmp_path / "runs"), tmp_path / "other" / "a.h5"
    assert exit_code(work(first, stop=Stop())) == OVER
    x, y = np.zeros((36, 16, 16, 1), np.uint8), np.arange(36, dtype=np.int64) % 3
    other.parent.mkdir()
    made = make_domain("a", ("k", "l", "m"), train=(x[:24], y[:24]), test=(x[24:], y[24:]))
    second = order(str(write_domain(made, other, facts={"source": "made"})), tmp_path / "runs")
    assert exit_code(work(second, stop=Stop())) == OVER and first != second


def test_the_command_says_how_it_ended(images, tmp_path):
    folder = order(images, tmp_path / "runs")
    first = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert (first.returncode, first.stdout) == (0, "a resmixer_8_2 seed 0: done\n"), first.stderr
    again = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "done, and its result is there" in again.stdout
    nothing = subprocess.run(command(tmp_path), capture_output=True, text=True, check=False)
    assert nothing.returncode == 2 and "has no task.json" in nothing.stderr and "Traceback" not in nothing.stderr
    elsewhere = order(images, tmp_path / "gpu", device="cuda:99")
    failed = subprocess.run(command(elsewhere), capture_output=True, text=True, check=False)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (FAILED, 1) and "cuda:99" in failed.stderr
    assert (elsewhere / TASK).exists()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_saves_the_run_and_the_same_command_goes_on(images, tmp_path, number):
    calm, folder = order(images, tmp_path / "calm", 1500), order(images, tmp_path / "runs", 1500)
    process = subprocess.Popen(command(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while read_progress(folder) is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == SAVED and "the same command goes on" in said
    assert (folder / CHECKPOINT).exists() and not (folder / PROGRESS).exists()
    assert work(folder, stop=Stop()).result.record["resumed"] == 1
    work(calm, stop=Stop())
    assert (folder / METRICS).read_bytes() == (calm / METRICS).read_bytes()


def test_a_file_stops_all_runs_of_a_folder(images, tmp_path):
    folder = order(images, tmp_path / "runs", 20_000)
    ends: list[object] = []
    thread = threading.Thread(target=lambda: ends.append(work(folder, stop=Stop())))
    thread.start()
    while (seen := read_progress(folder)) is None:
        assert thread.is_alive(), ends
        time.sleep(0.02)
    (folder.parent / STOP_FILE).touch()
    thread.join(60)
    assert isinstance(ends[0], Stopped) and exit_code(ends[0]) == SAVED
    assert 0 < seen.step < seen.steps == 20_000


def test_ends_have_exit_codes():
    lost = WorkError("a disk", "is full", "free some")
    assert [exit_code(end) for end in (Stopped(), lost, Died("it is gone"))] == [SAVED, FAILED, FAILED]


def test_a_borrower_whose_base_run_is_missing_fails_with_its_reason(images, tmp_path):
    domains = Domains(setting().recipe.size, setting().recipe.max_size)
    plan = plan_cells(setting(), domains, cells=[(Source("a", images), images, "transfer", 1)], seeds=1)
    borrower = next(p for p in plan if p.source_run is not None)
    end = work(Task.of(borrower, domains, ONE).write(tmp_path / "runs"), stop=Stop())
    assert exit_code(end) == FAILED and "is not done" in end.note


def test_user_signal_is_told_from_others():
    for number, over in ((signal.SIGUSR1, True), (signal.SIGTERM, False)):
        with listening() as stop:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
        assert (stop.requested, stop.time_over) == (True, over)


def test_orders_name_images_by_paths_that_hold_anywhere(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = order("a.h5", tmp_path / "runs")
    monkeypatch.chdir("/")
    assert exit_code(work(folder, stop=Stop())) == OVER


class Queue:
    """Stands for Slurm's commands: keeps what was submitted, and answers as they do."""

    def __init__(self) -> None:
        self.submitted: list[list[str]] = []
        self.alive = ""

    def __call__(self, words: list[str], **_: float) -> str:
        if words[0] == "squeue":
            return self.alive
        if words[0] == "sinfo":
            return "one 2\ntwo 4\none 2"  # a line for each partition of a node
        self.submitted.append(list(words))
        return f"{len(self.submitted)};cluster"


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(slurm_jobs, "ask", made)
    monkeypatch.setattr(slurm_queue.shutil, "which", lambda name: f"/usr/bin/{name}")
    return made


def test_slurm_gets_an_array_of_base_runs_and_one_of_borrowers_that_wait_for_it(images, tmp_path, queue):
    domains = Domains(setting().recipe.size, setting().recipe.max_size)
    cells = [(Source("a", images), images, arm, n) for arm in ("transfer", "random") for n in (1, 2)]
    plan = plan_cells(setting(), domains, cells=cells, seeds=2)
    execution = replace(ONE, engine="slurm", sbatch="--partition gpu --time '1:00:00'")

    def command(told: str) -> None:
        with open_engine(execution, plan, domains=domains, root=tmp_path / "runs") as engine:
            assert [place.node for place in engine.places()] == ["one"] * 2 + ["two"] * 4
            with pytest.raises(HandedOver, match=told):
                carry_out(plan, engine, stop=Stop())

    command("0 of 10 runs are done: 6 submitted as job 1; 4 submitted as job 2, which waits for 1;")
    first, second = queue.submitted
    assert "--array=0-5" in first and not any(word.startswith("--dependency") for word in first)
    assert "--array=0-3" in second and "--dependency=afterany:1" in second
    assert first[first.index("--partition") :][:4] == ["--partition", "gpu", "--time", "1:00:00"]
    lists = {json.loads(p.read_text())["job"]: json.loads(p.read_text()) for p in tmp_path.glob("runs/slurm/*.json")}
    borrowers = {RunFolder(tmp_path / "runs", p.spec).path for p in plan if p.source_run}
    assert set(lists["2"]["folders"]) == {str(path) for path in borrowers}
    queue.alive = "\n".join(
        f"{job}|{i}|PENDING|Priority|(null)" for job, made in lists.items() for i in range(len(made["folders"]))
    )
    command("0 of 10 runs are done: 10 in the queue or in progress already;")
    assert len(queue.submitted) == 2
    queue.alive = "2|0|PENDING|Priority|(null)"  # the base runs are gone from the queue without a result
    (Path(lists["1"]["folders"][0]) / FAILURE).write_text('{"error": "the disk is full"}')
    command(r"1 submitted as job 3, again after it failed \(the disk is full\)")
    assert len(queue.submitted) == 4


def test_slurm_is_told_how_many_runs_may_train_at_a_time(images, tmp_path, queue):
    domains = Domains(setting().recipe.size, setting().recipe.max_size)
    plan = plan_bases(setting(), domains, names=[images], seeds=3)
    execution = replace(ONE, engine="slurm", jobs=2)
    with open_engine(execution, plan, domains=domains, root=tmp_path) as engine:
        assert len(engine.places()) == 2
        with pytest.raises(HandedOver, match="3 submitted as job 1"):
            carry_out(plan, engine, stop=Stop())
    assert "--array=0-2%2" in queue.submitted[0]


@pytest.mark.parametrize(
    ("device", "sbatch", "expected"),
    [("auto", "", "cpu"), ("auto", "--gres=gpu:1", "cuda"), ("auto", "--gpus 1", "cuda"), ("cpu", "--gpus 1", "cpu")],
)
def test_slurm_trains_on_gpus_where_jobs_ask_for_them(tmp_path, queue, device, sbatch, expected):
    execution = Execution(device=device, engine="slurm", sbatch=sbatch)
    with open_engine(execution, (), domains=Domains(32, 64), root=tmp_path) as engine:
        assert {place.execution.device for place in engine.places()} == {expected}


@pytest.mark.slow
def test_finished_runs_are_taken_over_from_the_queue(images, tmp_path, queue):
    domains = Domains(setting().recipe.size, setting().recipe.max_size)
    plan = plan_bases(setting(), domains, names=[images], seeds=2)
    execution = replace(ONE, engine="slurm")
    with open_engine(execution, plan, domains=domains, root=tmp_path / "runs") as engine, pytest.raises(HandedOver):
        carry_out(plan, engine, stop=Stop())
    with open_engine(execution, plan, domains=domains, root=tmp_path / "runs") as engine:
        [listed] = tmp_path.glob("runs/slurm/*.json")
        for index in range(2):
            assert slurm_queue.main([str(listed), str(index)]) == OVER
        outcomes = carry_out(plan, engine, stop=Stop())
    assert [(o.state, o.trained, o.banks is not None) for o in outcomes] == [("done", False, True)] * 2


def test_a_node_of_other_versions_trains_nothing_and_says_so(images, tmp_path, queue, capsys, monkeypatch):
    domains = Domains(setting().recipe.size, setting().recipe.max_size)
    plan = plan_bases(setting(), domains, names=[images], seeds=1)
    execution = replace(ONE, engine="slurm")
    with open_engine(execution, plan, domains=domains, root=tmp_path / "runs") as engine, pytest.raises(HandedOver):
        carry_out(plan, engine, stop=Stop())
    [listed] = tmp_path.glob("runs/slurm/*.json")
    record = json.loads(listed.read_text())
    listed.write_text(json.dumps(record | {"versions": record["versions"] | {"mkfa": "0.0.1"}}))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "1")
    assert slurm_queue.main([str(listed), "0"]) == FAILED
    assert "instead of 0.0.1" in str(slurm_jobs.compared(tmp_path / "runs", "1")["1_0"])
    [folder] = map(Path, record["folders"])
    assert "instead of 0.0.1; install the same versions on all nodes" in capsys.readouterr().out
    assert "instead of 0.0.1" in json.loads((folder / "failure.json").read_text())["error"]
    assert not (folder / RESULT).exists()
    listed.write_text(
        json.dumps({name: value for name, value in record.items() if name != "versions"})
    )  # of former mkfa
    assert slurm_queue.main([str(listed), "0"]) == OVER
    assert slurm_jobs.compared(tmp_path / "runs", "1") == {"1_0": None}


def test_bad_requests(images, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_queue.shutil, "which", lambda _: None)
    domains = Domains(32, 64)
    with (
        pytest.raises(MkfaError, match="needs Slurm's sbatch"),
        open_engine(replace(ONE, engine="slurm"), (), domains=domains, root=tmp_path / "runs"),
    ):
        pass
    assert not (tmp_path / "runs").exists()
    with pytest.raises(MkfaError, match="is not an engine; choose from local, orders, ray, slurm"):
        make_execution({"engine": "condor"})
    with pytest.raises(MkfaError, match="is for --engine ray"):
        make_execution({"address": "1.2.3.4:6379"})
    with pytest.raises(MkfaError, match="is for --engine slurm"):
        make_execution({"engine": "ray", "sbatch": "-p gpu"})
    assert set(ENGINES) == {"local", "orders", "ray", "slurm"}
