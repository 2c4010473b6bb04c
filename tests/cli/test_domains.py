"""`mkfa domains` and `mkfa domains pack`."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mkfa.cli import domains
from mkfa.errors import MkfaError
from mkfa.images.domain_file import read_domain
from mkfa.images.registry import datasets_folder, registry


@pytest.fixture
def run():
    app = typer.Typer()
    domains.register(app)
    app.command("other")(lambda: None)
    return lambda *words: CliRunner().invoke(app, ["domains", *map(str, words)], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test"):
        for i in range(3):
            path = tmp_path / "mine" / part / f"c{i % 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((9, 9, 3), 40 * i, np.uint8)).save(path)
    return tmp_path / "mine"


def test_the_list_says_what_is_here_and_what_would_be_fetched(run):
    rows = {row["name"]: row for row in json.loads(run("--json").stdout)["domains"]}
    assert list(rows) == list(registry())
    assert (rows["letters"]["state"], rows["letters"]["classes"]) == ("bundled", 26)
    assert (rows["food"]["state"], rows["food"]["megabytes"]) == ("missing", 4996)
    assert "Food101" in rows["food"]["fetch"]
    (datasets_folder() / "food").mkdir(parents=True)
    assert json.loads(run("--json").stdout)["domains"][0]["state"] == "here"
    text = run().stdout
    assert all(name in text for name in registry())
    assert str(datasets_folder()) in text


def test_pack_writes_where_the_domain_is_found(run, folder):
    done = run("pack", folder, "--size", 8, "--workers", 1)
    assert "Packed 3 train and 3 test images." in done.stdout
    (path,) = (datasets_folder() / "packed").glob("domain_mine-*_8.h5")
    assert read_domain(path).x_train[:, 0, 0, 0].tolist() == [0, 80, 40]
    with pytest.raises(MkfaError, match="exists already"):
        run("pack", folder, "--size", 8)


def test_pack_names_what_it_left_out(run, folder, tmp_path):
    (folder / "train/c0/2.png").write_bytes(b"\x89PNG")
    done = run("pack", folder, "--out", tmp_path / "p.h5", "--json", "--workers", 1)
    told = json.loads(done.stdout)
    assert (told["train"], told["skipped"]) == (2, [str(folder / "train/c0/2.png")])
    assert "2.png cannot be decoded and was left out" in done.stderr
    with pytest.raises(MkfaError, match=r"2\.png: cannot be decoded"):
        run("pack", folder, "--out", tmp_path / "q.h5", "--strict", "--workers", 1)


def test_a_bundled_domain_needs_no_packing(run):
    with pytest.raises(MkfaError, match="comes packed with mkfa"):
        run("pack", "letters")
