"""Images of folders and domains, their labels, and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import mkfa
from mkfa.errors import MkfaError
from mkfa.grafts.pictures import Reader, find_pictures, network_labels


def fill(folder, names):
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(path)


def to_tensor(picture):
    return torch.tensor(np.asarray(picture)).permute(2, 0, 1).float()


def test_a_folder_of_any_shape(tmp_path):
    fill(tmp_path / "flat", ["a.png", "b.jpg", "deep/er/c.png"])
    found = find_pictures(tmp_path / "flat")
    assert len(found) == 3 and found.classes == ("deep",) and sorted(found.label.tolist()) == [-1, -1, 0]
    fill(tmp_path / "split", ["train/x/a.png", "val/x/b.png", "val/y/c.png"])
    found = find_pictures(tmp_path / "split")
    assert [p.name for p in found.files] == ["b.png", "c.png"] and found.label.tolist() == [0, 1]
    assert "the images in val/ are taken" in found.notes[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(MkfaError, match="has no images"):
        find_pictures(tmp_path / "empty")


def test_a_domain_gives_its_test_images_first(tmp_path):
    domain = mkfa.load_domain("emoji")
    found = find_pictures("emoji")
    assert len(found) == len(domain.x_test) + len(domain.x_train) and found.classes == domain.classes
    tests = len(domain.x_test)
    assert np.array_equal(np.asarray(found.read(3)), domain.x_test[3])
    assert np.array_equal(np.asarray(found.read(tests + 5)), domain.x_train[5])
    gray = find_pictures("digits").read(0)
    assert gray.mode == "RGB" and gray.size == (32, 32)


def test_labels_are_the_networks_or_none(tmp_path):
    fill(tmp_path, ["n2/a.png", "n1/b.png", "n3/c.png"])
    found = find_pictures(tmp_path)
    labels, said = network_labels(found, ("n3", "n2", "n1", "n0"), 4)
    assert labels.tolist() == [2, 1, 0] and "names of the folders" in said
    labels, said = network_labels(found, (), 3)
    assert labels.tolist() == [0, 1, 2] and "sorted by name" in said
    labels, said = network_labels(found, ("cat", "dog", "cow", "pig"), 4)
    assert labels is None and "3 classes of the images are not the network's 4" in said
    labels, _ = network_labels(found, (), 7, given={"n1": 6, "n2": 0, "n3": 5})
    assert labels.tolist() == [6, 0, 5]


def test_batches_keep_the_order_and_leave_out_what_is_damaged(tmp_path):
    fill(tmp_path, [f"{i:02}.png" for i in range(11)])
    (tmp_path / "04.png").write_bytes(b"no image")
    reader = Reader(find_pictures(tmp_path), to_tensor, threads=3)
    batches = list(reader.batches(list(range(10, -1, -1)), 4))
    assert [r for rows, _ in batches for r in rows] == [10, 9, 8, 7, 6, 5, 3, 2, 1, 0]
    assert all(images[i, 0, 0, 0] == row for rows, images in batches for i, row in enumerate(rows))
    assert max(len(rows) for rows, _ in batches) == 4 and list(reader.damaged) == [4]


def test_a_transform_that_gives_several_sizes_is_refused(tmp_path):
    fill(tmp_path, ["a.png"])
    Image.new("RGB", (9, 8)).save(tmp_path / "b.png")
    with pytest.raises(MkfaError, match="give a transform with one size"):
        list(Reader(find_pictures(tmp_path), to_tensor, threads=1).batches([0, 1], 2))
