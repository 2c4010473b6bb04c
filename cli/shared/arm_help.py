"""What `mkfa transfer --help` and `mkfa transfer-curve --help` say of arms: what each sets, in which exact order."""

from __future__ import annotations

ARMS = {
    "baseline": "initialised and trained; always there, never asked for.",
    "transfer": "layer i of the source into layer i, in order, frozen; layers and filters must match in number.",
    "transfer+": "the same, trained on.",
    "selffer": "as transfer, from the target domain's own base run of the same seed and network, frozen.",
    "selffer+": "the same, trained on.",
    "shuffle": "as transfer, then the kernels of each layer permuted: one permutation a layer, first layer first; "
    "place i gets the kernel of place p(i).",
    "shuffle-network": "as transfer, then one permutation of the kernels of all set layers of one kernel size, the "
    "smallest size first.",
    "first-k": "as stack, of the source's first three layers of that kernel size alone (first-5: five).",
    "stack": "the source's kernels as one row, its first layer first, those of a layer in order; the target takes "
    "them from the row's beginning, its first layer first, until layers 1..n are full, starting over "
    "where the row ends. Each kernel size has a row of its own. Any network can be the source.",
    "random": "as initialised, frozen: filters that nobody learned.",
    "covariance": "drawn from a normal with the second moments of the source's kernels, layer by layer, frozen.",
    "basis": "random analytic patterns, each with the gain and offset of the initial kernel, frozen.",
    "keys": "eight key patterns, channel j key j mod 8, each with the gain and offset of the initial kernel, frozen.",
    "delta": "the identity, which mixes no pixels, at the initial kernel's norm, frozen: an arm that must hurt.",
    "box": "the mean of all taps, at the initial kernel's norm, frozen: another.",
}
ORDER = (
    "Kernels and their order. Layers count in order of execution. A depthwise filter is one kernel, channel by "
    "channel. "
    "A pointwise or conv layer has a kernel for every pair of channels: output channel first, then input channel (so "
    "shuffle mixes pairs, and stack cuts rows anywhere); pointwise kernels have one tap.",
    "--what conv counts every convolution of the main path. A residual block's shortcut projection does not count: it "
    "is set and frozen with its block's last convolution, right after it in every order (ResNet-50: 49 and 4).",
    "basis, keys, delta and box are for depthwise layers alone. Biases stay as initialised, and trained, unless "
    "--with-bias.",
)


def epilog() -> str:
    """Return what the help of a command with arms ends in; blank lines keep the paragraphs apart."""
    return "\n\n".join(["Arms:", *(f"{name}: {text}" for name, text in ARMS.items()), *ORDER])
