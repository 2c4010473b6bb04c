"""Replace each filter by the best of a vocabulary: w becomes a f + b.

f is the vocabulary's filter of largest |cos| with w less its mean; a and b are the least-squares gain and offset. With
f of zero mean and unit norm, a = f . w and b is the mean of w.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, F64, I64, BoolArray
from mkfa.banks.bank import FilterBank
from mkfa.banks.usable import usable_filters

_ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Replacements of the filters of one layer.

    Attributes
    ----------
    own : (C, kh, kw) float32, the layer's filters.
    vocabulary : (K, taps) float32.
    chosen : (C,) int64, row of f in the vocabulary; -1 for filters that are not usable (dead, flat), which stay.
    gain, offset : (C,) float64, a and b.
    cosine : (C,) float32, |cos| between each filter, less its mean, and its f; 0 where the filter stays.
    """

    own: F32
    vocabulary: F32
    chosen: I64
    gain: F64
    offset: F64
    cosine: F32

    def replaced(self, threshold: float = 0.0) -> BoolArray:
        """(C,) bool: filters that are replaced if |cos| must be at least `threshold`."""
        return np.asarray((self.chosen >= 0) & (self.cosine >= threshold), bool)

    def weight(self, threshold: float = 0.0) -> F32:
        """Return the layer's filters after replacement, (C, kh, kw) float32."""
        rows = np.flatnonzero(self.replaced(threshold))
        out = self.own.copy()
        f = _canonical(self.vocabulary[self.chosen[rows]])
        out[rows] = (self.gain[rows, None] * f + self.offset[rows, None]).reshape(-1, *out.shape[1:])
        return out


def fit_layer(weight: F32, usable: BoolArray, vocabulary: F32) -> Fit:
    """Return the replacements of one layer's filters.

    Parameters
    ----------
    weight : (C, kh, kw) float32.
    usable : (C,) bool, filters that are neither dead nor flat.
    vocabulary : (K, taps) float32, K >= 1, zero mean and unit norm.

    Examples
    --------
    >>> weight = np.array([[[1.0, 3.0]], [[5.0, 5.0]]], np.float32)
    >>> fit = fit_layer(weight, np.array([True, False]), np.array([[0.5**0.5, -(0.5**0.5)]], np.float32))
    >>> fit.weight().round(5).tolist(), fit.chosen.tolist(), fit.cosine.round(5).tolist()
    ([[[1.0, 3.0]], [[5.0, 5.0]]], [0, -1], [1.0, 0.0])
    """
    count = len(weight)
    cosine, chosen = np.zeros(count, np.float32), np.full(count, -1, np.int64)
    flat = weight.reshape(count, -1)
    offset = flat.mean(axis=1, dtype=np.float64)
    gain = np.zeros(count)
    rows = np.flatnonzero(usable)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        centred = flat[part] - offset[part, None]
        norm = np.linalg.norm(centred, axis=1)
        centred /= norm[:, None]
        best = np.abs(centred.astype(np.float32) @ vocabulary.T).argmax(axis=1)
        cos = np.einsum("nk,nk->n", centred, _canonical(vocabulary[best]))
        chosen[part], gain[part], cosine[part] = best, cos * norm, np.minimum(np.abs(cos), 1)
    return Fit(weight, vocabulary, chosen, gain, offset, cosine)


def _canonical(f: F32) -> F64:
    """Return filters with mean 0 and norm 1 to float64: an exact filter of the vocabulary then gives an exact copy."""
    out = f.astype(np.float64)
    out -= out.mean(axis=1, keepdims=True)
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return np.asarray(out)


def usable_by_layer(bank: FilterBank) -> list[BoolArray]:
    """Return which filters of each layer of a bank are usable, (C,) bool each."""
    out = [np.zeros(layer.channels, bool) for layer in bank.layers]
    for kind in dict.fromkeys(layer.kind for layer in bank.layers):
        found = usable_filters(bank, kind)
        for layer, channel in zip(found.layer.tolist(), found.channel.tolist(), strict=True):
            out[layer][channel] = True
    return out
