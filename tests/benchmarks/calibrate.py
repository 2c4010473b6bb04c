"""How often does mkfa find what is not there, and what is? Every p and interval that it prints, on made banks.

    python tests/benchmarks/calibrate.py --rows calibrate.jsonl [--part compare] [--scale 1.0]
    python tests/benchmarks/calibrate.py --rows calibrate.jsonl --table

Each row of the file is one made pair (or bank) of one part and setting; rows that are there are not computed again, so
that a run can be broken off and resumed. `--scale 0.02` is a quick look. The seed of a row is [SEED, setting, number].
Banks are structured as trained ones are: noise has the second moments of the 5x5 filters of `efficientnet_lite0`
(first eigenvalue .38), of the whole bank or of single layers; patterned banks mix twelve smooth patterns in proportions
that differ from layer to layer.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import calibrate_runs
import numpy as np

import mkfa
from mkfa.banks.bank import FilterBank, Kind, Layer, Provenance, make_bank
from mkfa.banks.canonical import normalise
from mkfa.clusters.count import choose_clusters
from mkfa.clusters.keys import find_keys
from mkfa.nulls.covariance import sample_covariance, sphere_covariance, tap_covariance
from mkfa.nulls.draws import STRICT, draw_null
from mkfa.patterns.dictionary import dictionary
from mkfa.patterns.summary import summarise
from mkfa.similarity.comparing import compare, compare_many
from mkfa.similarity.depth_trend import TRENDS, depth_trend
from mkfa.similarity.groups import compare_groups
from mkfa.similarity.layer_intervals import layer_intervals, no_interval, unlike
from mkfa.similarity.measures.table import DEFAULT_MEASURES, MEASURES
from mkfa.similarity.pairs import take
from mkfa.similarity.samples import make_cloud, sample_size, split
from mkfa.similarity.score import DIRECTIONS_SEED, make_plan, score
from mkfa.stats.intervals import share_over_groups
from mkfa.threads import one_thread

SEED = 2026
ALPHA = 0.05
SIDE = 5
TAPS = SIDE * SIDE
JUDGED = tuple(name for name in DEFAULT_MEASURES if MEASURES[name].whole is None)
WITH_INTERVAL = tuple(name for name in JUDGED if MEASURES[name].interval)
LOUD = 10 ** (-15 / 20)
"""Noise of copies beside their norm: 15 dB below."""
SHARES = (0.0, 0.05, 0.10, 0.25)
STRUCTURED = (50,) * 8
"""Sizes of the layers in which keys and groups are sought."""
Layers = list[np.ndarray]
Law = Callable[[Sequence[int], np.random.Generator], Layers]
"""How the layers of a bank are drawn, from their sizes."""


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of zero mean and unit norm, (N, K) float32."""
    return normalise(np.asarray(rows, np.float32))[0]


@cache
def covariances() -> tuple[np.ndarray, ...]:
    """Return the covariances of normal filters with the second moments of the layers of a bundled bank."""
    cloud = make_cloud(mkfa.load_bank("efficientnet_lite0"), Kind(SIDE, SIDE))
    filters = cloud.vector.reshape(-1, SIDE, SIDE)
    return tuple(sphere_covariance(tap_covariance(filters[cloud.layer == i])) for i in range(len(cloud.layers)))


@cache
def pooled_covariance() -> np.ndarray:
    """Return the same for all its filters."""
    cloud = make_cloud(mkfa.load_bank("efficientnet_lite0"), Kind(SIDE, SIDE))
    return sphere_covariance(tap_covariance(cloud.vector.reshape(-1, SIDE, SIDE)))


@cache
def patterns(seed: int) -> np.ndarray:
    """Return twelve smooth patterns, (12, K)."""
    return unit(
        draw_null("blurred", np.empty((12, SIDE, SIDE), np.float32), np.random.default_rng(seed)).reshape(12, -1)
    )


