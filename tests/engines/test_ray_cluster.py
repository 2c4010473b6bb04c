"""The engine for Ray against a cluster of this process: a module that answers as Ray does, where Ray is not installed.

Real clusters are in `test_clusters.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import mkfa
from mkfa.engines import ray_cluster
from mkfa.engines.choice import open_engine
from mkfa.errors import MkfaError
from mkfa.experiments.planning import plan_train
from mkfa.training.device import Execution
from mkfa.training.folder import ATTEMPTS

SMALL = {"arch": "resmixer_8_2", "equal_steps": 2, "set": {"batch": 8}, "seeds": 2, "device": "cpu", "threads": 1}
ON_RAY = {**SMALL, "engine": "ray"}


class Exceptions(ModuleType):
    """Ray's exceptions that the engine knows."""

    def __init__(self) -> None:
        super().__init__("ray.exceptions")
        for name in (
            *("OutOfMemoryError", "WorkerCrashedError", "NodeDiedError"),
            *("ObjectLostError", "RayTaskError", "RaySystemError"),
        ):
            setattr(self, name, type(name, (Exception,), {}))


@dataclass
class Node:
    """A node: `before` is called with each function that it runs, and may raise or return another one."""

    name: str
    cpus: int = 1
    gpus: int = 0
    memory: float = 8e9
    alive: bool = True
    before: Callable[[Any], Any] = lambda function: function


@dataclass(eq=False)
class Task:
    """A task that is carried out when its result is asked for."""

    cluster: Cluster
    function: Any
    needs: dict[str, Any]
    words: tuple[Any, ...] = ()
    ends: list[Any] = field(default_factory=list)

    def options(self, *, scheduling_strategy: Any) -> Task:
        node, soft = scheduling_strategy
        assert soft is False  # else another node could answer
        return Task(self.cluster, self.function, {**self.needs, "node": node})

    def remote(self, *words: Any) -> Task:
        self.cluster.asked.append((self.function.__name__, {**self.needs}))
        return Task(self.cluster, self.function, self.needs, words)

    def get(self) -> Any:
        alive = [node for node in self.cluster.found if node.alive]
        node = next(node for node in alive if self.needs.get("node", node.name) == node.name)
        return node.before(self.function)(*self.words)


class Cluster(ModuleType):
    """As much of the package `ray` as the engine uses."""

    def __init__(self, *found: Node) -> None:
        super().__init__("ray")
        self.found, self.exceptions = found, Exceptions()
        self.connected, self.asked, self.calls = False, [], []
        self.silent = False

    def is_initialized(self) -> bool:
        return self.connected

    def init(self, *, address: str, **_: Any) -> None:
        if not self.found:
            raise ConnectionError("no running Ray instance")
        self.calls.append(f"init {address}")
        self.connected = True

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        self.connected = False

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "NodeID": node.name,
                "NodeManagerHostname": node.name,
                "Alive": node.alive,
                "Resources": {"CPU": float(node.cpus), "memory": node.memory}
                | ({"GPU": float(node.gpus)} if node.gpus else {}),
            }
            for node in self.found
        ]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(sum(node.cpus for node in self.found)), "GPU": 0.0}

    def remote(self, **needs: Any) -> Callable[[Any], Task]:
        assert needs["max_retries"] == 0  # the sweep tries again, on all engines alike
        return lambda function: Task(self, function, needs)

    def get(self, asked: Any, timeout: float | None = None) -> Any:
        return [task.get() for task in asked] if isinstance(asked, list) else asked.get()

    def wait(self, tasks: list[Task], *, num_returns: int, timeout: float) -> tuple[list[Task], list[Task]]:
        if self.silent:
            raise ConnectionError("the head is gone")
        assert num_returns == len(tasks) and timeout < 60
        return tasks[:1], tasks[1:]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cluster]:
    """Return a function that makes a cluster of nodes what `import ray` finds."""

    def make(*found: Node) -> Cluster:
        ray, strategies = Cluster(*found), ModuleType("ray.util.scheduling_strategies")
        strategies.NodeAffinitySchedulingStrategy = lambda node, soft: (node, soft)
        for name, module in {
            "ray": ray,
            "ray.util": ModuleType("ray.util"),
            "ray.util.scheduling_strategies": strategies,
            "ray.exceptions": ray.exceptions,
        }.items():
            monkeypatch.setitem(sys.modules, name, module)
        return ray

    return make


