"""Small folders laid out as the real data sets are on disk, read by the real loaders."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from mkfa.errors import MkfaError
from mkfa.images.domain_file import write_domain
from mkfa.images.listing import list_folder, list_named
from mkfa.images.load import domain_facts, facts_to_train, is_domain, load_domain, load_to_train
from mkfa.images.opened import Domains
from mkfa.images.registry import NATURAL, datasets_folder, registry
from mkfa.storage.file_rows import Rows
from mkfa.training.recipe import load_recipe

SMOKE = load_recipe("smoke")


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
    meta = {
        "train": {"apple_pie": ["apple_pie/1", "apple_pie/2"], "tacos": ["tacos/3"]},
        "test": {"apple_pie": ["apple_pie/4"], "tacos": ["tacos/5"]},
    }
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
    assert load_domain("food", size=8).x_train.shape == (3, 8, 8, 3)


def test_pets_takes_trainval():
    root = root_of("pets") / "oxford-iiit-pet"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\nbeagle_2 2 2 1\n")
    (root / "annotations" / "test.txt").write_text("beagle_3 2 2 1\n")
    for image in ("Abyssinian_1", "beagle_2", "beagle_3"):
        picture(root / "images" / f"{image}.jpg")
    found = list_named(registry()["pets"])
    assert found.classes == ("Abyssinian", "Beagle")
    assert (names(found.train), found.train.labels.tolist()) == (
        ["images/Abyssinian_1.jpg", "images/beagle_2.jpg"],
        [0, 1],
    )
    assert (names(found.test), found.test.labels.tolist()) == (["images/beagle_3.jpg"], [1])


def test_flowers_takes_train_and_val(monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import Flowers102

    root = root_of("flowers") / "flowers-102"
    for i in range(1, 7):
        picture(root / "jpg" / f"image_{i:05d}.jpg", i)
    savemat(root / "imagelabels.mat", {"labels": [[1, 2, 102, 2, 7, 8]]})
    savemat(root / "setid.mat", {"trnid": [[1, 6]], "valid": [[3, 5]], "tstid": [[2, 4]]})
    known = {
        key: (name, md5(root / name) if (root / name).is_file() else digest)
        for key, (name, digest) in Flowers102._file_dict.items()
    }
    monkeypatch.setattr(Flowers102, "_file_dict", known)
    found = list_named(registry()["flowers"])
    assert names(found.train) == [f"jpg/image_0000{i}.jpg" for i in (1, 6, 3, 5)]
    assert found.train.labels.tolist() == [0, 7, 101, 6]
    assert found.test.labels.tolist() == [1, 1]
    assert len(found.classes) == 102
    assert load_domain("flowers", size=8).y_train.tolist() == [0, 7, 101, 6]


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
    notes = []
    domain = load_domain("cifar10", notify=notes.append)
    assert (domain.x_train.shape, domain.x_test.shape) == ((10, 32, 32, 3), (2, 32, 32, 3))
    pixels = np.concatenate(list(cifar.values())).transpose(0, 2, 3, 1)
    assert np.array_equal(np.concatenate([domain.x_train, domain.x_test]), pixels)
    assert domain.y_train.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert domain.classes[9] == "class 9"
    assert "decoding cifar10 once, at 32 px" in notes[0]
    said = len(notes)
    again = load_domain("cifar10", notify=notes.append)
    assert (again.digest, len(notes)) == (domain.digest, said)
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
    pixels.tofile(root / "unlabeled_X.bin")
    (root / "class_names.txt").write_text("\n".join(f"c{i}" for i in range(10)))
    (root / "fold_indices.txt").write_text("")
    for kind in ("train_list", "test_list"):
        monkeypatch.setattr(STL10, kind, [[n, md5(root / n)] for n, _ in getattr(STL10, kind)])
    found = list_named(registry()["stl10"])
    loader = STL10(str(root.parent), split="train")
    assert np.array_equal(found.train.pixels[1], np.asarray(loader[1][0]))
    assert found.test.labels.tolist() == [0, 9, 1]
    assert (len(found.train), len(found.test)) == (3, 3)  # none of the unlabelled images
    assert load_domain("stl10").y_train.tolist() == [0, 9, 1]


def test_sketch_reads_domainnets_lists():
    root = root_of("sketch")
    root.mkdir(parents=True)
    (root / "sketch_train.txt").write_text("sketch/cat/a b_1.jpg 1\nsketch/aircraft_carrier/x_2.jpg 0\n")
    (root / "sketch_test.txt").write_text("sketch/cat/c_3.jpg 1\n")
    for image in ("cat/a b_1.jpg", "aircraft_carrier/x_2.jpg", "cat/c_3.jpg"):
        picture(root / "sketch" / image)
    found = list_named(registry()["sketch"])
    assert found.classes == ("aircraft_carrier", "cat")
    assert load_domain("sketch", size=8).y_train.tolist() == [1, 0]
    assert names(found.train) == ["cat/a b_1.jpg", "aircraft_carrier/x_2.jpg"]
    assert found.train.labels.tolist() == [1, 0]
    (root / "sketch_test.txt").write_text("cat c_3.jpg\n")
    with pytest.raises(MkfaError, match="does not have lines"):
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


@pytest.fixture
def mine(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        for c, name in enumerate(("b", "a")):
            for i in range(count):
                picture(tmp_path / "mine" / part / name / f"{i}.png", 10 * c + i, size=(24, 16))
    (tmp_path / "mine" / "train" / "a" / "notes.txt").write_text("not an image")
    return tmp_path / "mine"


def test_any_image_folder_is_a_domain(mine):
    notes, counts = [], []
    domain = load_domain(mine, size=16, notify=notes.append, progress=lambda done, total: counts.append((done, total)))
    assert (domain.name, domain.classes, domain.size) == ("mine", ("a", "b"), 16)
    assert (domain.y_train.tolist(), domain.y_test.tolist()) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    with Image.open(mine / "train/a/0.png") as first:
        assert np.array_equal(domain.x_train[0], np.asarray(first)[:, 4:20])
    assert notes[0].startswith("decoding mine once, at 16 px, into ")
    assert notes[1].startswith("mine: 2 classes; images per class: 3 to train, 2 to test; pixels have mean ")
    assert notes[2:] == ["mine: 4 test images are among the training images too, so that accuracy is too high"]
    assert counts[-1] == (10, 10)
    assert load_domain(str(mine), size=16, notify=notes.append).digest == domain.digest
    assert len(notes) == 3  # found again
    (mine / "train/a/9.png").write_bytes(b"nonsense")
    assert len(load_domain(mine, size=16, notify=notes.append).x_train) == 6  # the folder changed: decoded again
    assert (
        notes[4] == f"left out images that cannot be decoded: {mine}/train/a/9.png (is not an image that Pillow reads)"
    )


def test_an_image_that_was_written_over_is_noticed(mine):
    before = load_domain(mine, size=16)
    file, other = mine / "train/a/0.png", mine / "train/b/1.png"
    data = other.read_bytes()
    file.write_bytes(data + bytes(max(0, file.stat().st_size - len(data))))
    assert load_domain(mine, size=16).digest != before.digest


def test_a_folder_is_packed_at_the_recipes_size_at_once(mine):
    for size, max_size, side in ((0, 0, 64), (0, 32, 32), (0, 224, 64), (16, 0, 16), (48, 8, 48)):
        assert load_to_train(mine, size=size, max_size=max_size).size == side
    packed = {p.name.rsplit("_", 1)[1] for p in (datasets_folder() / "packed").glob("domain_mine*.h5")}
    assert packed == {"64.h5", "32.h5", "16.h5", "48.h5"}


def test_a_large_folder_is_never_taken_at_another_size_than_asked_for(mine, monkeypatch):
    load_to_train(mine, size=0, max_size=8)
    monkeypatch.setattr("mkfa.images.load.DECODE_UNASKED", 1000)
    with pytest.raises(MkfaError, match=r"run: mkfa domains pack .*mine --size 16"):
        load_to_train(mine, size=16, max_size=0)
    assert load_to_train(mine, size=0, max_size=8).size == 8


def test_a_data_set_of_the_registry_is_packed_no_larger_than_the_recipe_wants(cifar):
    assert load_to_train("cifar10", size=0, max_size=16).size == 16
    assert [p.name for p in (datasets_folder() / "packed").glob("*.h5")] == ["domain_cifar10_16.h5"]
    assert load_to_train("letters", size=0, max_size=64).size == 32
    assert load_to_train("letters", size=224, max_size=0).size == 32  # the trainer scales it


def test_a_data_set_unpacked_elsewhere_is_the_same_domain(cifar, tmp_path):
    named = load_domain("cifar10")
    elsewhere = tmp_path / "disk"
    root_of("cifar10").rename(elsewhere)
    for path in (elsewhere, elsewhere / "cifar-10-batches-py"):
        assert is_domain(path)
        found = load_domain(path)
        assert (found.name, found.size, found.digest) == ("cifar10", 32, named.digest)
    assert load_to_train(elsewhere, size=0, max_size=16).size == 16


def test_what_is_a_domain_and_what_is_not(mine, tmp_path):
    file = write_domain(load_domain("digits"), tmp_path / "own.h5", facts={})
    (tmp_path / "other").mkdir()
    (tmp_path / "bad.h5").write_bytes(b"nonsense")
    assert is_domain("food") and is_domain(mine) and is_domain(str(file))
    assert not any(is_domain(p) for p in (tmp_path / "other", tmp_path / "bad.h5", "nothing", tmp_path / "gone.h5"))
    for gone in ("./gone", "/gone/away", "~/gone"):
        with pytest.raises(MkfaError, match=f"{gone}: does not exist; check the path"):
            load_domain(gone)


def test_two_domains_of_one_name_are_not_mistaken_for_each_other(mine, tmp_path):
    domains = Domains(SMOKE.size, SMOKE.max_size)
    other = tmp_path / "copy" / "mine"
    shutil.copytree(mine, other)
    assert domains[str(other)].digest == domains[str(mine)].digest == domains["mine"].digest
    assert (domains.asked_as("mine"), domains.asked_as("letters")) == (str(other), "letters")
    picture(mine / "train/a/0.png", 77)
    domains = Domains(SMOKE.size, SMOKE.max_size)
    assert domains[str(other)].name == "mine"
    with pytest.raises(MkfaError, match=r"copy/mine, but different images; rename"):
        domains[str(mine)]
    bundled = str(mine.rename(tmp_path / "digits"))
    for first, second in ((bundled, "digits"), ("digits", bundled)):
        domains = Domains(SMOKE.size, SMOKE.max_size)
        assert domains[first].name == "digits"
        with pytest.raises(MkfaError, match="but different images"):
            domains[second]


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [
        ("food", 75750, 25250, 101),
        ("pets", 3680, 3669, 37),
        ("flowers", 1020 + 1020, 6149, 102),
        ("cifar10", 50000, 10000, 10),
        ("stl10", 5000, 8000, 10),
        ("sketch", 48212, 20916, 345),
        ("imagenet", 1281167, 50000, 1000),
        ("imagenet-manmade", 0, 551 * 50, 551),
        ("imagenet-natural", 0, 449 * 50, 449),
    ],
)
def test_the_registry_tells_the_papers_splits(name, train, test, classes):
    info = registry()[name]
    assert (info.train, info.test, info.classes) == (train, test, classes)


@pytest.mark.parametrize(
    ("name", "folder", "notes"),
    [
        ("food", "food-101", "Food101"),
        ("pets", "oxford-iiit-pet", "OxfordIIITPet"),
        ("flowers", "flowers-102", "Flowers102"),
        ("cifar10", "cifar-10-batches-py", "CIFAR10"),
        ("stl10", "stl10_binary", "STL10"),
        ("sketch", "sketch", "sketch_train.txt"),
        ("imagenet", "train", "val/WNID"),
        ("imagenet-manmade", "train", "val/WNID"),
        ("imagenet-natural", "train", "val/WNID"),
    ],
)
def test_a_data_set_that_is_half_there_says_where_it_is_and_what_to_run(name, folder, notes):
    info = registry()[name]
    (info.root / folder).mkdir(parents=True)
    with pytest.raises(MkfaError) as caught:
        load_domain(name)
    text = str(caught.value)
    assert str(info.root) in text and notes in text and f"{info.megabytes:,} MB" in text
    assert "{" not in text and "\n" not in text


def test_a_folder_that_is_no_image_folder_is_refused(tmp_path):
    with pytest.raises(MkfaError, match="has no folder train"):
        list_folder(tmp_path)
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
    with pytest.raises(MkfaError, match="has no images"):
        list_folder(tmp_path)


def test_a_very_large_set_is_not_decoded_unasked(cifar, monkeypatch):
    monkeypatch.setattr("mkfa.images.load.DECODE_UNASKED", 1000)
    with pytest.raises(MkfaError, match="run: mkfa domains pack cifar10 --size 32"):
        load_domain("cifar10")
    assert not list(datasets_folder().glob("packed/*"))


def test_facts_need_no_decoding(mine):
    facts = domain_facts(mine, size=16)
    assert (facts.name, facts.classes, facts.train, facts.test) == ("mine", ("a", "b"), 6, 4)
    assert (facts.size, facts.digest) == (16, "")
    assert not (datasets_folder() / "packed").exists()
    domain = load_domain(mine, size=16)
    assert domain_facts(mine, size=16).digest == domain.digest
    assert facts_to_train(mine, size=0, max_size=32).size == load_to_train(mine, size=0, max_size=32).size == 32
    assert facts_to_train("letters", size=224, max_size=0) == domain_facts("letters")
    assert Domains(16, 0).facts(str(mine)) == domain_facts(mine, size=16)
    with pytest.raises(MkfaError, match="is not on this machine"):
        domain_facts("food")
