"""Progress on stderr: one bar for a verb, and for training a bar over all steps and one for each run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mkfa.cli.shared.printing import VOICE, clean
from mkfa.cli.shared.streams import emit

if TYPE_CHECKING:
    from rich.progress import TaskID

    from mkfa.engines.unit import Outcome
    from mkfa.training.planned import PlannedRun
    from mkfa.training.run import Report

LINES = 8
"""Runs in progress that get a bar of their own."""


def shown() -> bool:
    """Return the `progress` that a verb of the library takes: a bar unless the command is quiet."""
    return not VOICE.quiet


class SweepBar:
    """A bar over all steps with the images per second of all runs together, and one for each run in progress.

    The time left follows from the steps of this call, not from an earlier estimate.
    """

    def __init__(self, runs: int, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}", markup=False),
        )
        self.bar = Progress(
            *columns,
            console=self.console,
            transient=True,
            speed_estimate_period=300,
            disable=not self.console.is_terminal,
        )
        self.runs, self.over, self.images, self.started = runs, 0, 0, 0.0
        self.all = self.bar.add_task(f"runs 0/{runs}, steps", total=steps, now="")
        self.steps = steps
        self.lines: dict[str, tuple[TaskID | None, int, int]] = {}
        """Of runs in progress, by hash: the bar's task (None beyond `LINES`), step, steps."""

    def __enter__(self) -> SweepBar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def tell(self, planned: PlannedRun, report: Report) -> None:
        """Show where a run in progress is."""
        key = planned.spec.hash
        if key not in self.lines:
            room = len(self.lines) < LINES
            new = self.bar.add_task(clean(planned.spec.label, err=True), total=report.steps, now="") if room else None
            self.lines[key] = (new, report.step - 1, report.steps)
        line, before, _ = self.lines[key]
        self.lines[key] = (line, report.step, report.steps)
        self.started = self.started or time.perf_counter()
        self.images += (report.step - before) * report.images
        seconds = time.perf_counter() - self.started
        rate = f"{self.images / seconds:.0f} images/s" if seconds > 0.5 else ""
        self.bar.update(self.all, advance=report.step - before, now=rate)
        if line is not None:
            now = f"loss {report.loss:.3f} top-1 {report.top1:.3f}" if report.loss is not None else ""
            self.bar.update(line, completed=report.step, now=now)

    def ended(self, outcome: Outcome) -> None:
        """Count a run; say at once that it has no accuracy, or, if there is no terminal, which accuracy it has."""
        self.over += 1
        line, step, steps = self.lines.pop(outcome.planned.spec.hash, (None, 0, 0))
        if line is not None:
            self.bar.remove_task(line)
        self.steps -= steps - step  # a run that ended early
        self.bar.update(self.all, total=self.steps, description=f"runs {self.over}/{self.runs}, steps")
        label, result = outcome.planned.spec.label, outcome.result
        if outcome.state != "done":
            self.say(f"mkfa: {outcome.note or f'{label} diverged at step ' + str(result.step if result else '?')}")
        elif outcome.trained and result and not self.console.is_terminal:
            self.say(f"{label}: done, top-1 {result.top1_last:.3f}")

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        text = clean(text, err=True)
        if self.console.is_terminal:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            emit(text, err=True)
