"""How a network is trained, read from TOML: `paper`, `fast`, `smoke` or the user's own file."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, nearest, one_line
from mkfa.storage.files import read_regular

RECIPES = ("paper", "fast", "smoke")
"""Packaged recipes."""
EVALUATIONS = 50
"""Most evaluations in a run whose recipe sets `evaluate_every` to 0."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All training settings except the network, the data and the seed.

    Attributes
    ----------
    name : the file's name; a changed recipe's name gets a digest of its fields, e.g. "fast-1a2b3c".
    epochs : int
    equal_steps : optimiser steps of every run, regardless of the domain's size; 0: train for `epochs`.
    warmup : share of the steps during which the learning rate rises linearly from 0.
    batch : images per step; a smaller training set is one batch per epoch. The last, incomplete batch is dropped.
    lr, lr_min : peak and final value of the cosine schedule.
    weight_decay, clip : adamW's decoupled weight decay (none on biases and norms); gradient norm limit, 0 for none.
    drop_path : float
    label_smoothing : float
    mixup, cutmix : float
        Alpha of the Beta distribution, 0 for none; if both are set, each batch uses one of them with equal probability.
    erasing : probability of replacing a rectangle of an image with noise.
    crop : "resized" (random area 8-100 % and aspect 3/4-4/3), "shift" or "none".
    shift : maximum shift as a share of the side length, for crop = "shift".
    flip : probability of a horizontal flip; not applied to domains in which left and right are meaningful.
    rand_augment : timm's notation, e.g. "rand-m9-mstd0.5-inc1"; "" for none.
    size, max_size : image size in pixels, 0 for the domain's own; limit on the domain's own size, 0 for none.
    normalise : "domain" (per-channel mean and standard deviation of the training set) or "imagenet".
    ema : decay of an exponential moving average of the weights, which is then evaluated and saved; 0 for none.
    crop_from : with crop = "resized": limit on the shorter side of the images that training crops are cut from, pixels;
        larger images are packed at this size, uncut, smaller ones as they are. 0: crops are cut from images of `size`.
    interpolation : "bicubic" or "bilinear": how training crops are scaled.
    eval_size : test images are scaled to this shorter side (bicubic) and their centre of `size` is cut out; 0: they are
        scaled to `size`.
    evaluate_every : int
        Epochs between evaluations on the test images; the last epoch is always evaluated. 0: as few as make at most
        `EVALUATIONS` evaluations in a run. It belongs to a run's identity, since a run records its best epoch.

    Notes
    -----
    Files that earlier versions wrote lack the fields with a default; these have their former values there.
    """

    name: str
    epochs: int
    equal_steps: int
    warmup: float
    batch: int
    lr: float
    lr_min: float
    weight_decay: float
    clip: float
    drop_path: float
    label_smoothing: float
    mixup: float
    cutmix: float
    erasing: float
    crop: str
    shift: float
    flip: float
    rand_augment: str
    size: int
    max_size: int
    normalise: str
    ema: float
    crop_from: int = 0
    interpolation: str = "bilinear"
    eval_size: int = 0
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        limits = {
            "epochs": (1, 1e6),
            "equal_steps": (0, 1e9),
            "warmup": (0, 0.99),
            "batch": (2, 1e6),
            "lr": (0, 10),
            "lr_min": (0, 10),
            "weight_decay": (0, 10),
            "clip": (0, 1e6),
            "drop_path": (0, 0.95),
            "label_smoothing": (0, 0.95),
            "mixup": (0, 100),
            "cutmix": (0, 100),
            "erasing": (0, 1),
            "shift": (0, 0.5),
            "flip": (0, 1),
            "size": (0, 4096),
            "max_size": (0, 4096),
            "ema": (0, 0.999999),
            "evaluate_every": (0, 1e6),
            "crop_from": (0, 4096),
            "eval_size": (0, 4096),
        }
        for field, (low, high) in limits.items():
            value = getattr(self, field)
            if not low <= value <= high:
                raise self._error(f"sets {field} to {value}", f"take a value from {low:g} to {high:g}")
        texts = {
            "crop": ("resized", "shift", "none"),
            "normalise": ("domain", "imagenet"),
            "interpolation": ("bicubic", "bilinear"),
        }
        for field, known in texts.items():
            if getattr(self, field) not in known:
                raise self._error(f"sets {field} to {getattr(self, field)!r}", f"take one of {', '.join(known)}")
        if self.crop_from and (self.crop != "resized" or not self.size):
            remedy = 'set crop_from = 0, or crop = "resized" and a size'
            raise self._error(f"sets crop_from to {self.crop_from} without resized crops of one size", remedy)
        if self.eval_size and not 0 < self.size <= self.eval_size:
            raise self._error(f"sets eval_size to {self.eval_size}", f"take 0, or at least its size, {self.size}")

    def _error(self, problem: str, remedy: str) -> MkfaError:
        return MkfaError(f"recipe {self.name}", problem, remedy)

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that determine a run's result: all but the name."""
        fields = asdict(self)
        fields.pop("name")
        return fields


