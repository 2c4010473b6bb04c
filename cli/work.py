"""`mkfa work`: one run, from the order in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.options import add
from mkfa.cli.shared.printing import say


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    add(app, "work", work)


def work(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run folder with a task.json.")]) -> None:
    """Train the run that a folder's task.json describes.

    Commands that train write such folders; schedulers of your own can start this command in them, on any machine that
    sees the folder. Progress is in progress.json beside the task. Exit code 0: the run is over; 75: its state is saved
    and the same command goes on; 1: it failed. SIGTERM and SIGUSR1 save the state, and so does a file named stop beside
    the run folders.
    """
    from mkfa.engines.work import describe, exit_code, listening
    from mkfa.engines.work import work as train
    from mkfa.errors import MkfaError
    from mkfa.training.folder import TASK, read_result

    if not folder.is_dir():
        raise MkfaError(folder, "is not a folder", "name a run folder, which has a task.json")
    if not (folder / TASK).exists() and (result := read_result(folder)) is not None:
        say(f"{folder}: {result.state}, and its result is there.", wrap=False)
        return
    with listening() as stop:
        end = train(folder.resolve(), stop=stop)
    if isinstance(end, MkfaError):
        raise end
    say(describe(end), wrap=False)
    if code := exit_code(end):
        raise typer.Exit(code)
