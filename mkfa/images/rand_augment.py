"""timm's RandAugment (arXiv 1909.13719) on the device: per-sample draws, one pass per operation.

Each sample gets `layers` operations, drawn uniformly with replacement from fifteen. Each operation is applied with
probability one half, at its own magnitude, in timm's "increasing" variant: a larger magnitude always means more change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mkfa.errors import MkfaError
from mkfa.images.augment import places
from mkfa.images.upload import to_device

if TYPE_CHECKING:
    import torch

from mkfa.array_types import F32, F64, I64

FILL = (124.0, 116.0, 104.0)
"""Colour outside the image: ImageNet's mean, as timm's `create_transform` passes it; for gray images, its mean."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Mean and standard deviation of the magnitude (0-10), operations per sample, probability of each operation."""

    magnitude: float
    deviation: float
    layers: int
    probability: float


def parse_notation(text: str) -> Policy:
    """Read timm's notation, e.g. "rand-m9-mstd0.5-inc1".

    Raises MkfaError: the notation is invalid, or the variant is not implemented (only inc1 is).
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


@dataclass(frozen=True, slots=True)
class Pass:
    """One operation on some images of a batch.

    Attributes
    ----------
    operation : Operation
    rows : (K,) int64
        The images.
    parameters : (K, ...) float32
        What `operation.apply` needs for each of them.
    """

    operation: Operation
    rows: I64
    parameters: F32


def draw_operations(rng: np.random.Generator, count: int, *, notation: str) -> tuple[Pass, ...]:
    """Draw the operations of `count` images, in the order in which `rand_augment` applies them."""
    policy = parse_notation(notation)
    return tuple(one for _ in range(policy.layers) for one in _draw_layer(count, rng, policy))


def passes_of_rows(passes: tuple[Pass, ...], rows: I64) -> tuple[Pass, ...]:
    """Return the operations of these rows of the batch; images are then numbered within these rows."""
    some = [(one, *places(one.rows, rows)) for one in passes]
    return tuple(Pass(one.operation, at, one.parameters[kept]) for one, kept, at in some if len(kept))


def rand_augment(x: torch.Tensor, passes: tuple[Pass, ...]) -> torch.Tensor:
    """Augment images, (B, C, H, W) in 0-255, rounded to integers first; returns float32 with integer values."""
    import torch

    x = torch.round(x.float())  # a copy: the operations write into it
    for one in passes:
        rows = to_device(one.rows, x)
        x.index_copy_(0, rows, one.operation.apply(x.index_select(0, rows), to_device(one.parameters, x)))
    return x


def _draw_layer(count: int, rng: np.random.Generator, policy: Policy) -> Iterator[Pass]:
    """Draw one operation, or none, for each of `count` images."""
    operations = list(OPERATIONS.values())
    chosen = rng.integers(0, len(operations), count)
    chosen[rng.random(count) >= policy.probability] = -1
    for number, operation in enumerate(operations):
        rows = np.flatnonzero(chosen == number)
        if len(rows):
            drawn = operation.draw(rng, magnitudes(rng, len(rows), policy))
            yield Pass(operation, rows, operation.parameter(drawn).astype(np.float32))


def magnitudes(rng: np.random.Generator, count: int, policy: Policy) -> F64:
    """Draw magnitudes: normal, clipped to 0-10; (count,)."""
    return np.clip(rng.normal(policy.magnitude, policy.deviation, count), 0, 10)


def _signed(rng: np.random.Generator, values: F64) -> F64:
    return np.where(rng.random(len(values)) > 0.5, -values, values)


def _nothing(rng: np.random.Generator, m: F64) -> F64:
    return np.zeros(len(m))


def _enhance(rng: np.random.Generator, m: F64) -> F64:
    return np.maximum(0.1, 1 + _signed(rng, m / 10 * 0.9))


def _column(values: F64) -> F64:
    """Shape parameters, (B,), so that they apply to whole images; (B, 1, 1, 1)."""
    return values.reshape(-1, 1, 1, 1)


def _gray(x: torch.Tensor) -> torch.Tensor:
    """Return luma as in Pillow's conversion to L (ITU-R 601-2, 16 bits); (B, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:3]
    # Integers below 2^24 and a power of two: exact in float32, which every device has.
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536).floor()


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Return float64, in which Pillow computes, or float32 on a device without float64 (mps)."""
    return x if x.device.type == "mps" else x.double()


def _blend(degenerate: torch.Tensor, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return (degenerate + factor * (x - degenerate)).clamp(0, 255).floor()


def _color(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(_gray(x), x, factor)


def _contrast(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend((_wide(_gray(x)).mean((2, 3), keepdim=True) + 0.5).floor().float(), x, factor)


def _brightness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return _blend(x * 0, x, factor)


def _sharpness(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    import torch
    import torch.nn.functional as functional

    channels = x.shape[1]
    around = functional.conv2d(x, torch.ones(channels, 1, 3, 3, device=x.device), groups=channels)
    smooth = x.clone()  # Pillow leaves the border as it is
    smooth[:, :, 1:-1, 1:-1] = ((around + 4 * x[:, :, 1:-1, 1:-1]) / 13 + 0.5).floor()
    return _blend(smooth, x, factor)


def _invert(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return 255 - x


def _posterize(x: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    return (x / step).floor() * step


def _solarize(x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.where(x < threshold, x, 255 - x)


def _solarize_add(x: torch.Tensor, add: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.where(x < 128, (x + add).clamp(max=255), x)


def _auto_contrast(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    import torch

    low, high = _wide(x.amin((2, 3), keepdim=True)), _wide(x.amax((2, 3), keepdim=True))
    scale = torch.full_like(low, 255) / (high - low).clamp(min=1)  # 255 / tensor would round twice
    stretched = (x * scale - low * scale).clamp(0, 255).trunc().float()
    return torch.where(high > low, stretched, x)


def _equalize(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """As in Pillow, each value becomes the number of pixels below it, in steps of 1/255 of all but the brightest."""
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


def _affine(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Apply the affine maps `theta`, (B, 2, 3), to images, with bicubic interpolation.

    Outside is `FILL`; as in Pillow, border pixels are extended. The cubic is torch's (a = -0.75) rather than Pillow's
    (a = -0.5), which changes values by one or two of 255 levels.
    """
    import torch
    import torch.nn.functional as functional

    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    out = functional.grid_sample(x, grid, mode="bicubic", padding_mode="border", align_corners=False)
    outside = (grid.abs() > 1).any(-1)[:, None]
    colour = FILL if x.shape[1] == 3 else (float(np.rint(np.mean(FILL))),)
    fill = torch.stack([torch.full((1, 1), value, device=x.device) for value in colour])  # no copy to the device
    return torch.where(outside, fill, out.clamp(0, 255).round())


