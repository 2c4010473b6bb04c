"""The command line as a module: `python -m mkfa`, and `torchrun -m mkfa`."""

from __future__ import annotations

from mkfa.cli.app import main

if __name__ == "__main__":
    main()
