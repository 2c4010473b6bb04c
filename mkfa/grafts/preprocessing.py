"""How images are prepared for a network: its own evaluation transform, with the user's changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError
from mkfa.words import counted

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Transform = Callable[["Image"], "torch.Tensor"]
"""From an RGB image to (C, H, W) float32."""

INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


@dataclass(frozen=True, slots=True)
class Changes:
    """What the user changes of a network's preprocessing; None keeps the network's own.

    Attributes
    ----------
    size : side of the images that the network sees, pixels.
    crop_pct : share of the scaled image's shorter side that is cut out of its centre.
    interpolation : one of `INTERPOLATIONS`.
    mean, std : of each channel, in units of full scale.
    """

    size: int | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse values that no transform can have."""
        if self.size is not None and self.size < 1:
            raise MkfaError("--size", f"is {self.size}", "give the side in pixels")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise MkfaError("--crop-pct", f"is {self.crop_pct:g}", "give a share above 0 and up to 1")
        if self.interpolation is not None and self.interpolation not in INTERPOLATIONS:
            raise MkfaError("--interpolation", f"is {self.interpolation[:40]!r}", f"choose {', '.join(INTERPOLATIONS)}")
        if self.std is not None and not all(0 < s < float("inf") for s in self.std):
            raise MkfaError("--std", "has a value that is not above 0", "give the standard deviation of each channel")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """An evaluation transform.

    Attributes
    ----------
    size : side of the images that the network sees, pixels.
    crop_pct : share of the scaled image's shorter side that is cut out of its centre.
    interpolation : "bilinear", "bicubic" or "nearest".
    mean, std : of each channel, in units of full scale; one value for a network of gray images.
    source : where these come from, in words.
    transform : given by the caller, instead of all that.
    """

    size: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    crop_mode: str = "center"
    transform: Transform | None = None

    def make(self) -> Transform:
        """Return the transform."""
        return self.transform or _torchvision_transform(self)

    def facts(self) -> dict[str, Any]:
        """Return what a result records."""
        if self.transform is not None:
            return {"source": self.source}
        return {
            "source": self.source,
            "size": self.size,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def _torchvision_transform(how: Preprocessing) -> Transform:
    """Scale the shorter side, cut out the centre, normalise: what timm and torchvision do to evaluate.

    timm scales to floor(size / crop_pct), torchvision states that number itself; both give the same transform here.
    """
    import torch
    from torchvision.transforms import v2

    kind = v2.InterpolationMode(how.interpolation)
    side = int(how.size / how.crop_pct + 1e-6)
    squash = how.crop_mode == "squash"
    resize = v2.Resize((side, side) if squash else side, interpolation=kind, antialias=True)
    normalise = v2.Normalize(list(how.mean), list(how.std))
    chain = v2.Compose(
        [
            resize,
            v2.CenterCrop(how.size),
            *([v2.Grayscale()] if len(how.mean) == 1 else []),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            normalise,
        ]
    )
    return lambda picture: chain(picture)


def changed(own: Preprocessing, changes: Changes) -> Preprocessing:
    """Return a preprocessing with the user's changes.

    Raises MkfaError: a transform was given as well, or the mean or standard deviation has the wrong number of channels.

    Examples
    --------
    >>> own = Preprocessing(224, 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "timm")
    >>> changed(own, Changes(size=192, crop_pct=1.0)).facts()["source"]
    'timm, with another size and crop_pct'
    """
    new = {name: value for name in Changes.__slots__ if (value := getattr(changes, name)) is not None}
    if not new:
        return own
    if own.transform is not None:
        raise MkfaError("transform", "replaces the whole preprocessing", "leave size, mean and the others out")
    for name in ("mean", "std"):
        values: Sequence[float] = new.get(name, own.mean)
        if len(values) != len(own.mean):
            raise MkfaError(
                f"--{name}", f"has {counted(len(values), 'value')}", f"give {len(own.mean)}, one per channel"
            )
    facts = {name: getattr(own, name) for name in ("size", "crop_pct", "interpolation", "mean", "std", "crop_mode")}
    *most, last = new
    named = f"{', '.join(most)} and {last}" if most else last
    return Preprocessing(**{**facts, **new}, source=f"{own.source}, with another {named}")


def of_timm(model: Any) -> Preprocessing:
    """Return the preprocessing of a timm network, from its data configuration."""
    from timm.data.config import resolve_model_data_config

    config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
    return Preprocessing(
        size=int(config["input_size"][-1]),
        crop_pct=float(config["crop_pct"]),
        interpolation=str(config["interpolation"]) if config["interpolation"] in INTERPOLATIONS else "bicubic",
        mean=tuple(float(x) for x in config["mean"]),
        std=tuple(float(x) for x in config["std"]),
        source="timm's data configuration of the network",
        crop_mode=str(config.get("crop_mode", "center")),
    )


def of_torchvision(entry: Any) -> Preprocessing:
    """Return the preprocessing of one of torchvision's weights, such as `MobileNet_V2_Weights.IMAGENET1K_V1`."""
    made = entry.transforms()
    size = int(made.crop_size[0])
    return Preprocessing(
        size=size,
        crop_pct=size / int(made.resize_size[0]),
        interpolation=str(made.interpolation.value),
        mean=tuple(made.mean),
        std=tuple(made.std),
        source=f"the transforms of torchvision's {entry}",
    )


def assumed(model: Any) -> Preprocessing:
    """Return what is assumed of a network that does not say how its images were prepared.

    The size is that of its attribute `image_shape` (channels, height, width), if it has one.
    """
    channels, size = 3, 224
    shape = getattr(model, "image_shape", None)
    if shape is not None:
        channels, size = int(shape[0]), int(shape[-1])
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    if channels == 1:
        mean, std = (sum(mean) / 3,), (sum(std) / 3,)  # type: ignore[assignment]
    source = "assumed, since the network does not say: ImageNet's mean and standard deviation"
    return Preprocessing(size, 1.0 if shape is not None else 0.875, "bilinear", mean, std, source)
