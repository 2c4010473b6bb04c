"""`mkfa work`: one run, from the order in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.printing import say


def work(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run folder with a task.json.")]) -> None:
    """Train the run that a folder's task.json describes.

    Commands that train write such folders; with --engine orders they do nothing else. A scheduler of your own can start
    this command for each, on any machine that sees the folder. Progress is in progress.json beside the task. Exit code
    0: the run is over; 75: its state is saved and the same command goes on; 1: it failed. SIGTERM and SIGUSR1 save the
    state and stop the run, and so does a file named stop beside the run folders.

    torchrun --nproc-per-node N -m mkfa work FOLDER trains the run in N processes, each on its own GPU or with its own
    threads; on several machines with torchrun's own options. They share each batch: the run is the same, up to
    rounding, and any number of processes can go on from its checkpoint. A machine needs as many GPUs as processes, and
    a batch at least two images for each. Only the first process prints. torchrun itself turns exit codes 75 and 1 into
    1, and names the original one in its report (exitcode); the last line of the folder's attempts.jsonl says stopped
    or failed.
    """
    from mkfa.engines.engine import Died
    from mkfa.engines.work import SIGNAL_ECHO, describe, exit_code, listening
    from mkfa.engines.work import work as train
    from mkfa.errors import MkfaError
    from mkfa.training.folder import TASK, read_result
    from mkfa.training.ranks import is_told_elsewhere, joined

    if not folder.is_dir():
        raise MkfaError(folder, "is not a folder", "name a run folder, which has a task.json")
    with listening() as stop, joined() as ranks:
        stop.echo = SIGNAL_ECHO if ranks.world > 1 else 0.0
        if not (folder / TASK).exists() and (result := read_result(folder)) is not None:
            if ranks.leads:
                say(f"{folder}: {result.state}, and its result is there.", wrap=False)
            return
        end = train(folder.resolve(), stop=stop, ranks=ranks)
        if isinstance(end, MkfaError) and (folder / TASK).exists():  # else there was nothing to train
            end.exit_code = exit_code(end)
        if isinstance(end, MkfaError) and not is_told_elsewhere(end):
            raise end
        alone = isinstance(end, Died)  # the others train on, until they miss this process
        if ranks.leads or alone:
            say(describe(end), wrap=False)
        if code := end.exit_code if isinstance(end, MkfaError) else exit_code(end):
            if not alone:
                ranks.let_leader_speak()
            raise typer.Exit(code)