def white(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    return [unit(rng.standard_normal((n, TAPS))) for n in sizes]


def blurred(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    return [unit(draw_null("blurred", np.empty((n, SIDE, SIDE), np.float32), rng).reshape(n, -1)) for n in sizes]


def shuffled(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw filters of the bundled bank with their taps permuted."""
    cloud = make_cloud(mkfa.load_bank("efficientnet_lite0"), Kind(SIDE, SIDE))
    return [rng.permuted(cloud.vector[rng.choice(len(cloud), n)], axis=1) for n in sizes]


def noise(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw normal filters of one covariance, the bundled bank's."""
    return [unit(sample_covariance(pooled_covariance(), n, rng)) for n in sizes]


def layered_noise(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw normal filters, each layer with the covariance of some layer of the bundled bank."""
    own = covariances()
    return [unit(sample_covariance(own[rng.integers(len(own))], n, rng)) for n in sizes]


def patterned(sizes: Sequence[int], rng: np.random.Generator, seed: int = 99) -> Layers:
    """Draw noisy copies of patterns, in proportions that differ from layer to layer."""
    out = []
    for n in sizes:
        chosen = patterns(seed)[rng.choice(12, n, p=rng.dirichlet(np.full(12, 0.5)))]
        out.append(unit(chosen * rng.choice([-1, 1], (n, 1)) + 0.12 * rng.standard_normal((n, TAPS))))
    return out


def other_patterned(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """The same with other patterns."""
    return patterned(sizes, rng, seed=98)


NOISE: dict[str, Law] = {
    "shuffled": shuffled,
    "gaussian": white,
    "blurred": blurred,
    "covariance": noise,
    "covariance-layer": layered_noise,
}
"""Banks that are draws of a null."""


def bank_of(layers: Layers, name: str) -> FilterBank:
    """Return a bank of these layers, at even depths."""
    k = math.isqrt(layers[0].shape[1])
    table = [
        (Layer(i, f"l{i}", -1, i / len(layers), len(w), k, k), w.reshape(-1, k, k).astype(np.float32), None)
        for i, w in enumerate(layers)
    ]
    return make_bank(name, table, Provenance())


def planted(a: Layers, b: Layers, share: float, rng: np.random.Generator) -> Layers:
    """Replace a share of B's filters, wherever they are, by copies of filters of A with noise 15 dB below them."""
    pool, sizes = np.concatenate(a), [len(x) for x in b]
    out = np.concatenate(b)
    hit = rng.random(len(out)) < share
    copies = pool[rng.choice(len(pool), int(hit.sum()), replace=False)]
    out[hit] = unit(copies + LOUD * unit(rng.standard_normal(copies.shape)))
    return np.split(out, np.cumsum(sizes)[:-1])


Found = dict[str, float]


def compare_pair(
    rng: np.random.Generator, *, null: str, share: float, sizes: Sequence[int], m: int = 39, against: str = ""
) -> Found:
    """Compare two banks that are draws of a null, B with some of A's filters, with that null or another."""
    a = NOISE[null](sizes, rng)
    b = planted(a, NOISE[null](sizes, rng), share, rng)
    seed = int(rng.integers(2**31))
    options: dict[str, Any] = dict(measures=JUDGED, nulls=against or null, draws=m, splits=1, seed=seed)
    result = compare(bank_of(a, "a"), bank_of(b, "b"), **options)
    kind = result.kinds[0]
    chance = kind.nulls[0]
    out = {f"p {name}": float(p) for name, p in zip(kind.measures, chance.p, strict=True)}
    for i, name in kind.by_layer:
        out[f"any layer pair, max-T, {name}"] = float(np.nanmin(chance.layer_p_max[i]))
        if len(kind.layers_a) * len(kind.layers_b) <= ALPHA * (m + 1):
            out[f"any layer pair, Holm, {name}"] = float(np.nanmin(chance.layer_p_holm[i]))
        out[f"any pair of stages, Holm, {name}"] = float(np.nanmin(chance.stage_p_holm[i]))
    out["lineage"] = float(result.lineage.p)
    return out


def steady(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw noisy copies of three patterns that turn steadily with depth into others."""
    first, last = unit(rng.standard_normal((3, TAPS))), unit(rng.standard_normal((3, TAPS)))
    return [
        copies((1 - u) * first + u * last, n, rng) for n, u in zip(sizes, np.linspace(0, 1, len(sizes)), strict=True)
    ]


def walking(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw noisy copies of six patterns that move at random from layer to layer."""
    moved, out = rng.standard_normal((6, TAPS)), []
    for n in sizes:
        moved = unit(moved) + 0.5 * unit(rng.standard_normal(moved.shape))
        out.append(copies(moved, n, rng))
    return out


def in_stages(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw noisy copies of four patterns, others in each third of the layers."""
    own = rng.standard_normal((3, 4, TAPS))
    return [copies(own[3 * i // len(sizes)], n, rng) for i, n in enumerate(sizes)]


def copies(rows: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw noisy copies of patterns, (n, K)."""
    return unit(unit(rows)[rng.integers(len(rows), size=n)] + 0.12 * rng.standard_normal((n, TAPS)))


def drifting(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw noisy copies of twelve patterns, the same for all banks, in proportions that change steadily with depth."""
    first, last = rng.dirichlet(np.full(12, 0.3), 2)
    out = []
    for n, u in zip(sizes, np.linspace(0, 1, len(sizes)), strict=True):
        out.append(copies(patterns(99)[rng.choice(12, n, p=(1 - u) * first + u * last)], n, rng))
    return out


def in_order(*names: str, rotated: bool = False) -> Law:
    """Return a law whose layers are those of a bundled bank, in their order, all filters rotated together or not."""

    def law(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
        turn = np.linalg.qr(rng.standard_normal((TAPS - 1, TAPS - 1)))[0] if rotated else np.eye(TAPS - 1)
        axes = np.linalg.qr(np.eye(TAPS)[:, :-1] - 1 / TAPS)[0]
        pool = [
            x[rng.choice(len(x), n, replace=n > len(x))] for x, n in zip(real_layers(names, SIDE), sizes, strict=False)
        ]
        return [unit(x @ axes @ turn @ axes.T) for x in pool]

    return law


def trend_pair(rng: np.random.Generator, *, laws: Sequence[Law], sizes: Sequence[int]) -> Found:
    """Test the trends with depth of banks of two laws, or of disjoint halves of the layers of a bank of one law."""
    if len(laws) == 2:
        layers = [law(sizes, rng) for law in laws]
    else:
        layers = list(zip(*((x[::2], x[1::2]) for x in laws[0]([2 * n for n in sizes], rng)), strict=True))
    banks = [bank_of(list(x), name) for x, name in zip(layers, "ab", strict=True)]
    kind = banks[0].kinds[0]
    clouds = [make_cloud(bank, kind) for bank in banks]
    plan = make_plan((kind.kh, kind.kw), ("coverage",), threshold=0.9, bandwidth=0.25, rng=rng)
    n = sample_size(*clouds, 192)
    with one_thread():
        a, b = (take(cloud, split(cloud, n, rng)[0], plan) for cloud in clouds)
        depth = np.linspace(0, 1, len(sizes))
        trend = depth_trend(a, b, (depth, depth), m=99, rng=rng, seed=0)
    return {f"depth trend, {name}": float(p) for name, p in zip(TRENDS, trend.p, strict=True)}


def exchange_pair(
    rng: np.random.Generator, *, a: Sequence[int], b: Sequence[int], share: float = 0.0, layer_effect: bool = True
) -> Found:
    """Exchange layers between two banks; a share of B's layers is of other patterns."""
    if layer_effect:
        one, other, foreign = patterned(a, rng), patterned(b, rng), other_patterned(b, rng)
    else:
        one, other, foreign = white(a, rng), white(b, rng), patterned(b, rng)
    mixed = [np.where((rng.random(len(x)) < share)[:, None], y, x) for x, y in zip(other, foreign, strict=True)]
    seed = int(rng.integers(2**31))
    settings: dict[str, Any] = dict(measures=("coverage", "mmd", "energy"), nulls="gaussian", draws=99, splits=1)
    kind = compare(bank_of(one, "a"), bank_of(mixed, "b"), seed=seed, **settings).kinds[0]
    return {f"p differ, {name}": p for name, p in kind.exchange.p.items()}


@cache
def real_layers(names: tuple[str, ...], side: int) -> Layers:
    """Return the filters of all layers of bundled banks with kernels of this side, canonical."""
    clouds = [make_cloud(mkfa.load_bank(name), Kind(side, side)) for name in names]
    return [cloud.vector[cloud.layer == i] for cloud in clouds for i in range(len(cloud.layers))]


def real(*names: str, side: int = SIDE) -> Law:
    """Return a law whose layers are those of bundled banks, drawn with replacement, and some filters of each."""

    def law(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
        pool = real_layers(names, side)
        chosen = [pool[rng.integers(len(pool))] for _ in sizes]
        return [x[rng.choice(len(x), n, replace=n > len(x))] for x, n in zip(chosen, sizes, strict=True)]

    return law


def half_other(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
    """Draw noisy copies of six patterns of `patterned` and six others."""
    mixed = np.concatenate([patterns(99)[:6], patterns(98)[:6]])
    out = []
    for n in sizes:
        chosen = mixed[rng.choice(12, n, p=rng.dirichlet(np.full(12, 0.5)))]
        out.append(unit(chosen * rng.choice([-1, 1], (n, 1)) + 0.12 * rng.standard_normal((n, TAPS))))
    return out


def mixture(one: Law, other: Law, share: float) -> Law:
    """Return a law whose layers are of one law with this probability, else of the other."""

    def law(sizes: Sequence[int], rng: np.random.Generator) -> Layers:
        return [(one if rng.random() < share else other)([n], rng)[0] for n in sizes]

    return law


either, rarely_other = mixture(patterned, layered_noise, 0.5), mixture(patterned, other_patterned, 0.9)


def interval_pair(
    rng: np.random.Generator, *, laws: tuple[Law, Law], sizes: tuple[Sequence[int], Sequence[int]]
) -> Found:
    """Return value and interval of every measure that prints one, for banks of two laws; as `compare` finds them."""
    banks = [bank_of(law(n, rng), name) for law, n, name in zip(laws, sizes, "ab", strict=True)]
    kind = banks[0].kinds[0]
    one, other = (make_cloud(bank, kind) for bank in banks)
    n = sample_size(one, other, 192)
    directions = np.random.default_rng([DIRECTIONS_SEED, kind.kh, kind.kw])
    plan = make_plan((kind.kh, kind.kw), WITH_INTERVAL, threshold=0.9, bandwidth=0.25, rng=directions)
    with one_thread():
        a, b = (take(cloud, split(cloud, n, rng)[0], plan) for cloud in (one, other))
        value = score(a, b).values[0]
        interval = np.full((2, len(value)), np.nan)
        in_layers = len(np.unique(a.layer)), len(np.unique(b.layer))
        if not any(no_interval(WITH_INTERVAL, in_layers, shared=False, apart=unlike(a, b))):
            interval = layer_intervals(a, b, value)
    out = {}
    for name, x, (low, high) in zip(WITH_INTERVAL, value, interval.T, strict=True):
        out |= {f"{name}|value": float(x), f"{name}|low": float(low), f"{name}|high": float(high)}
    return out


def assign_bank(rng: np.random.Generator, *, null: str, share: float, sizes: Sequence[int]) -> Found:
    """Assign patterns to a bank of noise, of which a share of the filters are noisy Gaussian derivatives."""
    layers = NOISE[null](sizes, rng)
    atoms = dictionary("families", SIDE, SIDE).atoms
    rows = np.concatenate(layers)
    hit = rng.random(len(rows)) < share
    copies = atoms[rng.choice(len(atoms), int(hit.sum()))]
    rows[hit] = unit(copies + LOUD * unit(rng.standard_normal(copies.shape)))
    bank = bank_of(np.split(rows, np.cumsum(sizes)[:-1]), "a")
    part = mkfa.assign(bank, null=null, draws=499, seed=int(rng.integers(2**31)))
    p = part.kinds[0].p
    out = {"share of noise with p <= .05": float((p[~hit] <= ALPHA).mean())}
    if share:
        out["share of patterns with p <= .05"] = float((p[hit] <= ALPHA).mean())
    return out


@cache
def bank_shares(name: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the rows of a bundled bank's table of patterns, the filters of its layers (L,), their shares (L, C)."""
    summary = summarise(mkfa.assign(name, draws=199))
    shares = [(*layer.shares, layer.fixed, layer.beyond) for layer in summary.layers]
    titles = (*(c.title for c in summary.classes), "share with R2 >= .9", "share over the null's 1 %")
    sizes = np.array([layer.filters for layer in summary.layers])
    return titles, sizes, without_sampling_error(sizes, np.array(shares))


def without_sampling_error(sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Move the shares of layers, (L, C), towards those of all filters by what the layers' own sampling error explains.

    6 of the 16 filters of a layer do not make a sort of layer of which 38 % are of a class: drawn as such for a layer
    of 478, it would count the error of 16 filters as scatter between layers. The variance between layers is DerSimonian
    and Laird's (1986, Controlled Clinical Trials 7, 177-188).
    """
    n = sizes[:, None].astype(float)
    mean = (n * shares).sum(axis=0) / n.sum()
    binomial = mean * (1 - mean) + 1e-12
    excess = (n * (shares - mean) ** 2 / binomial).sum(axis=0) - (len(sizes) - 1)
    between = np.maximum(excess / (n.sum() - (n**2).sum() / n.sum()), 0) * binomial
    return np.asarray(mean + between / (between + binomial / n) * (shares - mean))


def share_bank(rng: np.random.Generator, *, bank: str) -> Found:
    """Return shares and their intervals of a network whose layers have the shares of some layers of a bundled bank."""
    titles, sizes, shares = bank_shares(bank)
    counts = rng.binomial(sizes[:, None], shares[rng.integers(len(sizes), size=len(sizes))])
    low, high = share_over_groups(counts, sizes)
    out = {}
    for name, value, below, above in zip(titles, counts.sum(axis=0) / sizes.sum(), low, high, strict=True):
        out |= {f"{name}|value": float(value), f"{name}|low": float(below), f"{name}|high": float(above)}
    return out


def keys_bank(rng: np.random.Generator, *, law: Law, share: float, null: str = STRICT) -> Found:
    """Find keys of a bank of noise, of which a share are noisy copies of twelve patterns."""
    layers = _with_patterns(rng, law, share)
    keys = find_keys([bank_of(layers, "a")], most=8, candidates=24, seed=int(rng.integers(2**31)), null=null)
    out = {"p of the curve": keys.p}
    for question, answer in keys.match.answers.items():
        for beside, entry in answer.summary().items():
            if isinstance(entry, dict) and entry.get("p") is not None:
                out[f"match, {question}, {beside}"] = float(entry["p"])
    return out


def atlas_bank(rng: np.random.Generator, *, law: Law, share: float, null: str = STRICT) -> Found:
    """Judge the clusters of the same banks."""
    layers = _with_patterns(rng, law, share)
    seed, layer = int(rng.integers(2**31)), np.repeat(np.arange(len(layers)), [len(x) for x in layers])
    options: dict[str, Any] = dict(counts=(2, 4, 8), null=null, layer=layer, size=(SIDE, SIDE))
    return {"p of structure": choose_clusters(np.concatenate(layers), seed=seed, **options).p}


def _with_patterns(rng: np.random.Generator, law: Law, share: float) -> Layers:
    layers = law(STRUCTURED, rng)
    for rows in layers if share else ():
        hit = rng.random(len(rows)) < share
        if hit.any():
            rows[hit] = patterned([int(hit.sum())], rng)[0]
    return layers


def several_banks(rng: np.random.Generator, *, share: float) -> Found:
    """Compare four banks of noise in pairs, of which the second has some filters of the first."""
    layers = [layered_noise([48] * 8, rng) for _ in range(4)]
    layers[1] = planted(layers[0], layers[1], share, rng)
    settings: dict[str, Any] = dict(measures="coverage", nulls=STRICT, draws=199, splits=1)
    banks = [bank_of(x, name) for x, name in zip(layers, "abcd", strict=True)]
    tests = compare_many(banks, seed=int(rng.integers(2**31)), **settings).primary
    shared = {(t.a, t.b): t.p_holm for t in tests}
    others = min(p for pair, p in shared.items() if pair != ("a", "b") or not share)
    out = {"any pair without shared filters, Holm": others}
    return out | ({"the pair with shared filters, Holm": shared["a", "b"]} if share else {})


def groups_of_banks(
    rng: np.random.Generator,
    *,
    law: Law,
    banks: Sequence[int] = (6, 6),
    layers: Sequence[int] = (8, 8),
    share: float = 0.0,
) -> Found:
    """Compare two groups of banks of one law; a share of the filters of the second group are of common patterns."""
    groups = {}
    for group, (count, deep) in enumerate(zip(banks, layers, strict=True)):
        groups["ab"[group]] = []
        for number in range(count):
            made = law([32] * deep, rng)
            if group and share:
                for layer in made:
                    rows = np.flatnonzero(rng.random(len(layer)) < share)
                    copies = patterns(77)[rng.integers(0, 12, len(rows))]
                    layer[rows] = unit(copies + LOUD * unit(rng.standard_normal(copies.shape)))
            groups["ab"[group]].append(bank_of(made, f"{group}{number}"))
    seed = int(rng.integers(2**31))
    kind = compare_groups(groups, measures="coverage,energy,frobenius", draws=199, seed=seed).kinds[0]
    found = {}
    for measure in kind.measures:
        found[f"p PERMANOVA, {measure.measure}"] = measure.between.p
        found[f"p PERMDISP, {measure.measure}"] = measure.dispersion.p
        found[f"share of groups, {measure.measure}"] = measure.parts.group_share
        ends = {"value": measure.parts.group, "low": measure.parts.group_low, "high": measure.parts.group_high}
        found |= {f"variance of groups, {measure.measure}|{end}": value for end, value in ends.items()}
    return found


@dataclass(frozen=True)
class Setting:
    """One column of a table: which table, what stands over the column, the number of banks, how a row is made."""

    part: str
    table: str
    column: str
    count: int
    make: Callable[[np.random.Generator], Found]

    @property
    def stream(self) -> int:
        """Number that sets its seeds apart from those of other settings."""
        return zlib.crc32(f"{self.part} {self.table} {self.column}".encode())


def settings() -> Iterator[Setting]:
    """Yield all settings."""
    yield from _compare_settings()
    yield from _exchange_settings()
    yield from _interval_settings()
    yield from _group_settings()
    yield from _trend_settings()
    for null in NOISE:
        make = partial(assign_bank, null=null, share=0.0, sizes=[48] * 8)
        yield Setting("assign", "draws of the null", null, 80 if null == "covariance-layer" else 30, make)
    for share in SHARES:
        make = partial(assign_bank, null="covariance", share=share, sizes=[48] * 8)
        yield Setting("assign", "covariance noise with patterns", f"{share:.0%}", 30, make)
    for name in ("efficientnet_lite0", "mobilenet_v2", "ppocrv4_det", "ppocrv4_rec"):
        title = "networks with layers of a bundled one, in its sizes, by class"
        yield Setting("share", title, name, 5000, partial(share_bank, bank=name))
    for part, title, column, count, make in calibrate_runs.settings():
        yield Setting(part, title, column, count, make)
    laws = {"one covariance": noise, "layers of own covariance": layered_noise}
    for part, make_row in (("keys", keys_bank), ("atlas", atlas_bank)):
        for name, law in laws.items():
            title = f"noise of {name}, 8 x 50, with patterns"
            for share in SHARES:
                make = partial(make_row, law=law, share=share)
                yield Setting(part, title, f"{share:.0%}", 25 if share else 100, make)
            make = partial(make_row, law=law, share=0.0, null="covariance")
            yield Setting(part, title, "0%, null covariance", 40, make)
    for share in (0.0, 0.1, 0.25):
        make = partial(several_banks, share=share)
        yield Setting("matrix", "four banks in pairs, layers of own covariance, 8 x 48", f"{share:.0%}", 100, make)


def _group_settings() -> Iterator[Setting]:
    title = "banks as units, 8 layers of 32 filters, 199 permutations"
    laws = {"layers of own covariance": layered_noise, "layers of own proportions": patterned}
    for name, law in laws.items():
        for banks in ((6, 6), (3, 9), (4, 4)):
            make = partial(groups_of_banks, law=law, banks=banks)
            yield Setting("groups", f"{title}, {name}", f"{banks[0]} and {banks[1]}, 0%", 200, make)
        make = partial(groups_of_banks, law=law, layers=(4, 12))
        yield Setting("groups", f"{title}, {name}", "6 of 4 layers, 6 of 12, 0%", 200, make)
        for share in SHARES[1:]:
            make = partial(groups_of_banks, law=law, share=share)
            yield Setting("groups", f"{title}, {name}", f"6 and 6, {share:.0%}", 60, make)


def _trend_settings() -> Iterator[Setting]:
    objects, text = real("efficientnet_lite0"), real("ppocrv4_rec")
    lite, rec = in_order("efficientnet_lite0"), in_order("ppocrv4_rec", rotated=True)
    unrelated = {
        "steady change": (steady, steady),
        "random walk": (walking, walking),
        "three stages": (in_stages, in_stages),
        "layers of lite0, of rotated text": (lite, rec),
        "layers of lite0 at random": (objects, objects),
        "layers of lite0, of text at random": (objects, text),
        "noise of few sorts of layers": (layered_noise, layered_noise),
        "common patterns, steady change": (drifting, drifting),
    }
    for column, laws in unrelated.items():
        yield Setting(
            "trend", "nothing in common by depth, 8 x 48", column, 100, partial(trend_pair, laws=laws, sizes=[48] * 8)
        )
    related = {"steady change": steady, "random walk": walking, "three stages": in_stages}
    for column, law in related.items():
        make = partial(trend_pair, laws=(law,), sizes=[48] * 8)
        yield Setting("trend", "the same patterns at equal depth, 8 x 48", column, 30, make)
    make = partial(trend_pair, laws=(lite,), sizes=[48] * 9)
    yield Setting("trend", "the same patterns at equal depth, 8 x 48", "layers of lite0 in order, 9 x 48", 30, make)


def _compare_settings() -> Iterator[Setting]:
    for null in ("covariance", "covariance-layer", "shuffled", "gaussian", "blurred"):
        strict, title = null.startswith("covariance"), f"draws of {null} with shared filters, 39 draws of the null"
        if strict:
            make = partial(compare_pair, null=null, share=0.0, sizes=[32] * 8)
            yield Setting("compare", title, "8 x 32, 0%", 120, make)
        for share in SHARES:
            count = (40 if strict else 25) if share else (120 if strict else 60)
            make = partial(compare_pair, null=null, share=share, sizes=[96] * 8)
            yield Setting("compare", title, f"8 x 96, {share:.0%}", count, make)
    for null in ("covariance", "covariance-layer"):
        make = partial(compare_pair, null="covariance-layer", share=0.0, sizes=[48] * 8, against=null)
        yield Setting("compare", "layers of own covariance, of one population, under two nulls", null, 40, make)
    make = partial(compare_pair, null="covariance", share=0.0, sizes=[128] * 3, m=199)
    yield Setting("compare", "draws of covariance, 199 draws of the null", "3 x 128, 0%", 60, make)


def _exchange_settings() -> Iterator[Setting]:
    sizes = {
        "8 x 32, 8 x 32": ([32] * 8, [32] * 8),
        "8 x 64, 8 x 8": ([64] * 8, [8] * 8),
        "4 x 8, 12 x 64": ([8] * 4, [64] * 12),
        "4 x 64, 12 x 8": ([64] * 4, [8] * 12),
        "8 to 64, 6 to 96": ([8, 16, 32, 64] * 2, [6, 12, 24, 48, 96] * 2),
    }
    for title, effect in (("patterns in proportions that differ by layer", True), ("white noise", False)):
        for column, (a, b) in sizes.items():
            make = partial(exchange_pair, a=a, b=b, layer_effect=effect)
            yield Setting("exchange", f"layers of one population, {title}", column, 120, make)
    title = "8 x 32 and 8 x 32, a share of B's filters of other patterns"
    for share in SHARES[1:]:
        make = partial(exchange_pair, a=[32] * 8, b=[32] * 8, share=share)
        yield Setting(
            "exchange", "8 x 32 and 8 x 32, a share of B's filters of other patterns", f"{share:.0%}", 50, make
        )


def _interval_settings() -> Iterator[Setting]:
    uneven = [16, 16, 24, 32, 64, 64, 128, 192, 256]
    objects, text = real("efficientnet_lite0"), real("ppocrv4_det", "ppocrv4_rec")
    mobile, small_text = real("mobilenet_v2", side=3), real("ppocrv4_det", "ppocrv4_rec", side=3)
    cases = {
        "one law, 8 x 48": ((patterned, patterned), ([48] * 8, [48] * 8)),
        "two laws, 9 x 48": ((patterned, other_patterned), ([48] * 9, [48] * 9)),
        "two laws, 17 x 48 and 8 x 48": ((patterned, other_patterned), ([48] * 17, [48] * 8)),
        "two laws, 9 of 16 to 256": ((patterned, other_patterned), (uneven, uneven)),
        "two laws, 10 x 16": ((patterned, other_patterned), ([16] * 10, [16] * 10)),
        "half the patterns shared, 8 x 48": ((patterned, half_other), ([48] * 8, [48] * 8)),
        "patterns and noise, 8 x 48": ((patterned, layered_noise), ([48] * 8, [48] * 8)),
        "layers of patterns or noise, 9 x 48": ((either, either), ([48] * 9, [48] * 9)),
        "noise of one law, 8 x 48": ((noise, noise), ([48] * 8, [48] * 8)),
        "noise of few sorts of layers, 9 x 64": ((layered_noise, layered_noise), ([64] * 9, [64] * 9)),
        "layers of lite0, 9 x 64": ((objects, objects), ([64] * 9, [64] * 9)),
        "layers of lite0 and of text, 9 x 64": ((objects, text), ([64] * 9, [64] * 9)),
        "layers of mobilenet, 3x3, 17 x 48": ((mobile, mobile), ([48] * 17, [48] * 17)),
        "layers of mobilenet and of text, 3x3, 12 x 48": ((mobile, small_text), ([48] * 12, [48] * 12)),
    }
    for column, (laws, sizes) in cases.items():
        yield Setting("interval", "by kind of banks", column, 300, partial(interval_pair, laws=laws, sizes=sizes))
    title = "one layer in ten of another sort"
    for column, each in (("9 x 48", [48] * 9), ("18 x 48", [48] * 18)):
        make = partial(interval_pair, laws=(rarely_other, rarely_other), sizes=(each, each))
        yield Setting("interval", title, column, 200, make)


def run(rows: Path, chosen: Sequence[Setting], *, scale: float = 1.0) -> None:
    """Compute the rows that the file lacks and add each as soon as it is there."""
    done = {(row["part"], row["table"], row["column"], row["number"]) for row in read(rows)}
    for setting in chosen:
        name = setting.part, setting.table, setting.column
        start, fresh = time.time(), 0
        for number in range(max(2, round(setting.count * scale))):
            if (*name, number) in done:
                continue
            found = setting.make(np.random.default_rng([SEED, setting.stream, number]))
            row = dict(zip(("part", "table", "column"), name, strict=True)) | {"number": number, "found": found}
            with rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            fresh += 1
        if fresh:
            print(f"{': '.join(name)}: {fresh} in {time.time() - start:.0f} s", flush=True)


def read(rows: Path) -> list[dict[str, Any]]:
    """Return the rows of a file; a last line that was broken off does not count."""
    lines = rows.read_text().split("\n")[:-1] if rows.exists() else []
    return [json.loads(line) for line in lines]


def rates(found: Sequence[Found]) -> dict[str, str]:
    """Return for each p the share of rows with p <= .05, for each interval how many hold the mean of the values.

    Behind an interval's share stands its mean width over that of 1.96 standard deviations of the values each way.
    """
    out = {}
    for key in found[0]:
        name, _, what = key.partition("|")
        x = np.array([row.get(key, np.nan) for row in found], float)
        if what == "value":
            low, high = (np.array([row[f"{name}|{end}"] for row in found], float) for end in ("low", "high"))
            printed = np.isfinite(low)
            held = ((low <= x.mean()) & (x.mean() <= high))[printed]
            spread = 3.92 * x.std(ddof=1)
            text = (
                f"{held.mean():.3f} ({(high - low)[printed].mean() / spread:.2f})" if held.any() and spread > 0 else "–"
            )
            out[f"95 %: {name}"] = text if printed.all() else f"{text}, printed in {printed.mean():.0%}"
        elif what:
            continue
        elif name.startswith("share"):
            out[name] = f"{np.nanmean(x):.3f}"
        elif np.isfinite(x).any():
            out[name] = f"{(x[np.isfinite(x)] <= ALPHA).mean():.3f}"
    return out


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Return the tables in Markdown, a row for each p or interval, a column for each setting."""
    parts: dict[tuple[str, str], dict[str, list[Found]]] = {}
    for row in rows:
        columns = parts.setdefault((row["part"], row["table"]), {})
        columns.setdefault(row["column"], []).append(row["found"])
    out = []
    for (part, title), columns in parts.items():
        cells = {column: rates(found) for column, found in columns.items()}
        names = list(dict.fromkeys(name for column in cells.values() for name in column))
        heads = [f"{column} ({len(found)})" for column, found in columns.items()]
        lines = [["", *heads], ["---"] * (1 + len(heads))]
        lines += [[name, *(cells[column].get(name, "–") for column in columns)] for name in names]
        out.append(f"### `{part}`: {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join(out) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=Path, default=Path("calibrate.jsonl"), help="file of rows, added to")
    parts = "compare, exchange, interval, groups, trend, assign, share, runs, graft, keys, atlas, matrix"
    parser.add_argument("--part", nargs="*", default=[], help=parts)
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of banks of each setting")
    parser.add_argument("--table", action="store_true", help="print the tables of the file and compute nothing")
    given = parser.parse_args(arguments)
    if given.table:
        print(tables(read(given.rows)))
    else:
        run(given.rows, [s for s in settings() if not given.part or s.part in given.part], scale=given.scale)


if __name__ == "__main__":
    main()
