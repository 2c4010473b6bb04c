"""Do two networks have a common parent: is one made from the other, or both from the same initial weights?

The order of a network's channels is arbitrary, so that filters in the same place of two networks trained from their own
random weights are no more alike than filters of other places. After fine-tuning, copying or training from the same
initial weights they are. The test: for all pairs of layers of equal shape the mean |cos| between filters of the same
channel, beside the same with the channels of one network permuted. Layers need not have the same names or places, and
|cos| sees neither the scale nor the sign that folded normalisation gives a filter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.banks.bank import FilterBank
from mkfa.banks.usable import usable_filters
from mkfa.frozen import ByContent
from mkfa.stats.p_values import p_text
from mkfa.threads import one_thread
from mkfa.words import counted

PERMUTATIONS = 499
LEVEL = 0.01
"""p from which two networks are said to have a common parent."""
EXCESS = 0.05
"""Smallest share of the way from permuted channels (0) to equal filters (1): a small effect of a common order of
channels is not a common parent."""
_LEAST = 8
"""Fewest channels of a layer that is tested."""
_MOST = 64
"""Channels of a layer that the test uses; the cosines that are reported are of all."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Lineage(ByContent):
    """Whether two banks have a common parent.

    Attributes
    ----------
    found : True if so.
    p : larger likeness of filters in the same place than with permuted channels: of any pair of layers (adjusted for
        all pairs) or of all layers together, the smaller one, doubled for being one of two; NaN where no layers have
        equal shapes.
    layers : number of layers of A that have a partner in B; of : layers of A with any layer of equal shape in B.
    partners : (layer of A, layer of B) by number in the network, from 1.
    cosine : mean |cos| of filters of the same channel in these layers; permuted : the same with permuted channels. Over
        all layers of equal shape where none has a partner.
    pairs : number of pairs of layers that `cosine` and `permuted` are over.
    m, seed : permutations and their seed.
    """

    found: bool
    p: float
    layers: int
    of: int
    partners: tuple[tuple[int, int], ...]
    cosine: float
    permuted: float
    pairs: int
    m: int
    seed: int

    def in_words(self, a: str, b: str) -> str:
        """Return what the test says of two banks of these names: a common parent, none found, or that it cannot tell.

        Examples
        --------
        >>> import mkfa
        >>> det, rec = mkfa.load_bank("ppocrv4_det"), mkfa.load_bank("ppocrv4_rec")
        >>> print(find_lineage(det, rec).in_words("det", "rec").partition(",")[0])
        No common parent of det and rec was found: in 2 pairs of layers of equal shape
        """
        unknown = self._unknown()
        if unknown:
            return f"Whether {a} and {b} have a common parent cannot be told: {unknown}"
        likeness = (
            f"of equal shape, filters of the same channel have mean |cos| {self.cosine:.2f}, with channels permuted "
            f"{self.permuted:.2f} (p = {p_text(self.p)}, {counted(self.m, 'permutation')}, seed {self.seed})"
        )
        if self.found:
            return (
                f"{a} and {b} have a common parent (one was trained from the other, or both from the same initial "
                f"weights): in {self.layers} of {counted(self.of, 'layer')} {likeness}; they are not independent "
                "evidence"
            )
        needed = self.permuted + EXCESS * (1 - self.permuted)
        return (
            f"No common parent of {a} and {b} was found: in {counted(self.pairs, 'pair')} of layers {likeness}; "
            f"one is said from p <= {LEVEL} and |cos| >= {needed:.2f} on"
        )

    def _unknown(self) -> str:
        """Return why the test cannot tell, "" where it can."""
        if not self.of:
            return f"they have no layers of one kernel size and one number of channels, {_LEAST} or more"
        if not np.isfinite(self.cosine):
            return "no channel has a filter in both that is not dead, flat or non-finite"
        if 2 / (self.m + 1) > LEVEL:
            return f"with {counted(self.m, 'permutation')} p cannot reach {LEVEL}"
        return ""


def find_lineage(a: FilterBank, b: FilterBank, *, m: int = PERMUTATIONS, seed: int = 0) -> Lineage:
    """Test whether two banks have a common parent.

    Parameters
    ----------
    m : permutations of channels; with fewer than 199 nothing can be found, as p cannot reach `LEVEL`.
    seed : of the permutations.

    Examples
    --------
    >>> import mkfa
    >>> from mkfa.similarity.lineage import find_lineage
    >>> bank = mkfa.load_bank("ppocrv4_det")
    >>> find_lineage(bank, mkfa.load_bank("ppocrv4_rec")).found, find_lineage(bank, bank).found
    (False, True)
    """
    with one_thread():
        groups = list(_equal_shapes(a, b))
        if not groups:
            nothing = float("nan")
            return Lineage(False, nothing, 0, 0, (), nothing, nothing, 0, m, seed)
        rng = np.random.default_rng([seed, 11])
        observed = [_same_place(one, other) for _, _, one, other in groups]
        drawn = [np.empty((m, *x.shape)) for x in observed]
        for k in range(m):
            for draws, (_, _, one, other) in zip(drawn, groups, strict=True):
                draws[k] = _same_place(one, _permuted(other, rng))
        scores = [_standardised(x, draws) for x, draws in zip(observed, drawn, strict=True)]
        largest = np.max([z.reshape(m + 1, -1).max(axis=1) for z in scores], axis=0)
        together = np.mean(np.concatenate([_in_order(z) for z in scores], axis=1), axis=1)
        p_any, p_all = ((x >= x[0]).mean() for x in (largest, together))
        pairs = []
        for (rows, columns, *_), z in zip(groups, scores, strict=True):
            passed = (largest[:, None, None] >= z[:1]).mean(axis=0) <= LEVEL
            pairs += [(rows[i], columns[j]) for i, j in _best_partners(z[0], passed)]
        of = sum(len(rows) for rows, *_ in groups)
        every = [pair for rows, columns, *_ in groups for pair in zip(rows, columns, strict=False)]
        judged = pairs or every
        cosine, permuted = _likeness(a, b, judged, rng)
    p = float(min(1.0, 2 * min(p_any, p_all)))
    found = bool(p <= LEVEL and cosine - permuted >= EXCESS * (1 - permuted))
    partners = tuple((a.layers[i].index + 1, b.layers[j].index + 1) for i, j in judged if found)
    return Lineage(found, p, len(partners), of, partners, cosine, permuted, len(judged), m, seed)