def _theta(count: int) -> F64:
    return np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (count, 1, 1))


def _rotate(degrees: F64) -> F64:
    theta, angle = _theta(len(degrees)), -np.radians(degrees)
    theta[:, 0, 0] = theta[:, 1, 1] = np.cos(angle)
    theta[:, 0, 1] = np.sin(angle)
    theta[:, 1, 0] = -np.sin(angle)
    return theta


def _shear(factor: F64, axis: int) -> F64:
    theta = _theta(len(factor))
    theta[:, axis, 1 - axis] = theta[:, axis, 2] = factor  # Pillow shears about the first row or column
    return theta


def _translate(share: F64, axis: int) -> F64:
    theta = _theta(len(share))
    theta[:, axis, 2] = 2 * share
    return theta


@dataclass(frozen=True, slots=True)
class Operation:
    """One of RandAugment's operations.

    Attributes
    ----------
    apply : callable (x, parameter) -> x
        Takes (B, C, H, W) float32 images and the parameter on their device.
    draw : callable (rng, magnitudes) -> (B,) float64
        Draws timm's value for each image.
    parameter : callable (values) -> (B, ...) float64
        Turns these values into what `apply` needs: a column, or affine maps (B, 2, 3).
    """

    apply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    draw: Callable[[np.random.Generator, F64], F64] = _nothing
    parameter: Callable[[F64], F64] = _column


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": Operation(_auto_contrast),
    "Equalize": Operation(_equalize),
    "Invert": Operation(_invert),
    "Rotate": Operation(_affine, lambda rng, m: _signed(rng, m / 10 * 30), _rotate),
    "PosterizeIncreasing": Operation(
        _posterize, lambda _, m: 4 - np.trunc(m / 10 * 4), lambda bits: _column(2.0 ** (8 - bits))
    ),
    "SolarizeIncreasing": Operation(_solarize, lambda _, m: 256 - np.minimum(256, np.trunc(m / 10 * 256))),
    "SolarizeAdd": Operation(_solarize_add, lambda _, m: np.minimum(128, np.trunc(m / 10 * 110))),
    "ColorIncreasing": Operation(_color, _enhance),
    "ContrastIncreasing": Operation(_contrast, _enhance),
    "BrightnessIncreasing": Operation(_brightness, _enhance),
    "SharpnessIncreasing": Operation(_sharpness, _enhance),
    "ShearX": Operation(_affine, lambda rng, m: _signed(rng, m / 10 * 0.3), lambda f: _shear(f, 0)),
    "ShearY": Operation(_affine, lambda rng, m: _signed(rng, m / 10 * 0.3), lambda f: _shear(f, 1)),
    "TranslateXRel": Operation(_affine, lambda rng, m: _signed(rng, m / 10 * 0.45), lambda s: _translate(s, 0)),
    "TranslateYRel": Operation(_affine, lambda rng, m: _signed(rng, m / 10 * 0.45), lambda s: _translate(s, 1)),
}
"""Operations, by timm's names."""
