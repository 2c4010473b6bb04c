"""One run over several processes, which `torchrun` starts: what each computes, and what all decide together.

In torchrun's words a process is a rank, and their number is the world size. Every rank draws for the whole batch and
computes some of its rows; gradients are averaged by torch's DistributedDataParallel, and batch norms use the statistics
of the whole batch (`mkfa.networks.batch_norm`). So a run is the same run whatever the world size, up to rounding. Rank
0 alone writes the run's files. Whatever decides how a run goes on is decided by all ranks together: ranks that part
wait for each other for ever.
"""

from __future__ import annotations

import contextlib
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mkfa.array_types import I64
from mkfa.errors import MkfaError, WorkError, one_line
from mkfa.training.device import Execution, Resolved
from mkfa.words import counted

if TYPE_CHECKING:
    import torch

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets in the environment of every process; `LOCAL_RANK` tells that it did."""
_START = "start it by 'torchrun --nproc-per-node N -m mkfa work FOLDER'"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run, seen from one of them; the default is a single one.

    Attributes
    ----------
    rank, world : number of this process, from 0, and of all.
    local, beside : the same among the processes of this machine.
    group : torch's process group for tensors on the run's device; None: the default group.
    places : tuple of mappings
        Host and device of each rank, for the records of a run; empty for a single process.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    beside: int = 1
    group: Any = None
    places: tuple[Mapping[str, str], ...] = ()

    @property
    def leads(self) -> bool:
        """True for the rank that writes the run's files."""
        return self.rank == 0

    @property
    def record(self) -> dict[str, Any]:
        """What attempts and results say about the ranks; nothing for a single process."""
        return {"ranks": [dict(place) for place in self.places]} if self.places else {}

    def rows(self, count: int) -> I64:
        """Return the rows of a batch of `count` images that this rank computes, in order; (B,) int64.

        Row i is mixed with row count - 1 - i, so that both are a rank's, at mirrored places.

        Examples
        --------
        >>> [Ranks(rank, 2).rows(7).tolist() for rank in (0, 1)]
        [[0, 1, 5, 6], [2, 3, 4]]
        """
        pairs = (count + 1) // 2
        mine = np.arange(self.rank * pairs // self.world, (self.rank + 1) * pairs // self.world)
        return np.union1d(mine, count - 1 - mine)

    def check(self, count: int) -> None:
        """Raise MkfaError if there are too few rows in a batch for all ranks."""
        if self.world > 1 and self.world > (pairs := (count + 1) // 2):
            among = counted(self.world, "process", "processes")
            problem = f"shares a batch of {counted(count, 'image')} among {among}, which get pairs of images"
            raise MkfaError("torchrun", problem, f"start at most {pairs}")

    def placed(self, execution: Execution) -> tuple[Ranks, Resolved]:
        """Return the ranks, ready to share tensors of the run's device, and how this one computes.

        Raises MkfaError: the ranks have devices of different kinds or other versions of mkfa or torch; or a machine has
        fewer GPUs than processes; or the run is to be compiled.
        """
        if self.world == 1:
            return self, execution.resolved()
        import torch
        import torch.distributed as dist

        from mkfa.version import VERSION

        how = self.together(lambda: self._resolved(execution))
        facts = {
            "devices of one kind": how.device.type,
            "one version of mkfa": VERSION,
            "one version of torch": str(torch.__version__),
        }
        place = {"host": platform.node(), "device": str(how.device)}
        everyone: list[Any] = [None] * self.world
        dist.all_gather_object(everyone, (facts, place))
        for name in facts:
            found = sorted({other[name] for other, _ in everyone})
            if len(found) > 1:
                raise self._said(MkfaError("torchrun", f"needs {name}, and finds {', '.join(found)}", _SAME[name]))
        group = dist.new_group(backend="nccl") if how.device.type == "cuda" else None
        return replace(self, group=group, places=tuple(place for _, place in everyone)), how

    def _resolved(self, execution: Execution) -> Resolved:
        """Return how this rank computes: on its own GPU, or with the threads that torchrun gives each process."""
        import torch

        if execution.compile:
            remedy = "plan the run without --compile, or train it in one process"
            raise MkfaError("--compile", "is not possible where processes share a run", remedy)
        execution, kind = replace(execution, compile=False), execution.kind
        if kind == "mps":
            raise MkfaError("--device mps", "cannot be shared by processes", "train on a CPU or with CUDA")
        if kind != "cuda":
            shared = replace(execution, threads=0, share=execution.share / self.beside)
            return shared.resolved()
        if self.beside > (count := torch.cuda.device_count()):
            problem = (
                f"starts {counted(self.beside, 'process', 'processes')} on {platform.node()}, which has {count} GPUs"
            )
            raise MkfaError("torchrun", problem, f"pass --nproc-per-node {count}")
        torch.cuda.set_device(self.local)
        return replace(execution, device=f"cuda:{self.local}").resolved()

    def together(self, make: Callable[[], T]) -> T:
        """Return what `make` returns in this rank; an MkfaError in any rank is raised in all of them."""
        if self.world == 1:
            return make()
        import torch.distributed as dist

        answer: T | MkfaError
        try:
            answer = make()
        except MkfaError as error:
            answer = error
        errors: list[Any] = [None] * self.world
        dist.all_gather_object(errors, answer if isinstance(answer, MkfaError) else None)
        for found in errors:
            if found is not None:
                raise self._said(found)
        return answer  # type: ignore[return-value]

    def lead(self, make: Callable[[], T]) -> T:
        """Return, in all ranks, what `make` returns in rank 0, where alone it is called; or raise its MkfaError."""
        if self.world == 1:
            return make()
        import torch.distributed as dist

        answer: list[Any] = [None, None]
        if self.leads:
            try:
                answer[0] = make()
            except MkfaError as error:
                answer[1] = error
        dist.broadcast_object_list(answer)
        if answer[1] is not None:
            raise self._said(answer[1])
        return answer[0]  # type: ignore[no-any-return]

    def in_any(self, *flags: bool) -> tuple[bool, ...]:
        """Return, for each flag, whether it is set in any rank; nothing waits for a GPU."""
        if self.world == 1:
            return flags
        import torch
        import torch.distributed as dist

        values = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return tuple(bool(value) for value in values.tolist())

    def earliest(self, step: int) -> int:
        """Return the first step that a rank names, -1 if none does; a rank names -1 for none."""
        if self.world == 1:
            return step
        import torch
        import torch.distributed as dist

        none = 2**62
        value = torch.tensor(step if step >= 0 else none)
        dist.all_reduce(value, op=dist.ReduceOp.MIN)
        return int(value) if int(value) < none else -1

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks, which have one each."""
        if self.world == 1:
            return part
        import torch.distributed as dist

        summed = part.clone()
        dist.all_reduce(summed, group=self.group)
        return summed

    def is_loss(self, error: Exception) -> bool:
        """Return whether an error means that another rank is gone: a transfer to it failed."""
        if self.world == 1 or not isinstance(error, RuntimeError):
            return False
        import torch.distributed as dist

        known = isinstance(error, dist.DistError)
        return known or any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "peer"))

    def let_leader_speak(self) -> None:
        """Return in rank 0 at once, in others when rank 0 has gone: torchrun ends all after the first that failed."""
        if self.world == 1 or self.leads:
            return
        import torch.distributed as dist

        with contextlib.suppress(RuntimeError):  # rank 0 never comes to this barrier, and its end breaks it
            dist.barrier()

    def lost_one(self, run: str) -> WorkError:
        """Return the error of a run that lost one of its processes."""
        remedy = "see what that one says; the same command goes on from the last checkpoint"
        return WorkError(f"run {run}", f"has lost another of its {counted(self.world, 'process', 'processes')}", remedy)

    def _said(self, error: MkfaError) -> MkfaError:
        return error if self.leads else _told_elsewhere(error)


ALONE = Ranks()
"""A single process."""
_SAME = {
    "devices of one kind": "name the device where the run is planned (--device), or use like machines",
    "one version of mkfa": "install one version on all machines",
    "one version of torch": "install one version on all machines",
}
"""What to do where ranks differ."""


def _told_elsewhere(error: MkfaError) -> MkfaError:
    """Mark an error that another rank tells the user."""
    error.told_elsewhere = True  # type: ignore[attr-defined]
    return error


def is_told_elsewhere(error: object) -> bool:
    """Return whether another rank tells the user about an error."""
    return bool(getattr(error, "told_elsewhere", False))


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """Return the ranks that torchrun has set in an environment; a single process if it has not.

    Raises MkfaError: some variables are missing or are not numbers that fit each other.

    Examples
    --------
    >>> ranks_of({})
    Ranks(rank=0, world=1, local=0, beside=1, group=None, places=())
    """
    if "LOCAL_RANK" not in environment:
        return ALONE
    if missing := [name for name in _VARIABLES if name not in environment]:
        raise MkfaError("LOCAL_RANK", f"is set, and {', '.join(missing)} is not", f"unset it, or {_START}")
    numbers = {}
    for name in _VARIABLES[:4]:
        if not environment[name].isdecimal():
            raise MkfaError(name, f"is {environment[name][:20]!r}, which is not a number", f"unset it, or {_START}")
        numbers[name] = int(environment[name])
    for rank, world in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        if not numbers[rank] < numbers[world]:
            problem = f"is {numbers[rank]}, and {world} is {numbers[world]}"
            raise MkfaError(rank, problem, f"unset it, or {_START}")
    return Ranks(numbers["RANK"], numbers["WORLD_SIZE"], numbers["LOCAL_RANK"], numbers["LOCAL_WORLD_SIZE"])


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Return the ranks of this process, connected to each other while the body runs.

    Raises MkfaError: as `ranks_of`, or torch was built without distributed training. Raises WorkError: the others
    cannot be reached.
    """
    ranks = ranks_of(os.environ)
    if ranks.world == 1:
        yield ranks
        return
    import torch.distributed as dist

    if not dist.is_available():
        raise MkfaError("torch", "was built without distributed training", "install one with it, or leave torchrun out")
    try:
        dist.init_process_group("gloo")
    except (RuntimeError, ValueError) as error:
        address = ":".join(os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT"))
        processes = counted(ranks.world, "process", "processes")
        problem = f"does not bring {processes} together at {address} ({one_line(str(error))[:150]})"
        raise WorkError("torchrun", problem, "check --rdzv-endpoint and that the machines reach each other") from None
    with warnings.catch_warnings():
        # DistributedDataParallel: a former name of an option, which all supported versions know; and gradients of 1x1
        # convolutions whose strides differ only where there is one element.
        for message in ("`broadcast_buffers` is deprecated", "Grad strides do not match bucket view strides"):
            warnings.filterwarnings("ignore", message)
        yield ranks
    dist.destroy_process_group()  # after an error, others may never answer
