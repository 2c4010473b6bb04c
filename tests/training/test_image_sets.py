"""Small folders laid out as the real data sets are on disk, read by the real loaders."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from mkfa.errors import MkfaError
from mkfa.rows import Rows
from mkfa.training.domains import load_domain
from mkfa.training.image_sets import list_folder, list_named
from mkfa.training.registry import NATURAL, datasets_folder, registry


def picture(path, seed=0, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def root_of(name):
    return registry()[name].root


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def names(side):
    return [f"{f.parent.name}/{f.name}" for f in side.files]


def test_food_101():
    root = root_of("food") / "food-101"
    meta = {"train": {"apple_pie": ["apple_pie/1", "apple_pie/2"], "tacos": ["tacos/3"]},
            "test": {"apple_pie": ["apple_pie/4"], "tacos": ["tacos/5"]}}  # fmt: skip
    (root / "meta").mkdir(parents=True)
    for part, entries in meta.items():
        (root / "meta" / f"{part}.json").write_text(json.dumps(entries))
        for group in entries.values():
            for image in group:
                picture(root / "images" / f"{image}.jpg")
    found = list_named(registry()["food"])
    assert found.classes == ("apple_pie", "tacos")
    assert names(found.train) == ["apple_pie/1.jpg", "apple_pie/2.jpg", "tacos/3.jpg"]
    assert (found.train.labels.tolist(), found.test.labels.tolist()) == ([0, 0, 1], [0, 1])


def test_pets_takes_trainval():
    root = root_of("pets") / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\nbeagle_2 2 2 1\n")
    (root / "annotations" / "test.txt").write_text("beagle_3 2 2 1\n")
    for image in ("Abyssinian_1", "beagle_2", "beagle_3"):
        picture(root / "images" / f"{image}.jpg")
    found = list_named(registry()["pets"])
    assert found.classes == ("Abyssinian", "Beagle")
    assert (names(found.train), found.train.labels.tolist()) == (["images/Abyssinian_1.jpg", "images/beagle_2.jpg"],
                                                                 [0, 1])  # fmt: skip
    assert (names(found.test), found.test.labels.tolist()) == (["images/beagle_3.jpg"], [1])


def test_flowers_takes_train_and_val(monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    root = root_of("flowers") / "flowers-102"
    for i in range(1, 7):
        picture(root / "jpg" / f"image_{i:05d}.jpg", i)
    savemat(root / "imagelabels.mat", {"labels": [[1, 2, 102, 2, 7, 8]]})
    savemat(root / "setid.mat", {"trnid": [[1, 6]], "valid": [[3, 5]], "tstid": [[2, 4]]})
    known = {key: (name, md5(root / name) if (root / name).is_file() else digest)
             for key, (name, digest) in Flowers102._file_dict.items()}  # fmt: skip
    monkeypatch.setattr(Flowers102, "_file_dict", known)
    found = list_named(registry()["flowers"])
    assert names(found.train) == [f"jpg/image_0000{i}.jpg" for i in (1, 6, 3, 5)]
    assert found.train.labels.tolist() == [0, 7, 101, 6]
    assert found.test.labels.tolist() == [1, 1]
    assert len(found.classes) == 102


@pytest.fixture
def cifar(monkeypatch):
    from torchvision.datasets import CIFAR10

    root = root_of("cifar10") / CIFAR10.base_folder
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    files = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    batches = {name: rng.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8) for name in files}
    for i, (name, pixels) in enumerate(batches.items()):
        (root / name).write_bytes(pickle.dumps({"data": pixels.reshape(2, -1), "labels": [i, i + 1]}))
    classes = [f"class {i}" for i in range(10)]
    (root / CIFAR10.meta["filename"]).write_bytes(pickle.dumps({"label_names": classes}))
    monkeypatch.setattr(CIFAR10, "train_list", [[n, md5(root / n)] for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[n, md5(root / n)] for n, _ in CIFAR10.test_list])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5(root / CIFAR10.meta["filename"])})
    return batches


def test_cifar10_is_decoded_on_first_use_and_not_resampled(cifar):
    told = []
    domain = load_domain("cifar10", tell=told.append)
    assert (domain.x_train.shape, domain.x_test.shape) == ((10, 32, 32, 3), (2, 32, 32, 3))
    pixels = np.concatenate(list(cifar.values())).transpose(0, 2, 3, 1)
    assert np.array_equal(np.concatenate([domain.x_train, domain.x_test]), pixels)
    assert domain.y_train.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert domain.classes[9] == "class 9"
    assert len(told) == 1 and "decoding cifar10 at 32 px" in told[0]
    again = load_domain("cifar10", tell=told.append)
    assert (again.digest, len(told)) == (domain.digest, 1)
    assert isinstance(again.x_train, Rows)


def test_a_damaged_cifar10_says_what_to_run(cifar):
    (root_of("cifar10") / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"\0")
    with pytest.raises(MkfaError, match=r"cifar10: is incomplete in .*CIFAR10.*170 MB"):
        load_domain("cifar10")


def test_stl10_takes_the_labelled_part(monkeypatch):
    from torchvision.datasets import STL10

    root = root_of("stl10") / STL10.base_folder
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 3, 96, 96), dtype=np.uint8)
    for part in ("train", "test"):
        pixels.tofile(root / f"{part}_X.bin")
        np.array([1, 10, 2], np.uint8).tofile(root / f"{part}_y.bin")
    (root / "unlabeled_X.bin").write_bytes(b"")
    (root / "class_names.txt").write_text("\n".join(f"c{i}" for i in range(10)))
    (root / "fold_indices.txt").write_text("")
    for kind in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, kind, [[n, md5(root / n)] for n, _ in getattr(STL10, kind)])
    found = list_named(registry()["stl10"])
    loader = STL10(str(root.parent), split="train")
    assert np.array_equal(found.train.pixels[1], np.asarray(loader[1][0]))
    assert found.test.labels.tolist() == [0, 9, 1]


def test_sketch_reads_domainnets_lists():
    root = root_of("sketch")
    root.mkdir(parents=True)
    (root / "sketch_train.txt").write_text("sketch/cat/a b_1.jpg 1\nsketch/aircraft_carrier/x_2.jpg 0\n")
    (root / "sketch_test.txt").write_text("sketch/cat/c_3.jpg 1\n")
    found = list_named(registry()["sketch"])
    assert found.classes == ("aircraft_carrier", "cat")
    assert names(found.train) == ["cat/a b_1.jpg", "aircraft_carrier/x_2.jpg"]
    assert found.train.labels.tolist() == [1, 0]
    (root / "sketch_test.txt").write_text("cat c_3.jpg\n")
    with pytest.raises(MkfaError, match="does not hold lines"):
        list_named(registry()["sketch"])


def test_the_halves_of_imagenet_are_classes_in_order_of_their_names():
    root = root_of("imagenet")
    for part in ("train", "val"):
        for i in range(1000):
            folder = root / part / f"n{i:08d}"
            folder.mkdir(parents=True)
            (folder / "1.JPEG").touch()
    whole, natural, made = (list_named(registry()[n]) for n in ("imagenet", "imagenet-natural", "imagenet-manmade"))
    assert [len(s.classes) for s in (whole, natural, made)] == [1000, 449, 551]
    assert sorted(natural.classes + made.classes) == list(whole.classes)
    assert natural.classes[398] == "n00000936" and made.classes[0] == "n00000398"
    assert {int(c[1:]) for c in natural.classes} == {i for a, b in NATURAL for i in range(a, b + 1)}
    assert len(natural.test) == 449
    (root / "val" / "n00000999" / "1.JPEG").unlink()
    (root / "val" / "n00000999").rmdir()
    with pytest.raises(MkfaError, match="n00000999 on one side only"):
        list_named(registry()["imagenet"])


def test_any_image_folder_is_a_domain(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for c, name in enumerate(("b", "a")):
            for i in range(count):
                picture(tmp_path / "mine" / part / name / f"{i}.png", 10 * c + i, size=(24, 16))
    (tmp_path / "mine" / "train" / "a" / "notes.txt").write_text("not an image")
    domain = load_domain(tmp_path / "mine", size=16)
    assert (domain.name, domain.classes, domain.size) == ("mine", ("a", "b"), 16)
    assert (domain.y_train.tolist(), domain.y_test.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    with Image.open(tmp_path / "mine/train/a/0.png") as first:
        assert np.array_equal(domain.x_train[0], np.asarray(first)[:, 4:20])
    picture(tmp_path / "mine/train/a/3.png", 99)
    assert len(load_domain(str(tmp_path / "mine"), size=16).x_train) == 7  # the folder changed: decoded again


def test_a_folder_that_is_no_image_folder_is_refused(tmp_path):
    with pytest.raises(MkfaError, match="has no folder train"):
        list_folder(tmp_path)
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
    with pytest.raises(MkfaError, match="holds no images"):
        list_folder(tmp_path)


def test_a_very_large_set_is_not_decoded_unasked(cifar, monkeypatch):
    monkeypatch.setattr("mkfa.training.domains.DECODE_UNASKED", 1000)
    with pytest.raises(MkfaError, match="run: mkfa domains pack cifar10 --size 32"):
        load_domain("cifar10")
    assert not list(datasets_folder().glob("packed/*"))
