"""Free memory for images, and reuse of freed memory between training steps."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHARES = {"cuda": 0.8, "mps": 0.5, "cpu": 0.5}
"""Share of a device's free memory that a run's images may use. The rest is for the network, its gradients and
activations, and, on a CPU, other programs."""
_COPIES = 8
"""Float32 copies of a batch that augmentation holds at a time, at most."""
_CGROUP = Path("/sys/fs/cgroup")


def memory_for_images(device: torch.device) -> int:
    """Return the bytes that images may use on a device: a share (`SHARES`) of its currently free memory."""
    return int(SHARES.get(device.type, 0.5) * free_bytes(device))


def free_bytes(device: torch.device) -> int:
    """Return a device's free bytes, including memory that torch has reserved but does not use."""
    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return free_host_bytes()


def training_bytes(model: torch.nn.Module, shape: tuple[int, int, int, int], *, amp: bool) -> int:
    """Return about the bytes that training steps need on a device besides weights and stored images.

    These are gradients and both moments of AdamW, the activations kept for the backward pass, and the copies that
    augmentation makes of a batch. Activations are counted in a forward pass without data (device "meta"), as far as the
    network runs on it.

    Parameters
    ----------
    model : on any device; not changed.
    shape : (B, C, H, W) of a batch.
    amp : activations are bfloat16, half the size.
    """
    import copy

    import torch

    shadow = copy.deepcopy(model).to("meta").train()
    own = {_storage(t) for t in (*shadow.parameters(), *shadow.buffers())}
    kept: dict[int, tuple[torch.Tensor, int]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if (key := _storage(tensor)) not in own:
            kept[key] = tensor, tensor.untyped_storage().nbytes()  # the tensor too, or its storage's key is used again
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        contextlib.suppress(NotImplementedError, RuntimeError),  # a network that cannot run without data
    ):
        out = shadow(torch.empty(shape, device="meta"))
        del out
    activations = sum(size for _, size in kept.values()) // (2 if amp else 1)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    batch = 4 * math.prod(shape)
    return 3 * trained + activations + _COPIES * batch


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a device, not the host, has too little memory; mps has no exception of its own for that."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


def free_host_bytes(meminfo: Path = Path("/proc/meminfo"), group: Path | None = None) -> int:
    """Return the bytes of memory available without swapping, within the limits of machine and container.

    If the system does not report it, half the installed memory.
    """
    try:
        lines = (line.split() for line in meminfo.read_text().splitlines())
        available = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    except (OSError, StopIteration):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min(available, _free_in_group(group or _own_group()))


def _own_group() -> Path:
    """Return the folder of this process's control group (cgroup v2)."""
    try:
        path = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].splitlines()[0]
    except (OSError, IndexError):
        return _CGROUP
    return _CGROUP / path if (_CGROUP / path).is_dir() else _CGROUP


def _free_in_group(group: Path) -> int:
    """Return the memory left under a control group's limit; cached files count as free because they can be evicted."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        words = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        kept = sum(int(value) for key, value in words if key == "inactive_file")
    except (OSError, ValueError):  # no control groups, or "max": no limit
        return 1 << 62
    return max(0, limit - used + kept)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)


_NEVER, _LARGEST = 2**31 - 1, 32 * 2**20  # bytes; glibc accepts no larger mmap threshold


@functools.cache
def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the life of the process; False if it is not glibc.

    By default, glibc returns a step's activations to the kernel immediately and faults them in again, page by page, in
    the next step. On small networks this costs a tenth of the time.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST))
