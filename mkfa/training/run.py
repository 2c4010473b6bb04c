"""One run: a pure function of its specification, resumable at any step.

Image order, augmentation, drop path and learning rate are functions of (seed, step), so a checkpoint consists of the
weights, the optimiser state and a step number. On the CPU, a run that was killed and resumed gives bit-identical
results to an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mkfa.errors import DeviceMemoryError, MkfaError
from mkfa.images.domain import Domain
from mkfa.storage.file_rows import ReadError
from mkfa.storage.heading import now
from mkfa.storage.lease import LeaseLostError
from mkfa.training.device import Execution, Resolved
from mkfa.training.evaluation import evaluate
from mkfa.training.folder import CHECKPOINT, OUT_OF_MEMORY, WEIGHTS, RunFolder
from mkfa.training.ranks import ALONE, Ranks, is_told_elsewhere
from mkfa.training.recipe import Recipe, epochs_between_evaluations, steps_of
from mkfa.training.result import RunResult, encode_right, state_digest
from mkfa.training.spec import BASE, TRAINING_VERSION, RunSpec, as_record
from mkfa.training.stopping import Stop, Stopped
from mkfa.words import counted

if TYPE_CHECKING:
    import torch

    from mkfa.training.batches import Side
    from mkfa.training.step import Batch, Step

    Work = Generator[tuple[Step, Batch], torch.Tensor, RunResult]
    """A run in progress: yields each step and its batch, is sent the step's loss, and returns the result."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Report:
    """A run's progress, reported after each step; loss and top1 are those of the last evaluation."""

    step: int
    steps: int
    images: int
    loss: float | None = None
    top1: float | None = None


def train_run(
    spec: RunSpec,
    domain: Domain,
    *,
    source: Any,
    root: Path,
    execution: Execution | None = None,
    group: Resolved | None = None,
    stop: Stop | None = None,
    tell: Callable[[Report], None] = lambda _: None,
    ranks: Ranks = ALONE,
) -> Work:
    """Train or resume one run in its folder below `root`; return its result if it is already finished.

    Parameters
    ----------
    source : the source that `mkfa.arms.plant.set_filters` expects for the arm; None for arms without a source.
    execution : how the run is computed, unless it began with other threads or switches.
    group : instead of `execution`, how several runs are computed together; in force while this iterates. Whoever
        iterates computes the steps. Without it the run computes them itself and yields nothing (see `compute_alone`).
    stop : checked after each step; if a stop was requested, the state is saved and `Stopped` raised.
    ranks : the processes that share the run; each calls this function, and rank 0 writes.

    Yields
    ------
    (Step, Batch)
        The loss of this step, which changes the run's weights, must be sent.

    Raises
    ------
    RunLocked
        Another process is training this run.
    MkfaError
        The specification is of another version of the training; or the run began with another precision than its group
        has.
    WorkError
        The disk is full, or one of the run's files is damaged; files already written are kept.
    RuntimeError
        What the device raises where it has too little memory for a run of a group.
    """

    def prepare() -> RunFolder:
        ranks.check(min(recipe_of(spec).batch, len(domain.y_train)))
        if (version := spec.training_version) != TRAINING_VERSION:
            problem = f"is of version {version} of the training, and this mkfa trains version {TRAINING_VERSION}"
            raise MkfaError(f"run {spec.hash}", problem, "run its command again: it is then planned and trained anew")
        return RunFolder(root, spec)

    folder, stop = ranks.together(prepare), stop or Stop()
    with contextlib.ExitStack() as held:

        def begin() -> tuple[RunResult | None, dict[str, Any] | None, bool]:
            held.enter_context(folder.lock())
            if (result := folder.result()) is not None:
                return result, None, False
            return None, folder.load(CHECKPOINT), folder.ran_out_of_memory()

        result, saved, streams = ranks.lead(begin)
        if result is not None:
            return result
        ranks, how = (ranks, group) if group else ranks.placed(execution or Execution())
        if saved is not None:
            begun = ranks.together(partial(_as_begun, how, saved, folder, ranks))
            if group and (begun.amp, begun.channels_last) != (how.amp, how.channels_last):
                problem = "was begun with another precision or memory format than its group has"
                remedy = "pass --strategy alone, or --amp and --channels-last as then"
                raise MkfaError(f"run {spec.hash}", problem, remedy)
            how = group or begun
        if streams and ranks.world > 1 and how.data == "auto":
            how = replace(how, data="stream")
        with _attempt(folder, how, saved, ranks):
            if group:
                result = yield from Run(folder, domain, source, how).in_steps(saved, stop, tell)
            else:
                result = _train_in_memory(folder, domain, source, how, saved, stop, tell, ranks)
        if ranks.leads:
            folder.note_attempt(result.state)
        return result


