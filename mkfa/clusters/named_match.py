"""Key filters beside a named set of patterns.

Four questions. Up to sign and the symmetries of the kernel: how alike is each key to its nearest pattern, how alike is
each *shape* of the set to its nearest key, and how alike are keys and patterns when each pattern may be used once?
Patterns that are turned copies of each other are one shape: of the eight published ones only three remain (one-sided
edge, central edge, blob), so these three questions are about three shapes. The fourth asks for each pattern once in
its own orientation, up to sign: only there are eight patterns compared.

The nulls: `blurred`, sets of smooth random filters; `covariance-layer`, the keys of null libraries with the second
moments, and so the preferred orientations, of the real one's layers (or of another null, under its name); and for the
fourth question `turned`, the keys themselves, each turned or mirrored at random, which keeps their shapes and asks for
their orientations alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mkfa.array_types import F32, F64, I32
from mkfa.banks.bank import Kind
from mkfa.banks.canonical import normalise
from mkfa.frozen import ByContent, FrozenDict
from mkfa.nulls.draws import STRICT, draw_null
from mkfa.patterns.named_sets import all_labels, named_set
from mkfa.stats.p_values import p_value
from mkfa.words import counted

_DRAWS = 999

SAME_SHAPE = 0.95
"""|cos| from which two patterns are one shape, the best over all symmetries: the eight have .96 to 1.00 within their
shapes and at most .70 between them, at 3x3 to 31x31."""

KEYS_TO_SET, SHAPES_TO_KEYS = "keys_to_set", "shapes_to_keys"
ONE_TO_ONE, AS_ORIENTED = "one_to_one", "one_to_one_as_oriented"
QUESTIONS = FrozenDict(
    {
        KEYS_TO_SET: "each key and its nearest pattern, up to symmetry",
        SHAPES_TO_KEYS: "each shape and its nearest key, up to symmetry",
        ONE_TO_ONE: "one to one, up to symmetry",
        AS_ORIENTED: "one to one, as oriented",
    }
)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answer(ByContent):
    """The mean |cos| of one question of `QUESTIONS`, and its draws under each null."""

    mean_cosine: float
    nulls: Mapping[str, F64]

    def summary(self) -> dict[str, Any]:
        """Return the mean, and each null's mean, 95 % point and p-value; None where the null has no draws."""
        out: dict[str, Any] = {"mean_cosine": self.mean_cosine}
        for null, draws in self.nulls.items():
            some = len(draws) > 0
            out[null] = {
                "mean": float(draws.mean()) if some else None,
                "upper95": float(np.quantile(draws, 0.95)) if some else None,
                "p": float(p_value(self.mean_cosine, draws, larger=True)) if some else None,
                "draws": len(draws),
            }
        return out


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Match(ByContent):
    """n keys beside the A patterns of a named set.

    Attributes
    ----------
    name, labels : the named set; a kernel of one row or column lacks those patterns that change across it.
    libraries : under which name the answers have the keys of null libraries, "covariance-layer" by default.
    shape : (A,) int32, which patterns are one shape, numbered from 0.
    alike : (A, A) float32, |cos| between the patterns, the best over all symmetries.
    nearest : (n,) int32, the most similar pattern of each key.
    cosine : (n,) float32, |cos| with it, the best over all symmetries.
    partner : (n, K) float32, that pattern, turned and signed as the key is.
    reverse : (A,) float32, |cos| of each pattern with the most similar key.
    assigned : (n,) int32, the pattern of each key where each pattern is used once and as it is oriented; -1 for none.
    assigned_cosine : (n,) float32, |cos| with it; NaN for none.
    answers : for each of `QUESTIONS`.
    """

    name: str
    libraries: str
    labels: tuple[str, ...]
    shape: I32
    alike: F32
    nearest: I32
    cosine: F32
    partner: F32
    reverse: F32
    assigned: I32
    assigned_cosine: F32
    answers: Mapping[str, Answer]

    @property
    def shapes(self) -> list[list[int]]:
        """The patterns of each shape, numbered from 1 as the set lists them."""
        return [(1 + np.flatnonzero(self.shape == i)).tolist() for i in range(int(self.shape.max()) + 1)]

    def summary(self) -> dict[str, Any]:
        """Return what JSON says: the shapes of the set, and means, null means and p-values of each question."""
        out: dict[str, Any] = {"set": self.name, "shapes": self.shapes, "cosine_of_patterns": self.alike}
        out |= {name: answer.summary() for name, answer in self.answers.items()}
        out["of_each"] = {label: float(c) for label, c in zip(self.labels, self.reverse, strict=True)}
        return out

    def shapes_in_words(self) -> str:
        """Return a sentence that says how many shapes the set has up to symmetry."""
        parts = []
        for members in self.shapes:
            rows = np.array(members) - 1
            inner = self.alike[np.ix_(rows, rows)][np.triu_indices(len(rows), 1)]
            which, low, high = (
                ", ".join(map(str, members)),
                f"{inner.min(initial=1):.2f}",
                f"{inner.max(initial=0):.2f}",
            )
            parts.append(which if len(rows) == 1 else f"{which}: {low}" if low == high else f"{which}: {low} to {high}")
        lacking = [label for label in all_labels(self.name) if label not in self.labels]
        without = f" that kernels of one row or column can have (not {', '.join(lacking)})" if lacking else ""
        return (
            f"Up to symmetry the {counted(len(self.labels), 'pattern')} of '{self.name}'{without} are "
            f"{counted(len(parts), 'shape')} (|cos| within them: {'; '.join(parts)}): only 'as oriented' compares "
            f"{counted(len(self.labels), 'pattern')}."
        )


