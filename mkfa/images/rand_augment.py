"""timm's RandAugment (arXiv 1909.13719) on the device: per-sample draws, one pass per operation.

Each sample gets `layers` operations, drawn uniformly with replacement from fifteen. Each operation is applied with
probability one half, at its own magnitude, in timm's "increasing" variant: a larger magnitude always means more change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mkfa.errors import MkfaError
from mkfa.images.augment import to_device

if TYPE_CHECKING:
    import torch

from mkfa.array_types import F64

FILL = 128.0
"""Gray value outside the image, as in timm."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Mean and standard deviation of the magnitude (0-10), operations per sample, probability of each operation."""

    magnitude: float
    deviation: float
    layers: int
    probability: float


def parse_notation(text: str) -> Policy:
    """Read timm's notation, e.g. "rand-m9-mstd0.5-inc1".

    Raises
    ------
    MkfaError
        The notation is invalid, or the variant is not implemented (only inc1 is).
    """
    values = {"m": 10.0, "mstd": 0.0, "n": 2.0, "p": 0.5, "inc": 0.0}
    first, *rest = text.split("-")
    for part in rest:
        match = re.fullmatch(r"(m|mstd|n|p|inc)(\d+(?:\.\d+)?)", part)
        if not match:
            raise MkfaError(f"rand_augment {text!r}", f"has the unknown part {part!r}", "write rand-m9-mstd0.5-inc1")
        values[match[1]] = float(match[2])
    if first != "rand" or values["inc"] != 1:
        raise MkfaError(f"rand_augment {text!r}", "is not an increasing variant (inc1)", "write rand-m9-mstd0.5-inc1")
    return Policy(values["m"], values["mstd"], int(values["n"]), values["p"])


def rand_augment(x: torch.Tensor, rng: np.random.Generator, *, notation: str) -> torch.Tensor:
    """Augment images, (B, C, H, W) in 0-255, rounded to integers first; returns float32 with integer values."""
    policy = parse_notation(notation)
    x = x.float().round()
    names = list(OPERATIONS)
    for _ in range(policy.layers):
        chosen = rng.integers(0, len(names), len(x))
        chosen[rng.random(len(x)) >= policy.probability] = -1
        for number, name in enumerate(names):
            rows = np.flatnonzero(chosen == number)
            if len(rows):
                draw, apply = OPERATIONS[name]
                index = to_device(rows, x)
                values = draw(rng, magnitudes(rng, len(rows), policy))
                x = x.index_copy(0, index, apply(x.index_select(0, index), values))
    return x


def magnitudes(rng: np.random.Generator, count: int, policy: Policy) -> F64:
    """Draw magnitudes: normal, clipped to 0-10; (count,)."""
    return np.clip(rng.normal(policy.magnitude, policy.deviation, count), 0, 10)


def _signed(rng: np.random.Generator, values: F64) -> F64:
    return np.where(rng.random(len(values)) > 0.5, -values, values)


def _nothing(rng: np.random.Generator, m: F64) -> F64:
    return np.zeros(len(m))


def _enhance(rng: np.random.Generator, m: F64) -> F64:
    return np.maximum(0.1, 1 + _signed(rng, m / 10 * 0.9))


def _column(values: F64, x: torch.Tensor) -> torch.Tensor:
    return to_device(values.astype(np.float32), x).view(-1, 1, 1, 1)


