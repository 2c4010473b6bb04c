"""Whether a weight (C, 1, kh, kw) is that of a depthwise convolution, where no graph tells.

Such a weight is also that of a dense convolution of one channel (the first of a grey-scale network, of a mask, a depth
map), and of a grouped transposed convolution. Names tell first, then the chain of channel counts: a depthwise layer is
fed C channels, and its output usually goes to a 1x1 convolution or a matrix.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mkfa.array_types import F32
from mkfa.readers.reading import TensorInfo, Why
from mkfa.readers.tensors import key_names as naming
from mkfa.readers.tensors.dtypes import FLOATS
from mkfa.readers.tensors.roles import is_depthwise_shape, is_reparametrised, is_weight_name
from mkfa.words import counted

STEM = str(Why.STEM)
TRANSPOSED = str(Why.TRANSPOSED)
ONE_CHANNEL = "dense convolution of one channel"
BILINEAR = "fixed bilinear kernels of an upsampling layer"
JUDGED = (ONE_CHANNEL, BILINEAR)
"""Reasons that follow from channel counts and numbers, not from names."""

UNCOMPUTED = "weight kept in parts (pruned, normalised or otherwise parametrised) that do not suffice to compute it"

GLOBAL = "global filter: complex weights of the frequencies of a whole image, no kernel of a fixed size"
_GLOBAL = re.compile(r"(?:^|\.)complex_weights?$")

EXPANDED = "expanded view of fewer numbers"

Read = Callable[[Sequence[str]], Mapping[str, F32]]
"""Returns the values of tensors by key."""

_TRANSPOSED_WORDS = ("transpos", "deconv", "convt.", "tconv", "upconv", "upscore", "upproj", "unpool")
_TRANSPOSED_NAME = re.compile(r"(?:^|[._])(?:conv_?tr?|t_conv|trans_?conv|inv_?conv)\d*[._]")
_MEDNEXT_UP = re.compile(r"(?:^|\.)up_\d+\.conv1\.weight$")
"""MedNeXt's depthwise transposed convolutions, of odd size, beside its `dec_block_0`."""
_UP = frozenset(["up", "ups", "upsample", "upsampler", "upsamplers", "upsampling", "upscale", "upscaling", "bilinear"])
_DECODER = _UP | {"decoder", "decode", "ida", "deconvs", "upper", "expand", "expanding"}
_DEPTHWISE = frozenset(
    ["dw", "dwconv", "dwc", "dwise", "dconv", "ddconv", "depthwise", "depthconv", "channelwise", "lk"]
)
_DEPTHWISE |= {"lkb", "lka", "dil", "cpe", "peg", "lepe", "gnconv", "convdw", "dws"}
_DEPTHWISE_PAIRS = frozenset([("depth", "conv"), ("large", "kernel"), ("spatial", "gating"), ("conv", "spatial")])
_ONE_CHANNEL = frozenset(["mask", "masks", "depth", "disp", "disparity", "gray", "grey", "grayscale", "greyscale"])
_ONE_CHANNEL |= {"mono", "heatmap", "heatmaps", "density", "thermal", "infrared", "ir", "edge", "edges", "alpha"}
_ONE_CHANNEL |= {"trimap", "saliency", "mel", "spec", "spectrogram", "luma", "sobel", "confidence"}

_IN_BLOCK = re.compile(r"(?:^|[._])(?:stages?|blocks?|layers?|levels?|features)[._]?\d+[._]")

_FIRST = re.compile(r"(?:^|[._])(?:stem|patch\w*|first|input|init\w*|conv_?[01]|features\.0)[._]|^0\.")
"""Names of first layers; else one without a number may be the first."""

BILINEAR_R = 0.95
"""Mean correlation with the bilinear kernel from which a layer of even kernels is an upsampling."""

LARGEST_STEM = 11
"""Largest kernel of a convolution of an image with one channel."""


@dataclass(slots=True)
class Judgement:
    """Which candidates are left out and why, and which cases are doubtful (taken or not)."""

    left_out: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)


