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
from mkfa.words import counted

if TYPE_CHECKING:
    import numpy as np

    from mkfa.arms.fillings import Filling, Request, Weights
    from mkfa.array_types import F32

    Fill = Callable[[Weights, np.random.Generator], F32]
    FillNetwork = Callable[[Request], Filling]

SourceUse = Literal["none", "needed", "optional", "own", "named"]


@dataclass(frozen=True, slots=True)
class Arm:
    """Which filters layers 1 to n of a network get before training, and whether they are frozen.

    Attributes
    ----------
    name : str
    help : which filters are set, and in which order; printed by `mkfa transfer --help`.
    fill : callable (layer, rng) -> (out, in, kh, kw) float32, or its location "module:function"
        Computes the kernels of one layer. `layer` is a `mkfa.arms.fillings.Weights`: the target's layer as initialised
        or, for an arm with a source, the corresponding source layer.
    fill_network : callable (request) -> filling, or its location
        Computes the kernels of all layers at once from a `mkfa.arms.fillings.Request`; instead of `fill`.
    source : whether filters come from a source: "none", "needed", "optional", "own" (the target domain's own base run),
        or "named" (the arm's name says from where, after a colon).
    whole_source : True if the arm also uses the source's layers after the first n.
    frozen : False if the filters are trained further.
    depthwise_only : True if the arm sets patterns within a kernel; pointwise and dense layers are refused.
    must_hurt : True if accuracy must fall, so that the arm shows whether an experiment can detect a difference.
    copies_norm : bool
        True if, with `with_norm`, the norm layers of the set layers are copied too; False: they stay as initialised.
    number : for an arm whose name has a number in it, "k" or "N": its value. "first-5" is the arm "first-k" with number
        5, "box9" the arm "boxN" with number 9.
    largest : largest number; 0: any.
    offset : True if each channel gets a trained constant that is added to all taps of its frozen kernel
        (`mkfa.networks.offset`).
    checked : True if the arm may not suit a network, so that it is tried on an untrained one before any work.

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
    largest: int = 0
    offset: bool = False
    checked: bool = False

    @property
    def needs_source(self) -> bool:
        """True if the arm requires a source."""
        return self.source in ("needed", "own", "named")

    def kernels(self, request: Request) -> Filling:
        """Return the kernels and biases of each target layer, without writing them into the network.

        Raises MkfaError: the source does not fit, or the arm returned kernels of a wrong shape or non-finite kernels.
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


_HERE, _SHAPES = "mkfa.arms.fillings:", "mkfa.arms.shapes:"


