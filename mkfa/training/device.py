"""Device, threads and precision of a run. They are recorded but do not identify it."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError

if TYPE_CHECKING:
    import torch

DATA = ("auto", "resident", "stream")
"""Ways to hold images while a network is trained."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How runs are computed.

    Attributes
    ----------
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    threads : int
        Threads of the CPU; 0 for torch's own number. A resumed run keeps its number.
    amp, channels_last, compile : bool or None
        bfloat16 autocast, memory format, torch.compile of the training step; None for what suits the device:
        all on CUDA, channels_last alone elsewhere.
    quick : bool or None
        On a CPU, the gradients of `mkfa.networks.cpu_gradients` instead of PyTorch's; None for where the step is not
        compiled. Gradients differ by rounding; a resumed run keeps its choice.
    checkpoint_seconds : float
        Wall time between checkpoints.
    data : str
        "resident": images are kept on the device as a whole; "stream": read from disk batch by batch, ahead of the
        training; "auto": resident where they fit (`mkfa.training.memory`). The numbers are the same.
    share : float
        Share (0-1) of the device's memory for images that this process may take; runs at a time divide it.
    jobs : int
        Runs that are trained at a time, each in a process of its own; 0 for what suits the devices and the plan
        (`mkfa.engines.processes.divide`).
    events : bool
        Write TensorBoard events beside the metrics.
    """

    device: str = "auto"
    threads: int = 0
    amp: bool | None = None
    channels_last: bool | None = None
    compile: bool | None = None
    checkpoint_seconds: float = 30.0
    data: str = "auto"
    share: float = 1.0
    jobs: int = 0
    events: bool = False
    quick: bool | None = None

    @property
    def kind(self) -> str:
        """ "cpu", "cuda" or "mps"; torch is imported only for "auto"."""
        return self.resolved().device.type if self.device == "auto" else self.device.split(":")[0]

    def resolved(self) -> Resolved:
        """Return the choices for the device at hand. Raises MkfaError for one that is not there, or no way of data."""
        import torch

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        kind = name.split(":")[0]
        if self.data not in DATA:
            raise MkfaError(f"--data {self.data}", "unknown way to hold images", f"take one of {', '.join(DATA)}")
        there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not there.get(kind, False):
            known = ", ".join(kind for kind, present in there.items() if present)
            raise MkfaError(f"--device {self.device}", "is not on this machine", f"take one of auto, {known}")
        cuda = kind == "cuda"
        if self.amp and not cuda:
            raise MkfaError("--amp", f"is for CUDA, and the device is {name}", "leave it out")
        compiled = cuda if self.compile is None else self.compile
        if self.quick and (kind != "cpu" or compiled):
            raise MkfaError("--quick", "is for CPUs and steps that are not compiled", "leave it out")
        return Resolved(
            device=torch.device(name),
            threads=self.threads or torch.get_num_threads(),
            amp=cuda if self.amp is None else self.amp,
            channels_last=True if self.channels_last is None else self.channels_last,
            compile=compiled,
            checkpoint_seconds=self.checkpoint_seconds,
            data=self.data,
            share=self.share,
            events=self.events,
            quick=kind == "cpu" and not compiled if self.quick is None else self.quick,
        )


@dataclass(frozen=True, slots=True)
class Resolved:
    """`Execution` with its choices made; `threads` is the number in force."""

    device: torch.device
    threads: int
    amp: bool
    channels_last: bool
    compile: bool
    checkpoint_seconds: float
    data: str = "auto"
    share: float = 1.0
    events: bool = False
    quick: bool = False

    @property
    def record(self) -> dict[str, Any]:
        """What goes into result.json: device, switches, versions."""
        import numpy as np
        import timm
        import torch

        from mkfa.version import VERSION

        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name(self.device) if cuda else f"{self.device} ({platform.machine()})",
            "threads": self.threads,
            "amp": self.amp,
            "channels_last": self.channels_last,
            "compile": self.compile,
            "quick": self.quick,
            "versions": {
                "mkfa": VERSION,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
        }

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Set threads and determinism, and leave torch's global generators as they were."""
        import torch

        threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            try:
                torch.set_num_threads(self.threads)
                # Bits are promised on the CPU; on a GPU, cuDNN's fastest kernels are preferred to fixed ones.
                torch.use_deterministic_algorithms(self.device.type == "cpu")
                torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
                yield
            finally:
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(strict)
                torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
