"""Options that several commands have, one spelling for one idea, and the class that parses them.

Options that belong together are a dataclass: a command takes the object, the user sees the single options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from mkfa.cli.shared.printing import VOICE, warn
from mkfa.cli.shared.settings import SETTINGS, read_config
from mkfa.engines.choice import ENGINES
from mkfa.figures import inches


def option(names: str, metavar: str, help: str, **more: Any) -> Any:
    """Return an option with a value: its names ("--out -o"), what stands for the value, and the help."""
    return typer.Option(*names.split(), metavar=metavar, help=help, **more)


def flag(names: str, help: str, **more: Any) -> Any:
    """Return a switch."""
    return typer.Option(*names.split(), help=help, **more)


NETWORK = {"rich_help_panel": "Network"}
RECIPE = {"rich_help_panel": "Recipe"}
RUNNING = {"rich_help_panel": "Running"}
OUTPUT = {"rich_help_panel": "Output"}

Bank = Annotated[str, typer.Argument(metavar="BANK", help="Name or path of a bank ('mkfa banks' lists names).")]
Banks = Annotated[list[str], typer.Argument(metavar="BANK", help="Names or paths of banks.")]
KernelSize = Annotated[str, option("--kernel-size", "5x5", "Filters of this size; default: the most frequent.")]
Seed = Annotated[int, option("--seed", "N", "Seed of every random draw; it is recorded.", min=0)]
Json = Annotated[bool, flag("--json", "Print JSON for machines, errors too.", **OUTPUT)]
Force = Annotated[bool, flag("--force", "Replace files that exist.", **OUTPUT)]


def _known_width(value: str) -> str:
    inches(value)  # refuses another width before any work
    return value


Width = Annotated[
    str,
    option(
        "--width",
        "WIDTH",
        "Width of the figure as printed: column (3.4 inches) or page (7 inches).",
        callback=_known_width,
        **OUTPUT,
    ),
]
Seeds = Annotated[int, option("--seeds", "N", "Train each run with seeds 0 to N - 1.", min=1)]
OutFolder = Annotated[
    Path | None,
    option(
        "--out -o",
        "FOLDER",
        "Write runs, tables and figures here; default: the home folder (MKFA_HOME). There is no --force: a finished "
        "run of the same settings is taken over (to train it again, remove its folder); tables and figures are "
        "replaced.",
        **OUTPUT,
    ),
]
DOMAIN = "Name of a domain, a packed file, or a folder of images: train/ and test/ (or val/), one folder per class."
SOURCE = "Domains, folders of images, banks, checkpoints or folders of base runs, by commas."
Target = Annotated[str, option("--target", "NAME", "Domain, packed file or folder of images to train on.")]
SourceArch = Annotated[
    str,
    option(
        "--source-arch",
        "NAMES",
        "Other networks than the target's for the sources' base runs, by commas; they are trained"
        " first, with the same recipe; use arm stack. Options follow a name: "
        "convmixer_96_6:kernel=5.",
    ),
]
WithPaper = Annotated[bool, flag("--with-paper", "Draw the paper's values beside these.", **OUTPUT)]


@dataclass(frozen=True)
class RecipeOptions:
    """How a network is trained."""

    recipe: Annotated[str, option("--recipe", "NAME", "paper, fast, smoke, or a .toml file.", **RECIPE)] = "fast"
    changes: Annotated[
        list[str] | None, option("--set", "FIELD=VALUE", "Change a field of the recipe; may be repeated.", **RECIPE)
    ] = None
    epochs: Annotated[int | None, option("--epochs", "N", "Epochs, instead of the recipe's.", **RECIPE)] = None
    equal_steps: Annotated[
        int | None,
        option("--equal-steps", "N", "Optimiser steps of every run, regardless of the domain's size.", **RECIPE),
    ] = None
    evaluate_every: Annotated[
        int | None,
        option(
            "--evaluate-every",
            "N",
            "Epochs between evaluations, instead of the recipe's; 0: at most 50 evaluations. The end of a run "
            "is always evaluated.",
            min=0,
            **RECIPE,
        ),
    ] = None


@dataclass(frozen=True)
class CurveRecipe(RecipeOptions):
    """The same, with the default of a curve."""

    recipe: Annotated[
        str,
        option(
            "--recipe",
            "NAME",
            "paper, fast, smoke, or a .toml file; default: fast, with changes where no --arch is named.",
            **RECIPE,
        ),
    ] = ""


SMALL = "resmixer_C_L, convnext_C_L or convmixer_C_L (C channels, L layers)"
"""Names of the networks for small images."""


@dataclass(frozen=True)
class NetworkOptions:
    """Which network is trained."""

    arch: Annotated[str, option("--arch", "NAME", f"timm name, {SMALL}.", **NETWORK)] = "convnext_femto"
    kernel: Annotated[int | None, option("--kernel", "N", "Kernel size of a NAME_C_L; default: 7.", **NETWORK)] = None
    patch: Annotated[
        int | None, option("--patch", "N", "Patch size of a NAME_C_L; default: 4, of a convmixer 2.", **NETWORK)
    ] = None
    stem_stride: Annotated[
        int | None,
        option(
            "--stem-stride",
            "N",
            "Stride of the first convolution; default: half of the network's own for images of up to "
            "64 px (ConvNeXt: 2), else its own.",
            **NETWORK,
        ),
    ] = None
    branch_gain: Annotated[
        float | None,
        option(
            "--branch-gain",
            "X",
            "Initial weight of the residual branches of a resmixer_C_L (default: 0.3) or convnext_C_L (1e-6).",
            **NETWORK,
        ),
    ] = None


@dataclass(frozen=True)
class SweepNetwork(NetworkOptions):
    """The same, with the default of a sweep."""

    arch: Annotated[
        str,
        option(
            "--arch",
            "NAME",
            f"{SMALL}, C by --channels; with --steps alone any timm name; default: resmixer_32_6.",
            **NETWORK,
        ),
    ] = ""


@dataclass(frozen=True)
class CurveNetwork(NetworkOptions):
    """The same, with the default of a curve."""

    arch: Annotated[str, option("--arch", "NAME", f"timm name, {SMALL}; default: resmixer_32_18.", **NETWORK)] = ""


@dataclass(frozen=True)
class MatrixNetwork(NetworkOptions):
    """The same, with the default of a matrix."""

    arch: Annotated[str, option("--arch", "NAME", f"timm name, {SMALL}.", **NETWORK)] = "convmixer_48_6"


@dataclass(frozen=True)
class FilterOptions:
    """Which layers get filters, and which of their weights."""

    what: Annotated[
        str, option("--what", "KIND", "depthwise, pointwise or conv (every convolution of the main path).")
    ] = "depthwise"
    with_bias: Annotated[bool, flag("--with-bias", "Copy and freeze biases too.")] = False
    with_norm: Annotated[
        bool,
        flag(
            "--with-norm",
            "Copy and freeze norm layers too: in arms that copy layer by layer (transfer, selffer, and with +), the "
            "weights, biases and batch statistics of the norm after each set layer. Without it they are trained, and "
            "can rescale and shift the output of each frozen filter.",
        ),
    ] = False
    fit_kernel: Annotated[
        str, option("--fit-kernel", "HOW", "pad or crop kernels of another size; default: refuse them.")
    ] = ""


@dataclass(frozen=True)
class Running:
    """Device, threads and precision of the runs. They are recorded but do not identify a run."""

    device: Annotated[str, option("--device", "NAME", "auto, cpu, cuda (all GPUs), cuda:1 or mps.", **RUNNING)] = "auto"
    data: Annotated[
        str,
        option(
            "--data",
            "WHERE",
            "Images: resident on the device; stream: read from disk ahead of training; auto: resident if they fit.",
            **RUNNING,
        ),
    ] = "auto"
    threads: Annotated[
        int,
        option(
            "--threads",
            "N",
            "CPU threads; 0 for all. One is often faster if other programs are running.",
            min=0,
            max=1024,
            **RUNNING,
        ),
    ] = 0
    jobs: Annotated[
        int,
        option(
            "--jobs",
            "N",
            "Runs at a time, each in its own process; 0: one per GPU, or without GPUs one per core, of one thread "
            "each, if enough runs can be trained at a time.",
            min=0,
            **RUNNING,
        ),
    ] = 0
    strategy: Annotated[
        str,
        option(
            "--strategy",
            "NAME",
            "How runs share a device: alone; processes; graph: captured CUDA graphs; stacked: as one network; auto: "
            "processes on a CPU, else the fastest of a few timed steps. With graph and stacked, each GPU has a "
            "process, and --jobs is the runs at a time on all.",
            **RUNNING,
        ),
    ] = "auto"
    amp: Annotated[bool | None, flag("--amp/--no-amp", "bfloat16 autocast (default: on CUDA).", **RUNNING)] = None
    channels_last: Annotated[
        bool | None, flag("--channels-last/--no-channels-last", "Memory format (default: on).", **RUNNING)
    ] = None
    compile_: Annotated[bool | None, flag("--compile/--no-compile", "torch.compile (default: on CUDA).", **RUNNING)] = (
        None
    )
    quick: Annotated[
        bool | None,
        flag(
            "--quick/--no-quick",
            "On a CPU, mkfa's gradients of depthwise and 1x1 layers instead of PyTorch's (default: on).",
            **RUNNING,
        ),
    ] = None
    tensorboard: Annotated[
        bool, flag("--tensorboard", "Write TensorBoard events into the folder of every run.", **RUNNING)
    ] = False
    engine: Annotated[
        str,
        option(
            "--engine",
            "NAME",
            "; ".join(f"{name}: {row.where}" for name, row in ENGINES.items())
            + ". Nodes must share the folder of the runs; one that does not trains nothing and is named.",
            **RUNNING,
        ),
    ] = "local"
    address: Annotated[
        str,
        option("--address", "ADDRESS", "With --engine ray: the cluster's head; auto: that of this machine.", **RUNNING),
    ] = "auto"
    sbatch: Annotated[
        str,
        option("--sbatch", "OPTIONS", "With --engine slurm: options for sbatch, such as '--partition gpu'.", **RUNNING),
    ] = ""
    dry_run: Annotated[bool, flag("--dry-run", "Print the plan; decode and train nothing.", **RUNNING)] = False
    estimate: Annotated[
        bool, flag("--estimate", "Print the plan and how long it takes, from timed steps.", **RUNNING)
    ] = False


def _be_quiet(value: bool) -> None:
    VOICE.quiet = VOICE.quiet or value


def _be_verbose(value: bool) -> None:
    if value:
        from mkfa.cli.shared.logs import log_to_stderr

        VOICE.verbose = True
        log_to_stderr()


Quiet = Annotated[bool, flag("--quiet -q", "Print nothing but errors and what --json asks for.", callback=_be_quiet)]
Verbose = Annotated[bool, flag("--verbose -v", "Say on stderr what is done, with times.", callback=_be_verbose)]


Config = option(
    "--config",
    "FILE",
    "Take options from a TOML file: a table for each verb, keys like the options; those given here win.",
    callback=read_config,
    is_eager=True,
)


@dataclass(frozen=True)
class Everywhere:
    """Options of every verb, which may also follow its name."""

    config: Annotated[Path | None, option("--config", "FILE", "", hidden=True, is_eager=True, callback=read_config)] = (
        None
    )
    quiet: Annotated[bool, flag("--quiet -q", "", hidden=True, callback=_be_quiet)] = False
    verbose: Annotated[bool, flag("--verbose -v", "", hidden=True, callback=_be_verbose)] = False


class _Spelled:
    """How a verb is parsed. Former spellings of its options still work; they are hidden, and a remark names the new."""

    former: Mapping[str, str] = {}
    """Former spelling -> present one; "BANK" where banks are arguments now (joined by commas or not)."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; no type is shown for those whose names say everything."""
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
            elif parameter.param_type_name == "argument":
                parameter.display_type_rich = lambda ctx: None
        return parameters


