"""How the steps of several runs are computed on one device (torch inside functions).

A `Group` takes one step of each of its runs at a time. The runs prepare their batches themselves and keep their own
weights, optimisers and files, so that nothing but the time (and rounding) depends on the group.

- `Alone`: one run's step after the other.
- `Graphs`: the forward pass, the backward pass and the update of each run are captured as a CUDA graph, and replayed in
  every step. The host then starts one graph a run instead of some hundred kernels. The runs' graphs overlap.
- `Stacked`: the runs' networks are computed as one (`mkfa.networks.grouped`), so that the passes of k runs start about
  as many kernels as those of one. The updates are each run's own.

Training in several processes is the fourth strategy (`mkfa.engines.processes`); `mkfa.engines.fastest` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mkfa.errors import MkfaError
from mkfa.training.step import Batch, Step

if TYPE_CHECKING:
    import torch

WARM_UP = 3
"""Steps before a graph is captured, in which libraries choose their kernels and allocate their memory."""


class Group(Protocol):
    """Some runs in progress, numbered from 0 in the order in which they were added."""

    def add(self, step: Step) -> None:
        """Add a run; its number is the largest. Raises MkfaError if the strategy cannot compute it."""

    def step(self, batches: Sequence[Batch]) -> Sequence[torch.Tensor]:
        """Do one update of each run with its batch, at its optimiser's learning rate; return the losses, () float32."""

    def weights(self, r: int) -> dict[str, torch.Tensor]:
        """Return the state dict of run `r`, as it would be alone; tensors may be views."""

    def stop(self, r: int) -> None:
        """Take run `r` out; the numbers of those after it become smaller by one."""


class Alone:
    """One run's step after the other: a `Group`."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def step(self, batches: Sequence[Batch]) -> Sequence[torch.Tensor]:
        return [step.compute(batch) for step, batch in zip(self.steps, batches, strict=True)]

    def weights(self, r: int) -> dict[str, torch.Tensor]:
        return dict(self.steps[r].model.state_dict())

    def stop(self, r: int) -> None:
        del self.steps[r]


def _check_drawn(step: Step, strategy: str) -> None:
    """Raise MkfaError if the network draws in its forward pass, which the strategy cannot repeat run by run."""
    if step.drop_paths is None:
        problem = "has stochastic depth that cannot be drawn before the forward pass"
        raise MkfaError(f"--strategy {strategy}", problem, "choose another strategy, such as alone")


class Stacked(Alone):
    """The networks of all runs computed as one: a `Group`. They are put together anew when a run comes or goes."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = None

    def add(self, step: Step) -> None:
        _check_drawn(step, "stacked")
        super().add(step)
        self.network = None

    def stop(self, r: int) -> None:
        super().stop(r)
        self.network = None

    def step(self, batches: Sequence[Batch]) -> Sequence[torch.Tensor]:
        import torch

        from mkfa.networks.grouped import hand_out_gradients, use_drop_paths

        how, k = self.steps[0].how, len(self.steps)
        if self.network is None:
            self.network = self._put_together()
        images = torch.cat([batch.images for batch in batches], 1)
        layout = torch.channels_last if how.channels_last else torch.contiguous_format
        targets = torch.stack([batch.targets for batch in batches], 1)
        use_drop_paths(self.network, [batch.drop_path for batch in batches])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=how.amp):
            logits = self.network(images.contiguous(memory_format=layout))
        losses = -(targets * logits.float().view(len(images), k, -1).log_softmax(2)).sum(2).mean(0)
        losses.sum().backward()
        hand_out_gradients(self.network, [step.model for step in self.steps])
        for step in self.steps:
            step.update()
        return list(losses.detach().unbind())

    def _put_together(self) -> Any:
        from mkfa.networks.cpu_gradients import use_cpu_gradients
        from mkfa.networks.grouped import group_networks
        from mkfa.training.optimizer import match_layout

        network = group_networks([step.model for step in self.steps])
        for step in self.steps:
            match_layout(step.optimizer)
        if self.steps[0].how.quick:
            use_cpu_gradients(network)
        return network


class Graphs(Alone):
    """Each run's step captured as a CUDA graph: a `Group`. A run is captured with its first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.captured: list[_Captured | None] = []

    def add(self, step: Step) -> None:
        _check_drawn(step, "graph")
        super().add(step)
        self.captured.append(None)

    def stop(self, r: int) -> None:
        super().stop(r)
        del self.captured[r]

    def step(self, batches: Sequence[Batch]) -> Sequence[torch.Tensor]:
        graphs = [
            graph or _Captured(step, batch)
            for graph, step, batch in zip(self.captured, self.steps, batches, strict=True)
        ]
        self.captured = list(graphs)
        for graph, batch in zip(graphs, batches, strict=True):
            graph.start(batch)
        return [graph.loss() for graph in graphs]


class _Captured:
    """The captured step of one run, with the tensors that it reads and writes."""

    def __init__(self, step: Step, batch: Batch) -> None:
        import torch

        from mkfa.training.optimizer import as_capturable

        device = batch.images.device
        self.inputs = [t.clone() for t in _tensors(batch)]
        static = Batch(*self.inputs, *(() if batch.drop_path is not None else (None,)))
        as_capturable(step.optimizer, device)
        with torch.no_grad():
            before = [(tensor, tensor.clone()) for tensor in _state(step)]
        self.replay, self.join, self.result = capture(lambda: step.compute(static), device)
        with torch.no_grad():
            known = {id(tensor) for tensor, _ in before}
            for tensor, value in before:
                tensor.copy_(value)
            for tensor in _state(step):  # the optimiser's, which begins at 0
                if id(tensor) not in known:
                    tensor.zero_()

    def start(self, batch: Batch) -> None:
        for static, tensor in zip(self.inputs, _tensors(batch), strict=True):
            static.copy_(tensor)
        self.replay()

    def loss(self) -> torch.Tensor:
        self.join()
        return self.result.clone()


def _tensors(batch: Batch) -> list[torch.Tensor]:
    return [t for t in (batch.images, batch.targets, batch.drop_path) if t is not None]


def _state(step: Step) -> list[torch.Tensor]:
    """Return everything that a step changes: weights, batch statistics, moments of the optimiser."""
    import torch

    moments = [t for state in step.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    return [*step.model.parameters(), *step.model.buffers(), *moments]


def capture(
    compute: Callable[[], torch.Tensor], device: torch.device
) -> tuple[Callable[[], None], Callable[[], None], torch.Tensor]:
    """Capture a computation as a CUDA graph; it is done `WARM_UP` times for that.

    Returns
    -------
    replay : starts the computation on a stream of its own, after what the current stream has begun.
    join : makes the current stream wait for it.
    result : the tensor that every replay fills.
    """
    import torch

    stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            compute()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        result = compute()

    def replay() -> None:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            graph.replay()

    def join() -> None:
        torch.cuda.current_stream(device).wait_stream(stream)

    return replay, join, result


GROUPS: dict[str, Callable[[], Group]] = {"alone": Alone, "graph": Graphs, "stacked": Stacked}
"""Strategies within one process."""
