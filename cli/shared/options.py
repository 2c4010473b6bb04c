"""Options that several commands have, one spelling for one idea, and the class that parses them.

Options that belong together are a dataclass: a command takes the object, the user sees the single options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from mkfa.cli.shared.printing import VOICE, warn

if TYPE_CHECKING:
    from mkfa.training.device import Execution

NETWORK = {"rich_help_panel": "Network"}
RECIPE = {"rich_help_panel": "Recipe"}
RUNNING = {"rich_help_panel": "Running"}
OUTPUT = {"rich_help_panel": "Output"}

Bank = Annotated[str, typer.Argument(metavar="BANK", help="Name or path of a bank ('mkfa banks' lists names).")]
Banks = Annotated[list[str], typer.Argument(metavar="BANK...", help="Names or paths of banks.")]
KernelSize = Annotated[
    str, typer.Option("--kernel-size", metavar="5x5", help="Filters of this size; default: the most frequent.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of every random draw; it is recorded.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines, errors too.", **OUTPUT)]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.", **OUTPUT)]
Seeds = Annotated[int, typer.Option("--seeds", min=1, metavar="N", help="Train each run with seeds 0 to N - 1.")]
OutFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER",
        help="Write runs, tables and figures here; default: the home folder (MKFA_HOME).",
        **OUTPUT,
    ),
]
DOMAIN = "Name of a domain, a packed file, or a folder of images: train/ and test/ (or val/), one folder a class."
SOURCE = "Domains, folders of images, banks, checkpoints or folders of base runs, by commas."
Target = Annotated[
    str, typer.Option("--target", metavar="NAME", help="Domain, packed file or folder of images to train on.")
]
SourceArch = Annotated[
    str,
    typer.Option(
        "--source-arch",
        metavar="NAMES",
        help="Other networks than the target's for the sources' base runs, by commas; they are trained first, with "
        "the same recipe; use arm stack. Options follow a name: convmixer_96_6:kernel=5.",
    ),
]
WithPaper = Annotated[bool, typer.Option("--with-paper", help="Draw the paper's values beside these.", **OUTPUT)]


@dataclass(frozen=True)
class RecipeOptions:
    """How a network is trained."""

    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME", help="paper, fast, smoke, or a .toml file.", **RECIPE)
    ] = "fast"
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe; may be repeated.", **RECIPE),
    ] = None
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="Epochs, instead of the recipe's.", **RECIPE)
    ] = None
    equal_steps: Annotated[
        int | None,
        typer.Option(
            "--equal-steps", metavar="N", help="Optimiser steps of every run, whatever the domain's size.", **RECIPE
        ),
    ] = None


@dataclass(frozen=True)
class RecipeByDevice(RecipeOptions):
    """The same, where the default depends on the device."""

    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", metavar="NAME", help="paper, fast, smoke, or a .toml file; default: by device.", **RECIPE
        ),
    ] = ""


@dataclass(frozen=True)
class NetworkOptions:
    """Which network is trained."""

    arch: Annotated[str, typer.Option("--arch", metavar="NAME", help="timm name, or convmixer_C_L.", **NETWORK)] = (
        "convnext_femto"
    )
    kernel: Annotated[
        int | None, typer.Option("--kernel", metavar="N", help="Kernel size of a convmixer_C_L; default: 7.", **NETWORK)
    ] = None
    patch: Annotated[
        int | None, typer.Option("--patch", metavar="N", help="Patch size of a convmixer_C_L; default: 2.", **NETWORK)
    ] = None
    stem_stride: Annotated[
        int | None,
        typer.Option(
            "--stem-stride",
            metavar="N",
            help="Stride of the first convolution; default: half of the network's own for images of up to 64 px "
            "(ConvNeXt: 2), else its own.",
            **NETWORK,
        ),
    ] = None

    @property
    def options(self) -> dict[str, int]:
        """The options of the network that were given."""
        given = (("kernel", self.kernel), ("patch", self.patch), ("stem_stride", self.stem_stride))
        return {key: value for key, value in given if value is not None}


@dataclass(frozen=True)
class NetworkByDevice(NetworkOptions):
    """The same, where the default depends on the device."""

    arch: Annotated[
        str, typer.Option("--arch", metavar="NAME", help="timm name, or convmixer_C_L; default: by device.", **NETWORK)
    ] = ""


@dataclass(frozen=True)
class MatrixNetwork(NetworkOptions):
    """The same, with the default of a matrix."""

    arch: Annotated[str, typer.Option("--arch", metavar="NAME", help="timm name, or convmixer_C_L.", **NETWORK)] = (
        "convmixer_48_6"
    )


@dataclass(frozen=True)
class FilterOptions:
    """Which layers get filters, and what of them."""

    what: Annotated[
        str,
        typer.Option(
            "--what", metavar="KIND", help="depthwise, pointwise or conv (every convolution of the main path)."
        ),
    ] = "depthwise"
    with_bias: Annotated[bool, typer.Option("--with-bias", help="Copy and freeze biases too.")] = False
    fit_kernel: Annotated[
        str,
        typer.Option("--fit-kernel", metavar="HOW", help="pad or crop kernels of another size; default: refuse them."),
    ] = ""


@dataclass(frozen=True)
class Running:
    """Device, threads and precision of the runs. They are recorded but do not identify a run."""

    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.", **RUNNING)
    ] = "auto"
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="WHERE",
            help="Images: resident on the device, stream: read from disk ahead of the training, auto: resident if "
            "they fit.",
            **RUNNING,
        ),
    ] = "auto"
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            metavar="N",
            min=0,
            max=1024,
            help="Threads of the CPU; 0 for all. One is often faster where other programs run.",
            **RUNNING,
        ),
    ] = 0
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            metavar="N",
            min=0,
            help="Runs at a time, each in its own process; 0: one for each GPU, or as many as cores, of one thread "
            "each, if the runs allow.",
            **RUNNING,
        ),
    ] = 0
    amp: Annotated[
        bool | None, typer.Option("--amp/--no-amp", help="bfloat16 autocast (default: on CUDA).", **RUNNING)
    ] = None
    channels_last: Annotated[
        bool | None, typer.Option("--channels-last/--no-channels-last", help="Memory format (default: on).", **RUNNING)
    ] = None
    compile_: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="torch.compile (default: on CUDA).", **RUNNING)
    ] = None
    quick: Annotated[
        bool | None,
        typer.Option(
            "--quick/--no-quick",
            help="On a CPU, mkfa's gradients of depthwise and 1x1 layers instead of PyTorch's (default: on).",
            **RUNNING,
        ),
    ] = None
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard events into the folder of every run.", **RUNNING)
    ] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; decode and train nothing.", **RUNNING)] = (
        False
    )

    def execution(self) -> Execution:
        """Return the same as the trainer takes it."""
        from mkfa.training.device import Execution

        return Execution(
            self.device,
            self.threads,
            self.amp,
            self.channels_last,
            self.compile_,
            data=self.data,
            jobs=self.jobs,
            events=self.tensorboard,
            quick=self.quick,
        )


def _be_quiet(value: bool) -> None:
    VOICE.quiet = VOICE.quiet or value


def _be_verbose(value: bool) -> None:
    if value:
        from mkfa.cli.shared.logs import log_to_stderr

        VOICE.verbose = True
        log_to_stderr()


Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing but errors and what --json asks for.", callback=_be_quiet)
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say on stderr what is done, with times.", callback=_be_verbose)
]


@dataclass(frozen=True)
class Everywhere:
    """Options of every verb, behind it too."""

    quiet: Annotated[bool, typer.Option("--quiet", "-q", hidden=True, callback=_be_quiet)] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", hidden=True, callback=_be_verbose)] = False


WORDS = {"integer": "N", "integer range": "N", "float": "X", "float range": "X", "text": "TEXT", "str": "TEXT"}
WORDS |= {"int": "N", "int range": "N", "path": "FILE"}


def _readable(parameters: list[Any]) -> list[Any]:
    """Give every option a metavar that reads like a word; switches have none."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: None  # its name says it
        elif parameter.metavar is None:
            parameter.metavar = WORDS.get(parameter.type.name, None)
    return parameters


