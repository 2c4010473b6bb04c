"""The picture shows the pixels of the images it names."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from mkfa.figures.contact_sheet import MOST, compute, draw
from mkfa.images.domain_file import make_domain


def domain(classes, channels=3, size=24):
    rng = np.random.default_rng(0)
    n = 2 * len(classes)
    labels = np.arange(n, dtype=np.int64) % len(classes)
    x = rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    return make_domain("made", classes, train=(x, labels[::-1].copy()), test=(x, labels))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_training_image_of_each_class_is_there_pixel_by_pixel(channels):
    made = domain(("a", "b$x$", "c\n", "猫", os_name := "\\xe9" + "long" * 9), channels)
    data = compute(made)
    assert data.names == made.classes
    for i in range(5):
        assert made.y_train[4 - i] == i
        assert np.array_equal(data.images[i], made.x_train[4 - i])
    figure = draw(data)
    (ax,) = figure.axes
    sheet = np.asarray(ax.images[0].get_array())
    tops = [(r, c) for r in range(sheet.shape[0] - 23) for c in range(sheet.shape[1] - 23)]
    for image in data.images:
        shown = np.broadcast_to(image, (24, 24, 3))
        assert any(
            (sheet[r, c] == shown[0, 0]).all() and np.array_equal(sheet[r : r + 24, c : c + 24], shown) for r, c in tops
        )
    texts = [text.get_text() for text in ax.texts]
    assert texts[:4] == ["a", "b$x$", "c", "猫"] and "…" in texts[4] and len(texts[4]) <= 13 and len(os_name) > 13
    draw(data, ax=Figure().add_subplot())


def test_of_many_classes_evenly_spaced_ones_are_drawn():
    made = domain(tuple(f"c{i:03d}" for i in range(250)), size=4)
    data = compute(made)
    assert len(data.names) == MOST and (data.names[0], data.names[-1]) == ("c000", "c249")
    assert "100 of 250 classes" in data.title
    draw(data)


def test_a_class_without_training_images_is_left_out():
    made = domain(("a", "b"), size=4)
    bare = make_domain("bare", ("a", "b", "c"), train=(made.x_train, made.y_train), test=(made.x_test, made.y_test))
    assert compute(bare).names == ("a", "b")
    assert "2 of 3 classes" in compute(bare).title
