"""Domains by name and path: what is bundled is what the index says; what is missing says how to get it."""

from __future__ import annotations

import copy
import hashlib
import pickle
from importlib.resources import files

import numpy as np
import pytest

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.images.domain_file import DomainError, domain_digest, make_domain, read_domain, write_domain
from mkfa.images.load import domain_info, load_domain
from mkfa.images.registry import bundled_domains, datasets_folder, registry
from mkfa.storage.result_files import write_arrays

BUNDLED = ("letters", "fashion", "scripts", "digits", "emoji", "clipart")


def small(seed=0, n=6, size=8, channels=3, classes=("a", "b", "c")):
    rng = np.random.default_rng(seed)
    sides = []
    for count in (n, n // 2):
        pixels = rng.integers(0, 256, (count, size, size, channels), dtype=np.uint8)
        sides.append((pixels, np.arange(count, dtype=np.int64) % len(classes)))
    return make_domain("made", classes, train=sides[0], test=sides[1], licence="none")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_domain_is_what_the_index_says(name):
    entry = bundled_domains()[name]
    data = files("mkfa.data").joinpath(entry["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert len(data) == entry["bytes"]
    domain = load_domain(name)
    assert (len(domain.x_train), len(domain.x_test), domain.size) == (entry["train"], entry["test"], 32)
    assert (domain.channels, list(domain.classes)) == (entry["channels"], entry["classes"])
    assert domain.digest == entry["digest"]
    assert domain.digest == domain_digest(
        domain.classes, (domain.x_train, domain.y_train), (domain.x_test, domain.y_test)
    )
    for labels in (domain.y_train, domain.y_test):
        assert labels.dtype == np.int64
        assert set(labels.tolist()) == set(range(len(domain.classes)))
    assert domain.licence and entry["source"] and entry["split_rule"]


@pytest.mark.parametrize("name", [n for n in BUNDLED if n != "fashion"])
def test_no_test_thumbnail_is_on_the_train_side(name):
    from mkfa.bundling.images import leaked

    domain = load_domain(name)
    pixels = np.concatenate([domain.x_train, domain.x_test])
    assert not leaked(pixels, np.arange(len(pixels)) >= len(domain.x_train)).any()


def test_the_bundled_domains_fit_their_budget_and_come_largest_first():
    index = bundled_domains()
    assert sum(e["bytes"] for e in index.values()) <= 20_000_000
    assert tuple(index) == BUNDLED
    assert {n for n, i in registry().items() if i.how == "bundled"} == set(BUNDLED)


def test_a_domain_comes_back_as_it_was_written(tmp_path):
    domain = small()
    back = read_domain(write_domain(domain, tmp_path / "made.h5", facts={"source": "here"}))
    assert (back.name, back.classes, back.digest, back.licence) == ("made", ("a", "b", "c"), domain.digest, "none")
    for key in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(back, key), getattr(domain, key))
        assert getattr(back, key).dtype == getattr(domain, key).dtype


def test_the_digest_tells_apart_pixels_labels_classes_and_sides():
    base = small()
    pixels = base.x_train.copy()
    pixels[3, 2, 1, 0] ^= 1
    labels = base.y_test.copy()
    labels[0] = 2
    train, test = (base.x_train, base.y_train), (base.x_test, base.y_test)
    digests = {
        base.digest,
        domain_digest(base.classes, (pixels, base.y_train), test),
        domain_digest(base.classes, train, (base.x_test, labels)),
        domain_digest(("a", "b", "d"), train, test),
        domain_digest(base.classes, test, train),
    }
    assert len(digests) == 5


def test_the_digest_does_not_depend_on_how_the_pixels_are_read(monkeypatch):
    base = small(n=9)
    monkeypatch.setattr("mkfa.images.domain_file._SLAB", 400)
    assert domain_digest(base.classes, (base.x_train, base.y_train), (base.x_test, base.y_test)) == base.digest


def test_a_file_of_the_users_is_found_by_path_and_by_name(tmp_path):
    domain = small()
    path = write_domain(domain, tmp_path / "own.h5", facts={})
    assert load_domain(path).digest == load_domain(str(path), size=8).digest == domain.digest
    with pytest.raises(DomainError, match="available at 8 px, not at 64 px"):
        load_domain(path, size=64)
    info = domain_info("food")
    info.packed(8).parent.mkdir(parents=True)
    write_domain(domain, info.packed(8), facts={})
    assert load_domain("food", size=8).digest == domain.digest


@pytest.mark.parametrize("name", [n for n, i in registry().items() if i.how != "bundled"])
def test_a_missing_data_set_says_where_it_looked_what_to_run_and_how_large_it_is(name):
    info = domain_info(name)
    with pytest.raises(DomainError) as caught:
        load_domain(name)
    text = str(caught.value)
    assert str(datasets_folder() / (info.folder or name)) in text
    assert f"{info.megabytes:,} MB" in text
    assert "run: " in text or "http" in text
    assert "{" not in text


def test_an_unknown_domain_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean letters"):
        load_domain("leters")
    with pytest.raises(UnknownNameError, match="an image folder or a packed file"):
        load_domain("qqqqqqq")


@pytest.mark.parametrize("damage", ["absent", "kind", "truncated", "labels", "float", "shape", "digest", "missing"])
def test_a_damaged_file_is_refused_in_one_sentence(damage, tmp_path):
    domain, path = small(), tmp_path / "made.h5"
    arrays = {k: getattr(domain, k) for k in ("x_train", "y_train", "x_test", "y_test")}
    facts = {"name": "made", "classes": ["a", "b", "c"], "digest": domain.digest}
    if damage == "labels":
        arrays["y_test"] = arrays["y_test"] + 1
    elif damage == "float":
        arrays["x_test"] = arrays["x_test"].astype(np.float32)
    elif damage == "shape":
        arrays["x_test"] = arrays["x_test"][:, :4, :4]
    elif damage == "missing":
        del arrays["y_train"]
    elif damage == "digest":
        del facts["digest"]
    if damage != "absent":
        write_arrays(path, kind="other" if damage == "kind" else "domain", arrays=arrays, attributes=facts)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DomainError) as caught:
        load_domain(path)
    assert isinstance(caught.value, MkfaError)
    assert str(path) in str(caught.value)


def test_the_halves_of_imagenet_are_the_papers():
    from mkfa.images.registry import NATURAL

    assert sum(last - first + 1 for first, last in NATURAL) == 449 == domain_info("imagenet-natural").classes
    assert domain_info("imagenet-manmade").classes == 1000 - 449


def test_a_domain_prints_in_one_line_pickles_and_is_compared_by_content(tmp_path):
    domain = small()
    assert repr(domain) == "<Domain: made, 3 classes, 6 train and 3 test images of 8x8 pixels, in colour>"
    assert domain.rows()[0] == {"class": "a", "train": 2, "test": 1}
    assert "<th>class</th>" in domain._repr_html_()
    back = read_domain(write_domain(domain, tmp_path / "made.h5", facts={}))
    assert back == domain == copy.deepcopy(domain) != small(seed=1)
    assert len({back, domain, pickle.loads(pickle.dumps(back))}) == 1
    assert np.array_equal(pickle.loads(pickle.dumps(back)).x_train, domain.x_train)
