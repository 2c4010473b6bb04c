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

    from mkfa.array_types import F32
    from mkfa.banks.bank import FilterBank

_BLUR_RADIUS = 5


@dataclass(frozen=True, slots=True)
class Null:
    """Filters without patterns: what chance gives.

    Attributes
    ----------
    name : str
    help : str
        What it keeps of the filters and what it destroys.
    draw : callable (weight, rng) -> (N, kh, kw) float32
        Draws as many filters as `weight` (N, kh, kw) has, usable filters of one kernel size. Any scale will do.
    root : callable (weight) -> (K, K) float32
        For normal nulls of mean 0: R such that z @ R.T, z white, is a draw. Many small draws are faster this way.
    network : callable (bank, seed) -> FilterBank
        For nulls that are whole networks; instead of `draw`.

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

    @property
    def stream(self) -> int:
        """Number that keeps its random draws apart from those of other nulls; recorded results depend on it."""
        built_in = ("shuffled", "gaussian", "blurred", "covariance", "init")
        return built_in.index(self.name) if self.name in built_in else 16 + zlib.crc32(self.name.encode())

    def sample(self, weight: F32, rng: np.random.Generator) -> F32:
        """Draw as many null filters as there are filters, (N, kh, kw) float32, not normalised."""
        import numpy as np

        if self.draw is None:
            raise TypeError(f"the null {self.name} is drawn as a whole network")
        return np.asarray(self.draw(weight, rng), np.float32)


def _shuffled(weight: F32, rng: np.random.Generator) -> F32:
    return rng.permuted(weight.reshape(len(weight), -1), axis=1).reshape(weight.shape)


def _gaussian(weight: F32, rng: np.random.Generator) -> F32:
    import numpy as np

    return rng.standard_normal(weight.shape, dtype=np.float32)


def _covariance(weight: F32, rng: np.random.Generator) -> F32:
    from mkfa.nulls.covariance import sample_covariance, sphere_covariance, tap_covariance

    return sample_covariance(sphere_covariance(tap_covariance(weight)), len(weight), rng).reshape(weight.shape)


def _covariance_root(weight: F32) -> F32:
    from mkfa.nulls.covariance import covariance_root, tap_covariance

    return covariance_root(tap_covariance(weight))


def _blurred(weight: F32, rng: np.random.Generator) -> F32:
    """Smooth white noise with the discrete Gaussian of variance 1, on a grid with a margin: no border effect.

    Separable and linear, so a filter is G_h Z G_w^T with Z white on the wider grid.
    """
    import numpy as np

    n, kh, kw = weight.shape
    rows, columns = _blur_matrix(kh), _blur_matrix(kw)
    out = np.empty((n, kh, kw), np.float32)
    for start in range(0, n, 65536):
        part = min(65536, n - start)
        noise = rng.standard_normal((part, rows.shape[1], columns.shape[1]), dtype=np.float32)
        out[start : start + part] = rows @ noise @ columns.T
    return out


def _blurred_root(weight: F32) -> F32:
    import numpy as np

    from mkfa.nulls.covariance import covariance_root

    rows, columns = (_blur_matrix(k).astype(np.float64) for k in weight.shape[1:])
    return covariance_root(np.kron(rows @ rows.T, columns @ columns.T).astype(np.float64))


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
            _blurred,
            _blurred_root,
        ),
        Null(
            "covariance",
            "normal with the bank's own tap covariance: second moments without individual patterns",
            _covariance,
            _covariance_root,
        ),
        Null("init", "the same architecture, untrained (from timm; slow)", network=_untrained),
    ),
)
Null.TABLE = NULLS

DEFAULT_NULLS = ("shuffled", "gaussian", "blurred", "covariance")
"""The nulls that results are compared with unless others are named."""


def draw_null(null: str, weight: F32, rng: np.random.Generator) -> F32:
    """Draw as many filters of a null as there are filters; see `Null.sample`. Raises UnknownNameError."""
    return NULLS.find(null).sample(weight, rng)
