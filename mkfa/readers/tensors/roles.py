"""What the name and shape of a single tensor tell: weight, optimiser state, buffer, part of a computed weight."""

from __future__ import annotations

import re

_MOMENTS = frozenset(["exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_avg_diff", "exp_avg_slow", "exp_inf"])
_MOMENTS |= {"momentum_buffer", "square_avg", "grad_avg", "acc_delta", "slow_buffer"}
_OPTIMISERS = frozenset(["optim", "optims", "optimizer", "optimizers", "optimiser", "optimisers"])
_OPTIMISER_STATES = _OPTIMISERS | {"optim_state", "optimizer_state", "optimizer_states", "optimizer_state_dict"}


def is_depthwise_shape(shape: tuple[int, ...]) -> bool:
    """True for (C, 1, kh, kw) with C > 1 and kh * kw > 1."""
    return len(shape) == 4 and shape[1] == 1 and shape[0] > 1 and shape[2] * shape[3] > 1


def is_optimiser(key: str) -> bool:
    """True for a path through an optimiser (`optimizer.state.0.exp_avg`) or to one of its moments."""
    parts = key.lower().split(".")
    weight = parts[-1] in ("weight", "bias")
    for i, part in enumerate(parts):
        if part in _MOMENTS or part in ("opt_state", "opt_states"):
            return True
        # A module of a network may have such a name too: `optim_head.conv.weight`.
        if _OPTIMISERS & set(re.split(r"[_\W\d]+", part)) and (not weight or (i < 2 and part in _OPTIMISER_STATES)):
            return True
    return len(parts) >= 3 and parts[-3] == "state" and parts[-2].isdigit() and parts[-1] not in ("weight", "bias")


def is_weight_name(key: str) -> bool:
    """True if the last component of a path names a convolution's weight (Haiku: `w`), not a buffer such as `filt`."""
    leaf = key.rsplit(".", 1)[-1].lower()
    return (
        ("weight" in leaf or leaf.endswith("kernel") or leaf == "w")
        and "blur" not in leaf
        and not is_reparametrised(key)
    )


def is_reparametrised(key: str) -> bool:
    """True for the tensors that pruning, weight norm or spectral norm store instead of the weight."""
    parts = key.split(".")
    return "parametrizations" in parts or parts[-1] in ("weight_orig", "weight_g", "weight_v", "weight_mask")
