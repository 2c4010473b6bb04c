"""Images from disk on the command line: folders and packed files by path, packed on first use, streamed or resident."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import SMALL, options
from typer.testing import CliRunner

from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.images.registry import datasets_folder

ONCE = (*SMALL, "--seeds", "1", "--jobs", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 4)):
        for name in ("cat", "dog"):
            for i in range(count):
                path = tmp_path / "mine" / part / name / f"{i:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return tmp_path / "mine"


def call(*words: object) -> tuple[str, str]:
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def packed() -> list[Path]:
    return sorted((datasets_folder() / "packed").glob("*.h5"))


def test_train_takes_a_folder_packs_it_once_and_gives_the_same_run_either_way(folder, tmp_path):
    found = {}
    for kind in ("resident", "stream"):
        out, told = call("train", folder, *ONCE, "--data", kind, "--out", tmp_path / kind, "--json")
        (found[kind],) = json.loads(out)["runs"]
        assert ("decoding mine once, at 32 px, into" in told) == (kind == "resident")  # the first time alone
    assert [path.name.rsplit("_", 1)[1] for path in packed()] == ["32.h5"]
    assert found["stream"]["execution"]["data"] == "streamed"
    same = ("weights_sha256", "top1_last", "top1_best", "loss_train", "loss_test", "run")
    assert {k: found["stream"][k] for k in same} == {k: found["resident"][k] for k in same}


def test_source_and_target_take_folders_and_packed_files(folder, tmp_path):
    call("domains", "pack", folder, "--size", 16, "--out", tmp_path / "own.h5", "--workers", 1)
    words = ["--layers", 1, "--arms", "transfer", *ONCE, "--json"]
    out, _ = call("transfer", "--source", folder, "--target", "digits", *words, "--out", tmp_path / "a")
    assert json.loads(out)["cells"][0]["source"] == "mine"
    out, _ = call("transfer", "--source", "digits", "--target", tmp_path / "own.h5", *words, "--out", tmp_path / "b")
    assert json.loads(out)["cells"][0]["target"] == "mine"
    out, _ = call(
        "transfer-matrix",
        "--target",
        f"digits,{folder}",
        *SMALL,
        *options(seeds=1, jobs=1),
        "--json",
        *options(out=tmp_path / "c", layers=1),
    )
    assert json.loads(out)["domains"] == ["digits", "mine"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("train", "{tmp}"), "has no folder train; name "),
        (("train", "{tmp}/mine/train"), "has no folder train"),
        (("train", "./nowhere"), "./nowhere: does not exist"),
        (
            ("train", "digits", "--data", "disk"),
            "--data disk: is not a known image storage mode; take one of auto, resident",
        ),
    ],
)
def test_what_cannot_be_taken_is_told_in_one_sentence(folder, tmp_path, words, told):
    done = CliRunner().invoke(app, [*(w.format(tmp=tmp_path) for w in words), *ONCE, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, MkfaError) and done.exception.exit_code == 2
    assert told in str(done.exception)
    assert not packed() and not list(tmp_path.glob("out/runs/*"))