def load_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Read a packaged recipe or a TOML file, and change some of its fields.

    Raises MkfaError: no such recipe, invalid TOML, an unknown or missing field, or a value of the wrong type or out of
    range.
    """
    path = Path(name).expanduser()
    if name in RECIPES:
        title, text = name, files("mkfa.training").joinpath(f"{name}.toml").read_text("utf-8")
    elif path.suffix == ".toml" or path.is_file():
        title, text = path.stem, _read(path)
    else:
        remedy = nearest(name, RECIPES) or f"take one of {', '.join(RECIPES)}, or a .toml file"
        raise MkfaError(name, "unknown recipe", remedy)
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise MkfaError(name, f"is not valid TOML ({error})", "correct the file") from None
    missing = sorted({f.name for f in fields(Recipe) if f.default is MISSING} - {"name"} - set(values))
    if missing:
        raise MkfaError(f"recipe {title}", f"lacks {', '.join(missing)}", "start from a packaged recipe")
    recipe = Recipe(name=title, **{key: _typed(title, key, value) for key, value in values.items()})
    if title in RECIPES and name not in RECIPES:
        packaged = load_recipe(title)
        if packaged.identity != recipe.identity:
            recipe = replace(recipe, name=f"{title}-{_digest(recipe)}")
    return change(recipe, changes or {})


def change(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe with fields replaced and a digest added to its name. Raises as `load_recipe`."""
    typed = {key: _typed(recipe.name, key, value) for key, value in changes.items()}
    changed = replace(recipe, **typed)
    if changed.identity == recipe.identity:
        return recipe
    return replace(changed, name=f"{recipe.name}-{_digest(changed)}")


def steps_of(recipe: Recipe, images: int) -> tuple[int, int]:
    """Return the optimiser steps per run and per epoch for a training set of this many images."""
    epoch = images // min(recipe.batch, images)
    return recipe.equal_steps or recipe.epochs * epoch, epoch


def epochs_between_evaluations(recipe: Recipe, *, steps: int, epoch_steps: int) -> int:
    """Return after how many epochs the test images are evaluated again; the end of a run is always evaluated.

    Examples
    --------
    >>> epochs_between_evaluations(load_recipe("paper"), steps=300, epoch_steps=1)
    6
    """
    return recipe.evaluate_every or max(1, math.ceil(math.ceil(steps / epoch_steps) / EVALUATIONS))


def parse_toml(text: str) -> dict[str, Any]:
    """Return the values of a TOML text; raises ValueError, with a reason, for whatever is wrong with it.

    Examples
    --------
    >>> parse_toml("epochs = 3")
    {'epochs': 3}
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(one_line(str(error))[:200]) from None
    except ValueError:  # Python's limit for the digits of an integer
        raise ValueError("it has an integer of thousands of digits") from None


def parse_changes(texts: list[str]) -> dict[str, Any]:
    """Parse "lr=0.001" and "crop=none" into fields and values. Raises MkfaError for any other form."""
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise MkfaError(f"--set {text}", "does not name a field and a value", "write it as --set lr=0.001")
        try:
            changes[key.strip()] = parse_toml(f"x = {value.strip()}")["x"]
        except ValueError:
            changes[key.strip()] = value.strip()
    return changes


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(recipe.identity, sort_keys=True).encode()).hexdigest()[:6]


def _read(path: Path) -> str:
    try:
        return read_regular(path, most_bytes=1 << 20).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise MkfaError(path, f"cannot be read as a recipe ({reason})", "check the path") from None


def _typed(title: str, key: str, value: Any) -> Any:
    kinds = {f.name: str(f.type) for f in fields(Recipe) if f.name != "name"}
    if key not in kinds:
        remedy = nearest(key, kinds) or f"the fields are {', '.join(kinds)}"
        raise MkfaError(f"recipe {title}", f"has no field {key!r}", remedy)
    if kinds[key] == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value).__name__ != kinds[key]:
        raise MkfaError(f"recipe {title}", f"sets {key} to {value!r}", f"give it a value of type {kinds[key]}")
    return value
