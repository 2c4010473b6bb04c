"""The engine that trains runs as tasks of a running Ray cluster, over a folder that its nodes share.

It connects to a running cluster, and neither starts nor stops any part of it. Orders and results go through the run
folders; what goes through Ray is a path. If a node dies, Ray gives its tasks up, and the sweep tries the runs again
elsewhere, from their checkpoints.

Whoever reaches the port of a Ray cluster can run code on it: start clusters with `RAY_AUTH_MODE=token`.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from mkfa.engines.engine import Died, End, EngineError, Place, Timing
from mkfa.engines.estimate import is_left, time_run
from mkfa.engines.fastest import batch_of
from mkfa.engines.group import kind_of
from mkfa.engines.unit import Outcome
from mkfa.engines.work import STOP_FILE, other_versions, read_progress, versions, work
from mkfa.engines.worker import Task
from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.training.base_runs import base_of
from mkfa.training.device import Execution
from mkfa.training.folder import RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report, build, recipe_of
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop

_LOOK = 0.2
"""Seconds to wait for a task to end before progress is read."""
_ANSWER = 120.0
"""Seconds that nodes get to start a process and answer the first question."""

LIBRARIES = 1 << 29
"""Bytes that a process needs that has imported everything and trains nothing."""


def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Ray:
    """Return the engine."""
    return Ray(execution, domains, root, plan)


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at "host:port", for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def check_nodes(root: Path) -> None:
    """Refuse nodes that have other versions than this machine or do not see the folder; nothing is left behind.

    Raises
    ------
    MkfaError
        As above, or a node on which mkfa does not run.
    """
    token = secrets.token_hex(8)
    here = versions()
    with _probe(root, token) as probe:
        asked = {node: _remote_on(node, look_around).remote(str(probe)) for node in _nodes()}
        for node, answer in asked.items():
            host = f"node {_nodes()[node]}"
            try:
                found, text = _ray().get(answer, timeout=_ANSWER)
            except Exception as error:  # whatever a node without mkfa, or a lost one, does
                problem = f"cannot run mkfa ({type(error).__name__})"
                raise MkfaError(host, problem, "install the same mkfa in the Python that Ray uses there") from None
            if refusal := other_versions(host, found, here):
                raise refusal
            if text != token:
                remedy = "choose an --out on a file system that all nodes share"
                raise MkfaError(root, f"is not the same folder on {host}", remedy)


@contextlib.contextmanager
def _probe(root: Path, token: str) -> Iterator[Path]:
    """Write a file with the token into the folder; remove it at the end, and folders that were made for it."""
    root = root.resolve()
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    probe = root / f".probe-{token}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_text(token)
        yield probe
    except OSError as error:
        raise MkfaError(root, f"cannot be written ({error.strerror})", "choose another --out") from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()


def _nodes() -> dict[str, str]:
    """Return the names of the nodes that are alive, by their identity."""
    return {node["NodeID"]: node["NodeManagerHostname"] for node in _ray().nodes() if node["Alive"]}


def _remote_on(node: str, function: Any) -> Any:
    """Return a function as a task for one node."""
    on_node = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    task = _ray().remote(num_cpus=0, max_retries=0)(function)
    return task.options(scheduling_strategy=on_node(node, soft=False))


def look_around(probe: str) -> tuple[dict[str, str], str]:
    """Return this node's versions, and what it reads in a file; runs on the nodes."""
    try:
        text = Path(probe).read_text()
    except OSError:
        text = ""
    return versions(), text


def time_task(record: dict[str, Any]) -> Timing:
    """Time the steps of a task; runs on the nodes."""
    task = Task.from_record(record, Path())
    return time_run(task.planned.spec, task.open_domains(), execution=task.execution)


def train(folder: str) -> End:
    """Train the run of a folder; runs on the nodes."""
    return work(Path(folder), stop=Stop())


