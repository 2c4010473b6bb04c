"""Keep the memory of one training step for the next one.

The activations of a step are freed after it; glibc gives such memory back to the kernel at once and asks for it again
in the next step, page by page. On small networks that is a tenth of the time.
"""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
_NEVER, _LARGEST = 2**31 - 1, 32 * 2**20  # bytes; glibc takes no larger threshold for its mappings


@functools.cache
def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed, for the life of the process; False where it is not glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST))