def compute_alone(work: Generator[tuple[Step, Batch], torch.Tensor, T]) -> T:
    """Compute the steps that a run yields, if any, by themselves; return what it returns at its end."""
    with contextlib.closing(work):
        try:
            step, batch = next(work)
            while True:
                step, batch = work.send(step.compute(batch))
        except StopIteration as end:
            result: T = end.value
            return result


@contextlib.contextmanager
def _attempt(folder: RunFolder, how: Resolved, saved: dict[str, Any] | None, ranks: Ranks = ALONE) -> Iterator[None]:
    """Record in the folder that a run is started and, if the body does not end with a result, why."""
    try:
        if ranks.leads:
            folder.forget_failure()
            step = int(saved["step"]) if saved else 0
            folder.note_attempt("started", device=str(how.device), step=step, **ranks.record)
        yield
    except (Stopped, LeaseLostError, GeneratorExit) as end:
        said = {Stopped: "stopped", GeneratorExit: "set aside with its group"}
        if ranks.leads:
            folder.note_attempt(said.get(type(end), str(end)))
        raise
    except Exception as error:
        if ranks.is_loss(error):
            folder.note_attempt(f"process {ranks.rank} of {ranks.world} lost another")
        elif not is_told_elsewhere(error):
            folder.note_attempt(f"failed: {error}")
            folder.fail(error)
        raise


def _train_in_memory(
    folder: RunFolder,
    domain: Domain,
    source: Any,
    how: Resolved,
    saved: dict[str, Any] | None,
    stop: Stop,
    tell: Any,
    ranks: Ranks,
) -> RunResult:
    """Train; where the device has too little memory, go on from the last checkpoint with streamed images.

    Raises DeviceMemoryError if that is not enough either, or if other processes train the same run: they cannot be told
    in the middle of a step. Then the next start streams.
    """
    import torch

    from mkfa.training.memory import is_out_of_memory

    try:
        with how.in_force():
            # kept by no name: a run that failed must not live on
            work = ranks.together(lambda: Run(folder, domain, source, how, ranks)).in_steps(saved, stop, tell)
            return compute_alone(work)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if how.data != "auto" or ranks.world > 1:
            recipe = recipe_of(folder.spec)
            problem = f"{OUT_OF_MEMORY} on {how.device} with batches of {counted(recipe.batch, 'image')}"
            remedy = "train fewer runs at a time (--jobs), leave out --data resident or take a smaller batch"
            if ranks.world > 1:
                problem += f" in {counted(ranks.world, 'process', 'processes')}"
                remedy = "give the same command, which then streams the images, or start more processes"
            raise DeviceMemoryError(f"run {folder.spec.hash}", problem, remedy) from None
    # Outside the handler, whose traceback keeps the failed run's tensors alive.
    gc.collect()
    if how.device.type == "cuda":
        torch.cuda.empty_cache()
    how = replace(how, data="stream")
    return _train_in_memory(folder, domain, source, how, folder.load(CHECKPOINT), stop, tell, ranks)


def network_seed(spec: RunSpec) -> int:
    """Return the seed of initialisation, image order and augmentation.

    A run with planted filters starts from different weights than the base run of the same seed. Otherwise `selffer`
    would combine its filters with the same initialisation that they were trained with.
    """
    sequence = np.random.SeedSequence([spec.seed, 0 if spec.arm == BASE else 1])
    return int(sequence.generate_state(1)[0])


