"""What the READMEs show is true: their commands parse, their Python runs, their files exist."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from mkfa.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "figures" / "README.md", ROOT / "tests" / "benchmarks" / "README.md"]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def commands() -> list[str]:
    """Return every `mkfa ...` that a page shows, in a console block or between backticks."""
    shown: list[str] = []
    for page in PAGES:
        text = page.read_text()
        shown += re.findall(r"^\$ (?:[A-Z_]+=\S+ )*(mkfa [^#\n]*)", text, re.MULTILINE)
        shown += [c.replace("\n", " ") for c in re.findall(r"`(mkfa [a-z-][^`]*)`", text)]
    return list(dict.fromkeys(c.strip() for c in shown))


@pytest.mark.parametrize("line", commands())
def test_a_shown_command_has_the_options_that_it_names(line):
    words = shlex.split(line)[1:]
    command = get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        inner = command.get_command(None, words[0])
        if inner is None:
            break
        command = inner
        words.pop(0)
    assert command is not get_command(app), f"mkfa has no verb {words[0]}"
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    assert {w.split("=")[0] for w in words if re.match(r"--?[a-z]", w)} <= known


def test_the_shown_python_prints_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    test = doctest.DocTestParser().get_doctest(PAGES[0].read_text().replace("```", ""), {}, "README.md", None, 0)
    done = doctest.DocTestRunner(optionflags=FLAGS).run(test)
    assert done.attempted > 10
    assert not done.failed


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.parent.name)
def test_links_and_paths_of_a_page_exist(page):
    text = page.read_text()
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in x]
    missing = [x for x in links if not (page.parent / x).exists()]
    missing += [
        x for x in re.findall(r"`((?:mkfa|cli|figures|tests|data|\.ci)/[\w/.]*)`", text) if not (ROOT / x).exists()
    ]
    assert not missing


def test_the_page_is_at_most_250_lines():
    assert len(PAGES[0].read_text().splitlines()) <= 250
