"""Which classes belong in the basis? What each would add to the fit of real filters, and of filters without patterns.

A class may enter "families" only if it gains more mean R² on real filters than on null filters: one that gains more on
noise describes noise. The gain of a filter is how far the best pattern of the class exceeds the fit of the basis
without it, both less what their coordinates must earn (`mkfa.patterns.fit.parsimony`); 0 where it does not.

    python tests/benchmarks/basis_gain.py [--filters 2000] [--seed 0]

prints the tables of tests/benchmarks/README.md: gains; the planted classes that come back; and what it matters that an
offset of a Gaussian counts as a coordinate. About two minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mkfa.banks.canonical import normalise
from mkfa.banks.library import load_bank
from mkfa.banks.usable import usable_filters
from mkfa.nulls.draws import NULLS
from mkfa.patterns.dictionary import dictionary, family_dictionary
from mkfa.patterns.families import FAMILIES, Family, Kernels, outer
from mkfa.patterns.fit import fit, parsimony
from mkfa.patterns.wide_families import WIDER

sys.path.insert(0, str(Path(__file__).parents[1] / "patterns"))

BANKS = (
    ("efficientnet_lite0", "5x5"),
    ("ppocrv4_rec", "5x5"),
    ("ppocrv4_det", "5x5"),
    ("efficientnet_lite0", "3x3"),
    ("mobilenet_v2", "3x3"),
    ("ppocrv4_rec", "3x3"),
    ("ppocrv4_det", "3x3"),
)
NULL_NAMES = ("shuffled", "covariance")


def _quarter(x: float, y: float) -> Family:
    """A Gaussian whose centre is a quarter or half a pixel off, by linear interpolation."""

    def along(table: Kernels, taps: int, w: np.ndarray, shift: float) -> np.ndarray:
        centred, moved = table.at("smooth", taps, w), table.at("smooth-" if shift < 0 else "smooth+", taps, w)
        return centred + 2 * abs(shift) * (moved - centred)

    def make(table: Kernels, c: np.ndarray) -> np.ndarray:
        kh, kw = table.size
        return outer(along(table, kh, c[:, 1], y), along(table, kw, c[:, 0], x))

    return Family("quarter", "Gaussian, quarter-pixel offsets", ("x", "y"), make, (x, y), chosen=(x != 0) + (y != 0))


def _across(operator: str, name: str, title: str) -> list[Family]:
    """A derivative along one axis, half a pixel off along the other."""

    def family(operators: tuple[str, str]) -> Family:
        return Family(name, title, ("x", "y"), lambda table, c: table.product(operators, c[:, 0], c[:, 1]), chosen=1)

    pairs = [(operator, s) for s in ("smooth-", "smooth+")]
    return [family(pair) for pair in (*pairs, *(pair[::-1] for pair in pairs))]


SHIFTS = (0.0, -0.25, 0.25, -0.5, 0.5)
TRIED: tuple[tuple[Family, ...], ...] = (
    tuple(f for f in FAMILIES if f.name == "centre_minus_laplacian"),
    *(tuple(f for f in WIDER if f.name == name) for name in dict.fromkeys(f.name for f in WIDER)),
    tuple(_quarter(x, y) for x in SHIFTS for y in SHIFTS if 0.25 in (abs(x), abs(y))),
    tuple(_across("central", "central_across", "central first, half a pixel off across")),
    tuple(_across("second", "second_across", "second, half a pixel off across")),
)


def filters_of(bank: str, kind: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Real filters of a bank and as many of each null, in canonical form."""
    usable = usable_filters(load_bank(bank), kind)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(usable), min(count, len(usable)), replace=False)
    weight = {"real": usable.weight[chosen]}
    for name in NULL_NAMES:
        weight[name] = NULLS.find(name).prepare(usable.weight, usable.layer.astype(np.int64), chosen)(rng)
    return {name: normalise(w.reshape(len(w), -1))[0] for name, w in weight.items()}


def worth(vectors: np.ndarray, families: Sequence[Family], size: tuple[int, int]) -> np.ndarray:
    """R² of the best pattern less what its coordinates must earn."""
    book = family_dictionary("tried", tuple(families), size)
    found = fit(vectors, book)
    return found.r2 - parsimony(*size) * book.free[found.variant]


