"""Free memory for images, and memory that one training step frees for the next."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHARES = {"cuda": 0.8, "mps": 0.5, "cpu": 0.5}
"""Of a device's free memory, the share that the images of a run may take; the network, its gradients and activations,
and on a CPU other programs, get the rest."""
_CGROUP = Path("/sys/fs/cgroup")


def memory_for_images(device: torch.device) -> int:
    """Return the bytes that images may take on a device: a share (`SHARES`) of the memory that is free now."""
    return int(SHARES.get(device.type, 0.5) * free_bytes(device))


def free_bytes(device: torch.device) -> int:
    """Return the bytes that are free on a device, with those that torch keeps for itself and does not use."""
    import torch

    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return free_host_bytes()


def free_host_bytes(meminfo: Path = Path("/proc/meminfo"), group: Path | None = None) -> int:
    """Return the bytes of memory that this process can have without swapping: the machine's and its container's.

    On a system that does not tell what is available, half of what is installed.
    """
    try:
        lines = (line.split() for line in meminfo.read_text().splitlines())
        available = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    except (OSError, StopIteration):
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min(available, _free_in_group(group or _own_group()))


def _own_group() -> Path:
    """Return the folder of this process's control group (version 2)."""
    try:
        path = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].splitlines()[0]
    except (OSError, IndexError):
        return _CGROUP
    return _CGROUP / path if (_CGROUP / path).is_dir() else _CGROUP


def _free_in_group(group: Path) -> int:
    """Return what a control group's limit leaves; files that the system keeps in memory can be let go."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        words = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        kept = sum(int(value) for key, value in words if key == "inactive_file")
    except (OSError, ValueError):  # no control groups, or "max": no limit
        return 1 << 62
    return max(0, limit - used + kept)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)


_NEVER, _LARGEST = 2**31 - 1, 32 * 2**20  # bytes; glibc takes no larger threshold for its mappings


@functools.cache
def keep_freed_memory() -> bool:
    """Make the C library keep freed memory for the life of the process; False if it is not glibc.

    glibc gives the activations of a step back to the kernel at once and asks for them again in the next step, page by
    page: a tenth of the time on small networks.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST))
