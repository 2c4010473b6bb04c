"""Named sets of fixed analytic patterns: the models of the eight published master key filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.frozen import FrozenDict
from mkfa.patterns.scale_space import profile


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A fixed set of patterns.

    Attributes
    ----------
    name : str
    labels : tuple of A strings
    patterns : (A, kh, kw) float32, each zero-mean and of unit norm. Row 0 is the top of the kernel and the y axis
        points up: y = +1 is the row above the centre row.
    sigmas : (A, 2) float64, sigma_x and sigma_y of each, pixels.
    """

    name: str
    labels: tuple[str, ...]
    patterns: F32
    sigmas: F64


# Label, operator along x, operator along y, (sigma_x, sigma_y), weight of the Laplacian subtracted.
_EIGHT: tuple[tuple[str, str, str, tuple[float, float], float], ...] = (
    ("forward d/dy", "smooth", "forward", (0.644, 0.583), 0.0),
    ("backward d/dx", "backward", "smooth", (0.586, 0.644), 0.0),
    ("backward d/dy", "smooth", "backward", (0.690, 0.674), 0.0),
    ("forward d/dx", "forward", "smooth", (0.756, 0.460), 0.0),
    ("central d/dx", "central", "smooth", (1.107, 0.945), 0.0),
    ("central d/dy", "smooth", "central", (0.900, 0.889), 0.0),
    ("T - 0.5 Laplacian(T)", "smooth", "smooth", (0.675, 0.675), 0.5),
    ("T", "smooth", "smooth", (0.609, 0.601), 0.0),
)
_SETS = FrozenDict({"eight": _EIGHT})
NAMED_SETS = tuple(_SETS)


def named_set(name: str, kh: int, kw: int, *, partial: bool = False) -> NamedSet:
    """Return a named set for kernels of kh x kw taps.

    "eight" models the eight master key filters of Babaiee et al. (NeurIPS 2025, arXiv 2509.11711) in discrete
    Gaussians and differences, with the scales that match variances (method B of Lindeberg, Babaiee & Kiasari,
    arXiv 2509.12746). Models, not the learned filters: those have |cosine| .84 to 1.00 with them at 7x7.

    Parameters
    ----------
    partial : leave out the patterns that take differences along an axis of one tap, instead of refusing the kernel.

    Raises
    ------
    UnknownNameError
        No set has that name.
    MkfaError
        The kernel is too small to tell the patterns from a constant.
    """
    if name not in _SETS:
        raise UnknownNameError(name, "unknown set of patterns", nearest(name, _SETS) or f"use {NAMED_SETS[0]}")
    entries = [entry for entry in _SETS[name] if not (partial and _needs_more(entry, kh, kw))]
    patterns = np.empty((len(entries), kh, kw), np.float32)
    for row, (label, along_x, along_y, (sigma_x, sigma_y), weight) in zip(patterns, entries, strict=True):
        pattern = outer(profile(along_y, kh, sigma_y**2), profile(along_x, kw, sigma_x**2))
        if weight:
            pattern = pattern - weight * laplacian(kh, kw, variance_x=sigma_x**2, variance_y=sigma_y**2)
        pattern = pattern - pattern.mean()
        norm = np.linalg.norm(pattern)
        if norm < 1e-6:
            problem = f"its pattern '{label}' is constant on a kernel of {kh}x{kw}"
            raise MkfaError(f"basis {name}", problem, "choose a bank with larger kernels or another basis")
        row[:] = pattern / norm
    sigmas = np.array([entry[3] for entry in entries], np.float64)
    return NamedSet(name, tuple(entry[0] for entry in entries), patterns, sigmas)


def all_labels(name: str) -> tuple[str, ...]:
    """Return the labels of a named set's patterns, also of those that a small kernel cannot have."""
    return tuple(entry[0] for entry in _SETS[name])


def _needs_more(entry: tuple[str, str, str, tuple[float, float], float], kh: int, kw: int) -> bool:
    """True if a pattern takes differences along an axis on which the kernel has one tap."""
    return (kw == 1 and entry[1] != "smooth") or (kh == 1 and entry[2] != "smooth")


def outer(along_y: F64, along_x: F64) -> F64:
    """Return the separable kernel of two profiles, (..., kh, kw), with the y axis up: row 0 has the largest y.

    Both profiles run along ascending coordinates. In an even kernel the origin is right of and above the centre.
    """
    return np.asarray(along_y[..., ::-1, None] * along_x[..., None, :], dtype=along_x.dtype)


def laplacian(kh: int, kw: int, *, variance_x: float, variance_y: float) -> F64:
    """Return L T, equation (6) of `mkfa.patterns.scale_space`, (kh, kw)."""
    smooth_y, smooth_x = profile("smooth", kh, variance_y), profile("smooth", kw, variance_x)
    second_y, second_x = profile("second", kh, variance_y), profile("second", kw, variance_x)
    return outer(smooth_y, second_x) + outer(second_y, smooth_x)
