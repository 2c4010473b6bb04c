"""The `mkfa` command: registers the verbs and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="mkfa",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="How general are the filters that a network learned? Every answer stands beside its chance level.",
)
STATE = {"debug": False}
STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""
VERBS = ("banks", "compare", "assign", "atlas", "domains", "train", "figure", "demo")


def _version(wanted: bool) -> None:
    if wanted:
        from mkfa.version import VERSION

        typer.echo(f"mkfa {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    STATE["debug"] = debug


for verb in VERBS:
    import_module(f"mkfa.cli.{verb}").register(app)


def main() -> None:
    """Run the command line; exit code 0 done, 1 the work failed, 2 the request was wrong."""
    try:
        code = app(standalone_mode=False, prog_name="mkfa") or 0
        sys.exit(_stopped() if code == STOPPED else code)  # what newer parsers make of KeyboardInterrupt
    except BrokenPipeError:  # the reader of our output went away, as in `mkfa banks | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(_stopped())
    except Exception as error:
        if STATE["debug"] and not hasattr(error, "format_message"):
            raise
        sys.exit(report(error))


def report(error: BaseException) -> int:
    """Print an error as one line on stderr and return its exit code."""
    from mkfa.errors import MkfaError, UnknownBankError, one_line

    if isinstance(error, UnknownBankError):
        from mkfa.cli.shared.advice import about_bank

        error = about_bank(error)
    if isinstance(error, MkfaError):
        typer.echo(f"mkfa: {error}", err=True)
        return error.exit_code
    if type(error).__name__ == "Abort":  # what older ones make of it
        return _stopped()
    if hasattr(error, "format_message"):  # the parser's errors; which package defines them depends on typer's version
        return _usage(error)
    if isinstance(error, MemoryError):
        typer.echo("mkfa: out of memory; close other programs or name fewer banks.", err=True)
        return 1
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        shown = str(error.filename)[:60]
        typer.echo(f"mkfa: {one_line(shown)}...: is too long for a file name; give a shorter one.", err=True)
        return 2
    name = type(error).__name__
    what = f"unexpected {name}: {one_line(str(error))[:300]}"
    typer.echo(f"mkfa: {what}; run again as 'mkfa --debug ...' and report it.", err=True)
    return 1


def _stopped() -> int:
    typer.echo("mkfa: stopped; what was finished is kept.", err=True)
    return STOPPED


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 2
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mkfa"
    typer.echo(f"mkfa: {error.format_message().rstrip('.')}; '{command} --help' says more.", err=True)
    return 2


if __name__ == "__main__":
    main()
