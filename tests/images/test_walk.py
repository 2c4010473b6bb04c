"""Folders of images are read as torchvision's users expect, and what is left out is said."""

from __future__ import annotations

import os
import shutil
import socket

import numpy as np
import pytest
from PIL import Image

from mkfa.images.domain_file import DomainError, read_domain
from mkfa.images.listing import is_image_folder, list_folder, list_path
from mkfa.images.load import describe_domain, domain_facts, folder_size, load_domain, pack_domain
from mkfa.images.pack import pack
from mkfa.storage.files import readable

CLASSES = ("b10", "b9", "A", "dog", "café")


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(abs(hash((str(path), seed))) % 2**32).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for name in CLASSES:
            for i in range(count):
                picture(tmp_path / "set" / part / name / f"{i}.png")
    return tmp_path / "set"


def by_torchvision(side):
    from torchvision.datasets import ImageFolder

    found = ImageFolder(str(side))
    return found.class_to_idx, sorted(found.samples)


def listed(side):
    return sorted(zip(map(str, side.files), side.labels.tolist(), strict=True))


def test_classes_labels_and_files_are_torchvisions(folder, tmp_path):
    picture(folder / "train/dog/within/deeper/9.PNG")
    picture(folder / "train/dog/9.JpEg")
    picture(folder / "train/dog.d/x.jpg/1.png")  # a folder named as an image
    picture(folder / "test/dog.d/1.webp")
    (folder / "train/dog/notes.txt").write_text("x")
    elsewhere = tmp_path / "disk"
    picture(elsewhere / "linked.png")
    (folder / "train/A/linked").symlink_to(elsewhere)
    (folder / "train/A/file.png").symlink_to(elsewhere / "linked.png")
    (folder / "train/whole").symlink_to(elsewhere)
    (folder / "test/whole").symlink_to(elsewhere)
    images = list_folder(folder)
    for name, side in (("train", images.train), ("test", images.test)):
        classes, samples = by_torchvision(folder / name)
        assert images.classes == tuple(classes)
        assert listed(side) == samples
    assert images.notes == ()
    assert len(images.train) == 5 * 3 + 2 + 1 + 2 + 1


def test_hidden_files_and_folders_are_left_out_and_counted(folder):
    plain = listed(list_folder(folder).train)
    for hidden in (
        ".ipynb_checkpoints/1.png",
        "A/.ipynb_checkpoints/2.png",
        "A/._3.png",
        "__MACOSX/A/4.png",
        "A/@eaDir/5.png",
    ):
        picture(folder / "train" / hidden)
    for junk in ("A/.DS_Store", ".DS_Store", "A/Thumbs.db"):
        (folder / "train" / junk).write_bytes(b"x")
    (folder / "train/A/6.HEIC").write_bytes(b"x")
    picture(folder / "train/7.png")
    images = list_folder(folder)
    assert (listed(images.train), images.classes) == (plain, tuple(sorted(CLASSES)))
    assert images.notes == (
        "left out 8 hidden files (.DS_Store, ._3.png, .ipynb_checkpoints)",
        f"left out 1 image beside the class folders, such as {folder}/train/7.png",
        "left out 1 file in formats that are not read (.heic)",
    )


def test_links_in_a_circle_broken_links_and_special_files_are_left_out(folder, monkeypatch):
    plain = listed(list_folder(folder).train)
    here = folder / "train/A"
    (here / "up").symlink_to(folder)
    (here / "self").symlink_to(here)
    (folder / "train/above").symlink_to(folder)
    (here / "gone.png").symlink_to(folder / "nothing.png")
    (here / "round.png").symlink_to(here / "round.png")
    os.mkfifo(here / "pipe.jpg")
    (here / "null.png").symlink_to("/dev/null")
    monkeypatch.chdir(here)
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("socket.png")
    images = list_folder(folder)
    assert listed(images.train) == plain
    assert any("3 pipes, devices or sockets" in note for note in images.notes)
    assert any("2 broken links, such as" in note for note in images.notes)
    assert any(note.startswith("did not follow 3 links to folders above or read") for note in images.notes)


def test_every_class_needs_a_training_image(folder):
    for file in (folder / "train/dog").iterdir():
        file.unlink()
    with pytest.raises(DomainError, match=r"train: has no image of class dog; add some, or remove the empty folder"):
        list_folder(folder)
    (folder / "train/dog").rmdir()
    with pytest.raises(DomainError, match=r"test: has class dog, which train/ does not have"):
        list_folder(folder)
    for file in (folder / "test/dog").iterdir():
        file.unlink()
    assert "dog" not in list_folder(folder).classes  # an empty folder on the test side alone does no harm
    picture(folder / "train/dog/1.png")
    images = list_folder(folder)
    assert next(describe_domain(folder, size=8).warnings()) == "class dog has no test image"
    assert images.classes == tuple(sorted(CLASSES)) and len(images.test) == 8
    for name in ("b9", "b10"):
        shutil.rmtree(folder / "train" / name)
        (folder / "train" / name).mkdir()
    with pytest.raises(DomainError, match=r"no image of 2 classes \(b10, b9\)"):
        list_folder(folder)