def _filters(bank: FilterBank) -> list[F32]:
    """Return the canonical filters of each layer, (channels, K), zero for those that are not usable."""
    return bank.remember(("by channel",), lambda: _by_channel(bank))


def _by_channel(bank: FilterBank) -> list[F32]:
    out = [np.zeros((layer.channels, layer.kh * layer.kw), np.float32) for layer in bank.layers]
    for kind in bank.kinds:
        usable = usable_filters(bank, kind)
        for row in np.unique(usable.layer):
            here = usable.layer == row
            out[row][usable.channel[here]] = usable.vector[here]
    return out


def _equal_shapes(a: FilterBank, b: FilterBank) -> Iterator[tuple[list[int], list[int], F32, F32]]:
    """Yield the layers of both banks of each shape that both have, and their filters in some places, (L, C, K)."""
    sides = []
    for bank in (a, b):
        shapes: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for row, layer in enumerate(bank.layers):
            shapes[layer.kh, layer.kw, layer.channels].append(row)
        sides.append(shapes)
    for shape in sorted(sides[0].keys() & sides[1].keys()):
        channels = shape[2]
        if channels >= _LEAST:
            places = np.linspace(0, channels - 1, min(channels, _MOST)).astype(np.int64)
            rows = [shapes[shape] for shapes in sides]
            one, other = (
                np.stack([_filters(bank)[row][places] for row in side]) for bank, side in zip((a, b), rows, strict=True)
            )
            yield rows[0], rows[1], one, other


def _same_place(one: F32, other: F32) -> F64:
    """Return the mean |cos| of filters of the same channel, (L_a, L_b), from (L, C, K)."""
    cosine = one.swapaxes(0, 1) @ other.transpose(1, 2, 0)  # (C, L_a, L_b)
    return np.asarray(np.abs(cosine).mean(axis=0, dtype=np.float64))


def _permuted(filters: F32, rng: np.random.Generator) -> F32:
    """Permute the channels of each layer, (L, C, K)."""
    order = rng.random(filters.shape[:2]).argsort(axis=1)
    return np.take_along_axis(filters, order[:, :, None], axis=1)


def _standardised(observed: F64, draws: F64) -> F64:
    """Return observed and draws, (1 + m, L_a, L_b), in standard deviations, by all of them together."""
    every = np.concatenate([observed[None], draws])
    sd = every.std(axis=0)
    return np.asarray((every - every.mean(axis=0)) / np.where(sd > 0, sd, 1))


def _in_order(scores: F64) -> F64:
    """Return the scores of the layers of one shape paired in the order of execution, (1 + m, fewer of both)."""
    n = min(scores.shape[1:])
    return scores[:, range(n), range(n)]


def _best_partners(score: F64, passed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Return pairs that passed, each row and column once, the highest scores first."""
    out: list[tuple[int, int]] = []
    for i, j in zip(*np.unravel_index(np.argsort(-score, axis=None), score.shape), strict=True):
        if passed[i, j] and all(i != x and j != y for x, y in out):
            out.append((int(i), int(j)))
    return sorted(out)


def _likeness(
    a: FilterBank, b: FilterBank, pairs: Sequence[tuple[int, int]], rng: np.random.Generator
) -> tuple[float, float]:
    """Return the mean |cos| of all filters of the same channel in these layers, and with permuted channels."""
    same: list[F32] = []
    other: list[F32] = []
    for i, j in pairs:
        one, two = _filters(a)[i], _filters(b)[j]
        both: I64 = np.flatnonzero(one.any(axis=1) & two.any(axis=1))
        one, two = one[both], two[both]
        same.append(np.abs(np.einsum("ck,ck->c", one, two)))
        other += [np.abs(np.einsum("ck,ck->c", one, two[rng.permutation(len(two))])) for _ in range(9)]
    cosine, permuted = np.concatenate(same), np.concatenate(other)
    if not len(cosine):
        return float("nan"), float("nan")
    return float(cosine.mean(dtype=np.float64)), float(permuted.mean(dtype=np.float64))


def families(names: Sequence[str], related: Sequence[tuple[int, int]]) -> tuple[tuple[str, ...], ...]:
    """Return the groups of two or more names that are linked by `related` pairs of rows.

    Examples
    --------
    >>> families(["a", "b", "c", "d"], [(0, 2)])
    (('a', 'c'),)
    """
    group = family_of(len(names), related)
    members = [tuple(name for name, g in zip(names, group, strict=True) if g == i) for i in sorted(set(group))]
    return tuple(names for names in members if len(names) > 1)


def family_of(n: int, related: Sequence[tuple[int, int]]) -> list[int]:
    """Return the family of each of n banks, the row of its first member.

    Examples
    --------
    >>> family_of(4, [(0, 2), (2, 3)])
    [0, 1, 0, 0]
    """
    group = list(range(n))
    for i, j in related:
        low, high = sorted((group[i], group[j]))
        group = [low if g == high else g for g in group]
    return group
