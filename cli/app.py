"""The `mkfa` command. It imports little, so that Ctrl-C is answered from the first moment; `verbs` holds the table."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkfa.cli.verbs import VARIABLES as VARIABLES
    from mkfa.cli.verbs import VERBS as VERBS
    from mkfa.cli.verbs import app as app


def __getattr__(name: str) -> Any:
    """Return `app`, `VERBS` or `VARIABLES`, imported when they are used."""
    if name not in ("app", "VERBS", "VARIABLES"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mkfa.cli import verbs

    return getattr(verbs, name)


def main() -> None:
    """Run the command line; exit code 0 done, 1 the work failed, 2 the request was wrong, 130 stopped by Ctrl-C."""
    import _signal  # type: ignore[import-not-found]  # built in: even `signal` takes some milliseconds

    _signal.signal(_signal.SIGINT, _leave)
    from mkfa.cli.shared.interrupts import INTERRUPTS
    from mkfa.cli.shared.streams import guard_streams

    guard_streams()
    # pydantic, which typer uses, would look for plugins in every installed package; mkfa has none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    INTERRUPTS.install()
    try:
        from mkfa.cli.verbs import run

        code = run()
    except KeyboardInterrupt:
        code = INTERRUPTS.stopped()
    INTERRUPTS.code = code
    sys.exit(code)


def _leave(number: int, _: object) -> None:
    os.write(2, b"mkfa: stopped; what was finished is kept.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