def build(spec: RunSpec, domain: Domain, source: Any) -> tuple[torch.nn.Module, Any]:
    """Return a run's network with its filters set, and the record of what was planted (None for a baseline)."""
    from mkfa.networks.build import build_network

    recipe, seed = recipe_of(spec), network_seed(spec)
    options: dict[str, Any] = dict(spec.options)
    model = build_network(
        spec.arch,
        classes=len(domain.classes),
        channels=domain.channels,
        size=recipe.size or domain.size,
        seed=seed,
        drop_path=recipe.drop_path,
        **options,
    )
    if spec.arm == BASE:
        return model, None
    from mkfa.arms.plant import set_filters

    planted = set_filters(
        model,
        spec.arm,
        layers=spec.layers,
        source=source,
        seed=seed,
        what=spec.what,
        with_bias=spec.with_bias,
        with_norm=spec.with_norm,
        fit_kernel=spec.fit_kernel,
        images=domain.x_train,
    )
    return model, planted


def recipe_of(spec: RunSpec) -> Recipe:
    """Return the recipe of a specification."""
    return Recipe(name=spec.recipe_name, **dict(spec.recipe))


def _as_begun(resolved: Resolved, saved: dict[str, Any], folder: RunFolder, ranks: Ranks = ALONE) -> Resolved:
    """Keep the threads and switches that a run started with, since they affect rounding. Refuse another device.

    Threads are kept by as many processes as before; others round differently anyway.
    """
    if saved["device"] != resolved.device.type:
        problem = f"was started on {saved['device']} and cannot continue on {resolved.device.type}"
        raise MkfaError(f"run {folder.spec.hash}", problem, f"pass --device {saved['device']} or remove {folder.path}")
    return replace(
        resolved,
        threads=int(saved["threads"]) if int(saved.get("world", 1)) == ranks.world else resolved.threads,
        amp=bool(saved["amp"]),
        channels_last=bool(saved["channels_last"]),
        quick=bool(saved.get("quick")),
    )


