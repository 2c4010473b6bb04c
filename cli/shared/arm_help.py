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
)


def epilog() -> str:
    """Return what the help of a command with arms ends in; blank lines keep the paragraphs apart."""
    depthwise = ", ".join(arm.name for arm in ARMS.values() if arm.depthwise_only)
    arms = [f"{arm.name}: {arm.help}" for arm in ARMS.values()]
    return "\n\n".join(["Arms:", *arms, *ORDER, f"For depthwise layers only: {depthwise}."])
