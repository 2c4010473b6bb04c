"""Copy arrays to the device of a tensor (torch inside functions)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mkfa.array_types import AnyArray

if TYPE_CHECKING:
    import torch

_ALIGNED = 16
"""In a common copy, each array starts at a multiple of this many bytes."""

T = TypeVar("T")


def to_device(values: Any, like: torch.Tensor) -> torch.Tensor:
    """Copy an array to the device of `like` without waiting for the device; a tensor, which is there, is returned."""
    import torch

    if isinstance(values, torch.Tensor):
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if like.device.type == "cuda":
        return tensor.pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like.device)


def all_to_device(values: T, like: torch.Tensor) -> T:
    """Replace the arrays in dataclasses and tuples by tensors on the device of `like`, all sent there in one copy.

    Examples
    --------
    >>> import torch
    >>> drawn = ((np.arange(2), 0.5), np.array([True, False]))
    >>> all_to_device(drawn, torch.zeros(()))
    ((tensor([0, 1]), 0.5), tensor([ True, False]))
    """
    import torch

    if like.device.type == "cpu":
        return _each_array(values, lambda array: to_device(array, like))
    parts: list[AnyArray] = []
    _each_array(values, parts.append)
    starts = np.cumsum([0, *(-(-part.nbytes // _ALIGNED) * _ALIGNED for part in parts)])
    together = np.zeros(starts[-1], np.uint8)
    for start, part in zip(starts[:-1], parts, strict=True):
        together[start : start + part.nbytes].view(part.dtype)[:] = part.ravel()
    there, found = to_device(together, like), iter(zip(starts.tolist(), parts, strict=False))

    def view(_: Any) -> torch.Tensor:
        start, part = next(found)
        dtype = torch.from_numpy(part[:0].copy()).dtype
        return there[start : start + part.nbytes].view(dtype).view(part.shape)

    return _each_array(values, view)


def _each_array(values: T, change: Callable[[AnyArray], Any]) -> T:
    """Apply `change` to every array in dataclasses and tuples, in the order of their fields; return the new ones."""
    if isinstance(values, np.ndarray):
        return change(values)  # type: ignore[no-any-return]
    if isinstance(values, tuple):
        return tuple(_each_array(value, change) for value in values)  # type: ignore[return-value]
    if is_dataclass(values) and not isinstance(values, type):
        former = {field.name: getattr(values, field.name) for field in fields(values)}
        changed = {name: _each_array(value, change) for name, value in former.items()}
        return replace(values, **changed) if any(changed[name] is not former[name] for name in former) else values
    return values
