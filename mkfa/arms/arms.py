"""The table of arms: which filters a network gets before training, and whether they stay (standard library only).

To add an arm, add one entry to `ARMS` here and, where no function of `mkfa.arms.fillings` computes its filters, one
function there. Users add arms of their own with `mkfa.register(Arm(...))`, in a file that MKFA_PLUGINS names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mkfa.errors import MkfaError
from mkfa.tables import Table

if TYPE_CHECKING:
    import numpy as np

    from mkfa.arms.fillings import Filling, Request, Weights
    from mkfa.array_types import F32

    Fill = Callable[[Weights, np.random.Generator], F32]
    FillNetwork = Callable[[Request], Filling]

SourceUse = Literal["none", "needed", "optional", "own"]


@dataclass(frozen=True, slots=True)
class Arm:
    """Which filters layers 1 to n of a network get before training, and whether they are frozen.

    Attributes
    ----------
    name : str
    help : str
        What is put into the layers and in which order; `mkfa transfer --help` prints it.
    fill : callable (layer, rng) -> (out, in, kh, kw) float32, or its place "module:function"
        Computes the kernels of one layer. `layer` is a `mkfa.arms.fillings.Weights`: the layer of the target as it was
        initialised, or, for an arm with a source, the layer of the source that goes into it.
    fill_network : callable (request) -> filling, or its place
        Computes the kernels of all layers at once from a `mkfa.arms.fillings.Request`; instead of `fill`.
    source : str
        Whether filters are taken from a source: "none", "needed", "optional", or "own" for the base run of the target
        domain itself.
    whole_source : bool
        True if the arm takes the source's layers beyond the first n too.
    frozen : bool
        False if the filters are trained on.
    depthwise_only : bool
        True for patterns of single kernels; pointwise and dense layers are refused.
    must_hurt : bool
        True if accuracy must fall, so that the arm shows whether an experiment could have seen a difference.
    number : int
        For an arm whose name ends in "-k": the k that "-k" stands for. "first-5" is the arm "first-k" with number 5.

    Notes
    -----
    A run is identified by the name of its arm, not by its code: when you change an arm of your own, rename it.

    Examples
    --------
    >>> import numpy as np
    >>> from mkfa.arms.fillings import Request, Weights
    >>> arm = Arm("half", "the initial kernels, halved", fill=lambda layer, rng: layer.kernel / 2)
    >>> layer = Weights("conv", np.ones((2, 1, 3, 3), np.float32))
    >>> [(kernel, bias)] = arm.kernels(Request((), (layer,), np.random.default_rng(0)))
    >>> float(kernel.max()), bias
    (0.5, None)
    """

    TABLE: ClassVar[Table[Arm]]

    name: str
    help: str
    _: KW_ONLY
    fill: Fill | str | None = None
    fill_network: FillNetwork | str | None = None
    source: SourceUse = "none"
    whole_source: bool = False
    frozen: bool = True
    depthwise_only: bool = False
    must_hurt: bool = False
    number: int = 0

    @property
    def needs_source(self) -> bool:
        """True if the arm cannot do without a source."""
        return self.source in ("needed", "own")

    def kernels(self, request: Request) -> Filling:
        """Return the kernels and biases of each target layer, which are not yet written into the network.

        Raises
        ------
        MkfaError
            The source does not fit, or the arm returned kernels of another shape or kernels that are not finite.
        """
        from mkfa.arms.fillings import check_filling, fitted

        filling: Filling
        if self.fill_network is not None:
            filling = _resolve(self.fill_network)(replace(request, number=self.number))
        elif self.fill is not None:
            layers = fitted(request) if request.source else request.target
            filling = [(_resolve(self.fill)(layer, request.rng), None) for layer in layers]
        else:
            raise MkfaError(f"arm {self.name}", "has neither fill nor fill_network", "give it one of them")
        check_filling(filling, request.target, arm=self.name)
        return filling


def _resolve(function: Callable[..., Any] | str) -> Callable[..., Any]:
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    resolved: Callable[..., Any] = getattr(import_module(module), name)
    return resolved


_HERE = "mkfa.arms.fillings:"

ARMS: Table[Arm] = Table(
    "arm",
    (
        Arm("baseline", "initialised and trained; it is in every experiment, so leave it out of lists.", frozen=False),
        Arm(
            "transfer",
            "layer i of the source into layer i, in order, frozen; layers and filters must match in number.",
            fill_network=f"{_HERE}copied",
            source="needed",
        ),
        Arm(
            "selffer",
            "as transfer, from the target domain's own base run of the same seed and network, frozen.",
            fill_network=f"{_HERE}copied",
            source="own",
        ),
        Arm("transfer+", "as transfer, but trained on.", fill_network=f"{_HERE}copied", source="needed", frozen=False),
        Arm("selffer+", "as selffer, but trained on.", fill_network=f"{_HERE}copied", source="own", frozen=False),
        Arm(
            "shuffle",
            "as transfer, then the kernels of each layer permuted: one permutation a layer, first layer first; place i "
            "gets the kernel of place p(i).",
            fill_network=f"{_HERE}shuffled",
            source="needed",
        ),
        Arm(
            "shuffle-network",
            "as transfer, then one permutation of the kernels of all set layers of one kernel size, the smallest size "
            "first.",
            fill_network=f"{_HERE}shuffled_across",
            source="needed",
        ),
        Arm(
            "first-k",
            "as stack, but only from the source's first three layers of that kernel size (first-5: five).",
            fill_network=f"{_HERE}stacked",
            source="needed",
            whole_source=True,
            number=3,
        ),
        Arm(
            "stack",
            "the source's kernels as one row, its first layer first, those of a layer in order; the target takes them "
            "from the row's beginning, its first layer first, until layers 1..n are full, starting over where the row "
            "ends. Each kernel size has a row of its own. Any network can be the source.",
            fill_network=f"{_HERE}stacked",
            source="needed",
            whole_source=True,
        ),
        Arm("random", "as initialised, frozen: filters that nobody learned.", fill=f"{_HERE}initial_kernels"),
        Arm(
            "covariance",
            "drawn from a normal with the second moments of the source's kernels, layer by layer, frozen.",
            fill_network=f"{_HERE}covariant",
            source="needed",
            whole_source=True,
        ),
        Arm(
            "basis",
            "random analytic patterns, each with the gain and offset of the initial kernel, frozen.",
            fill=f"{_HERE}basis_kernels",
            depthwise_only=True,
        ),
        Arm(
            "keys",
            "eight key patterns, channel j key j mod 8, each with the gain and offset of the initial kernel, frozen. "
            "With a source: each of its filters as its best key with gain and offset.",
            fill_network=f"{_HERE}keys",
            source="optional",
            depthwise_only=True,
        ),
        Arm(
            "delta",
            "the identity, which mixes no pixels, at the initial kernel's norm, frozen: accuracy must fall.",
            fill=f"{_HERE}identity_kernels",
            depthwise_only=True,
            must_hurt=True,
        ),
        Arm(
            "box",
            "the mean of all taps, at the initial kernel's norm, frozen: accuracy must fall.",
            fill=f"{_HERE}mean_kernels",
            depthwise_only=True,
            must_hurt=True,
        ),
    ),
)
Arm.TABLE = ARMS


def find_arm(name: str) -> Arm:
    """Return the arm of a name; "first-5" is `first-k` with the number 5. Raises UnknownNameError.

    Examples
    --------
    >>> find_arm("delta").frozen, find_arm("first-5").number, find_arm("selffer+").source
    (True, 5, 'own')
    """
    if match := re.fullmatch(r"(.+-)([1-9]\d*)", name):
        numbered = ARMS.get(f"{match[1]}k")
        if numbered is not None and numbered.number and name not in ARMS:
            return replace(numbered, name=name, number=int(match[2]))
    return ARMS.find(name)
