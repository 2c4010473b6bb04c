"""The table of measures. NumPy is not imported: help texts are made from this table.

To add a measure, add one entry to `MEASURES`, and its computation to `mkfa.similarity.score.Pair` under the same name,
or give it as `whole`.
Users add their own with `mkfa.register(mkfa.Measure(...))` in a file that MKFA_PLUGINS names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from mkfa.errors import UnknownNameError, nearest
from mkfa.tables import Table

if TYPE_CHECKING:
    from mkfa.array_types import F32


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of how alike two sets of filters are.

    Attributes
    ----------
    name : str
    help : str
    score : callable (a, b) -> float
        Takes the canonical filters of both banks, (N, K) float32, each of zero mean and unit norm; their signs are
        arbitrary. It is called some thousand times, from several threads. None: `mkfa.similarity.score.Pair` has it.
    alike_is_more : bool
        True for similarities; the others are distances.
    group : str
        Name that stands for several measures, beside their own.
    whole : callable (a, b) -> float
        Instead of `score`, for a measure that depends on the number of filters. Takes all usable filters of both
        banks as harvested, (N, K) float32. Such a measure is a value only: it has no floor, interval or chance.
    bounds : (float, float)
        Least and largest value that it can have; intervals end there.
    interval : "", "linear" or "log"
        Scale of its 95 % interval over layers (`mkfa.similarity.layer_intervals`); "" for none. A scale is given where
        simulated intervals hold the mean in 92 to 97 %.
    by_layer : bool
        False for a `score` that needs more filters than a layer gives (a dozen, or few), or is too slow to be called
        for every pair of layers and every draw.

    Examples
    --------
    >>> import numpy as np
    >>> closest = Measure("closest", "largest |cos| of any two filters", lambda a, b: abs(a @ b.T).max(), True)
    >>> closest.alike_is_more
    True
    """

    TABLE: ClassVar[Table[Measure]]

    name: str
    help: str
    score: Callable[[F32, F32], float] | None = None
    alike_is_more: bool = False
    group: str = ""
    whole: Callable[[F32, F32], float] | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)
    interval: Literal["", "linear", "log"] = ""
    by_layer: bool = True


def _pca_kl(a: F32, b: F32) -> float:
    from mkfa.similarity.measures.pca_kl import pca_kl, peak_scaled

    return pca_kl(peak_scaled(a), peak_scaled(b))


_SHARE, _DISTANCE = (0.0, 1.0), (0.0, math.inf)
_BUILT_IN = (
    Measure(
        "coverage",
        "mean |cos| of each filter to its nearest in the other bank",
        alike_is_more=True,
        bounds=_SHARE,
        interval="linear",
    ),
    Measure(
        "coverage_at",
        "share of filters whose nearest in the other bank has |cos| >= threshold",
        alike_is_more=True,
        bounds=_SHARE,
    ),
    Measure(
        "matching",
        "mean 1 - |cos| of the best one-to-one assignment; slow, so on a tenth of the draws, at least 39",
        bounds=_SHARE,
    ),
    Measure("transport", "optimal transport (sliced) between the sets of filters", bounds=_DISTANCE),
    Measure("mmd", "maximum mean discrepancy, Gaussian kernel"),
    Measure("energy", "energy distance"),
    Measure("bures", "Bures distance of the second moments", group="moments", bounds=_DISTANCE, interval="log"),
    Measure("frobenius", "Frobenius distance of the second moments", group="moments", bounds=_DISTANCE),
    Measure("angles", "mean angle between the leading subspaces, in degrees", group="moments", bounds=(0.0, 90.0)),
    Measure(
        "pca_kl",
        "KL divergence of PCA coefficients of all filters, as CNN Filter DB computes it; a value without chance",
        whole=_pca_kl,
    ),
    Measure(
        "responses", "debiased CKA of rectified responses to fixed stimuli", alike_is_more=True, bounds=(-math.inf, 1.0)
    ),
)

MEASURES: Table[Measure] = Table("measure", _BUILT_IN)
Measure.TABLE = MEASURES

DEFAULT_MEASURES = tuple(measure.name for measure in _BUILT_IN)
SAMPLED_MEASURES = tuple(measure.name for measure in _BUILT_IN if measure.whole is None)
"""Those that are computed on samples, beside floor and chance."""
BY_LAYER = ("coverage", "mmd", "energy")
"""Built-in measures that a dozen filters of a layer suffice for; the others need more filters than taps."""


def layer_measures(chosen: Iterable[str]) -> tuple[str, ...]:
    """Return the measures that arrays by pairs of layers have, in their order: `BY_LAYER`, and users' own among these.

    Examples
    --------
    >>> layer_measures(("coverage", "bures"))
    ('coverage', 'mmd', 'energy')
    """
    own = (MEASURES.find(name) for name in chosen)
    return (*BY_LAYER, *(measure.name for measure in own if measure.score is not None and measure.by_layer))


def choose(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the measures in the order of the table; groups are resolved. Raises UnknownNameError."""
    known = dict.fromkeys(name for measure in MEASURES.values() for name in (measure.group, measure.name) if name)
    for name in names:
        if name not in known:
            raise UnknownNameError(name, "unknown measure", nearest(name, known) or f"choose from {', '.join(known)}")
    return tuple(m.name for m in MEASURES.values() if m.name in names or m.group in names)
