"""The specification of a run, and the hash that names its folder (standard library only)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mkfa.frozen import FrozenDict

BASE = "baseline"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that determines a run's result.

    Attributes
    ----------
    arch : str
    options : mapping
        `kernel`, `patch`, `stem_stride` if they differ from the network's defaults.
    arm, layers, what, with_bias, fit_kernel
        As in `mkfa.arms.plant.set_filters`; a baseline has 0 layers.
    source : str
        Source of the filters: "run:HASH" for a base run, "bank:DIGEST" for a file, "" for arms without a source.
    domain, domain_digest : str
    recipe_name : str
    recipe : mapping
        All fields of the recipe.
    seed : int
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
    options: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))

    @property
    def identity(self) -> dict[str, Any]:
        """The specification as JSON without the recipe's name (the same recipe under two names is the same run)."""
        fields = {key: getattr(self, key) for key in self.__dataclass_fields__}
        fields["recipe"], fields["options"] = dict(self.recipe), dict(self.options)
        fields.pop("recipe_name")
        return fields

    @property
    def hash(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the identity; names the run's folder."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def record(self) -> dict[str, Any]:
        """The specification as JSON with the recipe's name; `RunSpec(**record)` restores it."""
        return self.identity | {"recipe_name": self.recipe_name}

    @property
    def label(self) -> str:
        """A one-line description for display."""
        frozen = "" if self.arm == BASE else f" {self.arm} {self.layers} {self.what}"
        return f"{self.domain} {self.arch}{frozen} seed {self.seed}"


def as_record(spec: RunSpec) -> dict[str, Any]:
    """Return a specification with its hash but without the recipe's fields, for lists and results."""
    keys = ("arch", "domain", "arm", "layers", "what", "with_bias", "fit_kernel", "source", "seed")
    return {key: getattr(spec, key) for key in keys} | {"recipe": spec.recipe_name, "hash": spec.hash}
