"""Progress is silent, or a function of (done, total)."""

from __future__ import annotations

import pytest

from mkfa.progress import follow


def test_a_function_hears_what_is_done_and_the_total():
    heard = []
    with follow(lambda done, total: heard.append((done, total)), "work", 3) as advance:
        advance(1)
        advance(2)
    assert heard == [(1, 3), (3, 3)]


@pytest.mark.parametrize("progress", [None, False, True])
def test_silence_and_a_bar_that_no_terminal_shows(progress, capsys):
    with follow(progress, "work", 2) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")
