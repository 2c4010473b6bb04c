"""Output that is closed, full, narrow or ASCII: the work goes on, and the command says at its end what it could not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mkfa.cli.shared.streams import Screen, degrade

MKFA = f"{sys.executable} -m mkfa.cli.app"
KEYS = "keys ppocrv4_det --kernel-size 3x3 --keys 4 --candidates 12 --sample 300"


def shell(command: str, **variables: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command line in which `mkfa` stands for this one."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL")}
    words = ["bash", "-o", "pipefail", "-c", command.replace("mkfa ", f"{MKFA} ")]
    done = subprocess.run(words, env=kept | variables, capture_output=True)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_reader_that_went_away_stops_nothing(tmp_path):
    assert shell(f"mkfa {KEYS} --out {tmp_path}/k.json | true") == (0, "", "")
    assert json.loads((tmp_path / "k.json").read_text())["format"] == "mkfa.keys"


@pytest.mark.parametrize("command", ["banks", "banks --json", "--help", "--version", "domains"])
def test_output_that_nobody_reads(command):
    assert shell(f"mkfa {command} | true") == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", ["banks", "banks --json", "--help", "explain floor"])
def test_a_full_disk_behind_stdout(command):
    code, _, said = shell(f"mkfa {command} > /dev/full")
    assert code == 1
    assert said.startswith("mkfa: standard output: cannot be written (No space left on device);")
    assert said.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_stderr():
    assert shell("mkfa show nosuch 2> /dev/full") == (2, "", "")


@pytest.mark.parametrize(
    ("command", "code"),
    [("banks >&-", 0), ("show nosuch 2>&-", 2), ("banks <&- >&- 2>&-", 0), ("banks --json 2>&-", 0)],
)
def test_closed_streams(command, code):
    done = shell(f"mkfa {command}")
    assert (done[0], done[2]) == (code, "")


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path):
    assert shell(f"mkfa {KEYS} --out {tmp_path}/k.json <&- >&- 2>&-")[0] == 0
    assert json.loads((tmp_path / "k.json").read_text())["format"] == "mkfa.keys"


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("command", [KEYS, "--help", "explain", "show nosuch-ü→²"])
def test_an_ascii_terminal(command, variables):
    code, output, errors = shell(f"mkfa {command}", **variables)
    assert code == (2 if "nosuch" in command else 0)
    assert (output + errors).isascii()
    if command == KEYS:
        assert "null R^2" in output
    assert "UnicodeEncodeError" not in errors and "internal error" not in errors


@pytest.mark.parametrize("variables", [{"COLUMNS": "20"}, {"COLUMNS": "0"}, {"COLUMNS": "x"}, {"TERM": "dumb"}])
def test_odd_terminals(variables):
    code, output, errors = shell("mkfa banks", **variables)
    assert (code, errors) == (0, "")
    assert "efficientnet" in output and "\x1b" not in output


def test_characters_that_ascii_lacks():
    assert degrade("a–b → c² ≤ é … 漢") == "a-b -> c^2 <= e ... ?"


def test_what_a_terminal_obeys_does_not_pass(tmp_path):
    with (tmp_path / "out").open("w+b") as file:
        screen = Screen(file, "utf-8", "mkfa.degrade")
        screen.write("a\x1b]0;owned\x07 \x1b[1mbold\x9b \u202e\u200b\r\tb\ud800\n")
        screen.flush()
        assert (tmp_path / "out").read_text() == "a\ufffd]0;owned\ufffd \ufffd[1mbold\ufffd \ufffd\ufffd \tb?\n"
