"""Runs of one setting as a table of points, with the setting in words, which a verdict is about.

Runs of different networks, recipes or versions of the training are never compared; each setting is a table of its own.
The paper's printed numbers are tables too (`mkfa.evidence.printed`), of one "seed" and without an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mkfa.arms.arms import OWN
from mkfa.evidence.programme import SCALES
from mkfa.frozen import ByContent
from mkfa.images.registry import registry
from mkfa.networks.names import parse_name
from mkfa.results.image_error import Answers
from mkfa.results.record import RunRecord
from mkfa.training.spec import BASE, RunSpec
from mkfa.words import counted

PLANTED = ("what", "with_bias", "with_norm", "fit_kernel")
"""Fields of a specification that do not matter to base runs, which belong to tables with any of their values."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """An arm with a source on a target, at a number of layers; source "" for arms that need none."""

    arm: str
    source: str
    target: str
    layers: int


@dataclass(frozen=True, slots=True)
class Scale:
    """The setting of a verdict, in the words that it must name.

    Attributes
    ----------
    name : "laptop", "gpu" or "paper", by the images; "printed" for the paper's numbers, "banks" and "graft" for claims
        that need no runs, whose `network` says it all.
    network : name and options.
    pixels : side of the images; 0 if unknown.
    steps : optimiser steps of a run; the smallest number where runs differ, 0 if unknown.
    equal_steps : whether every run has that number of steps, whatever the size of its training set.
    layers : number of layers that are set.
    recipe : name of the recipe.
    what : kind of layers.
    training_version : version of the training; 0 if unknown.
    """

    name: str
    network: str
    pixels: int = 0
    steps: int = 0
    equal_steps: bool = False
    layers: int = 0
    recipe: str = ""
    what: str = "depthwise"
    training_version: int = 0

    @property
    def text(self) -> str:
        """The setting in one clause."""
        if self.name not in SCALES:
            return self.network
        parts = [self.network, f"{self.pixels} px" if self.pixels else "images of unknown size"]
        parts += [counted(self.steps, "step") if self.steps else "unknown length"]
        return ", ".join([*parts, counted(self.layers, f"{self.what} layer")] if self.layers else parts)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RunTable(ByContent):
    """The finished runs of one setting.

    Attributes
    ----------
    scale : Scale
    points : the runs of each point, by seed.
    images : training images of each domain, 0 if unknown.
    family : what tables share that differ in width and kernel alone; "" if the network has no width in its name.
    width, kernel : channels and kernel size of a mixer; 0 if unknown.
    values : fields of the recipe.
    printed : True for numbers without seeds and errors.
    """

    scale: Scale
    points: Mapping[Point, Answers]
    images: Mapping[str, int]
    family: str = ""
    width: int = 0
    kernel: int = 0
    values: Mapping[str, Any] | None = None
    printed: bool = False

    @property
    def arms(self) -> set[str]:
        """The arms of the table."""
        return {point.arm for point in self.points}

    @property
    def ratio(self) -> float:
        """D / f^2: channels over the taps of a kernel; NaN if unknown."""
        return self.width / self.kernel**2 if self.kernel else float("nan")

    def at(self, arm: str, target: str, layers: int, source: str | None = None) -> list[Answers]:
        """Return the points of an arm on a target: of one source, or of all."""
        if arm == BASE:
            return [answers for p, answers in self.points.items() if p.arm == BASE and p.target == target]
        return [
            answers
            for p, answers in self.points.items()
            if (p.arm, p.target, p.layers) == (arm, target, layers) and source in (None, p.source)
        ]

    def targets(self, arm: str) -> tuple[str, ...]:
        """Return the targets that an arm was trained on, in order of appearance."""
        return tuple(dict.fromkeys(p.target for p in self.points if p.arm == arm))

    def sources(self, arm: str, target: str) -> tuple[str, ...]:
        """Return the sources of an arm on a target."""
        return tuple(dict.fromkeys(p.source for p in self.points if (p.arm, p.target) == (arm, target)))


def tables_of(records: Iterable[RunRecord]) -> tuple[RunTable, ...]:
    """Return the finished runs as tables, one per setting; the same run from two places counts once."""
    once = {r.spec.hash: (r, r.spec) for r in records if r.spec is not None and r.result is not None and r.result.done}
    bases: dict[str, list[RunRecord]] = {}
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for run, spec in once.values():
        if run.arm == BASE:
            bases.setdefault(_setting(spec), []).append(run)
        else:
            planted = json.dumps([getattr(spec, name) for name in PLANTED])
            groups.setdefault((_setting(spec), planted), []).append(run)
    alone = [(key, "") for key in bases if not any(key == setting for setting, _ in groups)]
    return tuple(_table(groups.get(key, []), bases.get(key[0], [])) for key in [*groups, *alone])


def _setting(spec: RunSpec) -> str:
    fields = (spec.arch, dict(spec.options), dict(spec.recipe), spec.training_version)
    return json.dumps(fields, sort_keys=True)


def _table(runs: Sequence[RunRecord], bases: Sequence[RunRecord]) -> RunTable:
    groups: dict[Point, list[RunRecord]] = {}
    for run in (*bases, *runs):
        source, arm = "" if run.arm == BASE else run.source, run.arm
        if run.spec is not None:  # a source of the target's own network is called by its domain alone
            source = source.removesuffix(f"+{run.spec.arch}")
            if source == run.target and run.spec.source.startswith("run:"):  # no transfer between domains
                arm = OWN.get(arm, arm)
        groups.setdefault(Point(arm, source, run.target, run.layers), []).append(run)
    points = {point: Answers.of(group) for point, group in groups.items()}
    specs = [run.spec for run in (*runs, *bases) if run.spec is not None]
    known = [run.result.record for run in (*bases, *runs) if run.result is not None]
    domains = [run.target for run in (*bases, *runs) if run.result is not None]
    images = {name: int(record.get("train_images", 0)) for name, record in zip(domains, known, strict=True)}
    family, width, kernel = network_family(specs[0])
    layers = max((run.layers for run in runs), default=0)
    scale = _scale(specs[0], domains, [int(record.get("steps", 0)) for record in known], layers=layers)
    return RunTable(scale, points, images, family, width, kernel, dict(specs[0].recipe))


def network_family(spec: RunSpec) -> tuple[str, int, int]:
    """Return what tables of one width law share, the width and the kernel size, from a name such as "resmixer_32_18".

    Examples
    --------
    >>> spec = RunSpec("resmixer_32_18", "digits", "", "fast", {"lr": 0.01}, 0, options={"kernel": 5, "patch": 4})
    >>> network_family(spec)[1:]
    (32, 5)
    """
    name = parse_name(spec.arch)
    if name is None:
        return "", 0, 0
    options = {key: value for key, value in spec.options.items() if key != "kernel"}
    family = json.dumps([name.kind, name.layers, options, dict(spec.recipe), spec.training_version], sort_keys=True)
    return family, name.width, int(spec.options.get("kernel", name.defaults.kernel))


def _scale(spec: RunSpec, domains: Sequence[str], steps: Sequence[int], *, layers: int) -> Scale:
    sizes = {_pixels(spec, name) for name in domains}
    pixels = sizes.pop() if len(sizes) == 1 else 0
    bundled = all(name in registry() and registry()[name].how == "bundled" for name in domains)
    name = "laptop" if bundled or not pixels or pixels < 32 else "paper" if pixels >= 224 else "gpu"
    options = [f"{key.replace('_', ' ')} {value}" for key, value in sorted(spec.options.items())]
    return Scale(
        name,
        ", ".join([spec.arch, *options]),
        pixels,
        min(steps, default=0),
        bool(spec.recipe.get("equal_steps")),
        layers,
        spec.recipe_name,
        spec.what,
        spec.training_version,
    )


def _pixels(spec: RunSpec, domain: str) -> int:
    size, most = int(spec.recipe.get("size", 0)), int(spec.recipe.get("max_size", 0))
    if size:
        return size
    own = registry()[domain].size if domain in registry() else 0
    return min(own, most) if most else own
