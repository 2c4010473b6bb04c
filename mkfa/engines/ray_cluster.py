"""The engine that trains runs as tasks of a running Ray cluster, over a folder that its nodes share.

It connects to a cluster, and starts and stops nothing of it. Orders and results go through the run folders; what goes
through Ray is a path. A task of a node that dies is lost to Ray, and the sweep tries it again elsewhere, from its
checkpoint.

Whoever reaches the port of a Ray cluster runs code on it: start clusters with `RAY_AUTH_MODE=token`.
"""

from __future__ import annotations

import contextlib
import platform
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from mkfa.engines.estimate import Estimate, Timing, estimate, is_left, time_run
from mkfa.engines.sweep import Died, End, EngineError
from mkfa.engines.unit import Outcome
from mkfa.engines.work import STOP_FILE, read_progress, work
from mkfa.engines.worker import Task
from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop

_LOOK = 0.2
"""Seconds to wait for a task to end before progress is read."""
_ANSWER = 120.0
"""Seconds that nodes get to start a process and answer the first question."""


def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Ray:
    """Connect to the cluster at `execution.address` and check its nodes.

    Raises
    ------
    MkfaError
        Ray is not installed; no cluster answers; a node has other versions or does not see the folder of the runs.
    """
    try:
        ray = _ray()
    except ImportError:
        raise MkfaError("--engine ray", "needs the package ray", "install it: pip install 'mkfa[ray]'") from None
    connected = ray.is_initialized()
    if not connected:
        try:
            _knock(execution.address)
            ray.init(address=execution.address, log_to_driver=False, logging_level="error", configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:
            problem = f"no Ray cluster answers there ({type(error).__name__})"
            remedy = "start one with 'ray start --head', or pass the address of its head"
            raise MkfaError(f"--address {execution.address}", problem, remedy) from None
    try:
        root.mkdir(parents=True, exist_ok=True)
        check_nodes(root)
        left = sum(is_left(planned, root) for planned in plan)
        return Ray(_places(execution)[: max(1, left)], domains, root.resolve(), disconnect=not connected)
    except BaseException:
        if not connected:
            ray.shutdown()
        raise


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at "host:port", for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=5).close()


def check_nodes(root: Path) -> None:
    """Raise MkfaError for a node that has other versions than this machine or does not see the folder."""
    ray = _ray()
    on_node = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy

    token = secrets.token_hex(8)
    probe = root / f".probe-{token}"
    probe.write_text(token)
    try:
        task = ray.remote(num_cpus=0, max_retries=0)(look_around)
        nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
        asked = {
            identity: task.options(scheduling_strategy=on_node(identity, soft=False)).remote(str(probe.resolve()))
            for identity in nodes
        }
        here = versions()
        for identity, answer in asked.items():
            host = f"node {nodes[identity]}"
            try:
                found, text = ray.get(answer, timeout=_ANSWER)
            except Exception as error:  # whatever a node without mkfa, or a lost one, does
                problem = f"cannot run mkfa ({type(error).__name__})"
                raise MkfaError(host, problem, "install the same mkfa in the Python that Ray uses there") from None
            if odd := [
                f"{name} {found.get(name)} instead of {value}"
                for name, value in here.items()
                if found.get(name) != value
            ]:
                raise MkfaError(host, f"has {', '.join(odd)}", "install the same versions on all nodes")
            if text != token:
                remedy = "choose an --out on a file system that all nodes share"
                raise MkfaError(root, f"is not the same folder on {host}", remedy)
    finally:
        probe.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Return the versions that must agree: results depend on them."""
    from importlib.metadata import version

    from mkfa.version import VERSION

    return {"mkfa": VERSION, "torch": version("torch"), "timm": version("timm"), "python": platform.python_version()}


def look_around(probe: str) -> tuple[dict[str, str], str]:
    """Return this node's versions, and what it reads in a file; runs on the nodes."""
    try:
        text = Path(probe).read_text()
    except OSError:
        text = ""
    return versions(), text


def train(folder: str) -> End:
    """Train the run of a folder; runs on the nodes."""
    return work(Path(folder), stop=Stop())


class Ray:
    """Tasks of a Ray cluster: an `mkfa.engines.sweep.Engine`."""

    def __init__(self, executions: Sequence[Execution], domains: Domains, root: Path, *, disconnect: bool) -> None:
        self.executions, self.domains, self.root = tuple(executions), domains, root
        self.disconnect = disconnect
        self.tasks: dict[Any, PlannedRun] = {}

    def __enter__(self) -> Ray:
        (self.root / STOP_FILE).unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        ray = _ray()

        if self.tasks:
            self.request_stop()
            with contextlib.suppress(Exception):
                ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=10)
        (self.root / STOP_FILE).unlink(missing_ok=True)
        if self.disconnect:
            ray.shutdown()

    def estimate(self, plan: Sequence[PlannedRun]) -> Estimate:
        """Return how long a plan takes, if every place is as fast as this machine."""

        def timer(spec: RunSpec) -> Timing:
            return time_run(spec, self.domains, execution=replace(self.executions[0], device="cpu"))

        return estimate(plan, self.domains, root=self.root, executions=self.executions, timer=timer)

    @property
    def free(self) -> int:
        return max(0, len(self.executions) - len(self.tasks))

    @property
    def busy(self) -> bool:
        return bool(self.tasks)

    def submit(self, planned: PlannedRun) -> None:
        """Make a task of a run."""
        ray = _ray()

        execution = self.executions[0]  # places are alike
        folder = Task.of(planned, self.domains, execution).write(self.root)
        needs = {"num_cpus": execution.threads, "num_gpus": execution.share if execution.device == "cuda" else 0}
        try:
            self.tasks[ray.remote(max_retries=0, **needs)(train).remote(str(folder))] = planned
        except Exception as error:
            raise _lost(error) from error

    def ends(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Wait a moment for tasks to end, and tell the progress that their folders show.

        Raises
        ------
        EngineError
            The cluster does not answer any more.
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

    def request_stop(self) -> None:
        (self.root / STOP_FILE).touch()

    def halve(self) -> bool:
        if len(self.executions) == 1:
            return False
        self.executions = self.executions[: len(self.executions) // 2]
        return True


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
    problem = f"does not answer any more ({type(error).__name__})"
    return EngineError("the Ray cluster", problem, "start it again and give the same command: runs continue")


def _places(execution: Execution) -> list[Execution]:
    """Return one execution for each run that the cluster can train at a time.

    A run takes a whole GPU where there are any and the device allows it, else as many CPUs as threads.
    """
    ray = _ray()

    have = ray.cluster_resources()
    gpus = int(have.get("GPU", 0)) if execution.device in ("auto", "cuda") else 0
    threads = execution.threads or 1
    count = gpus or int(have.get("CPU", 0)) // threads
    if not count:
        problem = f"has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs, too few for a run"
        raise MkfaError("the Ray cluster", problem, "add a node, or pass fewer --threads")
    one = replace(execution, engine="local", device="cuda" if gpus else execution.device, threads=threads, jobs=1)
    return [one] * min(count, execution.jobs or count)
