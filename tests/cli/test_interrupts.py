"""Ctrl-C, SIGTERM and SIGHUP at any moment: one line, exit code 128 and the signal, nothing half-written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from interrupting import VERBS, Calm, prepare

from mkfa.cli import app as command_line

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
PROGRAM = """
import os, signal, sys, time
from mkfa.cli import app, verbs
from mkfa.cli.shared import interrupts
interrupts.PATIENCE = 1000  # what ends, ends because it heard the signal, and not sooner on a quick machine
{body}
verbs.run = work
sys.argv = ["mkfa", "banks"]
print("ready", flush=True)
app.main()
"""
CALLBACK = """
def work():
    class Fragile:
        def __del__(self):
            print("in", flush=True)
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                pass
    made = Fragile()
    del made  # an exception in here is lost
    time.sleep(100)
"""
COMPILED = """
def work():
    import re
    print("in", flush=True)
    re.match("(a*)*b", "a" * 40)  # Python's handlers wait until it is over
"""
STUBBORN = """
def work():
    print("in", flush=True)
    while True:
        try:
            time.sleep(100)
        except KeyboardInterrupt:
            pass
"""
WAITING = """
def work():
    print("in", flush=True)
    time.sleep(100)
"""
ENDING = """
def work():
    import atexit
    atexit.register(lambda: (print("in", flush=True), time.sleep(5)))
    return 0
"""


def stop(body: str, *numbers: int, pause: float = 0.3) -> tuple[int, str, float]:
    """Send signals to a command whose work is `body`; return exit code, errors and seconds until it ended."""
    words = [sys.executable, "-c", PROGRAM.format(body=body)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "in":
            assert process.poll() is None
        started = time.monotonic()
        for i, number in enumerate(numbers):
            time.sleep(pause if i else 0.05)
            process.send_signal(number)
        _, errors = process.communicate(timeout=200)
        return process.returncode, errors, time.monotonic() - started


LINE = "mkfa: stopped; what was finished is kept.\n"


@posix
@pytest.mark.parametrize("body", [WAITING, CALLBACK], ids=["waiting", "lost in a callback"])
def test_the_work_is_stopped(body):
    code, errors, seconds = stop(body, signal.SIGINT)
    assert (code, errors) == (130, LINE)
    assert seconds < 80


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_are_named(name):
    number = getattr(signal, name)
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("these tests run below nohup, and so do the programs that they start")
    code, errors, _ = stop(WAITING, number)
    assert (code, errors) == (128 + number, f"mkfa: stopped by {name}; what was finished is kept.\n")


@posix
def test_a_hang_up_that_nohup_ignores_stays_ignored():
    body = "signal.signal(signal.SIGHUP, signal.SIG_IGN)" + WAITING.replace("sleep(100)", "sleep(1); return 7")
    assert stop(body, signal.SIGHUP)[:2] == (7, "")


def test_an_error_that_was_made_of_it_is_not_shown(monkeypatch, capsys):
    from mkfa.cli.shared.interrupts import INTERRUPTS
    from mkfa.cli.verbs import report

    monkeypatch.setattr(INTERRUPTS, "raised", True)
    monkeypatch.setattr(INTERRUPTS, "told", False)
    assert report(ImportError("odd")) == 130
    assert capsys.readouterr().err == LINE


@posix
@pytest.mark.parametrize("body", [STUBBORN, COMPILED], ids=["does not end", "compiled code"])
def test_a_second_signal_ends_at_once(body):
    code, errors, seconds = stop(body, signal.SIGINT, signal.SIGINT)
    assert (code, errors) == (130, LINE)
    assert seconds < 80


@posix
def test_a_signal_when_all_is_done():
    assert stop(ENDING, signal.SIGINT)[:2] in ((130, LINE), (0, ""))


@posix
def test_during_imports(tmp_path):
    """No library gets an exception where it does not expect one."""
    (tmp_path / "slow.py").write_text(
        "import time\nprint('in', flush=True)\ntry:\n    time.sleep(100)\nexcept BaseException:\n    raise OSError\n"
    )
    code, errors, seconds = stop(
        f"sys.path.insert(0, {str(tmp_path)!r})\ndef work():\n    import slow\n", signal.SIGINT
    )
    assert (code, errors) == (130, LINE)
    assert seconds < 80


@posix
def test_while_a_function_is_compiled(tmp_path):
    """The compiler is native code with callbacks into Python: an exception out of one has crashed it."""
    inner = "print('in', flush=True)\ntry:\n    time.sleep(100)\nexcept BaseException:\n    raise OSError\n"
    body = f"def work():\n    exec(compile({inner!r}, '/lib/numba/core/compiler.py', 'exec'), {{'time': time}})\n"
    code, errors, seconds = stop(body, signal.SIGINT)
    assert (code, errors) == (130, LINE)
    assert seconds < 80


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted") / "work"
    folder.mkdir()
    prepare(folder)
    return folder


QUICK = ("harvest", "banks")
TRIED = (*QUICK, "assign", "compare", "figure", "pack", "train in processes", "transfer-curve", "work", "report")
"""One verb of each kind; `tests/benchmarks/interrupt.py` tries all, for which a test run has no time."""


def test_no_verb_is_left_out():
    tried = {command.split()[0] for command in VERBS.values()}
    assert tried == set(command_line.VERBS) - {"demo"}  # the demo runs other verbs


@posix
@pytest.mark.parametrize("verb", [pytest.param(v, marks=() if v in QUICK else pytest.mark.slow) for v in TRIED])
def test_every_verb(inputs, verb):
    rng, calm = random.Random(verb), Calm(verb, inputs)
    wrong = [calm.interrupt(rng.uniform(0.3, max(0.6, calm.seconds))) for _ in range(3 if calm.seconds < 3 else 1)]
    assert not any(wrong), "\n".join(filter(None, wrong))