def of_version(version: str) -> Callable[[Any], Any]:
    """Return what makes a node's Python another mkfa."""

    def before(function: Any) -> Any:
        def look(probe: str) -> Any:
            found, text = function(probe)
            return found | {"mkfa": version}, text

        return look if function is ray_cluster.look_around else function

    return before


def with_own_files(function: Any) -> Any:
    """A node on which no path of this machine is there."""
    if function is ray_cluster.look_around:
        return lambda probe: function(f"/nonexistent{probe}")
    return function


def without_mkfa(function: Any) -> Any:
    raise ModuleNotFoundError("No module named 'mkfa'")


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (Node("b", before=of_version("0.0.1")), r"node b: has mkfa 0\.0\.1 instead of .*; install the same versions"),
        (Node("b", before=with_own_files), r"out/runs: is not the same folder on node b; choose an --out on"),
        (Node("b", before=without_mkfa), r"node b: cannot run mkfa \(ModuleNotFoundError\); install the same mkfa"),
    ],
)
def test_a_node_that_cannot_take_part_is_refused_and_nothing_is_written(cluster, tmp_path, own_home, second, sentence):
    ray = cluster(Node("a"), second)
    plan = plan_train("digits", {**ON_RAY, "out": tmp_path / "out"})
    before = sorted(own_home.rglob("*"))
    with pytest.raises(MkfaError, match=sentence) as refused:
        plan.carry_out()
    assert refused.value.exit_code == 2
    assert not (tmp_path / "out").exists() and sorted(own_home.rglob("*")) == before
    assert {name for name, _ in ray.asked} == {"look_around"}  # no run was begun
    assert ray.calls == ["init auto", "shutdown"]  # of this connection, nothing of the cluster


def test_a_node_that_is_gone_is_not_asked(cluster, tmp_path):
    ray = cluster(Node("a"), Node("b", alive=False, before=without_mkfa))
    assert [run.state for run in mkfa.train("digits", out=tmp_path, **ON_RAY)] == ["done", "done"]
    assert [needs["node"] for name, needs in ray.asked if name == "look_around"] == ["a"]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ((), r"--address auto: no Ray cluster answers there \(ConnectionError\); start one with 'ray start --head'"),
        ((Node("a", cpus=0),), "the Ray cluster: has 0 CPUs and 0 GPUs, too few for a run; add a node"),
    ],
)
def test_a_cluster_that_is_not_there_or_too_small_is_refused(cluster, tmp_path, found, sentence):
    cluster(*found)
    with pytest.raises(MkfaError, match=sentence):
        mkfa.train("digits", out=tmp_path / "out", **ON_RAY)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_was_joined_before_stays_joined(cluster, tmp_path):
    ray = cluster(Node("a", cpus=2))
    ray.connected = True
    runs = mkfa.train("digits", out=tmp_path / "ray", **ON_RAY)
    assert ray.calls == []
    assert [name for name, _ in ray.asked].count("train") == 2
    local = mkfa.train("digits", jobs=1, out=tmp_path / "local", **SMALL)
    assert [run.result.weights_sha256 for run in runs] == [run.result.weights_sha256 for run in local]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("NodeDiedError", r"its node or process was lost \(NodeDiedError\)"),
        ("OutOfMemoryError", "its process was killed by Ray, as its node had too little memory"),
        ("RayTaskError", "its task failed"),
    ],
)
def test_a_run_whose_task_is_lost_is_tried_again(cluster, tmp_path, error, words):
    first = []

    def lose(function: Any) -> Any:
        if function is ray_cluster.train and not first:
            first.append(1)
            raise getattr(ray.exceptions, error)("the reason")
        return function

    ray = cluster(Node("a", before=lose), Node("b", before=lose))
    with pytest.warns(UserWarning, match=f"{words}.*it is tried again"):
        runs = mkfa.train("digits", out=tmp_path, **ON_RAY)
    assert [run.state for run in runs] == ["done", "done"]
    assert sum(name == "train" for name, _ in ray.asked) == 3
    noted = "".join(path.read_text() for path in Path(tmp_path).glob(f"runs/*/{ATTEMPTS}"))
    assert noted.count(words.split(" (")[0].split(r" \(")[0]) == 1


