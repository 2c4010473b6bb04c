"""Threads: how many cores there are, and matrix products that keep to one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside the context.

    The products here are small: sharing one gains nothing, and on a machine with other work the threads spend their
    time waiting for each other (8 to 10 times slower, measured on two busy cores).
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def in_threads(work: Callable[[T], R], items: Sequence[T], *, most: int = 64) -> Iterator[R]:
    """Yield the result of each item in order; several items run at once, each with single-threaded products."""
    workers = max(1, min(len(items), cores(), most))
    with one_thread(), ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, items)
