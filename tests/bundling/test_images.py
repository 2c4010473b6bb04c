"""The rules that split and guard the bundled domains, on made samples."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mkfa.bundling import images as build_domains
from mkfa.bundling.drawn import Samples
from mkfa.bundling.images import RECIPES, assemble, box_average, leaked, main, split_by_group
from mkfa.images.registry import bundled_domains


def test_a_group_is_on_one_side_and_each_class_has_about_a_fifth():
    rng = np.random.default_rng(0)
    groups = [f"g{i}" for i in rng.integers(0, 120, 900)]
    labels = [int(g[1:]) % 3 for g in groups]
    test = split_by_group(labels, groups)
    assert all(len({bool(t) for t, h in zip(test, groups, strict=True) if h == g}) == 1 for g in set(groups))
    for label in range(3):
        share = test[np.array(labels) == label].mean()
        assert 0.2 <= share <= 0.26  # the last group may overshoot by up to 5 % of the class
    assert np.array_equal(test, split_by_group(labels, groups))


def test_box_averages_are_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    small = box_average(pixels, 4)
    assert small[1, 3, 0, 2] == np.rint(pixels[1, 6:8, 0:2, 2].mean(dtype=np.float64))
    assert box_average(pixels, 8) is pixels


def test_test_images_that_look_like_train_images_are_dropped():
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (4, 16, 16, 1), dtype=np.uint8)
    near = train[2].copy()
    near[0, 0] ^= 1  # too small a change for a thumbnail of 16 levels
    other = rng.integers(0, 256, (1, 16, 16, 1), dtype=np.uint8)
    pixels = np.concatenate([train, near[None], other])
    mask = np.array([0, 0, 0, 0, 1, 1], bool)
    assert leaked(pixels, mask).tolist() == [False] * 4 + [True, False]
    samples = Samples(["a", "b"], list(pixels), [0, 1, 0, 1, 0, 1], [str(i) for i in range(6)], mask.tolist())
    domain, dropped = assemble(RECIPES[0], samples, size=16)
    assert (len(domain.x_train), len(domain.x_test), dropped) == (4, 1, 1)
    samples.guard = False
    assert len(assemble(RECIPES[0], samples, size=16)[0].x_test) == 2
    assert len(assemble(RECIPES[0], samples, size=16, cap=(3, 1))[0].x_train) == 3


def test_the_index_says_what_the_recipes_say():
    for recipe in RECIPES:
        if recipe.bundled:
            entry = bundled_domains()[recipe.name]
            told = (entry["title"], entry["licence"], entry["split_rule"], tuple(entry["packages"]))
            assert told == (recipe.title, recipe.licence, recipe.split_rule, recipe.packages)
    assert "photos" not in bundled_domains()


def test_packages_that_are_not_there_are_named(tmp_path, capsys):
    assert main(["--only", "letters", "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o")]) == 2
    assert "deb:fonts-aenigma" in capsys.readouterr().err


def test_a_bundle_keeps_the_entries_that_were_not_made_again(tmp_path, monkeypatch):
    made = {"train": 5, "test": 1, "bytes": 2, "file": "f", "digest": ""}
    monkeypatch.setattr(build_domains, "build", lambda *_, **__: [made])
    (tmp_path / "domains.json").write_text(json.dumps({"domains": {"clipart": {"train": 9}}}))
    assert main(["--only", "letters", "--bundle", "--work", str(tmp_path), "--out", str(tmp_path)]) == 0
    assert list(json.loads((tmp_path / "domains.json").read_text())["domains"]) == ["clipart", "letters"]


@pytest.mark.parametrize("kind", ["apt-get", "npm"])
def test_a_client_that_is_missing_is_named(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    name = {"apt-get": "letters", "npm": "emoji"}[kind]
    assert main(["--only", name, "--fetch", "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o")]) == 1
    assert f"needs the program {kind}" in capsys.readouterr().err
