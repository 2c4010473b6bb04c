"""Tables fit the terminal without cutting a number or a word; prose wraps to it."""

from __future__ import annotations

import re

import pytest

from mkfa.cli.shared.printing import print_table, say, shorten, show, words


def test_tables_show_text_as_it_is_and_numbers_short(capsys):
    print_table("[bold]", ("name", "x"), [("[red]a[/red]", 1 / 3), ("b", float("nan")), (None, 12)], notes=["A note."])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["[bold]"], ["name", "x"], ["[red]a[/red]", "0.333"], ["b", "–"], ["–", "12"], ["A", "note."]]
    assert show(2.0) == "2.000"
    assert [show(x) for x in (2e-4, -2e-5, 0.0, 4e-4, 6e-4)] == ["0.0002", "-2e-05", "0.000", "0.0004", "0.001"]


def test_prose_is_wrapped_at_100_characters_or_at_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    say("word " * 50)
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [99, 99, 49]
    monkeypatch.setenv("COLUMNS", "60")
    say("word " * 20)
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 60


def test_a_name_is_shortened_in_the_middle():
    assert shorten("convnext_base.fb_in22k_ft_in1k", 15) == "convnex…ft_in1k"
    assert len(shorten("x" * 99, 15)) == 15
    assert shorten("short", 15) == "short"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_wide_table_is_split_and_loses_nothing(capsys, monkeypatch, width):
    columns = ("bank", "trained on", *(f"measure number {i}" for i in range(14)))
    rows = [
        (
            f"tf_efficientnet_lite{j}.with_a_very_long_tag_in1k",
            "ImageNet, twelve thousand classes",
            *range(10**6 + j, 10**6 + j + 14),
        )
        for j in range(3)
    ]
    monkeypatch.setenv("COLUMNS", "400")
    print_table("A table", columns, rows, left=2)
    whole = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("A table", columns, rows, left=2)
    narrow = capsys.readouterr().out
    assert max(len(line) for line in narrow.splitlines()) <= width
    numbers = re.findall(r"\b\d{7}\b", whole)
    assert len(numbers) == 42
    assert sorted(re.findall(r"\b\d{7}\b", narrow)) == sorted(numbers)
    assert "twelve" in narrow and "…" in narrow


def test_lists_are_joined_by_commas():
    assert words(" a, b,,c ") == ["a", "b", "c"]
    assert words(" ") == []