@pytest.mark.parametrize("name", ["DOG", "cafe\u0301"])
def test_a_class_that_is_written_otherwise_on_one_side_is_named(folder, name):
    former = "dog" if name == "DOG" else "café"
    (folder / "test" / former).rename(folder / "test" / name)
    with pytest.raises(DomainError, match=f"has class {name}, which train/ does not have; rename it as train/{former}"):
        list_folder(folder)


def test_a_class_whose_training_images_are_all_damaged_is_refused(folder, tmp_path):
    for file in (folder / "train/dog").iterdir():
        file.write_bytes(b"damaged")
    with pytest.raises(DomainError, match="no training image of class dog that can be decoded"):
        pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=1)
    assert not (tmp_path / "p.h5").exists()
    picture(folder / "train/dog/0.png")
    done = pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=1)
    assert (done.train, done.problems) == (13, ("is not an image that Pillow reads",) * 2)


@pytest.mark.parametrize("unlabelled", ["flat", "unknown", "empty"])
def test_a_test_folder_without_labels_does_not_hide_val(folder, unlabelled):
    (folder / "test").rename(folder / "val")
    wanted = listed(list_folder(folder).test)
    if unlabelled == "flat":
        picture(folder / "test/1.png")
    elif unlabelled == "unknown":
        picture(folder / "test/unknown/1.png")
    else:
        (folder / "test").mkdir()
    images = list_folder(folder)
    assert listed(images.test) == wanted
    assert images.notes == ("test/ has no images of the training classes and is not used",)
    shutil.rmtree(folder / "val")
    with pytest.raises(DomainError, match="has no images of the training classes in test/"):
        list_folder(folder)


@pytest.mark.parametrize("name", ["valid", "validation", "val", "dev", "Test", "VAL", "testing", "eval"])
def test_names_of_the_sides(folder, name):
    (folder / "test").rename(folder / name)
    (folder / "train").rename(folder / "Train")
    assert is_image_folder(folder) and folder_size(folder) == 64
    images = list_path(folder)
    assert (len(images.train), len(images.test), images.notes) == (15, 10, ())
    assert domain_facts(folder).test == 10


def test_the_side_that_is_not_used_is_said(folder):
    shutil.copytree(folder / "test", folder / "val")
    assert list_folder(folder).notes == ("test/ is the test side; val/ is not used",)
    shutil.rmtree(folder / "test")
    shutil.rmtree(folder / "val")
    with pytest.raises(DomainError, match="has no folder test; put one folder of images per class into"):
        list_folder(folder)


def test_the_folder_within_is_named(folder, tmp_path):
    with pytest.raises(DomainError, match=rf"has no folder train; name {folder} instead"):
        list_folder(tmp_path)


def test_names_in_any_bytes(folder, tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    (folder / "train/A/0.png").rename(folder / "train/A" / f"{odd}.png")
    for part in ("train", "test"):
        (folder / part / "dog").rename(folder / part / odd)
    (folder / "train/A" / f"{odd}2.png").write_bytes(b"no image")
    root = folder.rename(tmp_path / f"{odd} set")
    images = list_folder(root)
    assert images.classes == ("A", "b10", "b9", "café", "caf\\xe9") and images.name == "caf\\xe9 set"
    domain = load_domain(root, size=8, notify=lambda text: text.encode())
    assert (domain.name, domain.classes, len(domain.x_train)) == (images.name, images.classes, 15)
    done = pack_domain(root, size=8, out=tmp_path / f"{odd}.h5", workers=1)
    assert done.skipped == (readable(root / "train/A" / f"{odd}2.png"),)
    back = read_domain(done.path)
    assert back == domain and back.digest == domain.digest
    str((back.rows(), repr(back), done.notes, done.skipped)).encode()  # can be printed
    assert load_domain(root, size=8) == domain


def test_a_folder_that_cannot_be_read_is_named(folder):
    if os.geteuid() == 0:
        pytest.skip("the superuser reads everything")
    (folder / "train/A").chmod(0)
    with pytest.raises(DomainError, match="A: cannot be read"):
        list_folder(folder)
    (folder / "train/A").chmod(0o700)


def test_a_folder_packed_under_other_rules_is_packed_again(folder, monkeypatch):
    Image.new("LA", (9, 9), (0, 0)).save(folder / "train/A/0.png")
    with monkeypatch.context() as patch:
        patch.setattr("mkfa.images.pack.DECODING", 1)
        before = load_domain(folder, size=8)
    notes = []
    assert load_domain(folder, size=8, notify=notes.append).digest == before.digest
    assert any("is from an earlier version" in note for note in notes)
    notes.clear()
    load_domain(folder, size=8, notify=notes.append)
    assert not notes
    pack_domain(folder, size=8, workers=1, background="black", overwrite=True)
    chosen = load_domain(folder, size=8, notify=notes.append)
    assert not notes and chosen.digest != before.digest and not chosen.x_train[0].any()
