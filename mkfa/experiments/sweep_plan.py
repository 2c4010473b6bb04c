"""Plan a sweep: the same arms in networks of several widths and kernel sizes, or for several numbers of steps.

Each setting is planned as a curve with one number of layers (`plan_curve`), with its own base runs, on both domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

from mkfa.errors import MkfaError
from mkfa.experiments.defaults import KERNELS, SWEEP_ARMS, WIDTHS, default_options
from mkfa.experiments.disk import open_silently, undecoded_first
from mkfa.experiments.filter_shapes import filter_shapes
from mkfa.experiments.layer_numbers import parse_numbers
from mkfa.experiments.options import Layers, Names, TransferOptions, folders
from mkfa.experiments.planning import Plan, plan_curve
from mkfa.images.opened import Domains
from mkfa.networks.build import find_small
from mkfa.networks.hornet import plain_name
from mkfa.networks.names import FORMS
from mkfa.training.recipe import Recipe
from mkfa.training.spec import BASE
from mkfa.words import counted

Numbers = int | str | Iterable[int]
"""Numbers of an axis: 8, [8, 16, 32], "8,16,32", "8..32..8"."""
_MOST = 100
"""Largest number of settings."""


@undecoded_first
def plan_sweep(
    options: TransferOptions,
    *,
    source: Names,
    target: str | Path,
    channels: Numbers | None = None,
    kernels: Numbers | None = None,
    steps: Numbers | None = None,
    arms: Names | None = None,
    layers: Layers = "all",
    open_domains: Callable[[Recipe], Domains] | None = None,
) -> Plan:
    """Plan the runs of a sweep; parameters as `mkfa.experiments.verbs.transfer_sweep`.

    Raises MkfaError: as `plan_curve`; or an axis that the network does not have, or that is named twice; or more than
    100 settings.
    """
    options = {**options}
    if not any((channels, kernels, steps)):
        channels, kernels = WIDTHS, KERNELS
    if not options.get("arch"):
        options = _with_defaults(options, timed=steps is not None)
    arch = plain_name(options["arch"])
    axes = _axes(arch, options, {"channels": channels, "kernels": kernels, "steps": steps})
    if arms is None:
        arms = SWEEP_ARMS.replace("transfer", "stack") if options.get("source_arch") else SWEEP_ARMS
    domains: list[Domains] = []

    def opened(recipe: Recipe) -> Domains:
        """Open the domains once: settings differ in nothing that changes images."""
        if not domains:
            domains.append((open_domains or open_silently)(recipe))
        return domains[0]

    plans = []
    for width, kernel, count in product(*axes):
        own: dict[str, Any] = dict(options)
        own["arch"] = _at_width(arch, width)
        own |= ({"kernel": kernel} if kernel else {}) | ({"equal_steps": count} if count else {})
        made = plan_curve(
            cast("TransferOptions", own),
            source=source,
            target=target,
            layers=layers,
            arms=arms,
            kind="table",
            verb="transfer-sweep",
            open_domains=opened,
        )
        plans.append(made)
    return _joined(plans, arch, options)


def _joined(plans: list[Plan], arch: str, options: TransferOptions) -> Plan:
    first = plans[0]
    runs = {run.spec.hash: run for plan in plans for run in plan.runs}
    ordered = sorted(runs.values(), key=lambda run: run.spec.arm != BASE)
    settings = [_setting(plan) for plan in plans]
    ratios = [setting["ratio"] for setting in settings if setting["ratio"]]
    taken = {
        key: first.parameters[key] for key in ("source", "target", "arms", "layers", "source_arch", "seeds", "what")
    }
    parameters = taken | {
        "arch": arch,
        "settings": settings,
        "recipe": first.setting.recipe,
        "with_bias": first.setting.with_bias,
        "with_norm": first.setting.with_norm,
        "width_ratio": (min(ratios), max(ratios)) if ratios else None,
        "training_version": first.parameters["training_version"],
    }
    name = first.results.name.replace(f"-{first.setting.arch}-", f"-{arch}-")
    root, results = folders(options.get("out"), name)
    told = f"{counted(len(plans), 'setting')}." + (
        f" D / f^2 from {min(ratios):.2f} to {max(ratios):.2f}." if ratios else ""
    )
    others = dict.fromkeys(note for plan in plans for note in plan.notes if not note.startswith("D / f^2"))
    return replace(
        first,
        kind="sweep",
        runs=tuple(ordered),
        root=root,
        results=results,
        parameters=parameters,
        notes=(told, *others),
    )


def _setting(plan: Plan) -> dict[str, Any]:
    """Return what distinguishes a setting's runs from those of others, and its place on the axes."""
    shapes = filter_shapes(plan.setting, plan.domains[plan.target])
    width, height, across = min(shapes, key=lambda s: s[0] / (s[1] * s[2]), default=(0, 0, 0))
    return {
        "width": width,
        "kernel": height,
        "ratio": width / (height * across) if width else 0.0,
        "steps": plan.setting.recipe.equal_steps,
        "arch": plan.setting.arch,
        "options": dict(plan.setting.options),
    }


def _with_defaults(options: TransferOptions, *, timed: bool) -> TransferOptions:
    """Return options with the default network and, unless a recipe is named, its changes to the recipe "fast".

    `timed`: the numbers of steps are swept.
    """
    default = {**default_options(), "arch": "resmixer_32_6"}  # small, as it is trained many times
    made: dict[str, Any] = {**options, "arch": default["arch"]}
    if not options.get("recipe"):
        from mkfa.training.recipe import parse_changes

        changes: Any = options.get("set") or {}
        made["set"] = default["set"] | (dict(changes) if hasattr(changes, "items") else parse_changes(list(changes)))
        if not timed and options.get("equal_steps") is None and options.get("epochs") is None:
            made["equal_steps"] = default["equal_steps"]
    return cast("TransferOptions", made)


def _axes(
    arch: str, options: TransferOptions, named: dict[str, Numbers | None]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the numbers of each axis; (0,) for one that is not swept."""
    single = {"kernels": "kernel", "steps": "equal_steps"}
    axes: list[tuple[int, ...]] = []
    for axis, given in named.items():
        if given is None:
            axes.append((0,))
            continue
        one = single.get(axis, "")
        if one and options.get(one):
            remedy = f"leave out --{one.replace('_', '-')}"
            raise MkfaError(f"--{axis}", f"sets the same as --{one.replace('_', '-')}", remedy)
        text = given if isinstance(given, str) else ",".join(map(str, [given] if isinstance(given, int) else given))
        numbers = parse_numbers(text, f"--{axis}")
        if 0 in numbers:
            raise MkfaError(f"--{axis} {text}", "has a 0", "choose numbers from 1 on")
        if axis != "steps" and find_small(arch) is None:
            problem = f"needs a network whose width and kernels can be chosen, and {arch} is not one"
            raise MkfaError(f"--{axis}", problem, f"choose --arch {FORMS}, or sweep --steps alone")
        axes.append(numbers)
    count = len(axes[0]) * len(axes[1]) * len(axes[2])
    if count > _MOST:
        raise MkfaError(counted(count, "setting"), f"are more than {_MOST}", "name fewer channels, kernels or steps")
    return axes[0], axes[1], axes[2]


def _at_width(arch: str, width: int) -> str:
    name = find_small(arch)
    return f"{name.kind}_{width}_{name.layers}" if name is not None and width else arch
