"""The specification of a run, and the hash that names its folder (standard library only)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mkfa.frozen import FrozenDict

BASE = "baseline"

TRAINING_VERSION = 2
"""Number of the training's meaning; part of a run's identity, so that equal settings always mean equal training.

It is raised when the same settings would train differently: other gradients, another schedule, other images.

1. The cosine of the learning rate began at step 0, under the warm-up. RandAugment filled with gray and drew between
   bilinear and bicubic. Every epoch was evaluated.
2. The cosine begins at the peak, when warm-up ends (`mkfa.training.optimizer.lr_at`). RandAugment fills with the mean
   colour and interpolates bicubically. `evaluate_every` and the recipe's image fields are heeded.
"""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that determines a run's result.

    Attributes
    ----------
    arch : str
    options : `kernel`, `patch`, `stem_stride`, `branch_gain` if they differ from the network's defaults.
    arm, layers, what, with_bias, with_norm, fit_kernel
        As in `mkfa.arms.plant.set_filters`; a baseline has 0 layers.
    source : source of the filters: "run:HASH" for a base run, "bank:DIGEST" for a file, "" for arms without a source.
    domain, domain_digest : str
    recipe_name : str
    recipe : all fields of the recipe.
    seed : int
    training_version : `TRAINING_VERSION` of the program that trains the run. Records without it are of version 1.
    """

    arch: str
    domain: str
    domain_digest: str
    recipe_name: str
    recipe: Mapping[str, Any]
    seed: int
    arm: str = BASE
    layers: int = 0
    what: str = "depthwise"
    with_bias: bool = False
    fit_kernel: str = ""
    source: str = ""
    options: Mapping[str, float] = field(default_factory=lambda: FrozenDict({}))
    with_norm: bool = False
    training_version: int = TRAINING_VERSION

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunSpec:
        """Return the specification of a `record`, also of one that an earlier version wrote."""
        return cls(**{"training_version": 1, **record})

    @property
    def identity(self) -> dict[str, Any]:
        """The specification as JSON without the recipe's name (the same recipe under two names is the same run).

        Fields that earlier versions did not know are left out at the value that they had then, so that runs keep
        their hashes.
        """
        fields = {key: getattr(self, key) for key in self.__dataclass_fields__}
        fields["recipe"], fields["options"] = dict(self.recipe), dict(self.options)
        fields.pop("recipe_name")
        if not self.with_norm:
            fields.pop("with_norm")
        if self.training_version == 1:
            fields.pop("training_version")
        return fields

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the identity; names the run's folder."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def record(self) -> dict[str, Any]:
        """The specification as JSON with the recipe's name; `RunSpec.of(record)` restores it."""
        return self.identity | {"recipe_name": self.recipe_name}

    @property
    def label(self) -> str:
        """A one-line description for display."""
        frozen = "" if self.arm == BASE else f" {self.arm} {self.layers} {self.what}"
        return f"{self.domain} {self.arch}{frozen} seed {self.seed}"


def as_record(spec: RunSpec) -> dict[str, Any]:
    """Return a specification with its hash but without the recipe's fields, for lists and results."""
    keys = ("arch", "domain", "arm", "layers", "what", "with_bias", "with_norm", "fit_kernel", "source", "seed")
    values = {key: getattr(spec, key) for key in (*keys, "training_version")}
    return values | {"recipe": spec.recipe_name, "hash": spec.hash}