class Ray:
    """Tasks of a Ray cluster: an `mkfa.engines.engine.Engine`."""

    def __init__(self, execution: Execution, domains: Domains, root: Path, plan: Sequence[PlannedRun] = ()) -> None:
        self.execution, self.domains, self.root, self.plan = execution, domains, root.resolve(), plan
        self.connected = False
        """True if this object made the connection."""
        self.tasks: dict[Any, PlannedRun] = {}
        self.memory: dict[tuple[object, ...], int] = {}
        """Bytes that a run needs, by the kind of run."""
        self.known: list[Place] = []
        """The places at the beginning, which count while all nodes are lost."""

    def __enter__(self) -> Ray:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if self.tasks:
            self.stop()
            with contextlib.suppress(Exception):
                _ray().wait(list(self.tasks), num_returns=len(self.tasks), timeout=10)
        (self.root / STOP_FILE).unlink(missing_ok=True)
        if self.connected:
            _ray().shutdown()

    def check(self, plan: Sequence[PlannedRun]) -> None:
        """Connect to the cluster and check its nodes.

        Raises
        ------
        MkfaError
            Ray is not installed; no cluster answers; a node has other versions or does not see the folder of the runs;
            no node has room for a run.
        """
        try:
            ray = _ray()
        except ImportError:
            raise MkfaError("--engine ray", "needs the package ray", "install it: pip install 'mkfa[ray]'") from None
        address = self.execution.address
        if not ray.is_initialized():
            try:
                _knock(address)
                ray.init(address=address, log_to_driver=False, logging_level="error", configure_logging=False)
            except (OSError, ValueError, RuntimeError) as error:
                problem = f"no Ray cluster answers there ({type(error).__name__})"
                remedy = "start one with 'ray start --head', or pass the address of its head"
                raise MkfaError(f"--address {address}", problem, remedy) from None
            self.connected = True
        self.known = self._checked(self._found())
        check_nodes(self.root)
        (self.root / STOP_FILE).unlink(missing_ok=True)

    def places(self) -> list[Place]:
        """Return the places of runs that the cluster can train at a time if all are as large as the plan's largest.

        A run takes a GPU if there are any and the device allows it, or a share of one if more runs at a time are asked
        for than there are GPUs; otherwise it takes as many CPUs as threads. It also takes memory of its node.

        Raises
        ------
        MkfaError
            There is none.
        """
        found = self._found()
        need = 0
        for planned in self.plan if found else ():
            if is_left(planned, self.root):
                with contextlib.suppress(MkfaError):  # the run will say so
                    need = max(need, self._memory(planned.spec, found))
        return self._checked(self._found(need) if need else found)[: self.execution.jobs or None]

    def _checked(self, found: list[Place]) -> list[Place]:
        if not found:
            have = _ray().cluster_resources()
            problem = f"has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs, too few for a run"
            raise MkfaError("the Ray cluster", problem, "add a node, or pass fewer --threads")
        return found

    def _found(self, memory: int = 0) -> list[Place]:
        """Return the places for runs that need `memory` bytes, even more places than runs at a time are asked for.

        Nothing is lost if there are more runs than memory: Ray itself holds them back.
        """
        nodes = [(node["NodeID"], node["Resources"]) for node in _ray().nodes() if node["Alive"]]
        threads = self.execution.threads or 1
        gpus = self.execution.device in ("auto", "cuda") and any(have.get("GPU", 0) >= 1 for _, have in nodes)
        device = "cuda" if gpus else "cpu" if self.execution.device == "auto" else self.execution.device
        key, needs = ("GPU", 1) if gpus else ("CPU", threads)
        total = sum(int(have.get(key, 0)) // needs for _, have in nodes)
        each = max(1, -(-self.execution.jobs // total)) if gpus else 1
        how = replace(self.execution, engine="local", device=device, threads=threads, jobs=1, share=1 / each)
        found = []
        for node, have in nodes:
            size = int(have.get(key, 0)) // needs * each
            if memory and "memory" in have:
                size = min(size, int(have["memory"]) // memory)
            found += [Place(how, node)] * size
        return found

    def _memory(self, spec: RunSpec, places: Sequence[Place]) -> int:
        """Return roughly the bytes of its node's memory that a run needs, at most those of the largest node.

        Images do not count: they stay in memory only where it is free (`mkfa.training.memory`).
        """
        from mkfa.training.memory import training_bytes

        spec, domain = base_of(spec), self.domains[spec.domain]
        key = kind_of(spec, self.domains)
        if key not in self.memory:
            side = recipe_of(spec).size or domain.size
            shape = batch_of(spec, self.domains), domain.channels, side, side
            model, _ = build(spec, domain, None)
            weights = sum(p.numel() * p.element_size() for p in model.parameters())
            steps = training_bytes(model, shape, amp=False) if places[0].execution.device == "cpu" else 0
            self.memory[key] = LIBRARIES + weights + steps
        used = {place.node for place in places}
        nodes = (node["Resources"] for node in _ray().nodes() if node["NodeID"] in used)
        most = max((int(have.get("memory", 0)) for have in nodes), default=0)
        return min(self.memory[key], most or self.memory[key])

    def time(self, spec: RunSpec) -> Timing:
        """Time steps on every node that has a place, on all of them at once; the mean."""
        places = self.places()
        record = Task.of(PlannedRun(spec, ""), self.domains, places[0].execution).record
        asked = [_remote_on(node, time_task).remote(record) for node in {place.node for place in places}]
        timings = _ray().get(asked)
        return Timing(*(sum(getattr(t, key) for t in timings) / len(timings) for key in ("step", "image")))

    def submit(self, planned: PlannedRun) -> bool:
        """Make a task of a run; nodes that have joined the cluster count too."""
        places = self._found() or self.known
        if len(self.tasks) >= min(len(places), self.execution.jobs or len(places)):
            return False
        how = places[0].execution  # places are alike
        folder = Task.of(planned, self.domains, how).write(self.root)
        needs = {"num_cpus": how.threads, "num_gpus": how.share if how.device == "cuda" else 0}
        needs["memory"] = self._memory(planned.spec, places)
        try:
            self.tasks[_ray().remote(max_retries=0, **needs)(train).remote(str(folder))] = planned
        except Exception as error:
            raise _lost(error) from error
        return True

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Wait a moment for tasks to end, and pass on the progress that their folders show.

        Raises
        ------
        EngineError
            The cluster no longer answers.
        """
        ray = _ray()
        try:
            ready, _ = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=_LOOK)
            ends = [(self.tasks.pop(task), _end_of(task)) for task in ready]
        except (ConnectionError, ray.exceptions.RaySystemError) as error:
            raise _lost(error) from error
        for planned in self.tasks.values():
            if report := read_progress(RunFolder(self.root, planned.spec).path):
                tell(planned, report)
        return [(p, replace(end, planned=p) if isinstance(end, Outcome) else end) for p, end in ends]

    def stop(self) -> None:
        (self.root / STOP_FILE).touch()


def _ray() -> Any:
    """Return the package, which is optional; its types are not used, since it may be missing."""
    return import_module("ray")


def _end_of(task: Any) -> End:
    """Return how the run of a finished task ended."""
    ray = _ray()
    try:
        end: End = ray.get(task)
    except ray.exceptions.OutOfMemoryError:
        return Died("its process was killed by Ray, as its node had too little memory", memory=True)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError) as error:
        return Died(f"its node or process was lost ({type(error).__name__})")
    except ray.exceptions.RayTaskError as error:
        return Died(f"its task failed ({str(error).splitlines()[-1][:200]})")
    return end


def _lost(error: Exception) -> EngineError:
    problem = f"no longer answers ({type(error).__name__})"
    return EngineError("the Ray cluster", problem, "start it again and give the same command: runs continue")
