"""Key filters beside a named set of patterns, up to sign and the symmetries of the square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mkfa.array_types import F32, F64, I32
from mkfa.banks.bank import Kind
from mkfa.banks.canonical import normalise
from mkfa.frozen import ByContent
from mkfa.nulls.draws import draw_null
from mkfa.patterns.named_sets import named_set
from mkfa.stats.p_values import p_value

_DRAWS = 999


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Match(ByContent):
    """n keys beside the A patterns of a named set.

    Attributes
    ----------
    name, labels : the named set.
    nearest : (n,) int32, the most similar pattern of each key.
    cosine : (n,) float32, |cos| with it, the best over all symmetries.
    partner : (n, K) float32, that pattern, turned and signed as the key is.
    reverse : (A,) float32, |cos| of each pattern with the most similar key.
    blurred, blurred_reverse : (999,) means of the two over random sets of n blurred filters.
    covariance, covariance_reverse : (nulls,) the same of the keys of null libraries.
    """

    name: str
    labels: tuple[str, ...]
    nearest: I32
    cosine: F32
    partner: F32
    reverse: F32
    blurred: F64
    blurred_reverse: F64
    covariance: F64
    covariance_reverse: F64

    def summary(self) -> dict[str, Any]:
        """Return means, null means, 95 % points and p-values of both directions."""
        out: dict[str, Any] = {"set": self.name}
        for direction, mean, nulls in (
            ("keys_to_set", float(self.cosine.mean()), (self.blurred, self.covariance)),
            ("set_to_keys", float(self.reverse.mean()), (self.blurred_reverse, self.covariance_reverse)),
        ):
            entry: dict[str, Any] = {"mean_cosine": mean}
            for null, draws in zip(("blurred", "covariance"), nulls, strict=True):
                some = len(draws) > 0
                entry[null] = {
                    "mean": float(draws.mean()) if some else None,
                    "upper95": float(np.quantile(draws, 0.95)) if some else None,
                    "p": float(p_value(mean, draws, larger=True)) if some else None,
                    "draws": len(draws),
                }
            out[direction] = entry
        out["of_each"] = {label: float(c) for label, c in zip(self.labels, self.reverse, strict=True)}
        return out


def match_keys(
    keys: F32, kind: Kind, *, null_keys: Sequence[F32], rng: np.random.Generator, name: str = "eight"
) -> Match:
    """Compare (n, K) unit keys to a named set; `null_keys` are the key sets of null libraries."""
    target = named_set(name, kind.kh, kind.kw)
    turned = symmetries(target.patterns)  # (G, A, K)
    cosine = np.einsum("nk,gak->nga", keys, turned)
    strength = np.abs(cosine).max(axis=1)
    nearest = strength.argmax(axis=1).astype(np.int32)
    every = np.arange(len(keys))
    turn = np.abs(cosine[every, :, nearest]).argmax(axis=1)
    sign = np.where(cosine[every, turn, nearest] < 0, np.float32(-1), np.float32(1))
    noise = draw_null("blurred", np.empty((_DRAWS * len(keys), kind.kh, kind.kw), np.float32), rng)
    blurred = best_cosine(normalise(noise.reshape(len(noise), -1))[0], turned).reshape(_DRAWS, len(keys), -1)
    covariance = [best_cosine(k, turned) for k in null_keys]
    return Match(
        name=name,
        labels=target.labels,
        nearest=nearest,
        cosine=strength.max(axis=1).astype(np.float32),
        partner=turned[turn, nearest] * sign[:, None],
        reverse=strength.max(axis=0).astype(np.float32),
        blurred=blurred.max(axis=2).mean(axis=1, dtype=np.float64),
        blurred_reverse=blurred.max(axis=1).mean(axis=1, dtype=np.float64),
        covariance=np.array([c.max(axis=1).mean() for c in covariance], np.float64),
        covariance_reverse=np.array([c.max(axis=0).mean() for c in covariance], np.float64),
    )


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