@pytest.mark.parametrize("when", ["submit", "events"])
def test_a_cluster_that_dies_in_the_middle_is_one_sentence(cluster, tmp_path, monkeypatch, when):
    ray = cluster(Node("a"))
    if when == "events":
        ray.silent = True
    else:

        def remote(self: Task, *words: Any, real: Any = Task.remote) -> Task:
            if self.function is ray_cluster.train:
                raise ray.exceptions.RaySystemError("the head is gone")
            return real(self, *words)

        monkeypatch.setattr(Task, "remote", remote)
    with pytest.raises(MkfaError, match=r"the Ray cluster: no longer answers \(.*\); start it again and give"):
        mkfa.train("digits", out=tmp_path, **ON_RAY)
    assert not list(tmp_path.glob("runs/stop"))


def test_gpus_of_nodes_are_places_and_runs_take_one_each(cluster, tmp_path):
    ray = cluster(Node("a", cpus=4, gpus=2), Node("b", cpus=8))
    ray.connected = True
    engine = ray_cluster.Ray(Execution(engine="ray"), SimpleNamespace(), tmp_path)
    assert [(place.node, place.execution.device) for place in engine.places()] == [("a", "cuda")] * 2
    shared = ray_cluster.Ray(Execution(engine="ray", jobs=3), SimpleNamespace(), tmp_path)
    assert [(place.node, place.execution.share) for place in shared.places()] == [("a", 0.5)] * 3
    by_cpu = ray_cluster.Ray(Execution(engine="ray", device="cpu", threads=2), SimpleNamespace(), tmp_path)
    assert [place.node for place in by_cpu.places()] == ["a"] * 2 + ["b"] * 4


@pytest.mark.parametrize("memory", [8e9, 5e8])
def test_a_task_asks_for_cpus_and_memory_that_a_node_has(cluster, tmp_path, memory):
    """Ray would wait for ever for a node with more memory than any has."""
    ray = cluster(Node("a", memory=memory))
    mkfa.train("digits", out=tmp_path / "small", **ON_RAY)
    mkfa.train("digits", out=tmp_path / "large", **{**ON_RAY, "set": {"batch": 512}})
    needs = [need for name, need in ray.asked if name == "train"]
    assert {(need["num_cpus"], need["num_gpus"]) for need in needs} == {(1, 0)}
    asked = [need["memory"] for need in needs]
    assert len(asked) == 4 and asked[0] == asked[1] and asked[2] == asked[3]
    if memory > 2e9:
        extra = asked[2] - asked[0]  # the activations and copies of 504 images of 32 x 32
        assert ray_cluster.LIBRARIES < asked[0] < asked[2] < 2 * ray_cluster.LIBRARIES
        assert extra > 504 * 32 * 32 * 4 * 8
    else:
        assert asked == [memory] * 4


def test_runs_at_a_time_fit_into_the_memory_of_the_nodes(cluster, tmp_path):
    """Of nodes with eight CPUs each, one has memory for two runs, the other for none."""
    need = int(1.5 * ray_cluster.LIBRARIES)  # a run needs a little more than what its process has imported
    cluster(Node("a", cpus=8, memory=2 * need), Node("b", cpus=8, memory=need / 2))
    plan = plan_train("digits", {**ON_RAY, "seeds": 20, "out": tmp_path})
    with open_engine(
        Execution(engine="ray", device="cpu", threads=1), plan.runs, domains=plan.domains, root=plan.root
    ) as engine:
        assert [place.node for place in engine.places()] == ["a", "a"]
        assert plan.estimate().jobs == 2
