"""Interrupt every verb at random moments: `python tests/benchmarks/interrupt.py [COUNT] [VERB]...`.

Each must end with exit code 130 and one line, leave files that are absent or complete, and give the same result when it
is run again. Prints how many did, what was wrong with the others, and how long verbs took to end.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from interrupting import VERBS, Calm, prepare

START = 0.25
"""Seconds that Python itself takes to start on a busy machine; before that nothing of mkfa runs."""


def main(count: int, verbs: list[str]) -> int:
    """Send `count` signals, SIGTERM and SIGHUP among them; return how many verbs did not end as they should."""
    rng, wrong = random.Random(0), 0
    with tempfile.TemporaryDirectory() as name:
        os.environ["MKFA_HOME"] = name + "/home"
        folder = Path(name) / "work"
        folder.mkdir()
        prepare(folder)
        for verb in verbs:
            calm, times = Calm(verb, folder), max(1, round(count / len(verbs)))
            said: list[str] = []
            started = time.monotonic()
            for _ in range(times):
                number = rng.choice((signal.SIGINT,) * 3 + (signal.SIGTERM, signal.SIGHUP))
                said.append(calm.interrupt(rng.uniform(START, max(calm.seconds, 2 * START)), number))
            bad = [text for text in said if text]
            wrong += len(bad)
            each = (time.monotonic() - started) / times
            print(
                f"{verb:20} {times - len(bad):4} of {times} well, {calm.seconds:.1f} s undisturbed, {each:.1f} s each"
            )
            for text in bad:
                print("   ", text, flush=True)
    return wrong


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(int(words[0]) if words else 200, words[1:] or list(VERBS)) > 0)
