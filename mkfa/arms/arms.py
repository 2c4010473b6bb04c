"""The table of arms: which filters a network gets before training, and whether they are frozen (stdlib only).

To add an arm, add an entry to `ARMS` and, if no function in `mkfa.arms.fillings` computes its filters, add one there.
Users add their own arms with `mkfa.register(Arm(...))` in a file named by MKFA_PLUGINS.
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
        Which filters are set, and in which order; printed by `mkfa transfer --help`.
    fill : callable (layer, rng) -> (out, in, kh, kw) float32, or its location "module:function"
        Computes the kernels of one layer. `layer` is a `mkfa.arms.fillings.Weights`: the target's layer as initialised
        or, for an arm with a source, the corresponding source layer.
    fill_network : callable (request) -> filling, or its location
        Computes the kernels of all layers at once from a `mkfa.arms.fillings.Request`; instead of `fill`.
    source : str
        Whether filters come from a source: "none", "needed", "optional", or "own" (the target domain's own base run).
    whole_source : bool
        True if the arm also uses the source's layers after the first n.
    frozen : bool
        False if the filters are trained further.
    depthwise_only : bool
        True if the arm sets patterns within a kernel; pointwise and dense layers are refused.
    must_hurt : bool
        True if accuracy must fall, so that the arm shows whether an experiment can detect a difference.
    copies_norm : bool
        True if, with `with_norm`, the norm layers of the set layers are copied too; False: they stay as initialised.
    number : int
        For an arm whose name ends in "-k": the value of k. "first-5" is the arm "first-k" with number 5.

    Notes
    -----
    A run is identified by the name of its arm, not by its code. If you change your own arm, rename it.

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
    copies_norm: bool = False
    number: int = 0

    @property
    def needs_source(self) -> bool:
        """True if the arm requires a source."""
        return self.source in ("needed", "own")

    def kernels(self, request: Request) -> Filling:
        """Return the kernels and biases of each target layer, without writing them into the network.

        Raises
        ------
        MkfaError
            The source does not fit, or the arm returned kernels of a wrong shape or non-finite kernels.
        """
        from mkfa.arms.fillings import check_filling, fitted

        filling: Filling
        if self.fill_network is not None:
            filling = _resolve(self.fill_network)(replace(request, number=self.number))
        elif self.fill is not None:
            layers = fitted(request) if request.source else request.target
            filling = [(_resolve(self.fill)(layer, request.rng), None) for layer in layers]
        else:
            raise MkfaError(f"arm {self.name}", "has neither fill nor fill_network", "define one of them")
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
        Arm("baseline", "initialised and trained; part of every experiment, so do not list it.", frozen=False),
        Arm(
            "transfer",
            "source layer i copied into layer i, frozen; numbers of layers and filters must match.",
            fill_network=f"{_HERE}copied",
            source="needed",
            copies_norm=True,
        ),
        Arm(
            "selffer",
            "as transfer, but from the target domain's own base run with the same seed and network, frozen.",
            fill_network=f"{_HERE}copied",
            source="own",
            copies_norm=True,
        ),
        Arm(
            "transfer+",
            "as transfer, but trained further.",
            fill_network=f"{_HERE}copied",
            source="needed",
            frozen=False,
            copies_norm=True,
        ),
        Arm(
            "selffer+",
            "as selffer, but trained further.",
            fill_network=f"{_HERE}copied",
            source="own",
            frozen=False,
            copies_norm=True,
        ),
        Arm(
            "shuffle",
            "as transfer, then the kernels within each layer permuted: one permutation per layer, first layer first; "
            "position i gets the kernel of position p(i).",
            fill_network=f"{_HERE}shuffled",
            source="needed",
        ),
        Arm(
            "shuffle-network",
            "as transfer, then the kernels permuted across all set layers of the same kernel size, smallest first.",
            fill_network=f"{_HERE}shuffled_across",
            source="needed",
        ),
        Arm(
            "first-k",
            "as stack, but only from the source's first three layers with that kernel size (first-5: five).",
            fill_network=f"{_HERE}stacked",
            source="needed",
            whole_source=True,
            number=3,
        ),
        Arm(
            "stack",
            "the source's kernels as one sequence, first layer first, in order within a layer; they fill the target's "
            "layers 1..n from the first on, and the sequence repeats if it is too short. Each kernel size has its own "
            "sequence. Any network can be the source.",
            fill_network=f"{_HERE}stacked",
            source="needed",
            whole_source=True,
        ),
        Arm("random", "as initialised, frozen: untrained filters.", fill=f"{_HERE}initial_kernels"),
        Arm(
            "covariance",
            "drawn from a normal distribution with the second moments of the source's kernels, layer by layer, frozen.",
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
            "the eight key patterns, key j mod 8 in channel j, with the gain and offset of the initial kernel, frozen. "
            "With a source: each of its filters replaced by its best key with gain and offset.",
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

DEFAULT_ARMS = "transfer,selffer,random"
"""Default arms of a curve, as they are named on the command line."""


def find_arm(name: str) -> Arm:
    """Return an arm by name; "first-5" is `first-k` with number 5. Raises UnknownNameError.

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
