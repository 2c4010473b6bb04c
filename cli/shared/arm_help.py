"""What `mkfa transfer --help` and `mkfa transfer-curve --help` say of arms: what each sets, in which exact order."""

from __future__ import annotations

from mkfa.arms.arms import ARMS

ORDER = (
    "Kernels and their order. Layers count in order of execution. A depthwise filter is one kernel, channel by "
    "channel. "
    "A pointwise or conv layer has a kernel for every pair of channels: output channel first, then input channel (so "
    "shuffle mixes pairs, and stack cuts rows anywhere); pointwise kernels have one tap.",
    "--what conv counts every convolution of the main path. A residual block's shortcut projection does not count: it "
    "is set and frozen with its block's last convolution, right after it in every order (ResNet-50: 49 and 4).",
    "Biases stay as initialised, and trained, unless --with-bias.",
    "Norm layers (batch, layer or group norm) stay as initialised, and trained, unless --with-norm: each can rescale "
    "and shift what a frozen filter gives, and a batch norm measures its statistics on the target's images. With "
    "--with-norm, the norm that is called right after a set layer is copied with it, and frozen where the filters "
    "are: it then uses the source's statistics, in training too.",
)


def epilog() -> str:
    """Return what the help of a command with arms ends in; blank lines keep the paragraphs apart."""
    depthwise = ", ".join(arm.name for arm in ARMS.values() if arm.depthwise_only)
    arms = [f"{arm.name}: {arm.help}" for arm in ARMS.values()]
    return "\n\n".join(["Arms:", *arms, *ORDER, f"For depthwise layers only: {depthwise}."])
