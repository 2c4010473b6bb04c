"""Free memory for images, and reuse of freed memory between training steps."""

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
"""Share of a device's free memory that a run's images may use. The rest is for the network, its gradients and
activations, and, on a CPU, other programs."""
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