def _shared(name: str, help: str, fill_network: str, **more: Any) -> Arm:
    """Return an arm whose k filters are shared by all channels of a layer, with a trained constant for each."""
    function = f"mkfa.arms.shared:{fill_network}"
    return Arm(name, help, fill_network=function, depthwise_only=True, number=8, offset=True, **more)


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
        Arm(
            "stack-gain",
            "as stack, with each layer scaled to the root mean square norm of its initial kernels: sources differ in "
            "shape alone, not in gain. Biases stay as initialised.",
            fill_network=f"{_HERE}stacked_at_initial_gain",
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
            "keys:NAME",
            "as keys, with the key filters that 'mkfa keys NAME' finds for this kernel size, as many as it chooses.",
            fill_network=f"{_HERE}keys_in_turn",
            source="named",
            depthwise_only=True,
            checked=True,
        ),
        Arm(
            "file:PATH",
            "the filters of a file in turn, filter j mod N in channel j, at the initial kernel's norm, frozen: .npy or "
            ".npz (N x height x width), a bank, or what 'mkfa keys --out' wrote (.h5).",
            fill_network=f"{_HERE}filters_in_turn",
            source="named",
            depthwise_only=True,
            checked=True,
        ),
        Arm(
            "impulse",
            "one positive tap at a random place, at the initial kernel's norm, frozen: a random shift.",
            fill=f"{_SHAPES}impulse_kernels",
            depthwise_only=True,
        ),
        Arm(
            "boxN",
            "N equal positive taps at random places (box3: three), at the initial kernel's norm, frozen. With N the "
            "number of taps it is box; box1 is impulse.",
            fill_network=f"{_SHAPES}box_kernels",
            depthwise_only=True,
            checked=True,
            number=3,
        ),
        Arm(
            "gauss",
            "a Gaussian of sigma 1 pixel centred on a random tap, cropped by the kernel, at the initial kernel's norm, "
            "frozen.",
            fill=f"{_SHAPES}gauss_kernels",
            depthwise_only=True,
        ),
        Arm(
            "pca",
            "the principal components of the target's training patches (gray, of the kernel's size), largest first, in "
            "turn, with the norm and sign of the initial kernel, frozen: filters that the images alone suggest.",
            fill_network=f"{_SHAPES}pca_kernels",
            depthwise_only=True,
        ),
        _shared(
            "random-k",
            "k filters that all channels share (random-8: eight; k alone: 8), with independent normal taps. In all "
            "arms with -k, filter j mod k stands in channel j of every layer, without its mean, at one gain for each "
            "layer (the initial kernels' root mean square norm), frozen; a constant per channel is added to all taps "
            "and trained (a f + b, b from 0).",
            "shared_random",
        ),
        _shared("blurred-k", "as random-k, of smooth noise: normal taps blurred with sigma 1.", "shared_blurred"),
        _shared(
            "covariance-k",
            "as random-k, drawn with the second moments of the source's filters.",
            "shared_covariant",
            source="needed",
            whole_source=True,
        ),
        _shared(
            "keys-k",
            "as random-k, the first k of the eight key patterns (keys-8: all).",
            "shared_keys",
            checked=True,
            largest=8,
        ),
        _shared(
            "keys-k:NAME",
            "as random-k, the k key filters that 'mkfa keys NAME --keys k' finds for this kernel size.",
            "shared_from_source",
            source="named",
            checked=True,
        ),
        _shared(
            "file-k:PATH",
            "as random-k, the first k filters of a file (see file:PATH).",
            "shared_from_source",
            source="named",
            checked=True,
        ),
        _shared("impulse-k", "as random-k, one tap each, at k different random places.", "shared_impulses"),
        _shared(
            "gauss-k", "as random-k, Gaussians as in gauss, centred on k different random taps.", "shared_gaussians"
        ),
        _shared(
            "pca-k",
            "as random-k, the k leading principal components of the target's patches, each patch less its mean.",
            "shared_components",
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

DEFAULT_ARMS = "transfer,selffer,random,delta"

OWN = {"transfer": "selffer", "transfer+": "selffer+"}
"""What an arm is that borrows from the target's own base runs, by its name."""
"""Default arms of a curve: delta, which must hurt, says whether the others could have."""


def find_arm(name: str) -> Arm:
    """Return an arm by name: "first-5" is `first-k` with number 5, "keys-8:mine" is `keys-k:NAME` with number 8.

    Raises UnknownNameError: no such arm. Raises MkfaError: its number is too large, or nothing stands after its colon.

    Examples
    --------
    >>> find_arm("delta").frozen, find_arm("first-5").number, find_arm("selffer+").source
    (True, 5, 'own')
    >>> find_arm("box9").number, find_arm("keys-4:efficientnet_lite0").source
    (9, 'named')
    """
    if name in ARMS:
        return ARMS.find(name)
    for arm in ARMS.values():
        if (arm.number or arm.source == "named") and (match := re.fullmatch(_pattern(arm.name), name)):
            number = int(match["number"]) if "number" in match.groupdict() else arm.number
            if 0 < arm.largest < number:
                problem = f"asks for {counted(number, 'filter')}, and there are {arm.largest}"
                others = f", or name a bank: {name}:NAME" if f"{arm.name}:NAME" in ARMS else ""
                raise MkfaError(f"arm {name}", problem, f"choose a number up to {arm.largest}{others}")
            return replace(arm, name=name, number=number)
    head, colon, rest = name.partition(":")
    if colon and not rest:
        raise MkfaError(f"arm {name}", "names nothing after the colon", f"write it like {head}:PATH")
    return ARMS.find(name)


def _pattern(name: str) -> str:
    """Return the regular expression of an arm's names: "keys-k:NAME" -> "keys-(?P<number>[1-9][0-9]{0,5}):.+"."""
    head, colon, _ = name.partition(":")
    number = "(?P<number>[1-9][0-9]{0,5})"
    head = re.sub(r"-k$", f"-{number}", re.escape(head).replace(r"\-", "-"))
    head = re.sub(r"N$", number, head)
    return head + (":.+" if colon else "")


def check_fit_kernel(fit: str) -> None:
    """Refuse an unknown way to fit kernels of another size."""
    if fit not in ("", "pad", "crop"):
        raise MkfaError("--fit-kernel", f"is {fit!r}", "choose pad or crop, or leave it out")
