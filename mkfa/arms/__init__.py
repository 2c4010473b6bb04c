"""Which filters a network gets before it is trained, and whether they are frozen: the arms of the transfer experiments.
`arms` is the table of them, with the help text of each; an arm is added there. `fillings` computes the kernels of each
layer, `plant` writes them into a network, freezes them, and checks after training that they did not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.arms.arms import ARMS as ARMS
    from mkfa.arms.arms import Arm as Arm
    from mkfa.arms.arms import find_arm as find_arm
    from mkfa.arms.plant import set_filters as set_filters

__getattr__, __dir__, __all__ = face(
    __name__,
    {"ARMS": "mkfa.arms.arms", "Arm": "mkfa.arms.arms", "find_arm": "mkfa.arms.arms", "set_filters": "mkfa.arms.plant"},
)