def reasons(infos: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Map the tensors that may be meant as a depthwise layer's weight and are not, by name, type and shape, to why."""
    alike = {
        key: info
        for key, info in infos.items()
        if len(info.shape) in (3, 4, 5) and info.shape[0] > 1 and info.shape[1] == 1 and 0 not in info.shape
    }
    why = {key: reason for key, info in alike.items() if (reason := _reason(key, info, infos))}
    return why | {key: GLOBAL for key, info in infos.items() if len(info.shape) in (3, 4) and _GLOBAL.search(key)}


def _reason(key: str, info: TensorInfo, infos: Mapping[str, TensorInfo]) -> str:
    """Return why a tensor (C, 1, ...) is skipped; "" if it is taken or is not a convolution's."""
    shape, named = info.shape, is_weight_name(key)
    if not is_depthwise_shape(shape):
        kinds = {3: "1-D depthwise convolution", 4: "1x1 depthwise convolution", 5: "3-D depthwise convolution"}
        one_tap = len(shape) != 4 and not any(n > 1 for n in shape[2:])
        return kinds[len(shape)] if named and not one_tap else ""
    if is_reparametrised(key):
        return UNCOMPUTED
    if any(part.lower().startswith("lora_") for part in key.split(".")):
        return "factor of a LoRA adapter"
    if not named:
        return "averaged weight without a name" if "shadow_params" in key.split(".") else "buffer"
    if info.dtype not in FLOATS:
        if " " in info.dtype or info.dtype.startswith("complex"):  # sparse, on the meta device, quantised without scale
            return EXPANDED if info.dtype.startswith("expanded") else f"{info.dtype} weight"
        return f"{info.dtype} weight without a scale"
    bias = infos.get(bias_name(key))
    if _is_transposed(key, shape) or (bias is not None and bias.shape == (1,)):
        return TRANSPOSED
    if _MEDNEXT_UP.search(key) and any("dec_block_0." in name for name in infos):
        return TRANSPOSED
    return ""


def bias_name(key: str) -> str:
    """Return the name of the bias for a weight's name."""
    head, dot, leaf = key.rpartition(".")
    return head + dot + ("b" if leaf == "w" else leaf.replace("weight", "bias").replace("kernel", "bias"))


def _is_transposed(key: str, shape: tuple[int, ...]) -> bool:
    """True for the name of a transposed convolution, or an even kernel in a part that upsamples.

    A depthwise layer of odd size inside a decoder keeps its name: `deconv1.dwconv`.
    """
    parts = _modules(key)
    even = shape[2] % 2 == 0 and shape[3] % 2 == 0
    if _is_named_depthwise(parts[-1:]) and not even:
        return False
    if any(word in key.lower() for word in _TRANSPOSED_WORDS) or _TRANSPOSED_NAME.search(key.lower()):
        return True
    own = next((part for part in reversed(parts) if not part.isdigit()), "")
    if set(_tokens(own)) & _UP and (even or own == parts[-1]) and not _is_named_depthwise([own]):
        return True
    return even and not _is_named_depthwise(parts) and any(set(_tokens(part)) & _DECODER for part in parts)


def judge(
    infos: Mapping[str, TensorInfo], candidates: Sequence[str], *, keeps_order: bool, read: Read | None = None
) -> Judgement:
    """Judge candidates, weights (C, 1, kh, kw) of one or several networks, by names, channel counts and numbers.

    Parameters
    ----------
    infos : the network's tensors, in the order of the file.
    keeps_order : whether that is the order of definition; else the order is guessed from names.
    read : returns values, for kernels that may be bilinear; None goes without.
    """
    verdict = Judgement()
    _judge_even(infos, candidates, verdict, read)
    left = [key for key in candidates if key not in verdict.left_out]
    stem = first_of_one_channel(infos, left, keeps_order=keeps_order)
    if stem is not None:
        verdict.left_out[stem] = STEM
    chain = _Chain.of(infos, left, keeps_order=keeps_order)
    for key in left:
        if key == stem or is_named_depthwise(key):
            continue
        score, why = chain.score(key)
        if score < 0:
            verdict.left_out[key] = ONE_CHANNEL
            verdict.doubtful[key] = f"left out as a {ONE_CHANNEL}: {why}"
        elif score == 0:
            verdict.doubtful[key] = f"taken, but may be a {ONE_CHANNEL}: {why}"
        elif any(set(_tokens(part)) & _UP for part in _modules(key)):
            verdict.doubtful.setdefault(key, f"taken, but may be of a {TRANSPOSED}: it lies in a part that upsamples")
    return verdict


def _judge_even(
    infos: Mapping[str, TensorInfo], candidates: Sequence[str], verdict: Judgement, read: Read | None
) -> None:
    """Leave out bilinear kernels; even kernels under other names are doubtful."""
    even = [key for key in candidates if all(n % 2 == 0 for n in infos[key].shape[2:])]
    values = read(even) if read is not None and even else {}
    for key in even:
        if key in values and bilinear_share(values[key]) >= BILINEAR_R:
            verdict.left_out[key] = BILINEAR
        elif not is_named_depthwise(key):
            height, width = infos[key].shape[2:]
            verdict.doubtful[key] = f"taken, but its even kernel ({height}x{width}) may be a transposed convolution's"


def bilinear_share(weight: F32) -> float:
    """Return the mean correlation of filters (C, 1, kh, kw) with the bilinear kernel of their size.

    The kernel is that of Long et al., "Fully convolutional networks" (CVPR 2015), which upsampling layers start from.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.array([0.25, 0.75, 0.75, 0.25])
    >>> round(bilinear_share(np.tile(np.outer(ramp, ramp), (8, 1, 1, 1))), 6)
    1.0
    """
    taps = [1 - np.abs(np.arange(n) - (n - 1) / 2) / ((n + 1) // 2) for n in weight.shape[2:]]
    kernel = np.outer(*taps).ravel()
    kernel = kernel - kernel.mean()
    rows = np.asarray(weight, np.float64).reshape(len(weight), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("nk,nk->n", rows, rows) * (kernel @ kernel))
    if not np.isfinite(norms).all():
        return 0.0
    return float(np.mean(np.where(norms > 0, rows @ kernel / np.where(norms > 0, norms, 1), 0)))


def first_of_one_channel(
    infos: Mapping[str, TensorInfo], candidates: Sequence[str], *, keeps_order: bool
) -> str | None:
    """Return the first convolution of a network that takes one channel, else None.

    It is the first weight of a network that also has other weights. No weight takes three channels, and it does not
    give three (as a depthwise layer on an RGB image would). Its kernel is no larger than 11x11, unless it is named as
    that of patches, and it is not named as one of several layers inside a stage.
    """
    weights = _weights(infos)
    dense = [infos[key].shape for key in weights if not is_depthwise_shape(infos[key].shape)]
    wanted = set(candidates)
    if not wanted or not dense or any(len(shape) == 4 and shape[1] == 3 for shape in dense):
        return None
    first = weights[0] if keeps_order else naming.execution_order(weights)[0]
    if not keeps_order and (first not in wanted or is_named_depthwise(first)):
        first = _named_first(infos, candidates, weights) or first  # sorting by name put others before it
    shape = infos[first].shape
    if first not in wanted or shape[0] == 3 or is_named_depthwise(first):
        return None
    of_patches = any({"patch", "stem"} & set(_tokens(part)) for part in _modules(first))
    if min(shape[2:]) > LARGEST_STEM and not of_patches:
        return None
    staged = re.search(r"(?:^|[._])stages?[._]?\d+[._].*\d", first)
    if staged and sum(_pattern(key) == _pattern(first) for key in candidates) > 1:
        return None
    return first


def _named_first(infos: Mapping[str, TensorInfo], candidates: Sequence[str], weights: Sequence[str]) -> str | None:
    """Return the one candidate outside blocks that is named as a first layer, if no other layer takes the image.

    A layer takes an image if it is fed a number of channels that no layer gives.
    """
    shapes = [infos[key].shape for key in weights]
    given = {shape[0] for shape in shapes} | {1}
    if any(len(shape) == 4 and shape[1] not in given for shape in shapes):
        return None
    patterns = Counter(_pattern(key) for key in candidates)
    outside = [key for key in candidates if patterns[_pattern(key)] == 1 and not is_named_depthwise(key)]
    outside = [key for key in outside if not _IN_BLOCK.search(key)]
    named = [key for key in outside if _FIRST.search(key)] or [key for key in outside if _pattern(key) == key]
    return named[0] if len(named) == 1 else None


def _weights(infos: Mapping[str, TensorInfo]) -> list[str]:
    return [key for key, info in infos.items() if len(info.shape) >= 2 and is_weight_name(key) and info.dtype in FLOATS]


@dataclass(slots=True)
class _Chain:
    """The weights of a file in order of execution, with their channels.

    `complete` is False for a file that has lost most of the layers that feed its depthwise ones.
    """

    infos: Mapping[str, TensorInfo]
    order: list[str]
    place: dict[str, int]
    patterns: Counter[str]
    dense_before: list[str | None] = field(default_factory=list)
    dense: Counter[int] = field(default_factory=Counter)
    parts: dict[str, tuple[str, int]] = field(default_factory=dict)
    complete: bool = True

    @classmethod
    def of(cls, infos: Mapping[str, TensorInfo], candidates: Sequence[str], *, keeps_order: bool) -> _Chain:
        weights = _weights(infos)
        order = weights if keeps_order else naming.execution_order(weights)
        place = {key: i for i, key in enumerate(order)}
        chain = cls(infos, order, place, Counter(_pattern(key) for key in candidates))
        chain._count()
        sure = [key for key in candidates if is_named_depthwise(key) or chain.patterns[_pattern(key)] >= 3]
        unfed = sum(chain._fed(key, infos[key].shape[0]) < 0 for key in sure)
        chain.complete = 2 * unfed <= len(sure) and 2 * chain.dense.total() >= len(candidates)
        return chain

    def _count(self) -> None:
        """Note what is asked of the whole chain again and again, in one pass."""
        last: str | None = None
        for key in self.order:
            self.dense_before.append(last)
            if not is_depthwise_shape(self.infos[key].shape):
                last = key
                self.dense[self.infos[key].shape[0]] += 1
            at = 0
            while at := key.find(".", at) + 1:
                first, count = self.parts.get(key[:at], (key, 0))
                self.parts[key[:at]] = first, count + 1

    def score(self, key: str) -> tuple[int, str]:
        """Return a score, negative for a dense convolution of one channel, and what speaks against depthwise."""
        channels, score, against = self.infos[key].shape[0], 0, []
        score += 2 * (self.patterns[_pattern(key)] >= 3)
        fed = self._fed(key, channels) if self.complete else 0
        if _IN_BLOCK.search(key):
            fed = max(fed, -1)  # inputs enter before the numbered blocks
        score += fed
        if fed < 0:
            against.append(f"no layer is seen to feed it {counted(channels, 'channel')}")
        after = self._after(key, channels)
        score += after
        if after < 0:
            against.append("a dense convolution larger than 1x1 follows")
        if any(set(_tokens(part)) & _ONE_CHANNEL for part in _modules(key)):
            score -= 2
            against.append("its name is that of an input with one channel")
        if not against:
            return max(score, 1), ""
        if fed > 0 and not self._begins_part(key) and len(against) == 1 and after < 0:
            score = max(score, 0)  # a larger dense convolution may follow a depthwise one
        return score, ", and ".join(against)

    def _fed(self, key: str, channels: int) -> int:
        """Return 1 if the weight before gives as many channels, 0 if another does (the order may differ), else -2; -1
        for the first weight of a part that may have two filters for each channel that it is given."""
        before = self.dense_before[self.place[key]]
        if before is not None and self.infos[before].shape[0] == channels:
            return 1
        if self._begins_part(key):
            return -1 if before is not None and 2 * self.infos[before].shape[0] == channels else -2
        # as many channels, twice as many (one half is gated), or a half to a quarter
        giving = {channels, 2 * channels} | {channels // n for n in (2, 3, 4) if channels % n == 0}
        own = 0 if is_depthwise_shape(self.infos[key].shape) else self.infos[key].shape[0]
        return 0 if any(out > 1 and self.dense[out] > (out == own) for out in giving) else -2

    def _begins_part(self, key: str) -> bool:
        """True for the first weight of a named, not numbered, part with at least three weights."""
        parts = key.split(".")
        for i in range(1, len(parts) - 1):
            first, count = self.parts[".".join(parts[:i]) + "."]
            named = not re.search(r"\d", parts[i - 1])
            if named and first == key and 3 <= count < len(self.order):
                return True
        return False

    def _after(self, key: str, channels: int) -> int:
        """Return 1 if a 1x1 convolution or matrix takes the output, -2 if a larger dense convolution does, else 0."""
        at = self.place[key]
        for k in self.order[at + 1 : at + 3]:
            shape = self.infos[k].shape
            if len(shape) == 4 and shape[1] == 1 < shape[0]:  # depthwise, 1x1 too
                continue
            if len(shape) == 2 or (len(shape) == 4 and shape[2] == shape[3] == 1):
                return 1 if shape[1] == channels else 0
            return -2 if len(shape) == 4 and shape[1] == channels else 0
        return 0


def is_named_depthwise(key: str) -> bool:
    """True if a part of the path names a depthwise convolution (`dwconv`, `conv_dw`, `depthwise`, `lkb_origin`)."""
    return _is_named_depthwise(_modules(key)) or "depthwise" in key.lower()


def _is_named_depthwise(parts: Sequence[str]) -> bool:
    for part in parts:
        tokens = _tokens(part)
        if set(tokens) & _DEPTHWISE or any(token.startswith(("dwconv", "depthwise")) for token in tokens):
            return True
        if _DEPTHWISE_PAIRS & set(itertools.pairwise(tokens)):
            return True
    return False


def _modules(key: str) -> list[str]:
    return key.split(".")[:-1]


@functools.lru_cache(maxsize=4096)  # the parts of a network's names are few
def _tokens(part: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", part).lower()
    return [token for token in re.split(r"[_\W\d]+", spaced) if token]


def _pattern(key: str) -> str:
    return re.sub(r"\d+", "#", key)
