"""One unit of work: train one run of a plan, or take over its result, and store the bank of a base run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.images.opened import Domains
from mkfa.storage.lease import LeaseLostError
from mkfa.training.base_runs import BaseBanks, borrowed_filters, store_bank, trained_network
from mkfa.training.device import Execution, Resolved
from mkfa.training.events import write_missing
from mkfa.training.folder import METRICS, Diverged, RunFolder, RunLocked
from mkfa.training.planned import PlannedRun
from mkfa.training.ranks import ALONE, Ranks
from mkfa.training.result import RunResult
from mkfa.training.run import Report, train_run
from mkfa.training.spec import BASE
from mkfa.training.stopping import Stop

if TYPE_CHECKING:
    import torch

    from mkfa.training.step import Batch, Step


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a planned run in this call; a `RunRecord` is its stored data, regardless of who trained it.

    `state` is "done" or "diverged" as in its result, "running" (another process is training it), "impossible" (its
    source is missing), "failed" (an error ended it) or "lost" (its process died again and again; it continues from its
    checkpoint). The last three say why in `note`.
    """

    planned: PlannedRun
    state: str
    trained: bool
    result: RunResult | None = None
    banks: BaseBanks | None = None
    note: str = ""


def taken_over(planned: PlannedRun, root: Path, execution: Execution) -> Outcome | None:
    """Return the outcome of a finished run, None for a run that must be trained.

    If `execution` requests events and the run has none, they are written from its metrics.
    """
    folder = RunFolder(root, planned.spec)
    result = folder.result()
    if result is not None and execution.events:
        write_missing(folder.path / METRICS)
    return None if result is None else Outcome(planned, result.state, False, result)


def train_planned(
    planned: PlannedRun,
    domains: Domains,
    *,
    root: Path,
    execution: Execution | None = None,
    group: Resolved | None = None,
    stop: Stop,
    tell: Callable[[PlannedRun, Report], None] = lambda *_: None,
    ranks: Ranks = ALONE,
) -> Generator[tuple[Step, Batch], torch.Tensor, Outcome]:
    """Train one run of a plan with the filters of its source; what is yielded, and the options, as in `train_run`.

    Raises
    ------
    Stopped
        `stop` was requested; the run saved its state.
    MkfaError
        The run failed.
    """
    try:
        source = ranks.together(lambda: borrow(planned, domains, root))
        result = yield from train_run(
            planned.spec,
            domains[planned.spec.domain],
            source=source,
            root=root,
            execution=execution,
            group=group,
            stop=stop,
            tell=lambda report: tell(planned, report),
            ranks=ranks,
        )
    except (RunLocked, LeaseLostError, Diverged) as error:  # another trains it, or its base run has no filters to give
        return Outcome(planned, "impossible" if isinstance(error, Diverged) else "running", False, note=str(error))
    return Outcome(planned, result.state, True, result)


def keep_bank(outcome: Outcome, domains: Domains, root: Path) -> Outcome:
    """Store the bank of a base run that is done, unless the library has it; only one process of a sweep does this.

    The run may have been trained by a process that died before it stored the bank. Raises as `store_bank`.
    """
    spec = outcome.planned.spec
    if spec.arm != BASE or outcome.state != "done":
        return outcome
    return replace(outcome, banks=store_bank(root, spec, domains[spec.domain]))


def borrow(planned: PlannedRun, domains: Domains, root: Path) -> Any:
    """Return the source of an arm's filters: the base run's bank or weights, a bank, or None.

    Raises
    ------
    Diverged
        The base run ended without weights, or is being trained by another process.
    """
    if planned.source_run is None:
        return planned.bank
    result = RunFolder(root, planned.source_run).result()
    if result is None or not result.done:
        state = "is not done" if result is None else "diverged"
        raise Diverged(planned.source_run.label, f"{state}, and has no filters to take", "see 'mkfa runs'")
    domain = domains[planned.source_run.domain]
    network = trained_network(root, planned.source_run, domain)
    return borrowed_filters(network, planned.source_run, domain, to=planned.spec, digest=result.weights_sha256)
