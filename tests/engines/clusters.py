"""Small real clusters in a network namespace of their own: a Ray head with two nodes, a Slurm of one node.

Commands run inside by `Namespace.run`. Nothing of it is reachable from outside, and all of it ends with the context.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest


def can_unshare() -> bool:
    """True if this process may create a network namespace."""
    if shutil.which("unshare") is None or shutil.which("nsenter") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


class Namespace:
    """A network namespace with the loopback device alone; all processes in it are killed at its end."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.holder: Any = None

    def __enter__(self) -> Namespace:
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "3000"])
        while _namespace(self.holder.pid) == _namespace(os.getpid()):
            time.sleep(0.05)
        self.run(["ip", "link", "set", "lo", "up"])
        self.run(["ip", "addr", "add", "192.0.2.99/32", "dev", "lo"])  # Slurm looks up an address beside loopback
        return self

    def __exit__(self, *_: object) -> None:
        for _ in range(3):  # some start others before they end
            for pid in _processes(self.holder.pid):
                if pid != self.holder.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        self.holder.kill()
        self.holder.wait()

    def command(self, words: Sequence[object]) -> list[str]:
        """Return a command that runs words inside."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *map(str, words)]

    def run(self, words: Sequence[object], *, check: bool = True, timeout: float = 300) -> Any:
        """Run a command inside and return it with its output."""
        done = subprocess.run(
            self.command(words),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def start(self, words: Sequence[object]) -> subprocess.Popen[str]:
        """Start a command inside."""
        return subprocess.Popen(
            self.command(words),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def mkfa(self, *words: object, check: bool = True) -> Any:
        """Run mkfa inside."""
        return self.run([sys.executable, "-m", "mkfa.cli.app", *words], check=check)


RAY = "127.0.0.1:6390"
"""Address of the head that `start_ray` starts."""


def start_ray(inside: Namespace, *, nodes: int = 2, before: str = "") -> None:
    """Start a head without places for runs, and nodes with one CPU each; `before` starts each node in a shell."""
    ray = Path(sys.executable).with_name("ray")
    small = ("--object-store-memory=80000000", "--disable-usage-stats")
    # short: the path of a Unix socket has 107 characters at most
    head = ("--head", "--node-ip-address=127.0.0.1", "--port=6390", "--num-cpus=0", "--include-dashboard=false")
    inside.run([ray, "start", *head, f"--temp-dir={inside.folder / 'r'}", *small])
    for _ in range(nodes):
        join = shlex.join([str(ray), "start", f"--address={RAY}", "--num-cpus=1", *small[:1]])
        inside.run(["unshare", "-m", "sh", "-c", f"{before} exec {join}"] if before else shlex.split(join))


def raylets(inside: Namespace) -> list[int]:
    """Return the processes of the nodes, the head among them."""
    found = []
    for pid in _processes(inside.holder.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"/raylet"):
                found.append(pid)
    return found


def processes_of(parent: int) -> list[int]:
    """Return the processes that a process has started and that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, its_parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(its_parent) == parent and state != "Z":
                found.append(int(path.parent.name))
    return found


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Let processes stand still."""
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield pids
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _namespace(pid: int) -> str:
    """Return which network namespace a process is in; "" if it has gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return ""


def _processes(holder: int) -> list[int]:
    """Return the processes in the namespace of one of them."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if _namespace(pid) == _namespace(holder)]


# cred_expire is also how long a requeued job waits before it starts again; by default 120 seconds
SLURM = """ClusterName=mkfatest
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=15
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ReturnToService=2
KillWait=20
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def start_slurm(inside: Namespace, *, within: float = 300, before: str = "") -> None:
    """Start a Slurm of one node with two CPUs; where it does not come up, skip the test with what its daemons said.

    `before` starts the node in a shell with mounts of its own.
    """
    folder = inside.folder / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    host = os.uname().nodename.split(".")[0]
    (folder / "slurm.conf").write_text(SLURM.format(folder=folder, host=host))
    inside.environment["SLURM_CONF"] = str(folder / "slurm.conf")
    owned = ["install", "-d", "-o", "munge", "-g", "munge", "-m", "0755"]
    daemons = [
        *([*owned, path] for path in ("/run/munge", "/var/log/munge", "/var/lib/munge")),
        ["runuser", "-u", "munge", "--", shutil.which("munged") or "/usr/sbin/munged", "--force"],
        [shutil.which("slurmctld") or "/usr/sbin/slurmctld"],
        ["unshare", "-m", "sh", "-c", f"{before} exec {shutil.which('slurmd') or '/usr/sbin/slurmd'}"],
    ]
    for words in daemons:
        with _or_skip(folder, words):
            inside.run(words)
    with _or_skip(folder, ["sinfo"]):
        until = time.monotonic() + within
        while "idle" not in (found := inside.run(["sinfo", "--noheader", "--format=%T"], check=False)).stdout:
            assert time.monotonic() < until, f"its node is {found.stdout.strip() or 'unknown'} after {within:g} s"
            time.sleep(0.5)


@contextlib.contextmanager
def _or_skip(folder: Path, words: Sequence[str]) -> Iterator[None]:
    """Skip the test, with the last line of each log, if a command of Slurm fails or does not answer."""
    try:
        yield
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        logs = [f"{log.name}: {log.read_text().strip().splitlines()[-1:]}" for log in sorted(folder.glob("*.log"))]
        pytest.skip(f"Slurm does not start here ({shlex.join(words)}: {str(error)[-300:]}); {'; '.join(logs)}"[:900])
