"""Judge every claim from what is bundled, and bundle the verdicts (`python -m mkfa.bundling.verdicts`).

A claim that the bundled evidence does not
settle is bundled as inconclusive, with what it lacks and the command that trains it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from mkfa.evidence.stored import BUNDLED
from mkfa.evidence.verbs import check_claims
from mkfa.evidence.verdict import Claims
from mkfa.results.archive import BUNDLED as RUNS
from mkfa.storage.atomic import atomic_write
from mkfa.storage.heading import set_command
from mkfa.storage.records import plain

COMMAND = "python -m mkfa.bundling.verdicts --out data"


def judge_bundled() -> Claims:
    """Return the verdicts of what is bundled; those at other settings than the one shown are left out."""
    found = check_claims(place=RUNS)
    return Claims(tuple(replace(judgement, others=()) for judgement in found.judgements))


def main() -> None:
    """Write the verdicts into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of bundled data")
    options = parser.parse_args()
    set_command(COMMAND)
    found = judge_bundled()
    text = json.dumps(plain(found.to_dict()), indent=None, separators=(",", ":"), allow_nan=False) + "\n"
    atomic_write(options.out / BUNDLED, text.encode(), overwrite=True)
    print(found.headline())


if __name__ == "__main__":
    main()