class Command(_Spelled, TyperCommand):
    """A verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace former spellings by present ones, then parse."""
        words = present_spelling(args, self.former)
        parsed: list[str] = SETTINGS.parse(ctx, args, lambda: super(Command, self).parse_args(ctx, words))
        return parsed


class Group(_Spelled, TyperGroup):
    """A verb with verbs of its own; `for_paths` is the one that is meant if a path is given in place of a verb."""

    for_paths = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace former spellings before the verb by present ones, then parse."""
        if self.for_paths and args and args[0] not in self.commands and Path(args[0]).expanduser().exists():
            args = [self.for_paths, *args]
        cut = next((i for i, word in enumerate(args) if word in self.commands), len(args))
        words = [*present_spelling(args[:cut], self.former), *args[cut:]]
        if cut < len(args):  # the options of a file are for the list, not for the verb that follows
            return super().parse_args(ctx, words)
        parsed: list[str] = SETTINGS.parse(ctx, args, lambda: super(Group, self).parse_args(ctx, words))
        return parsed


def present_spelling(args: Sequence[str], former: Mapping[str, str]) -> list[str]:
    """Return the arguments in the present spelling; say once on stderr which ones were spelled differently."""
    made: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            return [*made, word, *rest]
        if name not in former or not word.startswith("--"):
            made.append(word)
            continue
        new = former[name]
        if new != "BANK":
            made.append(new + equals + value)
            warn(f"{name} is now {new}; the former spelling works in this version only")
            continue
        if not equals and rest:
            value = rest.pop(0)
        made += [part.strip() for part in value.split(",")]
        warn(f"{name} is not needed, as banks are arguments now; it works in this version only")
    return made


def add(
    app: typer.Typer, name: str, verb: Callable[..., Any], *, former: Mapping[str, str] | None = None, epilog: str = ""
) -> None:
    """Register a verb: dataclasses among its parameters become options, former spellings work."""
    kind = type("Command", (Command,), {"former": former or {}})
    app.command(name, cls=kind, epilog=epilog or None, help=_help(verb))(_grouped(verb))


def new_group(
    app: typer.Typer,
    name: str,
    verb: Callable[..., Any],
    *,
    former: Mapping[str, str] | None = None,
    for_paths: str = "",
) -> typer.Typer:
    """Register a verb that has verbs of its own and works without them too; return it. `for_paths` as in `Group`."""
    kind = type("Group", (Group,), {"former": former or {}, "for_paths": for_paths})
    made = typer.Typer(cls=kind, invoke_without_command=True, help=_help(verb))
    made.callback()(_grouped(verb))
    app.add_typer(made, name=name)
    return made


def _help(verb: Callable[..., Any]) -> str:
    """Return a verb's docstring with one line for each paragraph, so that it wraps to the terminal."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(verb) or "").split("\n\n"))


def _grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take dataclasses of options: each field becomes an option of its own."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if hasattr(kind, "__dataclass_fields__")}
    shown = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            shown += _options(groups[parameter.name])
        else:
            shown.append(parameter.replace(annotation=hints[parameter.name]))
    shown += _options(Everywhere)

    def run(**given: Any) -> Any:
        for field in fields(Everywhere):
            given.pop(field.name)
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)

    signature = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in shown])
    setattr(run, "__signature__", signature)  # noqa: B010 (a function has no such attribute for mypy)
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    run.__annotations__ = {p.name: p.annotation for p in shown}
    return run


def _options(kind: type) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[field.name],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(kind)
    ]