class Command(TyperCommand):
    """A verb. Former spellings of its options still work, hidden, with a remark."""

    former: Mapping[str, str] = {}
    """Former spelling -> present one; "BANK" where banks are arguments now (joined by commas or not)."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with readable metavars."""
        return _readable(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put present spellings in the place of former ones, then parse."""
        return super().parse_args(ctx, present_spelling(args, self.former))


class Group(TyperGroup):
    """A verb with verbs of its own; former spellings as in `Command`."""

    former: Mapping[str, str] = {}

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, with readable metavars."""
        return _readable(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put present spellings in the place of former ones before the verb, then parse."""
        cut = next((i for i, word in enumerate(args) if word in self.commands), len(args))
        return super().parse_args(ctx, [*present_spelling(args[:cut], self.former), *args[cut:]])


def present_spelling(args: Sequence[str], former: Mapping[str, str]) -> list[str]:
    """Return the arguments in the present spelling; says once on stderr what has a new one."""
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
        warn(f"{name} is gone, as banks are arguments now; it works in this version only")
    return made


def add(
    app: typer.Typer, name: str, verb: Callable[..., Any], *, former: Mapping[str, str] | None = None, epilog: str = ""
) -> None:
    """Register a verb: dataclasses among its parameters become options, former spellings work."""
    kind = type("Command", (Command,), {"former": former or {}})
    app.command(name, cls=kind, epilog=epilog or None)(_grouped(verb))


def new_group(
    app: typer.Typer, name: str, verb: Callable[..., Any], *, former: Mapping[str, str] | None = None
) -> typer.Typer:
    """Register a verb that has verbs of its own, and works without one too; return it."""
    kind = type("Group", (Group,), {"former": former or {}})
    made = typer.Typer(cls=kind, invoke_without_command=True, help=inspect.getdoc(verb))
    made.callback()(_grouped(verb))
    app.add_typer(made, name=name)
    return made


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