def match_keys(
    keys: F32,
    kind: Kind,
    *,
    null_keys: Sequence[F32],
    rng: np.random.Generator,
    name: str = "eight",
    null: str = STRICT,
) -> Match:
    """Compare (n, K) unit keys to a named set; `null_keys` are the key sets of libraries of `null`."""
    libraries = f"{null}-keys" if null in ("blurred", "turned") else null
    target = named_set(name, kind.kh, kind.kw, partial=True)
    turned = symmetries(target.patterns)  # (G, A, K)
    alike = best_cosine(turned[0], turned)
    shape = _shapes(alike)
    cosine = np.einsum("nk,gak->nga", keys, turned)
    strength = np.abs(cosine).max(axis=1)
    nearest = strength.argmax(axis=1).astype(np.int32)
    every = np.arange(len(keys))
    turn = np.abs(cosine[every, :, nearest]).argmax(axis=1)
    sign = np.where(cosine[every, turn, nearest] < 0, np.float32(-1), np.float32(1))
    oriented = np.abs(cosine[:, 0])
    rows, columns = _assign(oriented)
    assigned, assigned_cosine = np.full(len(keys), -1, np.int32), np.full(len(keys), np.nan, np.float32)
    assigned[rows], assigned_cosine[rows] = columns, oriented[rows, columns]
    noise = draw_null("blurred", np.empty((_DRAWS * len(keys), kind.kh, kind.kw), np.float32), rng)
    blurred = normalise(noise.reshape(len(noise), -1))[0]
    drawn = {"blurred": blurred.reshape(_DRAWS, len(keys), -1), libraries: null_keys}
    draws = {
        null: [_answers(best_cosine(k, turned), np.abs(k @ turned[0].T), shape) for k in sets]
        for null, sets in drawn.items()
    }
    turns = rng.integers(len(turned), size=(_DRAWS, len(keys)))
    mixed = [_mean_assigned(np.abs(cosine[every, draw])) for draw in turns]
    value = _answers(strength, oriented, shape)
    nulls = {
        question: {null: np.array([x[question] for x in found], np.float64) for null, found in draws.items()}
        for question in QUESTIONS
    }
    nulls[AS_ORIENTED]["turned"] = np.array(mixed, np.float64)
    return Match(
        name=name,
        libraries=libraries,
        labels=target.labels,
        shape=shape,
        alike=alike,
        nearest=nearest,
        cosine=strength.max(axis=1).astype(np.float32),
        partner=turned[turn, nearest] * sign[:, None],
        reverse=strength.max(axis=0).astype(np.float32),
        assigned=assigned,
        assigned_cosine=assigned_cosine,
        answers=FrozenDict({q: Answer(value[q], FrozenDict(nulls[q])) for q in QUESTIONS}),
    )


def _answers(strength: F32, oriented: F32, shape: I32) -> dict[str, float]:
    """Answer the `QUESTIONS` from |cos| of keys and patterns, (n, A), up to symmetry and as oriented."""
    best = strength.max(axis=0)
    return {
        KEYS_TO_SET: float(strength.max(axis=1).mean(dtype=np.float64)),
        SHAPES_TO_KEYS: float(np.mean([best[shape == i].mean(dtype=np.float64) for i in range(shape.max() + 1)])),
        ONE_TO_ONE: _mean_assigned(strength),
        AS_ORIENTED: _mean_assigned(oriented),
    }


def _assign(strength: F32) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the rows and columns of the one-to-one assignment with the largest sum; min(n, A) pairs."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(strength, maximize=True)
    return rows, columns


def _mean_assigned(strength: F32) -> float:
    return float(strength[_assign(strength)].mean(dtype=np.float64))


def _shapes(alike: F32) -> I32:
    """Return which patterns are one shape, (A,): those linked by |cos| >= `SAME_SHAPE`."""
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(alike >= SAME_SHAPE, directed=False)[1], np.int32)


def best_cosine(keys: F32, turned: F32) -> F32:
    """Return |cos| of (n, K) keys with each of the A patterns, the best over (G, A, K) symmetries: (n, A)."""
    out = np.zeros((len(keys), turned.shape[1]), np.float32)
    for patterns in turned:  # one symmetry at a time, so that memory stays at n * A
        np.maximum(out, np.abs(keys @ patterns.T), out=out)
    return out


def symmetries(patterns: F32) -> F32:
    """Return (A, kh, kw) patterns under the symmetries of their frame, (G, A, kh * kw).

    The dihedral group: 8 for a square kernel, the 4 without quarter turns for a rectangular one; the identity first.
    """
    frames = [patterns] if patterns.shape[1] != patterns.shape[2] else [patterns, patterns.transpose(0, 2, 1)]
    turned = [flipped for p in frames for flipped in (p, p[:, ::-1], p[:, :, ::-1], p[:, ::-1, ::-1])]
    return np.stack([t.reshape(len(patterns), -1) for t in turned])


def symmetries_in_words(kind: Kind) -> str:
    """Return the symmetries that `symmetries` applies to kernels of a kind.

    Examples
    --------
    >>> symmetries_in_words(Kind(5, 5)), symmetries_in_words(Kind(3, 5)), symmetries_in_words(Kind(1, 7))
    ('flips and quarter turns', 'flips and half turns', 'flips from end to end')
    """
    if kind.kh == kind.kw:
        return "flips and quarter turns"
    return "flips from end to end" if min(kind.kh, kind.kw) == 1 else "flips and half turns"
