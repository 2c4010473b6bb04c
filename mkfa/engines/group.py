"""The engine that trains several runs at a time in this process, by one of the strategies of one device.

Only runs of one kind fit together: `kind_of` names what their batches and networks have in common. Runs may come and go
at any time, and differ in seed, arm, frozen layers, images, number of steps and progress. Each keeps its own folder,
where its files are as if it had been trained alone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from time import monotonic
from typing import Any

from mkfa.arms.arms import find_arm
from mkfa.engines.engine import End, Place, Timing, unexpected
from mkfa.engines.estimate import time_group
from mkfa.engines.unit import train_planned
from mkfa.errors import DeviceMemoryError, MkfaError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution, Resolved
from mkfa.training.memory import is_out_of_memory
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report, recipe_of
from mkfa.training.spec import BASE, RunSpec
from mkfa.training.stopping import Stop, Stopped
from mkfa.training.strategies import GROUPS, Group
from mkfa.words import counted

_MOMENT = 0.2
"""Seconds of training after which the sweep gets its turn."""


def kind_of(spec: RunSpec, domains: Domains) -> tuple[object, ...]:
    """Return what runs must have in common to be computed together."""
    domain, recipe = domains[spec.domain], recipe_of(spec)
    arm = None if spec.arm == BASE else find_arm(spec.arm)
    layers = (spec.what, spec.layers)  # frozen norms and added offsets make networks of another kind
    held = layers if arm and spec.with_norm and arm.copies_norm and arm.frozen else ()
    offset = layers if arm and arm.offset else ()
    shape = recipe.size or domain.size, domain.channels, len(domain.classes), min(recipe.batch, len(domain.y_train))
    return spec.arch, tuple(sorted(spec.options.items())), tuple(sorted(recipe.identity.items())), shape, held, offset


@dataclass(slots=True)
class _Member:
    """A run in progress: its steps, and the batch that is to be computed next."""

    planned: PlannedRun
    steps: Any
    batch: Any


class Together:
    """Several runs of one kind at a time in this process: an `mkfa.engines.engine.Engine`."""

    def __init__(self, execution: Execution, strategy: str, count: int, domains: Domains, root: Path) -> None:
        self.execution, self.strategy, self.count = execution, strategy, count
        self.domains, self.root = domains, root
        self.request = Stop()
        self.tell: Callable[[PlannedRun, Report], None] = lambda *_: None
        self.group: Group = GROUPS[strategy]()
        self.members: list[_Member] = []
        self.aside: list[PlannedRun] = []
        """Runs that were submitted, and for which there is too little memory at present."""
        self.ended: list[tuple[PlannedRun, End]] = []

    @cached_property
    def how(self) -> Resolved:
        return self.execution.resolved()

    def __enter__(self) -> Together:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.steps.close()

    def check(self, plan: Sequence[PlannedRun]) -> None:
        """Do nothing: the strategy was chosen for this plan (`mkfa.engines.fastest`)."""

    def places(self) -> tuple[Place, ...]:
        return (Place(self.execution),) * self.count

    def takes(self, planned: PlannedRun) -> bool:
        others = [member.planned for member in self.members] + self.aside
        return not others or kind_of(planned.spec, self.domains) == kind_of(others[0].spec, self.domains)

    def submit(self, planned: PlannedRun) -> bool:
        if len(self.members) + len(self.aside) >= self.count:
            return False
        self._begin(planned)
        return True

    def _begin(self, planned: PlannedRun) -> None:
        """Prepare the first batch of a run; the run may also end at once."""
        steps = train_planned(
            planned,
            self.domains,
            root=self.root,
            group=self.how,
            stop=self.request,
            tell=lambda planned, report: self.tell(planned, report),
        )
        member = _Member(planned, steps, None)
        with self.how.in_force():
            if not self._advance(member, partial(next, steps)):
                return
            try:
                self.group.add(member.batch[0])
            except MkfaError:
                steps.close()
                raise
            self.members.append(member)

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Train the runs for a moment, or until one of them ends."""
        self.tell, self.request.requested = tell, stop.requested
        while self.aside and len(self.members) < self.count and not stop.requested:
            self._begin(self.aside.pop(0))
        until = monotonic() + _MOMENT
        with self.how.in_force():
            while self.members and not self.ended and monotonic() < until:
                self.request.requested = stop.requested
                self._step()
        if stop.requested and not self.members:
            self.ended += [(planned, Stopped()) for planned in self.aside]
            self.aside = []
        ends, self.ended = self.ended, []
        return ends

    def _step(self) -> None:
        """Do one step of every run."""
        try:
            losses = self.group.step([member.batch[1] for member in self.members])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            short = True
        else:
            short = False
        if short:  # outside the handler, whose traceback keeps tensors alive
            self._make_smaller()
            return
        for member, loss in zip(list(self.members), losses, strict=True):
            if not self._advance(member, partial(member.steps.send, loss)):
                self.group.stop(self.members.index(member))
                self.members.remove(member)

    def _advance(self, member: _Member, go_on: Callable[[], Any]) -> bool:
        """Let a run prepare its next batch; False if it ended instead."""
        end: End
        try:
            member.batch = go_on()
            return True
        except StopIteration as over:
            end = over.value
        except (MkfaError, Stopped) as error:
            end = error
        except Exception as error:
            end = self._too_large(member.planned) if is_out_of_memory(error) else unexpected(error)
        self.ended.append((member.planned, end))
        return False

    def _make_smaller(self) -> None:
        """Start half of the runs again from their checkpoints, and the others after them; a run that is alone fails.

        The step that failed may have updated some of the runs, so that their state in memory is of no use.
        """
        planned = [member.planned for member in self.members]
        for member in self.members:
            member.steps.close()
        self.members, self.group = [], GROUPS[self.strategy]()
        gc.collect()
        if self.how.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
        if len(planned) == 1:
            self.ended.append((planned[0], self._too_large(planned[0])))
            return
        self.count = len(planned) // 2
        self.aside = planned + self.aside

    def _too_large(self, planned: PlannedRun) -> DeviceMemoryError:
        problem = (
            f"runs out of memory on {self.how.device} with batches of {counted(recipe_of(planned.spec).batch, 'image')}"
        )
        remedy = "pass --strategy alone, which streams images where memory is short, or take a smaller batch"
        return DeviceMemoryError(planned.spec.label, problem, remedy)

    def stop(self) -> None:
        """Do nothing: the runs look at `stop` themselves."""

    def time(self, spec: RunSpec) -> Timing:
        """Time steps with as many runs at a time as the group trains."""
        whole = replace(self.execution, share=self.execution.share * self.count)
        return time_group(self.strategy, spec, self.domains, execution=whole, count=self.count)[0]
