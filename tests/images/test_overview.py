"""Counts, contrast and warnings, against numpy on whole arrays and against planted faults."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.images import describe_domain, load_domain, overview
from mkfa.images.domain_file import make_domain, read_domain, write_domain


def made(seed=0, train=60, test=30, channels=3, classes=("a", "b", "c"), top=256):
    rng = np.random.default_rng(seed)
    sides = [
        (rng.integers(0, top, (n, 8, 8, channels), dtype=np.uint8), np.arange(n, dtype=np.int64) % len(classes))
        for n in (train, test)
    ]
    return sides, classes


def described(sides, classes):
    return describe_domain(make_domain("made", classes, train=sides[0], test=sides[1]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("slab", [1, 1000, 1 << 25])
def test_counts_and_contrast_are_numpys(channels, slab, monkeypatch):
    monkeypatch.setattr(overview, "_SLAB", slab)
    sides, classes = made(channels=channels)
    found = described(sides, classes)
    assert (found.train, found.test) == ((20,) * 3, (10,) * 3)
    assert found.mean == pytest.approx(sides[0][0].mean())
    assert found.sd == pytest.approx(sides[0][0].std(), rel=1e-5)
    assert (found.lowest, found.highest, found.looked_at, found.uniform) == (0, 255, 90, 0)
    assert (found.shared, found.mixed, list(found.warnings())) == (0, 0, [])


def test_planted_faults_are_counted_and_named():
    sides, classes = made()
    (x, _), (x_test, _) = sides
    x[7], x[8], x[9] = 0, 255, 100
    x[10] = np.random.default_rng(0).integers(100, 102, x[10].shape)  # noise of a compressed image
    x_test[3] = x[5]  # also a training image
    x_test[4] = x[7]  # uniform: equal by chance
    x[20] = x[21]  # another class
    found = described(sides, classes)
    assert (found.uniform, found.black, found.white) == (5, 2, 1)
    assert (found.shared, found.mixed) == (1, 1)
    assert list(found.warnings()) == [
        "5 of 90 images show one colour only (2 black, 1 white), such as training image 7 of class b",
        "1 test image is among the training images too, so that accuracy is too high",
        "1 training image equals one of another class",
    ]


def test_classes_without_images_and_wrong_ranges_are_named():
    sides, _ = made()
    found = described(sides, ("a", "b", "c", "d"))
    assert list(found.warnings()) == ["class d has no training image", "class d has no test image"]
    sides, classes = made()
    sides[0][0][1::3] //= 16
    (dark,) = described(sides, classes).warnings()
    assert dark.startswith("class b has no pixel brighter than 64 of 255; if the files hold 10 or 12 bits")
    sides, classes = made(top=16)
    sides = [(255 - x, y) for x, y in sides]
    (pale,) = described(sides, classes).warnings()
    assert pale.startswith("no pixel is darker than 240 of 255")


def test_large_sets_are_sampled_and_say_so(monkeypatch, tmp_path):
    sides, classes = made(train=600, test=300)
    path = write_domain(make_domain("made", classes, train=sides[0], test=sides[1]), tmp_path / "m.h5", facts={})
    monkeypatch.setattr(overview, "LOOKED_AT", sides[0][0].nbytes // 2)
    part = describe_domain(read_domain(path))
    assert part.looked_at == 200 + 100 and part.shared == 0
    assert part.mean == pytest.approx(sides[0][0][::3].mean())
    monkeypatch.setattr(overview, "COMPARED", 1)
    fewer = describe_domain(path)
    assert (fewer.mean, fewer.sd, fewer.looked_at) == pytest.approx((part.mean, part.sd, part.looked_at))
    assert fewer.shared is None and list(fewer.warnings()) == [
        "equal images were not looked for, as the set is larger than 0 GiB"
    ]


def test_the_bundled_sets_have_no_test_image_among_the_training_images():
    for name in ("letters", "fashion", "scripts", "digits", "emoji", "clipart"):
        found = describe_domain(load_domain(name))
        assert (found.shared, found.uniform, sum(found.test)) == (0, 0, len(load_domain(name).y_test))


def test_an_overview_is_a_result(tmp_path):
    found = described(*made())
    assert repr(found).startswith("<Overview: made: 3 classes; images per class: 20 to train, 10 to test; pixels have")
    assert found.rows()[0] == {"class": "a", "train": 20, "test": 10}
    assert found.to_dict()["format"] == "mkfa.domain_overview"
    assert found.save(tmp_path / "o.json").is_file()
