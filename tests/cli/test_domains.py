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


def test_a_folder_that_is_decoded_first_is_described_once(run, folder):
    for _ in range(2):  # decoded, then read from the packed file
        done = run("show", folder, "--size", 8)
        assert " ".join(done.output.split()).count("2 classes; images per class") == 1
        assert done.output.count("one colour only") == 1


def test_pack_names_what_it_left_out(run, folder, tmp_path):
    (folder / "train/c0/2.png").write_bytes(b"\x89PNG")
    done = run("pack", folder, "--out", tmp_path / "p.h5", "--json", "--workers", 1)
    told = json.loads(done.stdout)
    assert (told["train"], told["skipped"]) == (2, [str(folder / "train/c0/2.png")])
    assert "2.png was left out as it cannot be decoded: " in done.stderr
    with pytest.raises(MkfaError, match=r"2\.png: cannot be decoded"):
        run("pack", folder, "--out", tmp_path / "q.h5", "--strict", "--workers", 1)


def test_what_was_packed_is_described_and_drawn(run, folder, tmp_path):
    image = np.full((9, 9, 4), 255, np.uint8)
    Image.fromarray(image).save(folder / "train/c1/1.png")  # white
    Image.fromarray(np.arange(81, dtype=np.uint16).reshape(9, 9) * 50).save(folder / "train/c0/2.png")  # 12 bits
    sheet = tmp_path / "sheet.png"
    done = run("pack", folder, "--size", 9, "--workers", 1, "--contact-sheet", sheet, "--json")
    told = json.loads(done.stdout)
    assert told["overview"]["train"] == [2, 1] and told["overview"]["uniform"] == 5 and told["overview"]["white"] == 1
    assert told["contact_sheet"] == str(sheet)
    with Image.open(sheet) as picture:
        assert min(picture.size) > 100
    for words in (("show", folder), (folder,)):
        text = run(*words, "--size", 9)
        assert "mine: 2 classes; images per class: 1 to 2 (median 1.5) to train" in " ".join(text.stdout.split())
        assert (
            "5 of 6 images show one colour only (2 black, 1 white), such as training image 0 of class c0" in text.stderr
        )
    assert json.loads(run("show", folder, "--size", 9, "--json").stdout)["format"] == "mkfa.domain_overview"
    with pytest.raises(MkfaError, match="exists already"):
        run("show", folder, "--size", 9, "--contact-sheet", sheet)
    with pytest.raises(MkfaError, match="unknown ending"):
        run("pack", folder, "--contact-sheet", tmp_path / "sheet.jpg")


def test_background_and_levels_are_read(run, folder, tmp_path):
    for part in ("train", "test"):
        Image.new("LA", (9, 9), (0, 0)).save(folder / part / "c0/0.png")
        Image.fromarray(np.full((9, 9), 4095, np.uint16)).save(folder / part / "c1/1.png")
    run("pack", folder, "--out", tmp_path / "p.h5", "--size", 8, "--workers", 1)
    assert read_domain(tmp_path / "p.h5").x_train[:, 0, 0].tolist() == [[255] * 3, [80] * 3, [15] * 3]
    words = ("--background", "#0a1400", "--levels", "0,4095")
    run("pack", folder, "--out", tmp_path / "q.h5", "--size", 8, "--workers", 1, *words)
    assert read_domain(tmp_path / "q.h5").x_train[:, 0, 0].tolist() == [[10, 20, 0], [80] * 3, [255] * 3]
    for words in (("--background", "wite"), ("--levels", "9")):
        with pytest.raises(MkfaError, match=words[0]):
            run("pack", folder, "--out", tmp_path / "r.h5", *words)


def test_few_of_many_damaged_images_are_named(run, folder, tmp_path):
    for i in range(13):
        (folder / f"train/c0/x{i:02d}.png").write_bytes(b"")
    done = run("pack", folder, "--out", tmp_path / "p.h5", "--workers", 1)
    assert done.stderr.count("left out as it cannot be decoded: is empty") == 10
    assert "3 more images were left out as undecodable" in done.stderr


def test_a_bundled_domain_needs_no_packing(run):
    with pytest.raises(MkfaError, match="comes packed with mkfa"):
        run("pack", "letters")
