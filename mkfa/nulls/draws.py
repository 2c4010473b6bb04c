"""The table of nulls: filters without patterns, drawn filter by filter or as an untrained network.

To add a null, add one entry to `NULLS`. Users add their own with `mkfa.register(mkfa.Null(...))` in a file that
MKFA_PLUGINS names. Every draw comes from an explicit generator, so that a result can record its seed. NumPy is imported
when a null is drawn: help texts are made from this table.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mkfa.tables import Table

if TYPE_CHECKING:
    import numpy as np

    from mkfa.array_types import F32, I64
    from mkfa.banks.bank import FilterBank

    Drawer = Callable[[np.random.Generator], F32]
    """Draws null filters in place of those that it was made for."""

_BLUR_RADIUS = 5


@dataclass(frozen=True, slots=True)
class Null:
    """Filters without patterns: what chance gives.

    Every verb draws through `prepare`, so that a null is the same distribution everywhere. One of `draw`, `root`, `fit`
    and `network` says how.

    Attributes
    ----------
    name : str
    help : str
        What it keeps of the filters and what it destroys.
    draw : callable (weight, rng) -> (N, kh, kw) float32
        Draws as many filters as `weight` (N, kh, kw) has, usable filters of one kernel size. Any scale will do.
    root : callable (weight) -> (K, K) float32
        For normal nulls of mean 0: R such that z @ R.T, z white, is a draw. Where it is given, `draw` is not used.
    network : callable (bank, seed) -> FilterBank
        For nulls that are whole networks.
    fit : callable (weight, layer, rows) -> callable (rng) -> (n, kh, kw) float32
        For nulls that look at all filters, or at their layers, before they draw: `weight` (N, kh, kw) are all usable
        filters of one kernel size, `layer` (N,) int64 the layer of each, `rows` (n,) int64 the filters that the draws
        replace. What it returns is called once for each set of draws, from several threads.

    Examples
    --------
    >>> import numpy as np
    >>> flipped = Null("flipped", "each filter upside down", draw=lambda weight, rng: weight[:, ::-1])
    >>> flipped.sample(np.eye(3, dtype=np.float32)[None], np.random.default_rng(0))[0, 0].tolist()
    [0.0, 0.0, 1.0]
    """

    TABLE: ClassVar[Table[Null]]

    name: str
    help: str
    draw: Callable[[F32, np.random.Generator], F32] | None = None
    root: Callable[[F32], F32] | None = None
    network: Callable[[FilterBank, int], FilterBank] | None = None
    fit: Callable[[F32, I64, I64], Drawer] | None = None

    @property
    def stream(self) -> int:
        """Number that keeps its random draws apart from those of other nulls; recorded results depend on it."""
        built_in = ("shuffled", "gaussian", "blurred", "covariance", "init")
        return built_in.index(self.name) if self.name in built_in else 16 + zlib.crc32(self.name.encode())

    def prepare(self, weight: F32, layer: I64 | None = None, rows: I64 | None = None) -> Drawer:
        """Return a function of a generator that draws null filters in place of some filters, (n, kh, kw) float32.

        Parameters
        ----------
        weight : (N, kh, kw) float32, usable filters of one kernel size.
        layer : (N,) int64, the layer of each; None: all are of one layer.
        rows : (n,) int64, the filters that are replaced; None: all.

        Raises
        ------
        TypeError
            The null is drawn as a whole network.

        Examples
        --------
        >>> import numpy as np
        >>> weight = np.random.default_rng(0).standard_normal((40, 3, 3)).astype(np.float32)
        >>> draw = NULLS["covariance"].prepare(weight, rows=np.arange(20))
        >>> draw(np.random.default_rng(1)).shape
        (20, 3, 3)
        """
        import numpy as np

        rows = np.arange(len(weight)) if rows is None else rows
        if self.fit is not None:
            return self.fit(weight, np.zeros(len(weight), np.int64) if layer is None else layer, rows)
        draw, here = self.draw, weight[rows]
        if self.root is not None:
            root = np.asarray(self.root(here), np.float32)
            return lambda rng: (rng.standard_normal((len(here), len(root)), np.float32) @ root.T).reshape(here.shape)
        if draw is None:
            raise TypeError(f"the null {self.name} is drawn as a whole network")
        return lambda rng: np.asarray(draw(here, rng), np.float32)

    def sample(self, weight: F32, rng: np.random.Generator, *, layer: I64 | None = None) -> F32:
        """Draw as many null filters as there are filters, (N, kh, kw) float32, not normalised; see `prepare`."""
        return self.prepare(weight, layer)(rng)


def _shuffled(weight: F32, rng: np.random.Generator) -> F32:
    return rng.permuted(weight.reshape(len(weight), -1), axis=1).reshape(weight.shape)


def _gaussian(weight: F32, rng: np.random.Generator) -> F32:
    import numpy as np

    return rng.standard_normal(weight.shape, dtype=np.float32)


def _covariance(weight: F32, layer: I64, rows: I64) -> Drawer:
    from mkfa.nulls.covariance import fit_covariance

    return fit_covariance(weight, layer, rows)


def _layer_covariance(weight: F32, layer: I64, rows: I64) -> Drawer:
    from mkfa.nulls.covariance import fit_layer_covariance

    return fit_layer_covariance(weight, layer, rows)


def _blurred_root(weight: F32) -> F32:
    """Return the root of white noise smoothed with the discrete Gaussian of variance 1.

    The noise fills a grid with a margin, so that no border shows. Smoothing is separable and linear: a filter is
    G_h Z G_w^T with Z white on the wider grid.
    """
    import numpy as np

    from mkfa.nulls.covariance import symmetric_root

    rows, columns = (_blur_matrix(k).astype(np.float64) for k in weight.shape[1:])
    covariance = np.kron(rows @ rows.T, columns @ columns.T).astype(np.float64)
    return np.asarray(symmetric_root(covariance), np.float32)


def _blur_matrix(k: int) -> F32:
    """Return the (k, k + 2r) matrix of the discrete analogue of the Gaussian, T(n; t) = exp(-t) I_n(t), t = 1."""
    import numpy as np
    from scipy.special import ive

    taps = ive(np.abs(np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)), 1.0)
    matrix = np.zeros((k, k + 2 * _BLUR_RADIUS), np.float32)
    for row in range(k):
        matrix[row, row : row + len(taps)] = taps
    return matrix


def _untrained(bank: FilterBank, seed: int) -> FilterBank:
    from mkfa.nulls.untrained import init_bank

    return init_bank(bank, seed)


NULLS: Table[Null] = Table(
    "null",
    (
        Null("shuffled", "taps of each filter permuted: keeps its values, destroys its shape", _shuffled),
        Null("gaussian", "independent normal taps", _gaussian),
        Null(
            "blurred",
            "independent normal taps smoothed with a Gaussian of sigma 1: smooth, but without patterns",
            root=_blurred_root,
        ),
        Null(
            "covariance",
            "normal with the bank's own tap covariance: second moments without individual patterns",
            fit=_covariance,
        ),
        Null(
            "covariance-layer",
            "the same, but each filter with the covariance of its own layer: second moments by depth, no patterns",
            fit=_layer_covariance,
        ),
        Null("init", "the same architecture, untrained (from timm; slow)", network=_untrained),
    ),
)
Null.TABLE = NULLS

DEFAULT_NULLS = ("shuffled", "gaussian", "blurred", "covariance")
"""The nulls that shares of patterns are compared with unless others are named."""
STRICT = "covariance-layer"
"""The null that groups, keys and likeness are judged by unless another is named. Noise whose second moments differ from
layer to layer, as those of trained networks do, passes "covariance" in most cases (tests/benchmarks/CALIBRATION.md)."""


def draw_null(null: str, weight: F32, rng: np.random.Generator, *, layer: I64 | None = None) -> F32:
    """Draw as many filters of a null as there are filters; see `Null.sample`. Raises UnknownNameError."""
    return NULLS.find(null).sample(weight, rng, layer=layer)
