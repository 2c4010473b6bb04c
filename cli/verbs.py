"""The table of verbs, and errors as one line and an exit code."""

from __future__ import annotations

import errno
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mkfa.cli.shared.interrupts import INTERRUPTS
from mkfa.cli.shared.options import Config, Group, Quiet, Verbose, add, flag, option
from mkfa.cli.shared.printing import VOICE, clean, warn
from mkfa.cli.shared.settings import SETTINGS
from mkfa.cli.shared.streams import emit, output_error

VERBS = {
    "harvest": ("Filter banks", "Collect the depthwise filters of trained networks into banks."),
    "banks": ("Filter banks", "List the banks at hand; rename, remove or export one."),
    "show": ("Filter banks", "Show a bank: its layers, kernel sizes, dead filters and provenance."),
    "compare": ("Questions", "How alike are two networks' filters, between floor, ceiling and chance?"),
    "assign": ("Questions", "Which analytic pattern does each filter follow, and what does chance give?"),
    "atlas": ("Questions", "Which clusters do the filters of banks form, and who has which?"),
    "keys": ("Questions", "How few filters explain all others, up to gain and offset?"),
    "report": ("Questions", "Write one HTML page on banks and runs; it opens from disk, without a network."),
    "graft": ("Questions", "How many other filters does a trained network need to keep its answers?"),
    "figure": ("Questions", "Draw a figure straight from banks."),
    "domains": ("Transfer", "List the labelled image sets, or decode one for training."),
    "train": ("Transfer", "Train base runs on a domain; each leaves its filters as a bank."),
    "transfer": ("Transfer", "Set the filters of the first layers, freeze them, train the rest."),
    "transfer-curve": ("Transfer", "How does accuracy change as more layers are borrowed and frozen?"),
    "transfer-sweep": ("Transfer", "When do learned filters beat random ones: width, kernel size, training time?"),
    "transfer-matrix": ("Transfer", "Transfer from every source to every target, with controls."),
    "runs": ("Transfer", "List, show, compare and pack training runs, and draw their results."),
    "work": ("Transfer", "Train the run that a folder's task describes, for schedulers of your own."),
    "claims": ("Evidence", "Which of the paper's claims hold, at which scale?"),
    "reproduce": ("Evidence", "Train the runs of a figure or table of the paper, and show both values."),
    "plan": ("Evidence", "What do the paper's figures and tables cost to train?"),
    "demo": ("Help", "Show the whole path on bundled data, without network."),
    "explain": ("Help", "Explain a word, such as selffer, floor or null."),
    "doctor": ("Help", "Check this installation: versions, devices, home folder, locks, space."),
}
"""Name -> heading in the help, summary. Each is the function of its name in the module of its name, imported when it is
used. The module may have `FORMER` spellings of options and an `epilog` of the help; one whose verb has verbs of its own
has a function `register` instead."""

VARIABLES = {
    "MKFA_HOME": "Folder for banks, runs and fetched data; default: $XDG_DATA_HOME/mkfa or ~/.local/share/mkfa.",
    "MKFA_PLUGINS": "Modules or .py files, by commas, that register arms, nulls or measures of your own.",
    "COLUMNS, NO_COLOR": "Width of tables in characters; 1 for no colours.",
    "HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE": "Token, cache and address of the hub; 1 for offline.",
}
"""Environment variables, as the help lists them."""

if TYPE_CHECKING:
    from mkfa.errors import MkfaError

STOPPED = 130
"""The exit code that parsers return if Ctrl-C stopped the verb."""


def load_verb(name: str) -> typer.Typer:
    """Import a verb; return an application that has it alone."""
    alone = typer.Typer(add_completion=False)
    function = name.replace("-", "_")
    module = import_module(f"mkfa.cli.{function}")
    if hasattr(module, "register"):
        module.register(alone)
    else:
        former, epilog = getattr(module, "FORMER", None), getattr(module, "epilog", str)
        add(alone, name, getattr(module, function), former=former, epilog=epilog())
    return alone


