"""The table of measures: what each is called, what it says, and how it is computed.

To add a measure, add its function and one entry of `_BUILT_IN` here; nothing else names it. NumPy is imported inside
functions, since help texts are made from this table.
Users add their own with `mkfa.register(mkfa.Measure(...))` in a file that MKFA_PLUGINS names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mkfa.errors import UnknownNameError, nearest
from mkfa.tables import Table

if TYPE_CHECKING:
    from mkfa.array_types import F32, F64
    from mkfa.similarity.pairs import Pair


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure of how alike two sets of filters are.

    Attributes
    ----------
    name : str
    help : str
    score : callable (a, b) -> float
        Takes the canonical filters of both banks, (N, K) float32, each of zero mean and unit norm; their signs are
        arbitrary. It is called some thousand times, from several threads.
    pairs : callable (pair) -> (D,) float64
        Instead of `score`: computes all D pairs of samples at once from what a `mkfa.similarity.pairs.Pair` shares.
    layers : callable (pair) -> mapping
        Values of pairs of layers that are computed along with `pairs`: name of the measure -> (D, L_a, L_b) float32.
    alike_is_more : True for similarities; the others are distances.
    group : name that stands for several measures, beside their own.
    whole : callable (a, b) -> float
        Instead of `score`, for a measure that depends on the number of filters. Takes all usable filters of both
        banks as harvested, (N, K) float32. Such a measure is a value only: it has no floor, interval or chance.
    bounds : (float, float)
        Least and largest value that it can have; intervals end there.
    interval : True where it has a 95 % interval over layers (`mkfa.similarity.layer_intervals`), which is where
        simulated intervals hold the mean in 92 to 97 %.
    by_layer : False for a measure without values for pairs of layers: it needs more filters than a layer gives (a
        dozen, or few), or is too slow to be called for every pair of layers and every draw.
    slow : True to compute it on a tenth of the draws, at least 39.
    squared : True for a squared distance.

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
    interval: bool = False
    by_layer: bool = True
    pairs: Callable[[Pair], F64] | None = None
    layers: Callable[[Pair], Mapping[str, F32]] | None = None
    slow: bool = False
    squared: bool = False


def _coverage(pair: Pair) -> F64:
    import numpy as np

    near_a, near_b, _ = pair.nearest
    return np.asarray((near_a.mean(axis=1, dtype=np.float64) + near_b.mean(axis=1, dtype=np.float64)) / 2)


def _coverage_at(pair: Pair) -> F64:
    import numpy as np

    near_a, near_b, _ = pair.nearest
    cut = pair.plan.threshold
    return np.asarray(((near_a >= cut).mean(axis=1) + (near_b >= cut).mean(axis=1)) / 2)


def _coverage_of_layers(pair: Pair) -> dict[str, F32]:
    return {"coverage": pair.nearest[2]}


def _matching(pair: Pair) -> F64:
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    costs = 1 - np.minimum(np.abs(pair.a.vector @ pair.b.vector.swapaxes(1, 2)), np.float32(1))
    return np.array([cost[linear_sum_assignment(cost)].mean(dtype=np.float64) for cost in costs])


def _transport(pair: Pair) -> F64:
    """Sliced 2-Wasserstein distance of the symmetrised sets {f, -f} (Bonneel et al. 2015, equation 9), or exact.

    A projected symmetrised set is symmetric about zero, so absolute values suffice and nothing is doubled.
    """
    import numpy as np

    from mkfa.similarity.measures.transport import EXACT, slices_distance, transport_exact

    if max(len(pair.a), len(pair.b)) <= EXACT:
        return np.array([transport_exact(x, y) for x, y in pair.one_by_one()])
    a, b = pair.a.slices, pair.b.slices
    if a.shape[2] != b.shape[2]:  # a layer is left out of one
        return np.array([slices_distance(a[0], b[0])])
    return np.asarray(np.sqrt(np.square(a - b).mean(axis=(1, 2), dtype=np.float64)))


def _mmd(pair: Pair) -> F64:
    """Squared MMD with kernel exp(-(1 - cos^2) / h), a Gaussian of the distance between projectors ff^T and gg^T.

    The polynomial kernel cos^2 would give `frobenius` squared. Gretton et al. 2012, equation 3.
    """
    value: F64 = pair.discrepancies[0][0]
    return value


def _energy(pair: Pair) -> F64:
    """Energy distance of d = sqrt(1 - cos^2), the chordal distance of projective space (Szekely & Rizzo 2013).

    It is of strong negative type, so that the distance vanishes only for equal distributions.
    """
    value: F64 = pair.discrepancies[0][1]
    return value


def _discrepancies_of_layers(pair: Pair) -> dict[str, F32]:
    return dict(zip(("mmd", "energy"), pair.discrepancies[1], strict=True))


def _bures(pair: Pair) -> F64:
    """Square root of tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2 of the second moments A and B."""
    import numpy as np

    one, other = (pair.b, pair.a) if pair.a.drawn else (pair.a, pair.b)
    fidelity = np.sqrt(np.clip(np.linalg.eigvalsh(one.root @ other.moment @ one.root), 0, None)).sum(axis=1)
    traces = sum(np.trace(s.moment, axis1=1, axis2=2) for s in (pair.a, pair.b))
    return np.asarray(np.sqrt(np.clip(traces - 2 * fidelity, 0, None)))


def _frobenius(pair: Pair) -> F64:
    import numpy as np

    return np.asarray(np.linalg.norm(pair.a.moment - pair.b.moment, axis=(1, 2)), np.float64)


def _angles(pair: Pair) -> F64:
    import numpy as np

    cosine = np.linalg.svd(pair.a.leading.swapaxes(1, 2) @ pair.b.leading, compute_uv=False)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean(axis=1))


def _responses(pair: Pair) -> F64:
    from mkfa.similarity.measures.responses import debiased_cka

    return debiased_cka(pair.a.gram, pair.b.gram)


def _pca_kl(a: F32, b: F32) -> float:
    from mkfa.similarity.measures.pca_kl import pca_kl, peak_scaled

    return pca_kl(peak_scaled(a), peak_scaled(b))


_SHARE, _DISTANCE = (0.0, 1.0), (0.0, math.inf)
_BUILT_IN = (
    Measure(
        "coverage",
        "mean |cos| of each filter to its nearest in the other bank",
        pairs=_coverage,
        layers=_coverage_of_layers,
        alike_is_more=True,
        bounds=_SHARE,
        interval=True,
    ),
    Measure(
        "coverage_at",
        "share of filters whose nearest in the other bank has |cos| >= threshold",
        pairs=_coverage_at,
        layers=_coverage_of_layers,
        by_layer=False,
        alike_is_more=True,
        bounds=_SHARE,
    ),
    Measure(
        "matching",
        "mean 1 - |cos| of the best one-to-one assignment; slow, so on a tenth of the draws, at least 39",
        pairs=_matching,
        slow=True,
        bounds=_SHARE,
    ),
    Measure("transport", "optimal transport (sliced) between the sets of filters", pairs=_transport, bounds=_DISTANCE),
    Measure(
        "mmd", "maximum mean discrepancy, Gaussian kernel", pairs=_mmd, layers=_discrepancies_of_layers, squared=True
    ),
    Measure("energy", "energy distance", pairs=_energy, layers=_discrepancies_of_layers, squared=True),
    Measure("bures", "Bures distance of the second moments", pairs=_bures, group="moments", bounds=_DISTANCE),
    Measure(
        "frobenius", "Frobenius distance of the second moments", pairs=_frobenius, group="moments", bounds=_DISTANCE
    ),
    Measure(
        "angles",
        "mean angle between the leading subspaces, in degrees",
        pairs=_angles,
        group="moments",
        bounds=(0.0, 90.0),
    ),
    Measure(
        "pca_kl",
        "KL divergence of PCA coefficients of all filters, as CNN Filter DB computes it; a value without chance",
        whole=_pca_kl,
    ),
    Measure(
        "responses",
        "debiased CKA of rectified responses to fixed stimuli",
        pairs=_responses,
        alike_is_more=True,
        bounds=(-math.inf, 1.0),
    ),
)

MEASURES: Table[Measure] = Table("measure", _BUILT_IN)
Measure.TABLE = MEASURES

DEFAULT_MEASURES = tuple(measure.name for measure in _BUILT_IN)
SAMPLED_MEASURES = tuple(measure.name for measure in _BUILT_IN if measure.whole is None)
"""Those that are computed on samples, beside floor and chance."""
BY_LAYER = tuple(measure.name for measure in _BUILT_IN if measure.layers and measure.by_layer)
"""Built-in measures that a dozen filters of a layer suffice for; the others need more filters than taps."""


def layer_measures(chosen: Iterable[str]) -> tuple[str, ...]:
    """Return the measures that arrays by pairs of layers have, in their order: `BY_LAYER`, and users' own among these.

    Examples
    --------
    >>> layer_measures(("coverage", "bures"))
    ('coverage', 'mmd', 'energy')
    """
    own = (MEASURES.find(name) for name in chosen if name not in BY_LAYER)
    return (*BY_LAYER, *(measure.name for measure in own if measure.by_layer and (measure.score or measure.layers)))


def choose(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the measures in the order of the table; groups are resolved. Raises UnknownNameError."""
    known = dict.fromkeys(name for measure in MEASURES.values() for name in (measure.group, measure.name) if name)
    for name in names:
        if name not in known:
            raise UnknownNameError(name, "unknown measure", nearest(name, known) or f"choose from {', '.join(known)}")
    return tuple(m.name for m in MEASURES.values() if m.name in names or m.group in names)
