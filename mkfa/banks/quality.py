"""Layer quality as CNN Filter DB defines it, for any kernel size and number of filters.

Sparsity is the share of filters whose peak |weight| is under 1 % of the layer's (`mkfa.banks.dead.sparse_peaks`; the
filters that analyses leave out as dead follow another rule, `dead_peaks`). Variance entropy is the entropy,
base 10, of the shares of variance along the principal axes of the layer's filters: near 0 they are copies of one
another, near that of random filters they are unstructured. Source: Gavrikov & Keuper, "CNN Filter DB" (CVPR 2022),
section 4.3. Their threshold for "random" is a formula fitted to 3x3 kernels; here it is simulated for the layer's
kernel size and number of filters. At 3x3 the two agree to 0.015 from 64 filters on; with fewer filters the formula is
lower than the simulation (0.85 instead of 0.89 for 32, 0.72 instead of 0.81 for 16).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.array_types import F32, F64
from mkfa.banks.dead import filter_peaks, sparse_peaks
from mkfa.banks.library import BankLike, load_bank
from mkfa.errors import MkfaError
from mkfa.storage.records import Listing
from mkfa.words import counted

DRAWS = 200


@dataclass(frozen=True, slots=True)
class LayerQuality:
    """Quality of one layer.

    Attributes
    ----------
    layer : number of the layer, from 1.
    filters : number of filters, without non-finite ones.
    sparsity : share of filters whose peak |weight| is under 1 % of the layer's, the published rule.
    entropy : variance entropy, 0 to log10 of the smaller of taps and filters.
    random : mean variance entropy of as many random filters of the same size.
    random_low, random_high : 1 % and 99 % quantile of the same.
    """

    layer: int
    filters: int
    sparsity: float
    entropy: float
    random: float
    random_low: float
    random_high: float

    @property
    def ratio(self) -> float:
        """Variance entropy divided by that of random filters; NaN for a layer that is too small."""
        return self.entropy / self.random if self.random > 0 else float("nan")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LayerQualities(Listing[LayerQuality]):
    """The quality of every layer of a bank, in order of execution."""

    KIND: ClassVar[str] = "layer_quality"
    layers: tuple[LayerQuality, ...]

    def headline(self) -> str:
        """Return the number of layers, and the layer with the least entropy."""
        known = [each for each in self if each.ratio == each.ratio]
        if not known:
            return counted(len(self), "layer")
        least = min(known, key=lambda each: each.ratio)
        entropy = f"least variance entropy {least.ratio:.2f} of that of random filters"
        return f"{counted(len(self), 'layer')}, {entropy}, in layer {least.layer}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a layer, with its `ratio`."""
        return [asdict(each) | {"ratio": each.ratio} for each in self]


def layer_quality(bank: BankLike, *, draws: int = DRAWS, seed: int = 0) -> LayerQualities:
    """Return the quality of every layer of a bank, in order of execution.

    Parameters
    ----------
    bank : name, path or bank.
    draws : sets of random filters that a layer's variance entropy is compared with.
    seed : of these draws.

    Raises
    ------
    MkfaError
        The bank is unknown or cannot be read.

    Examples
    --------
    >>> import mkfa
    >>> quality = mkfa.layer_quality("ppocrv4_rec", draws=20)
    >>> quality
    <LayerQualities: 14 layers, least variance entropy 0.50 of that of random filters, in layer 11>
    >>> quality[0].layer, quality[0].filters
    (1, 16)
    """
    check_arguments(layer_quality, locals())
    if draws < 1:
        raise MkfaError("draws 0", "compare with nothing", "give 1 or more")
    out = []
    for layer, weight in load_bank(bank).iter_layers():
        finite = weight[np.isfinite(weight).all(axis=(1, 2))]
        peaks = filter_peaks(finite) if len(finite) else np.zeros(0, np.float32)
        sparse = sparse_peaks(peaks)
        random = random_entropy(len(finite), layer.kh * layer.kw, draws=draws, seed=seed)
        low, high = np.quantile(random, (0.01, 0.99)).tolist()
        sparsity = float(sparse.mean()) if len(sparse) else float("nan")
        entropies = (variance_entropy(finite), float(random.mean()), low, high)
        out.append(LayerQuality(layer.index + 1, len(finite), sparsity, *entropies))
    return LayerQualities(tuple(out))


def variance_entropy(weight: F32) -> float:
    """Return the entropy, base 10, of the variance shares of the principal axes of (N, kh, kw) filters.

    It is 0 for fewer than two filters and for equal filters.
    """
    if len(weight) < 2:
        return 0.0
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    flat -= flat.mean(axis=0)
    top = np.abs(flat).max()
    if top == 0:
        return 0.0
    flat /= top  # entropy does not depend on scale, but squares of tiny weights underflow
    gram = flat.T @ flat if flat.shape[0] > flat.shape[1] else flat @ flat.T
    return float(_entropy(np.asarray(np.linalg.eigvalsh(gram)[None], np.float64))[0])


@lru_cache(maxsize=256)
def random_entropy(filters: int, taps: int, *, draws: int = DRAWS, seed: int = 0) -> F64:
    """Return the variance entropy of independent normal filters, (draws,) float64.

    The scatter matrix of N centred normal filters is Wishart with N - 1 degrees of freedom; for N > K it is drawn by
    Bartlett's decomposition (1933), K x K numbers instead of N x K.
    """
    if filters < 2:
        return np.zeros(draws)
    rng, freedom, out = np.random.default_rng([seed, filters, taps]), filters - 1, np.empty(draws)
    for i in range(draws):
        if freedom >= taps:
            factor = np.tril(rng.standard_normal((taps, taps)), -1)
            factor[np.diag_indices(taps)] = np.sqrt(rng.chisquare(freedom - np.arange(taps)))
        else:  # the scatter of K normal vectors in N - 1 dimensions has the same eigenvalues
            factor = rng.standard_normal((freedom, taps))
        out[i] = _entropy(np.square(np.linalg.svd(factor, compute_uv=False))[None])[0]
    return out


def _entropy(variance: F64) -> F64:
    """Return -sum p log10 p of each row's shares."""
    share = np.clip(variance, 0, None)
    share = share / share.sum(axis=1, keepdims=True)
    return np.asarray(-np.sum(share * np.log10(np.where(share > 0, share, 1)), axis=1), np.float64)
