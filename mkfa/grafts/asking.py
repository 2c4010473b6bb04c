"""Ask a network and its variants about images, batch by batch, and compare their answers.

Variants are put in an order in which neighbours share as many of their first layers as possible; what they share is
computed once per batch. The unchanged network is asked once for all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.array_types import F32, I64
from mkfa.grafts.program import Program, State, Statistics
from mkfa.progress import Advance

if TYPE_CHECKING:
    import torch

Key = tuple[int, ...]
"""The filters in each layer of a variant: 0 for the network's own, else the number of a replacement."""
WeightOf = Callable[[int, int], F32]
"""(layer, number of the replacement) -> its filters, (C, kh, kw)."""
Batch = tuple[list[int], "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Step:
    """One variant, the layer that it continues from, and the layers before which its state is kept for others."""

    variant: int
    resume: int
    keep: frozenset[int]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of V variants beside the unchanged network's, on N images.

    Attributes
    ----------
    rows : (N,) int64, row of each image.
    agree : (V, N) float32, 1 where the first class is the unchanged network's.
    kl : (V, N) float32, Kullback-Leibler divergence of the variant's probabilities from the network's, in nats.
    correlation : (V, N) float32, Pearson's, of the logits.
    correct : (V, N) float32, 1 where the first class is the image's own; NaN where that is unknown.
    own_correct : (N,) float32, the same of the unchanged network.
    """

    rows: I64
    agree: F32
    kl: F32
    correlation: F32
    correct: F32
    own_correct: F32


def share(keys: Sequence[Key]) -> list[Step]:
    """Return an order of variants and what each computes.

    Examples
    --------
    >>> [(step.variant, step.resume, sorted(step.keep)) for step in share([(0, 0), (1, 0), (1, 1), (0, 2)])]
    [(0, 0, [0, 1]), (3, 1, []), (1, 0, [1]), (2, 1, [])]
    """
    order = sorted(range(len(keys)), key=lambda i: keys[i])
    common = [0] + [_common(keys[a], keys[b]) for a, b in itertools.pairwise(order)]
    steps = []
    for at, variant in enumerate(order):
        wanted, least = set(), len(keys[variant])
        for later in common[at + 1 :]:
            if later < least:
                least = later
                if least > common[at] or (at == 0 and least == 0):
                    wanted.add(least)
            if least <= common[at]:
                break
        steps.append(Step(variant, common[at], frozenset(wanted)))
    return steps


def _common(a: Key, b: Key) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def cost(program: Program, steps: Sequence[Step]) -> float:
    """Return the work of a batch, in runs of the whole network."""
    return sum(program.rest(step.resume) for step in steps)


def calibrate(
    program: Program, keys: Sequence[Key], weight_of: WeightOf, *, batches: Iterable[Batch], advance: Advance
) -> list[Statistics]:
    """Return the statistics of every batch normalisation of each variant, estimated from images.

    Each batch is normalised by its own statistics, as in training. The mean is the mean over batches; the variance is
    the mean variance within batches plus the variance of their means.
    """
    sums: list[list[Any]] = [[None] * len(program.norms) for _ in keys]
    total = 0
    for rows, images in batches:
        count, total = len(rows), total + len(rows)
        for variant, (_, seen) in _variants(program, keys, weight_of, images, calibrate=True, advance=advance):
            for i, (mean, var) in seen.items():
                mean, var = mean.double(), var.double()
                parts = (count * mean, count * mean * mean, count * var)
                old = sums[variant][i]
                sums[variant][i] = parts if old is None else tuple(a + b for a, b in zip(old, parts, strict=True))
    out: list[Statistics] = []
    for each in sums:
        made: Statistics = []
        for norm, parts in zip(program.norms, each, strict=True):
            if parts is None:  # a branch that no image takes
                made.append((norm.running_mean, norm.running_var))
                continue
            mean = parts[0] / total
            var = parts[2] / total + (parts[1] / total - mean * mean).clamp_min(0)
            made.append((mean.float(), var.float()))
        out.append(made)
    return out


def ask(
    program: Program,
    keys: Sequence[Key],
    weight_of: WeightOf,
    *,
    batches: Iterable[Batch],
    statistics: Sequence[Statistics] | None = None,
    labels: I64 | None = None,
    advance: Advance,
) -> Answers:
    """Return the answers of each variant.

    Parameters
    ----------
    keys : of the variants, all different.
    statistics : of each variant's batch normalisations; None: the network's own.
    labels : (M,) int64, class of each image by its row; -1 where unknown.
    """
    import torch

    parts: list[list[Any]] = [[] for _ in range(6)]
    own_key = (0,) * len(program.names)
    for rows, images in batches:
        images = images.to(program.device).contiguous(memory_format=torch.channels_last)
        own = program.run(images, [None] * len(program.names))[0] if statistics or own_key not in keys else None
        right = torch.full((len(rows),), -1, device=program.device)
        if labels is not None:
            right = torch.as_tensor(labels[np.asarray(rows)], device=program.device)
        found = [torch.zeros((len(keys), len(rows))) for _ in range(4)]
        waiting: list[tuple[int, Any]] = []
        for variant, (logits, _) in _variants(program, keys, weight_of, images, statistics=statistics, advance=advance):
            if own is None and keys[variant] == own_key:
                own = logits
            waiting.append((variant, logits))
            if own is not None:
                for index, each in waiting:
                    for target, value in zip(found, _compared(own, each, right), strict=True):
                        target[index] = value.float().cpu()
                waiting.clear()
        assert own is not None
        own_right = torch.where(right >= 0, (own.argmax(1) == right).float(), torch.nan)
        for part, value in zip(parts, (np.array(rows), *found, own_right.cpu()), strict=True):
            part.append(np.asarray(value))
    rows_, agree, kl, correlation, correct, own_correct = (np.concatenate(p, axis=-1) for p in parts)
    return Answers(rows_, agree, kl, correlation, correct, own_correct)


def _variants(
    program: Program,
    keys: Sequence[Key],
    weight_of: WeightOf,
    images: Any,
    *,
    statistics: Sequence[Statistics] | None = None,
    calibrate: bool = False,
    advance: Advance,
) -> Any:
    """Yield (variant, (logits, statistics of the batch)) in an order in which little is computed twice."""
    import torch

    images = images.to(program.device).contiguous(memory_format=torch.channels_last)
    states: dict[int, State] = {}
    made: dict[tuple[int, int], Any] = {}
    for step in share(keys):
        key = keys[step.variant]
        states = {layer: state for layer, state in states.items() if layer <= step.resume}
        made = {place: weight for place, weight in made.items() if place[1] == key[place[0]]}
        for layer, number in enumerate(key):
            if number and (layer, number) not in made:
                made[layer, number] = _tensor(weight_of(layer, number), program.device)
        weights = [made[layer, number] if number else None for layer, number in enumerate(key)]
        logits, kept, seen = program.run(
            images,
            weights,
            statistics=statistics[step.variant] if statistics else None,
            calibrate=calibrate,
            state=states.get(step.resume),
            keep=step.keep if program.traced else frozenset(),
        )
        states |= kept
        advance(len(images) * program.rest(step.resume))
        yield step.variant, (logits, seen)


def _tensor(weight: F32, device: torch.device) -> Any:
    import torch

    return torch.from_numpy(weight[:, None].copy()).to(device).contiguous(memory_format=torch.channels_last)


def _compared(own: Any, other: Any, right: Any) -> tuple[Any, Any, Any, Any]:
    """Return agreement, KL, correlation, and whether the first class is right, each (n,)."""
    import torch

    first = other.argmax(1)
    a, b = own.double().log_softmax(1), other.double().log_softmax(1)
    kl = (a.exp() * (a - b)).sum(1).clamp_min(0)
    x, y = own.double() - own.double().mean(1, keepdim=True), other.double() - other.double().mean(1, keepdim=True)
    spread = x.norm(dim=1) * y.norm(dim=1)
    correlation = torch.where(spread > 0, (x * y).sum(1) / spread, torch.nan)
    correct = torch.where(right >= 0, (first == right).float(), torch.nan)
    return own.argmax(1) == first, kl, correlation, correct
