"""The filters of a bank as unordered clouds, one per kernel size and dilation, and equal samples of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, I64
from mkfa.banks.bank import FilterBank, Kind, Layer
from mkfa.banks.counts import count_kinds
from mkfa.banks.usable import usable_filters
from mkfa.errors import MkfaError
from mkfa.words import counted

MIN_FILTERS = 16
"""Fewest usable filters that can be split in halves and compared."""
MIN_LAYER = 4
"""Fewest usable filters of a layer: two for each half, so that a half has a pair of filters within the layer."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """Usable filters of one bank and one kind, in order of layers; only layers with `MIN_LAYER` of them.

    Attributes
    ----------
    weight : (N, kh, kw) float32, as harvested.
    vector : (N, K) float32, canonical.
    layer : (N,) int64, position in `layers`.
    layers : rows of the bank's layer table.
    thin : number of layers left out because they have too few usable filters.
    """

    kind: Kind
    weight: F32
    vector: F32
    layer: I64
    layers: tuple[Layer, ...]
    thin: int

    def __len__(self) -> int:
        return len(self.vector)

    @property
    def capacity(self) -> I64:
        """(L,) int64: filters that each half of a layer can give."""
        return np.asarray(np.bincount(self.layer, minlength=len(self.layers)) // 2, np.int64)


def make_cloud(bank: FilterBank, kind: Kind) -> Cloud:
    """Gather the usable filters of one kind; the cloud may be empty. The bank keeps it."""
    return bank.remember(("cloud", kind), lambda: _make_cloud(bank, kind))


def _make_cloud(bank: FilterBank, kind: Kind) -> Cloud:
    usable = usable_filters(bank, kind)
    counts = np.bincount(usable.layer, minlength=len(bank.layers))
    enough = counts[usable.layer] >= MIN_LAYER
    keep = slice(None) if enough.all() else enough  # a slice copies nothing
    rows, position = np.unique(usable.layer[keep], return_inverse=True)
    return Cloud(
        kind=kind,
        weight=usable.weight[keep],
        vector=usable.vector[keep],
        layer=position.astype(np.int64).ravel(),
        layers=tuple(bank.layers[int(row)] for row in rows),
        thin=sum(layer.kind == kind for layer in bank.layers) - len(rows),
    )


def common_kinds(a: FilterBank, b: FilterBank, only: Sequence[tuple[int, int]] = ()) -> tuple[Kind, ...]:
    """Return the kinds that both banks have, those with most filters in the smaller bank first.

    Raises MkfaError: the banks share no kind (of the sizes in `only`); the message lists the kinds of each.
    """
    count_a = {c.kind: c.usable for c in count_kinds(a)}
    count_b = {c.kind: c.usable for c in count_kinds(b)}
    shared = [k for k in count_a if k in count_b and (not only or (k.kh, k.kw) in only)]
    if not shared:
        wanted = f" among {', '.join(f'{h}x{w}' for h, w in only)}" if only else ""
        has = "; ".join(f"{bank.name} has {', '.join(map(str, bank.kinds)) or 'no filters'}" for bank in (a, b))
        raise MkfaError(
            f"{a.name} and {b.name}",
            f"have no kernel size and dilation in common{wanted} ({has})",
            "compare banks that share a kernel size",
        )
    return tuple(sorted(shared, key=lambda k: (-min(count_a[k], count_b[k]), k)))


def left_out(a: FilterBank, b: FilterBank, compared: Sequence[Kind]) -> tuple[str, ...]:
    """Return in sentences what a comparison of these kinds leaves out of either bank, and why."""
    out: list[str] = []
    for bank, other in ((a, b), (b, a)):
        for count in count_kinds(bank):
            kind, cloud = count.kind, make_cloud(bank, count.kind)
            if kind in compared:
                dead = "dead (nearly zero beside the layer's typical weights)"
                lost = [(0, count.dead, dead), (0, count.flat, "flat"), (0, count.nonfinite, "not finite")]
                thin = f"under {MIN_LAYER} usable filters in the layer"
                lost.append((cloud.thin, count.usable - len(cloud), thin))
            elif kind not in other.kinds:
                lost = [(count.layers, count.filters, f"{other.name} has none")]
            else:
                few = min(len(cloud), len(make_cloud(other, kind))) < MIN_FILTERS
                why = f"fewer than {MIN_FILTERS} usable filters in one of the banks" if few else "not asked for"
                lost = [(count.layers, count.filters, why)]
            for layers, filters, reason in lost:
                if layers or filters:
                    where = f" in {counted(layers, 'layer')}" if layers else ""
                    out.append(f"{bank.name}: {counted(filters, 'filter')} of {kind}{where} left out, {reason}")
    return tuple(out)


def sample_size(a: Cloud, b: Cloud, limit: int) -> int:
    """Return how many filters are taken from each bank: as many as both can give twice, at most `limit`.

    A limit too small to give every layer four filters is raised to that.
    """
    wanted = max(limit, MIN_LAYER * len(a.layers), MIN_LAYER * len(b.layers))
    return int(min(wanted, a.capacity.sum(), b.capacity.sum()))


def allocate(n: int, capacity: I64) -> I64:
    """Share n filters among layers as evenly as their capacities allow; return (L,) int64 that sums to n.

    Where n gives a layer less than two, only evenly spaced layers are used.
    """
    share = np.zeros(len(capacity), np.int64)
    room = np.asarray(capacity, np.int64)
    if n < 2 * np.count_nonzero(room):
        chosen = np.flatnonzero(room)[np.linspace(0, np.count_nonzero(room) - 1, max(n // 2, 1)).astype(int)]
        room = np.where(np.isin(np.arange(len(room)), chosen), room, 0)
    while (left := n - int(share.sum())) > 0:
        open_ = np.flatnonzero(share < room)
        if not len(open_):
            break
        step = max(left // len(open_), 1)
        for row in open_[: left if step == 1 else None]:
            share[row] = min(share[row] + step, room[row])
    if share.sum() < n:  # the chosen layers are full: the others give the rest
        share += allocate(n - int(share.sum()), np.asarray(capacity, np.int64) - share)
    return share


def split(cloud: Cloud, n: int, rng: np.random.Generator) -> tuple[I64, I64]:
    """Draw two disjoint samples of n filters with the same number from each layer; return rows, (n,) int64 each."""
    first, second = [], []
    bounds = np.searchsorted(cloud.layer, np.arange(len(cloud.layers) + 1))
    for row, take in enumerate(allocate(n, cloud.capacity)):
        order = bounds[row] + rng.permutation(bounds[row + 1] - bounds[row])
        first.append(order[:take])
        second.append(order[take : 2 * take])
    return np.concatenate(first), np.concatenate(second)


def split_layers(cloud: Cloud, n: int, rng: np.random.Generator) -> tuple[I64, I64] | None:
    """Draw n filters from every other layer and n from the layers between; None where these have fewer."""
    size = np.bincount(cloud.layer, minlength=len(cloud.layers))
    bounds = np.searchsorted(cloud.layer, np.arange(len(cloud.layers) + 1))
    rows = []
    for parity in (0, 1):
        room = np.where(np.arange(len(size)) % 2 == parity, size, 0)
        if room.sum() < n:
            return None
        part = [bounds[i] + rng.permutation(size[i])[:take] for i, take in enumerate(allocate(n, room))]
        rows.append(np.concatenate(part))
    return rows[0], rows[1]


def shared_filters(a: Cloud, b: Cloud) -> int:
    """Return how many of A's filters occur in B bit for bit (frozen, copied or simply the same file)."""
    known = {row.tobytes() for row in b.weight}
    return sum(row.tobytes() in known for row in a.weight)


def same_filters(a: Cloud, b: Cloud) -> bool:
    """True when both clouds have the same filters, so that only disjoint halves compare them fairly."""
    return a.weight.shape == b.weight.shape and bool(np.array_equal(a.weight, b.weight))
