"""The defaults of the training verbs, in Python as on the command line (standard library only)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mkfa.arms.arms import ARMS, DEFAULT_ARMS
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.training.recipe import Recipe

PAIR = ("fashion", "digits")
"""Default source and target of a curve: bundled domains of other kinds. On digits, frozen identity kernels cost
most and seeds differ little."""
LAYERS = "3..18..3"
"""Default numbers of layers of a curve: six of 18, which take a third of the time."""
WIDTHS, KERNELS = (8, 16, 32), (3, 5, 7)
"""Default widths and kernel sizes of a sweep: D / f^2 from 0.16 to 3.6."""
SWEEP_ARMS = "transfer,random,delta"
"""Default arms of a sweep."""
SIX = "letters,fashion,scripts,digits,emoji,clipart"
"""Default targets of a matrix: bundled domains, the largest first."""


def default_arms(verb: str, source_arch: str, what: str = "depthwise") -> str:
    """Return a verb's default arms: for a curve `DEFAULT_ARMS`, else "transfer".

    A source with another network has other layers, which only `stack` takes. Arms that set patterns within kernels are
    left out if the layers to set are not depthwise.

    Examples
    --------
    >>> default_arms("transfer", ""), default_arms("transfer-curve", "convmixer_96_6")
    ('transfer', 'stack,selffer,random,delta')
    >>> default_arms("transfer-curve", "", "pointwise")
    'transfer,selffer,random'
    """
    arms = DEFAULT_ARMS if verb == "transfer-curve" else "transfer"
    if what != "depthwise":
        arms = ",".join(name for name in arms.split(",") if not ARMS[name].depthwise_only)
    return arms.replace("transfer", "stack") if source_arch else arms


def default_options() -> dict[str, Any]:
    """Return the default network of a curve over 18 layers, and the changes to the recipe "fast" that suit it.

    They belong together and are the same on every device, so that results can be compared. Measured
    (`tests/benchmarks/sensitivity.py`): on digits the base reaches 94 % and its seeds differ by half a point, while
    identity kernels in all layers cost 42 points.
    """
    return {"arch": "resmixer_32_18", "network": {}, "equal_steps": 150, "set": {"batch": 32, "lr": 0.01}}


def describe_choice(arch: str, network: Mapping[str, float], recipe: Recipe) -> str:
    """Say which network was chosen, how it is trained, and why."""
    words = {
        "kernel": "kernels of",
        "patch": "patches of",
        "stem_stride": "a first stride of",
        "branch_gain": "a branch gain of",
    }
    options = [f"{words.get(key, key)} {value}" for key, value in sorted(network.items())]
    length = (
        f"{counted(recipe.equal_steps, 'step')} of"
        if recipe.equal_steps
        else f"{counted(recipe.epochs, 'epoch')} in batches of"
    )
    setting = ", ".join([arch, *options, f"{length} {counted(recipe.batch, 'image')}"])
    why = "one resolution and residuals, so that seeds differ little and only depthwise layers mix pixels"
    return f"Network {setting}: {why}."
