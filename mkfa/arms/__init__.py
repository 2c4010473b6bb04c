"""Which filters a network gets before it is trained, and whether they stay: the arms of the transfer experiments.
`arms` is the table of them (standard library only), `fillings` computes what each puts into a layer, `plant` writes
it into a network, freezes it, and checks after training that frozen filters did not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.arms.arms import ARMS as ARMS
    from mkfa.arms.arms import Arm as Arm

__getattr__, __dir__, __all__ = face(__name__, {"ARMS": "mkfa.arms.arms", "Arm": "mkfa.arms.arms"})