def gains(count: int, seed: int) -> None:
    print("| class | size | real | shuffled | covariance | real / rest | shuffled / rest | covariance / rest | in |")
    print("|---|---|---|---|---|---|---|---|---|")
    names = ("real", *NULL_NAMES)
    for tried in TRIED:
        without = [f for f in FAMILIES if f.name != tried[0].name]
        for size in ("5x5", "3x3"):
            gain: dict[str, list[float]] = {name: [] for name in names}
            share: dict[str, list[float]] = {name: [] for name in names}
            for bank, kind in BANKS:
                if kind != size:
                    continue
                side = int(size[0]), int(size[0])
                for name, vectors in filters_of(bank, kind, count, seed).items():
                    base = worth(vectors, without, side)
                    better = np.maximum(worth(vectors, tried, side) - base, 0)
                    gain[name].append(float(better.mean()))
                    share[name].append(float(better.sum() / (1 - base).sum()))
            mean = [np.mean(gain[name]) for name in names]
            each = all(r > max(n) for r, *n in zip(*(gain[name] for name in names), strict=True))
            verdict = "yes" if each else "in the mean" if mean[0] > max(mean[1:]) else "no"
            row = [f"{1000 * m:.2f}" for m in mean] + [f"{100 * np.mean(share[name]):.2f} %" for name in names]
            print(f"| {tried[0].title} | {size} | {' | '.join(row)} | {verdict} |", flush=True)


def planted_classes(seed: int, each: int = 150) -> None:
    from planted import KINDS, planted

    from mkfa.patterns.coincidence import table_rows

    print("| size | noise | exact class | right row | classes below 80 % (most often called) |")
    print("|---|---|---|---|---|")
    for size in (3, 5, 7):
        book, of = dictionary("families", size, size), table_rows("families", [(size, size)]).of[size, size]
        for decibel in (np.inf, 20, 10):
            exact, row, low = [], [], []
            for kind, (name, _) in KINDS.items():
                weight = planted(kind, size, each, noise=10 ** (-decibel / 20), seed=seed)
                label = fit(normalise(weight.reshape(each, -1).astype(np.float32))[0], book).label
                own = book.names.index(name)
                exact.append(np.mean(label == own))
                row.append(np.mean(of[label] == of[own]))
                if exact[-1] < 0.8:
                    counts = np.bincount(label[label != own], minlength=len(book.names))
                    low.append(f"{kind} {100 * exact[-1]:.0f} % ({book.titles[int(counts.argmax())]})")
            noise = "none" if np.isinf(decibel) else f"{decibel:.0f} dB"
            print(
                f"| {size}x{size} | {noise} | {np.mean(exact):.3f} | {np.mean(row):.3f} | {', '.join(low)} |",
                flush=True,
            )


def offsets(count: int, seed: int) -> None:
    """Shares of Gaussians where an offset is free and where it counts as a coordinate."""
    free = tuple(replace(f, chosen=0) if f.name == "gaussian" else f for f in FAMILIES)
    print(
        "| bank | filters | Gaussian, offset free | off centre | Gaussian, offset counted | off centre | mean R² lost |"
    )
    print("|---|---|---|---|---|---|---|")
    for bank, kind in BANKS:
        side = int(kind[0]), int(kind[0])
        for name, vectors in filters_of(bank, kind, count, seed).items():
            cells, r2 = [], []
            for families in (free, FAMILIES):
                book = family_dictionary("tried", families, side)
                found = fit(vectors, book)
                off = np.array([any(f.offset) for f in families])[found.variant]
                gaussian = found.label == book.names.index("gaussian")
                cells += [f"{100 * gaussian.mean():.1f} %", f"{100 * (gaussian & off).mean():.1f} %"]
                r2.append(found.r2.mean())
            print(f"| {bank} {kind} | {name} | {' | '.join(cells)} | {r2[0] - r2[1]:.4f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filters", type=int, default=2000, help="filters of each bank and kernel size")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"Mean gain in R², thousandths ({options.filters} filters of each bank at most, seed {options.seed})\n")
    gains(options.filters, options.seed)
    print("\nPlanted classes that come back\n")
    planted_classes(options.seed)
    print("\nWhat an offset costs a Gaussian\n")
    offsets(options.filters, options.seed)
