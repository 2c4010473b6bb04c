"""Options of the training verbs, and what they stand for: a recipe, a network, where runs are computed and stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from mkfa.arguments import check_types
from mkfa.arms.arms import check_fit_kernel
from mkfa.engines.choice import ENGINES, check_options
from mkfa.errors import MkfaError, UnknownNameError, as_path, nearest, wrong_type
from mkfa.experiments.defaults import default_options, describe_choice
from mkfa.experiments.needed_runs import Setting
from mkfa.networks.hornet import plain_name
from mkfa.networks.names import without_defaults
from mkfa.several import as_several
from mkfa.storage.folders import home
from mkfa.training.device import Execution
from mkfa.training.recipe import Recipe, load_recipe, parse_changes
from mkfa.words import counted

NETWORK_OPTIONS = ("kernel", "patch", "stem_stride", "branch_gain")
"""Options of a network besides its name, as `mkfa.networks.build.build_network` takes them."""
Names = str | Path | Sequence[str | Path]
"""One name, several joined by commas, or a list of them."""
Layers = int | str | Iterable[int]
"""Numbers of layers: 3, range(1, 19), [1, 2, 4], "1..18", "0..12..3", "all"."""


class TrainingOptions(TypedDict, total=False):
    """Options that all training verbs share, named as on the command line.

    Attributes
    ----------
    arch : a timm name, "resmixer_C_L", "convnext_C_L" or "convmixer_C_L".
    recipe : "paper", "fast", "smoke", or the path of a .toml file.
    set : mapping, or sequence of "FIELD=VALUE"
        Changes to the recipe.
    epochs, equal_steps : epochs, or optimiser steps of every run regardless of the domain's size.
    evaluate_every : int
        Epochs between evaluations; 0: at most 50 evaluations in a run. The end of a run is always evaluated.
    seeds : seeds 0, 1, ... of every run.
    kernel, patch, stem_stride : int
    branch_gain : options of the network, as in `mkfa.networks.build.build_network`.
    out : folder for run folders and results; by default below mkfa's data folder. A finished run of the same settings
        is taken over; to train it again, remove its folder.
    device, data, threads, jobs, amp, channels_last, compile, quick, strategy, tensorboard, engine, address, sbatch
        As in `mkfa.training.device.Execution` (`tensorboard` is its `events`).
    """

    arch: str
    recipe: str | Path
    set: Mapping[str, Any] | Sequence[str] | None
    epochs: int | None
    equal_steps: int | None
    evaluate_every: int | None
    seeds: int
    kernel: int | None
    patch: int | None
    stem_stride: int | None
    branch_gain: float | None
    out: str | Path | None
    device: str
    data: str
    threads: int
    jobs: int
    amp: bool | None
    channels_last: bool | None
    compile: bool | None
    quick: bool | None
    tensorboard: bool
    engine: str
    address: str
    sbatch: str
    strategy: str


class TransferOptions(TrainingOptions, total=False):
    """Additional options of transfers.

    Attributes
    ----------
    source_arch : str
        A different network for the sources' base runs, e.g. "convmixer_96_6:kernel=5"; several joined by commas.
    what : kind of layers: "depthwise", "pointwise" or "conv".
    with_bias : copy and freeze biases too.
    with_norm : copy and freeze norm layers too, in arms that copy layer by layer; see `mkfa.arms.plant`.
    fit_kernel : "pad" or "crop" kernels of a different size; "" refuses them.
    """

    source_arch: str
    what: str
    with_bias: bool
    with_norm: bool
    fit_kernel: str


def check_names(options: Mapping[str, Any], known: type[TrainingOptions], *, without: Sequence[str] = ()) -> None:
    """Refuse options that do not exist, which would otherwise change nothing, and values of the wrong type.

    Parameters
    ----------
    known : `TrainingOptions` or `TransferOptions`.
    without : options of these that a verb does not have.

    Raises UnknownNameError, MkfaError: as above.
    """
    names = [name for name in known.__annotations__ if name not in without]
    for name in options:
        if name not in names:
            remedy = nearest(name, names) or f"choose from {', '.join(names)}"
            raise UnknownNameError(f"option {name}", "unknown option", remedy)
    texts = {name: getattr(of, "__forward_arg__", str(of)) for name, of in known.__annotations__.items()}
    check_types(texts, options, remedy=f"help(mkfa.experiments.options.{known.__name__}) says more")
    if not options.get("seeds", 1):
        raise MkfaError("seeds 0", "trains nothing", "give 1 or more")


def make_recipe(
    name: str,
    changes: Mapping[str, Any],
    *,
    epochs: int | None,
    equal_steps: int | None,
    evaluate_every: int | None = None,
) -> Recipe:
    """Return a recipe with its changes.

    Raises MkfaError: as `load_recipe`; or `epochs` for a recipe that counts optimiser steps instead.
    """
    counts = {"epochs": epochs, "equal_steps": equal_steps, "evaluate_every": evaluate_every}
    made = load_recipe(name, {**changes, **{field: count for field, count in counts.items() if count is not None}})
    if epochs is not None and made.equal_steps:
        problem = f"would change nothing, as every run takes {counted(made.equal_steps, 'optimiser step')}"
        raise MkfaError(f"--epochs {epochs}", problem, "leave it out, or pass --equal-steps 0 with it")
    return made


def make_setting(options: TransferOptions) -> tuple[Setting, str]:
    """Return the requested network and recipe and, if none was named, a sentence that says which.

    An empty `arch` stands for that of `default_options`. An empty `recipe` stands for "fast": for the default network
    with the changes that were chosen for it, for any other unchanged.
    """
    arch, recipe = options.get("arch", ""), options.get("recipe", "")
    changes: Any = options.get("set") or {}
    changes = dict(changes) if isinstance(changes, Mapping) else parse_changes(list(changes))
    epochs, steps = options.get("epochs"), options.get("equal_steps")
    network: dict[str, Any] = {key: options[key] for key in NETWORK_OPTIONS if options.get(key) is not None}  # type: ignore[literal-required]
    arch = plain_name(arch)  # the same network under two names is the same run
    default: dict[str, Any] = {}
    if not arch:
        default = default_options()
        arch, network = default["arch"], default["network"] | network
        if not recipe:
            changes = default["set"] | changes
            steps = default["equal_steps"] if steps is None and epochs is None else steps
    network = without_defaults(arch, network)
    every = options.get("evaluate_every")
    used = make_recipe(str(recipe or "fast"), changes, epochs=epochs, equal_steps=steps, evaluate_every=every)
    reason = describe_choice(arch, network, used) if default else ""
    what, fit = options.get("what", "depthwise"), options.get("fit_kernel", "")
    check_fit_kernel(fit)
    bias, norm = options.get("with_bias", False), options.get("with_norm", False)
    return Setting(arch, used, what, bias, fit, network, norm), reason


def make_execution(options: TrainingOptions) -> Execution:
    """Return the `Execution` given by options."""
    keys = ["device", "data", "threads", "jobs", "amp", "channels_last", "compile", "quick", "engine"]
    keys += [option for row in ENGINES.values() for option in row.options]
    known: dict[str, Any] = {key: options[key] for key in keys if key in options}  # type: ignore[literal-required]
    made = Execution(**known, events=options.get("tensorboard", False))
    check_options(made)
    return made


def split_names(names: Names, option: str) -> list[str]:
    """Return names once each, in order.

    Raises MkfaError: there are none, or one is empty.
    """
    parts = names.split(",") if isinstance(names, str) else as_several(names)
    for part in parts:
        as_path(part, option, "a name or a path")
    unique = list(dict.fromkeys(str(part).strip() for part in parts))
    if unique in ([""], []):
        raise MkfaError(option, "names nothing", "name one or several, joined by commas")
    if "" in unique:
        raise MkfaError(f"{option} {names!r}", "has an empty name in it", "join names by single commas")
    return unique


def layers_text(layers: Layers) -> str:
    """Return numbers of layers in command-line syntax."""
    if isinstance(layers, str):
        return layers
    if not isinstance(layers, int | Iterable):
        raise wrong_type(
            layers, "layers", wanted="a number or several", remedy="give 4, range(1, 19), [1, 2, 4] or '1..18'"
        )
    return ",".join(map(str, [layers] if isinstance(layers, int) else layers))


_FILES = (".json", ".csv", ".h5", ".png", ".pdf", ".svg", ".html")


def folders(out: str | Path | None, name: str) -> tuple[Path, Path]:
    """Return the folders of the runs and of the results; raises MkfaError if `out` is named like a file."""
    from mkfa.results.runs import default_root

    if out is None:
        return default_root(), home() / "results" / name
    path = as_path(out, "out")
    if path.suffix in _FILES and not path.is_dir():
        problem = "is named like a file, and runs, tables and figures are written into a folder"
        raise MkfaError(str(out), problem, f"name a folder, for example --out {path.with_suffix('')}")
    return path / "runs", path
