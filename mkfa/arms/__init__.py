"""The arms of the transfer experiments: which filters a network gets before training, and whether they are frozen.
`arms` has the table of arms and their help texts; new arms are added there. `fillings` computes the kernels of each
layer. `plant` writes them into a network, freezes them, and checks after training that they have not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.arms.arms import ARMS as ARMS
    from mkfa.arms.arms import Arm as Arm
    from mkfa.arms.arms import find_arm as find_arm
    from mkfa.arms.plant import set_filters as set_filters

__getattr__, __dir__, __all__ = face(__name__, __file__)