class Verbs(Group):  # type: ignore[misc]
    """The verbs, each imported when it is used; the help needs none of them."""

    listing = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {
            name: TyperCommand(name, help=summary, rich_help_panel=panel) for name, (panel, summary) in VERBS.items()
        }

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a verb; for the list of verbs its name and summary alone."""
        if self.listing or cmd_name not in VERBS:
            return self.commands.get(cmd_name)
        return typer.main.get_group(load_verb(cmd_name)).commands[cmd_name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help without importing the verbs."""
        self.listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self.listing = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the verb; results record the command line."""
        from mkfa.storage.heading import set_command

        set_command(shlex.join(["mkfa", *args]))
        SETTINGS.start(args)
        VOICE.quiet = VOICE.verbose = False
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


app = typer.Typer(
    name="mkfa",
    cls=Verbs,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How general are the filters that a network learned? Every answer stands beside its chance level.",
    epilog="\n\n".join(["Environment variables:", *(f"{name}: {text}" for name, text in VARIABLES.items())]),
)


def _version(wanted: bool) -> None:
    if wanted:
        from mkfa.version import VERSION

        emit(f"mkfa {VERSION}")
        raise typer.Exit


def _log_file(path: Path | None) -> Path | None:
    if path is not None:
        from mkfa.cli.shared.logs import log_to_file

        log_to_file(path)
    return path


@app.callback()
def options(
    context: typer.Context,
    quiet: Quiet = False,
    verbose: Verbose = False,
    config: Annotated[Path | None, Config] = None,
    log_file: Annotated[
        Path | None, option("--log-file", "FILE", "Append what is printed and done to this file.", callback=_log_file)
    ] = None,
    debug: Annotated[bool, flag("--debug", "Show a traceback when something fails.")] = False,
    version: Annotated[
        bool, flag("--version", "Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Take the options before the verb."""
    VOICE.debug = debug
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> int:
    """Run the command line; return exit code 0 done, 1 the work failed, 2 the request was wrong, 130 stopped."""
    import warnings

    _log(f"mkfa {shlex.join(sys.argv[1:])}")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = int(app(standalone_mode=False, prog_name="mkfa") or 0)
        if code == STOPPED or INTERRUPTS.raised:  # what newer parsers make of KeyboardInterrupt
            code = INTERRUPTS.stopped()
        elif unwritten := output_error():
            code = report(unwritten)
    except KeyboardInterrupt:
        code = INTERRUPTS.stopped()
    except Exception as error:
        if VOICE.debug and not INTERRUPTS.raised and not hasattr(error, "format_message"):
            raise
        code = report(error)
    _log(f"exit code {code}")
    return code


def _log(text: str, *, error: bool = False) -> None:
    if VOICE.logged:
        import logging

        logging.getLogger("mkfa").log(logging.ERROR if error else logging.INFO, text, exc_info=error)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Print a warning of the library as a remark; those of other packages say where they come from."""
    import warnings
    from pathlib import PurePath

    ours = {"mkfa", "cli", "figures"} & set(PurePath(filename).parts[-4:])
    warn(str(message) if ours else warnings.formatwarning(message, category, filename, lineno, "").strip())


def report(error: BaseException) -> int:
    """Print an error as one line on stderr, with --json as JSON on stdout too; return its exit code."""
    from mkfa.errors import MkfaError, UnknownBankError

    if type(error).__name__ == "Abort" or INTERRUPTS.raised:  # what parsers and C code make of KeyboardInterrupt
        return int(INTERRUPTS.stopped())
    if isinstance(error, UnknownBankError):
        from mkfa.cli.shared.advice import about_bank

        error = about_bank(error)
    known = error if isinstance(error, MkfaError) else _as_sentence(error)
    emit(clean(f"mkfa: {known}", err=True), err=True)
    _log(str(known), error=True)
    if "--json" in (*sys.argv, *SETTINGS.taken):
        from mkfa.cli.shared.printing import print_json
        from mkfa.storage.heading import heading

        facts = {"thing": known.thing, "problem": known.problem, "remedy": known.remedy, "exit_code": known.exit_code}
        print_json(heading("error") | {"error": facts})
    return known.exit_code


def _as_sentence(error: BaseException) -> MkfaError:
    """Return any other error as one that names the thing, the problem and the remedy."""
    from mkfa.errors import MkfaError, WorkError, one_line

    if hasattr(error, "format_message"):  # the parser's; which package defines it depends on typer's version
        context: Any = getattr(error, "ctx", None)
        command = context.command_path if context else "mkfa"
        usage = MkfaError(command, one_line(error.format_message()).rstrip("."), f"'{command} --help' says more")
        usage.args = (f"{usage.problem}; {usage.remedy}.",)
        return usage
    if isinstance(error, MemoryError):
        return WorkError("memory", "there is not enough of it", "close other programs or name fewer banks")
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop from "):  # Path.resolve before 3.13
        path = one_line(str(error).removeprefix("Symlink loop from ").strip("'\""))
        return MkfaError(path, "is a link that leads back to itself", "check the path")
    if isinstance(error, RuntimeError) and str(error).startswith("Could not determine home directory"):
        return MkfaError("a path with ~", "names a user that this machine does not know", "give the whole path")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return MkfaError(f"{str(error.filename)[:60]}...", "is too long for a file name", "give a shorter one")
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "free some space or choose another place" if full else "check the path and its permissions"
        return WorkError(error.filename or "a file", f"cannot be used ({error.strerror})", remedy)
    problem = f"unexpected {type(error).__name__}: {one_line(str(error))[:300]}"
    return WorkError("internal error", problem, "run again as 'mkfa --debug ...' and report it")