def _gray(x: torch.Tensor) -> torch.Tensor:
    """Return luma as in PIL's conversion to L (ITU-R 601-2, 16 bits); (B, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:3]
    return ((19595 * red.double() + 38470 * green.double() + 7471 * blue.double() + 32768) / 65536).floor().float()


def _blend(degenerate: torch.Tensor, x: torch.Tensor, factor: F64) -> torch.Tensor:
    return (degenerate + _column(factor, x) * (x - degenerate)).clamp(0, 255).floor()


def _color(x: torch.Tensor, factor: F64) -> torch.Tensor:
    return _blend(_gray(x), x, factor)


def _contrast(x: torch.Tensor, factor: F64) -> torch.Tensor:
    return _blend((_gray(x).double().mean((2, 3), keepdim=True) + 0.5).floor().float(), x, factor)


def _brightness(x: torch.Tensor, factor: F64) -> torch.Tensor:
    return _blend(x * 0, x, factor)


def _sharpness(x: torch.Tensor, factor: F64) -> torch.Tensor:
    import torch
    import torch.nn.functional as functional

    channels = x.shape[1]
    kernel = torch.ones(3, 3, device=x.device)
    kernel[1, 1] = 5
    inner = functional.conv2d(x, (kernel / 13).expand(channels, 1, 3, 3), groups=channels)
    smooth = x.clone()  # PIL leaves the border as it is
    smooth[:, :, 1:-1, 1:-1] = (inner + 0.5).floor()
    return _blend(smooth, x, factor)


def _invert(x: torch.Tensor, _: F64) -> torch.Tensor:
    return 255 - x


def _posterize(x: torch.Tensor, bits: F64) -> torch.Tensor:
    step = _column(2.0 ** (8 - bits), x)
    return (x / step).floor() * step


def _solarize(x: torch.Tensor, threshold: F64) -> torch.Tensor:
    import torch

    return torch.where(x < _column(threshold, x), x, 255 - x)


def _solarize_add(x: torch.Tensor, add: F64) -> torch.Tensor:
    import torch

    return torch.where(x < 128, (x + _column(add, x)).clamp(max=255), x)


def _auto_contrast(x: torch.Tensor, _: F64) -> torch.Tensor:
    import torch

    low, high = x.amin((2, 3), keepdim=True).double(), x.amax((2, 3), keepdim=True).double()
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)  # 255 / tensor would round twice
    stretched = (x * scale - low * scale).clamp(0, 255).trunc().float()
    return torch.where(high > low, stretched, x)


def _equalize(x: torch.Tensor, _: F64) -> torch.Tensor:
    """As in PIL: each value becomes the number of pixels below it, in steps of 1/255 of all but the brightest."""
    import torch

    batch, channels, height, width = x.shape
    values = x.long().reshape(batch * channels, -1)
    counts = torch.zeros(batch * channels, 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    last = counts.gather(1, values.amax(1, keepdim=True))
    step = (height * width - last) // 255
    table = (step // 2 + counts.cumsum(1) - counts) // step.clamp(min=1)
    equal = table.clamp(max=255).gather(1, values).float()
    return torch.where(step > 0, equal, values.float()).reshape(x.shape)


def _affine(x: torch.Tensor, theta: F64) -> torch.Tensor:
    """Apply the affine maps `theta`, (B, 2, 3), to images; every other image bicubic, the rest bilinear.

    timm draws the interpolation for each image. Here the samples of an operation are in random order, so alternating
    gives the same shares. As in PIL, the outside is gray and border pixels are extended. The cubic is torch's
    (a = -0.75) rather than PIL's (a = -0.5), which changes values by one or two of 255 levels.
    """
    import torch
    import torch.nn.functional as functional

    grid = functional.affine_grid(to_device(theta.astype(np.float32), x), list(x.shape), align_corners=False)
    out = x.clone()
    for start, mode in ((0, "bilinear"), (1, "bicubic")):
        if len(x) > start:
            out[start::2] = functional.grid_sample(
                x[start::2], grid[start::2], mode=mode, padding_mode="border", align_corners=False
            )
    outside = (grid.abs() > 1).any(-1)[:, None]
    return torch.where(outside, FILL, out.clamp(0, 255).round())


def _theta(count: int) -> F64:
    return np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (count, 1, 1))


def _rotate(x: torch.Tensor, degrees: F64) -> torch.Tensor:
    theta, angle = _theta(len(degrees)), -np.radians(degrees)
    theta[:, 0, 0] = theta[:, 1, 1] = np.cos(angle)
    theta[:, 0, 1] = np.sin(angle)
    theta[:, 1, 0] = -np.sin(angle)
    return _affine(x, theta)


def _shear(x: torch.Tensor, factor: F64, axis: int) -> torch.Tensor:
    theta = _theta(len(factor))
    theta[:, axis, 1 - axis] = theta[:, axis, 2] = factor  # PIL shears about the first row or column
    return _affine(x, theta)


def _translate(x: torch.Tensor, share: F64, axis: int) -> torch.Tensor:
    theta = _theta(len(share))
    theta[:, axis, 2] = 2 * share
    return _affine(x, theta)


Draw = Callable[[np.random.Generator, F64], F64]
Apply = Callable[["torch.Tensor", F64], "torch.Tensor"]
OPERATIONS: dict[str, tuple[Draw, Apply]] = {
    "AutoContrast": (_nothing, _auto_contrast),
    "Equalize": (_nothing, _equalize),
    "Invert": (_nothing, _invert),
    "Rotate": (lambda rng, m: _signed(rng, m / 10 * 30), _rotate),
    "PosterizeIncreasing": (lambda _, m: 4 - np.trunc(m / 10 * 4), _posterize),
    "SolarizeIncreasing": (lambda _, m: 256 - np.minimum(256, np.trunc(m / 10 * 256)), _solarize),
    "SolarizeAdd": (lambda _, m: np.minimum(128, np.trunc(m / 10 * 110)), _solarize_add),
    "ColorIncreasing": (_enhance, _color),
    "ContrastIncreasing": (_enhance, _contrast),
    "BrightnessIncreasing": (_enhance, _brightness),
    "SharpnessIncreasing": (_enhance, _sharpness),
    "ShearX": (lambda rng, m: _signed(rng, m / 10 * 0.3), lambda x, f: _shear(x, f, 0)),
    "ShearY": (lambda rng, m: _signed(rng, m / 10 * 0.3), lambda x, f: _shear(x, f, 1)),
    "TranslateXRel": (lambda rng, m: _signed(rng, m / 10 * 0.45), lambda x, s: _translate(x, s, 0)),
    "TranslateYRel": (lambda rng, m: _signed(rng, m / 10 * 0.45), lambda x, s: _translate(x, s, 1)),
}
"""By timm's names: a function (generator, magnitudes) that draws the parameter, and the operation on the images."""
