"""Device, threads and precision of a run. They are recorded but are not part of its identity."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError

if TYPE_CHECKING:
    import torch

MATMUL_PRECISION = "high"
"""Precision of float32 matrix products on CUDA: TF32; see `torch.set_float32_matmul_precision`."""
DATA = ("auto", "resident", "stream")
"""Where images are kept during training."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How runs are computed.

    Attributes
    ----------
    device : "auto", "cpu", "cuda" (a sweep then uses all GPUs), "cuda:1", "mps".
    threads : CPU threads; 0: torch's default. A resumed run keeps its original number.
    amp, channels_last, compile : bool or None
        bfloat16 autocast, memory format, torch.compile of training and evaluation. None: chosen by device (all three on
        CUDA, but amp only where the GPU computes in bfloat16 itself; only channels_last elsewhere).
    quick : use the faster CPU gradients of `mkfa.networks.cpu_gradients` instead of PyTorch's. None: on a CPU, unless
        the step is compiled. Gradients differ by rounding; a resumed run keeps its original choice.
    checkpoint_seconds : wall time between checkpoints.
    data : "resident": all images stay on the device; "stream": batches are read ahead from disk; "auto": resident if
        they fit (`mkfa.training.memory`). Results are identical.
    share : share (0-1) of the device's image memory that this process may use; concurrent runs share it.
    jobs : number of concurrent runs, each in its own process; 0: chosen automatically from the devices and the plan
        (`mkfa.engines.processes.divide`).
    events : write TensorBoard events next to the metrics.
    engine : what carries runs out; see `mkfa.engines.choice.ENGINES`.
    address : where the Ray cluster is; "auto": the one on this machine.
    sbatch : further options of Slurm's sbatch, as in a shell.
    strategy : how runs share a device; "auto", or one of `mkfa.engines.fastest.STRATEGIES`.
    chosen : the strategy that was chosen, and the timings that say why (`mkfa.engines.fastest.Choice.record`).
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
    engine: str = "local"
    address: str = "auto"
    sbatch: str = ""
    strategy: str = "auto"
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """ "cpu", "cuda" or "mps"; torch is imported only for "auto"."""
        return self.resolved().device.type if self.device == "auto" else self.device.split(":")[0]

    @property
    def is_group(self) -> bool:
        """Whether `jobs` runs at a time are computed in one process."""
        return self.strategy in ("graph", "stacked")

    def resolved(self) -> Resolved:
        """Resolve the defaults for this machine. Raises MkfaError for a missing device or an invalid option."""
        import torch

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        kind = name.split(":")[0]
        if self.data not in DATA:
            raise MkfaError(
                f"--data {self.data}", "is not a known image storage mode", f"take one of {', '.join(DATA)}"
            )
        if not is_available(name):
            known = ", ".join(filter(is_available, ("cpu", "cuda", "mps")))
            raise MkfaError(f"--device {self.device}", "is not available on this machine", f"take one of auto, {known}")
        cuda = kind == "cuda"
        if self.amp and not cuda:
            raise MkfaError("--amp", f"requires CUDA, and the device is {name}", "leave it out")
        compiled = cuda if self.compile is None else self.compile
        if self.quick and (kind != "cpu" or compiled):
            raise MkfaError("--quick", "requires a CPU and an uncompiled training step", "leave it out")
        return Resolved(
            device=torch.device(name),
            threads=self.threads or torch.get_num_threads(),
            amp=cuda and _has_bfloat16(name) if self.amp is None else self.amp,
            channels_last=True if self.channels_last is None else self.channels_last,
            compile=compiled,
            checkpoint_seconds=self.checkpoint_seconds,
            data=self.data,
            share=self.share,
            events=self.events,
            quick=kind == "cpu" and not compiled if self.quick is None else self.quick,
            chosen=self.chosen,
        )


def is_available(name: str) -> bool:
    """Return whether this machine has a device, such as "cpu", "cuda", "cuda:1" or "mps"."""
    import torch

    kind, numbered, number = name.partition(":")
    found = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(kind, False)
    count = torch.cuda.device_count() if kind == "cuda" else 1
    return found and (not numbered or (number.isdecimal() and int(number) < count))


@dataclass(frozen=True, slots=True)
class Resolved:
    """`Execution` with all defaults resolved; `threads` is the actual number."""

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
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The fields recorded in result.json: device, switches, versions."""
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
            "matmul_precision": MATMUL_PRECISION if cuda else "highest",
            "versions": {
                "mkfa": VERSION,
                "torch": torch.__version__,
                "timm": timm.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
            },
            **({"strategy": dict(self.chosen)} if self.chosen else {}),
        }

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Set threads, determinism and the current GPU in the body.

        Afterwards they are as before, and so are the generators of the CPU and of this device. Generators of other
        devices are never touched.
        """
        import torch

        threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        with _own_generators(self.device), _fast_gpu(self.device):
            try:
                torch.set_num_threads(self.threads)
                # Bit-identical results are guaranteed on the CPU only; on a GPU, speed is preferred to determinism.
                torch.use_deterministic_algorithms(self.device.type == "cpu")
                torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
                yield
            finally:
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(strict)
                torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed the generators of the CPU and of one device; `torch.manual_seed` would seed those of every GPU.

    Within `Resolved.in_force`, a CUDA device is the current one.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextlib.contextmanager
def _own_generators(device: torch.device) -> Iterator[None]:
    """Restore the generators of the CPU and of this device after the body."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        state = torch.mps.get_rng_state() if device.type == "mps" else None
        try:
            yield
        finally:
            if state is not None:
                torch.mps.set_rng_state(state)


@contextlib.contextmanager
def _fast_gpu(device: torch.device) -> Iterator[None]:
    """Make a CUDA device the current one and let it choose its fastest kernels in the body; nothing elsewhere.

    Libraries that ask for no device use the current one. All batches of a run have one shape, so cuDNN's search for the
    fastest kernel is made once. Matrix products of float32 use TF32, as its convolutions do by default.
    """
    import torch

    if device.type != "cuda":
        yield
        return
    benchmark, precision = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    with torch.cuda.device(device):
        try:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision(MATMUL_PRECISION)
            yield
        finally:
            torch.backends.cudnn.benchmark = benchmark
            torch.set_float32_matmul_precision(precision)


def _has_bfloat16(name: str) -> bool:
    """Return whether a GPU computes in bfloat16 itself; older ones emulate it, which is slower than float32."""
    import torch

    with torch.cuda.device(name):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