class Run:
    """The state of one run during training."""

    def __init__(
        self, folder: RunFolder, domain: Domain, source: Any, resolved: Resolved, ranks: Ranks = ALONE
    ) -> None:
        import torch

        from mkfa.networks.cpu_gradients import use_cpu_gradients
        from mkfa.training.batches import place
        from mkfa.training.memory import keep_freed_memory, training_bytes
        from mkfa.training.optimizer import build_optimizer, moving_average
        from mkfa.training.step import Step

        self.folder, self.domain, self.how, self.ranks = folder, domain, resolved, ranks
        self.spec, self.recipe = folder.spec, recipe_of(folder.spec)
        self.seed = network_seed(self.spec)
        device = resolved.device
        model, self.planted = build(self.spec, domain, source)
        layout = torch.channels_last if resolved.channels_last else torch.contiguous_format
        reserve = training_bytes(model, self._batch_shape(), amp=resolved.amp) if device.type != "cpu" else 0
        self.model = model.to(device).to(memory_format=layout)
        if device.type == "cpu":
            keep_freed_memory()
        if resolved.quick:
            use_cpu_gradients(self.model)
        self.train_set, self.test_set = place(
            domain,
            self.recipe,
            device=device,
            data=resolved.data,
            share=resolved.share,
            channels_last=resolved.channels_last,
            reserve=reserve,
        )
        self.optimizer = build_optimizer(self.model, self.recipe)
        self.average = moving_average(self.model, self.recipe)
        self.evaluated: Any = torch.compile(self.final, dynamic=False) if resolved.compile else self.final
        self.steps, self.epoch_steps = steps_of(self.recipe, len(self.train_set))
        every = epochs_between_evaluations(self.recipe, steps=self.steps, epoch_steps=self.epoch_steps)
        self.evaluated_steps = every * self.epoch_steps
        self.batch = min(self.recipe.batch, len(self.train_set))
        self.batch_rows = ranks.rows(self.batch)
        """The rows of a batch that this process computes."""
        self.take_step = Step(
            self.model,
            self.optimizer,
            self.train_set,
            recipe=self.recipe,
            domain=domain.name,
            seed=self.seed,
            steps=self.steps,
            how=resolved,
            ranks=ranks,
        )
        self.step, self.seconds, self.resumed, self.marked = 0, 0.0, 0, 0.0
        self.rows: list[dict[str, Any]] = []
        self.marks: list[tuple[float, float] | None] = []
        """Per row: time of writing (seconds since 1970) and images per second since the last; used for events only."""
        self.right = torch.zeros(len(self.test_set), dtype=torch.bool, device=device)
        """Which test images the last evaluation got right."""
        self.right_at = -1
        """Step of that evaluation, if it was in this process."""
        self.epoch_loss = torch.zeros((), device=device)
        self.bad = torch.full((), -1, dtype=torch.int64, device=device)

    def _batch_shape(self) -> tuple[int, int, int, int]:
        side = self.recipe.size or self.domain.size
        rows = self.ranks.rows(min(self.recipe.batch, len(self.domain.y_train)))
        return len(rows), self.domain.channels, side, side

    @property
    def final(self) -> torch.nn.Module:
        """The network that is evaluated and saved: the moving average if the recipe has one."""
        kept: torch.nn.Module = self.average.module if self.average is not None else self.model
        return kept

    def in_steps(self, saved: dict[str, Any] | None, stop: Stop, tell: Callable[[Report], None]) -> Work:
        """Train to the end; see `train_run`."""
        if saved is not None:
            self._restore(saved)
        with self.train_set.read_ahead(self._batches(self.step), len(self.batch_rows)):
            return (yield from self._train(stop, tell))

    def _train(self, stop: Stop, tell: Callable[[Report], None]) -> Work:
        import torch

        from mkfa.arms.plant import train_mode

        since = saved_at = time.perf_counter()
        drawn: Any = None
        while self.step < self.steps:
            if drawn is None or self.step % self.epoch_steps == 0:
                drawn = self.take_step.draw_ahead(self.step, self._epoch(self.step))
            train_mode(self.model, self.planted)
            try:
                batch = self.take_step.prepare(self.step, *next(drawn))
            except ReadError:  # this step has changed nothing yet
                if self.ranks.world == 1:  # others are in this step already
                    self.seconds += time.perf_counter() - since
                    self._save()
                raise
            loss = yield self.take_step, batch
            if self.average is not None:
                self.average.update(self.model)
            self.epoch_loss += loss
            self.bad = torch.where((self.bad < 0) & ~torch.isfinite(loss), self.step, self.bad)
            self.step += 1
            if self.step % self.evaluated_steps == 0 or self.step == self.steps:
                if (bad := self.ranks.earliest(int(self.bad))) >= 0:
                    return self._diverged(bad)
                self.seconds += time.perf_counter() - since
                self._end_epoch()
                since = time.perf_counter()
            stopping, due = self.ranks.in_any(
                stop.requested, time.perf_counter() - saved_at >= self.how.checkpoint_seconds
            )
            if stopping or due:
                if (bad := self.ranks.earliest(int(self.bad))) >= 0:
                    return self._diverged(bad)
                self.seconds += time.perf_counter() - since
                self._save()
                if stopping and self.step < self.steps:
                    raise Stopped
                since = saved_at = time.perf_counter()
            last = self.rows[-1] if self.rows else {}
            tell(Report(self.step, self.steps, self.batch, last.get("loss_train"), last.get("top1")))
        return self._done()

    def _epoch(self, step: int) -> list[NDArray[np.int64]]:
        """Return the rows of the batches from a step to the end of its epoch, or of the run."""
        epoch, position = divmod(step, self.epoch_steps)
        rows = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.train_set))
        last = min(self.epoch_steps, self.steps - epoch * self.epoch_steps)
        return [rows[at * self.batch : (at + 1) * self.batch] for at in range(position, last)]

    def _batches(self, step: int) -> Iterator[NDArray[np.int64]]:
        """Yield this process's rows of every batch from a step to the end, for the read-ahead thread."""
        while step < self.steps:
            batches = self._epoch(step)
            yield from (rows[self.batch_rows] for rows in batches)
            step += len(batches)

    def _end_epoch(self) -> None:
        steps = self.step - (self.rows[-1]["step"] if self.rows else 0)
        top1, loss = self.evaluate(self.test_set, right=self.right)
        row = {
            "epoch": math.ceil(self.step / self.epoch_steps),
            "step": self.step,
            "top1": top1,
            "loss_train": float(self.ranks.total(self.epoch_loss)) / steps,
            "loss_test": loss if math.isfinite(loss) else None,
            "lr": self.take_step.lr,
        }
        seconds = self.seconds - self.marked
        rate = steps * self.batch / seconds if seconds > 0 else math.nan
        self.epoch_loss.zero_()
        self.right_at = self.step
        self.rows.append(row)
        self.marks.append((time.time(), rate))
        self.marked = self.seconds
        self._publish()

    def evaluate(self, images: Side, *, right: torch.Tensor | None = None) -> tuple[float, float]:
        """Return top-1 accuracy (0-1) and mean cross-entropy of the network over one side of a domain.

        `right` is filled with whether each image is classified correctly.
        """
        return evaluate(
            self.evaluated, images, amp=self.how.amp, one_shape=self.how.compile, right=right, ranks=self.ranks
        )

    def _publish(self) -> None:
        """Write the metrics and, if requested, the events; otherwise remove an earlier call's events as outdated."""
        from mkfa.training.events import remove_events, write_events

        if not self.ranks.leads:
            return
        self.folder.write_metrics(self.rows)
        if self.how.events:
            write_events(self.folder.path, self.rows, self.marks)
        else:
            remove_events(self.folder.path)

    def _save(self) -> None:
        loss = self.ranks.total(self.epoch_loss)
        if not self.ranks.leads:
            return
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "rows": self.rows,
            "epoch_loss": loss,
            "bad": self.bad,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "device": self.how.device.type,
            "threads": self.how.threads,
            "world": self.ranks.world,
            "amp": self.how.amp,
            "channels_last": self.how.channels_last,
            "quick": self.how.quick,
            "marks": self.marks,
            "marked": self.marked,
        }
        self.folder.save(CHECKPOINT, state)

    def _restore(self, saved: dict[str, Any]) -> None:
        from mkfa.training.optimizer import load_state

        self.model.load_state_dict(saved["model"])
        load_state(self.optimizer, saved["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        self.step, self.rows, self.seconds = int(saved["step"]), list(saved["rows"]), float(saved["seconds"])
        if self.ranks.leads:  # it is a sum over ranks
            self.epoch_loss.copy_(saved["epoch_loss"])
        self.bad.copy_(saved["bad"])
        self.resumed = int(saved["resumed"]) + 1
        self.marks = list(saved.get("marks", [None] * len(self.rows)))  # absent from older checkpoints
        self.marked = float(saved.get("marked", self.seconds))
        self._publish()

    def _diverged(self, step: int) -> RunResult:
        return self._finish(self._result("diverged") | {"step": step})

    def _finish(self, result: dict[str, Any]) -> RunResult:
        return self.ranks.lead(lambda: self.folder.finish(result))

    def _done(self) -> RunResult:
        if self.right_at != self.steps:  # killed between the last evaluation and the result
            self.evaluate(self.test_set, right=self.right)
        last, best = self.rows[-1], max(self.rows, key=lambda row: row["top1"])
        state = self.final.state_dict()
        if last["loss_test"] is None or not all(bool(t.isfinite().all()) for t in state.values()):
            return self._diverged(self.steps - 1)
        if self.planted is not None:
            from mkfa.arms.plant import check_planted

            check_planted(self.final, self.planted)
        if self.spec.arm == BASE:
            self.ranks.lead(lambda: self.folder.save(WEIGHTS, state))
        result = self._result("done") | {
            "top1_last": last["top1"],
            "top1_best": best["top1"],
            "best_epoch": best["epoch"],
            "loss_train": last["loss_train"],
            "loss_test": last["loss_test"],
            "weights_sha256": state_digest(state),
            "epochs": last["epoch"],
            "test_right": encode_right(self.right.tolist()),
        }
        return self._finish(result)

    def _result(self, state: str) -> dict[str, Any]:
        parameters = list(self.model.parameters())
        _, counts = np.unique(self.domain.y_test, return_counts=True)
        return {
            "state": state,
            "run": as_record(self.spec),
            "steps": self.steps,
            "images_per_second": self.step * self.batch / self.seconds if self.seconds else None,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "train_images": len(self.train_set),
            "test_images": len(self.test_set),
            "classes": len(self.domain.classes),
            "chance": float(counts.max() / counts.sum()),
            "licence": self.domain.licence,
            "planted": None if self.planted is None else self.planted.digest,
            "notes": [] if self.planted is None else list(self.planted.notes),
            "batch": self.batch,
            "flip": self.take_step.flip,
            "parameters": sum(p.numel() for p in parameters),
            "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "created": now(),
            "execution": self.how.record | {"data": self.train_set.kind} | self.ranks.record,
        }
