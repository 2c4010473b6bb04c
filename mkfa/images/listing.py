"""List the images of a data set on disk: from torchvision's loaders, text files or folders (torchvision on demand).

Nothing is downloaded, and nothing is decoded except data sets stored as raw pixels (CIFAR-10, STL-10).
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import I64, U8
from mkfa.images.domain_file import DomainError
from mkfa.images.registry import NATURAL, DomainInfo, registry
from mkfa.images.walk import ENDINGS, LeftOut, class_folders, class_images
from mkfa.storage.files import read_regular, readable
from mkfa.words import counted

_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "testing", "val", "valid", "validation", "dev", "eval")
"""Names of the two sides, in upper or lower case. The first of several test folders that has images of the training
classes is used, so that a folder `test` without labels does not hide `val`."""
_MARKS = {
    "food-101": "food",
    "oxford-iiit-pet": "pets",
    "flowers-102": "flowers",
    "cifar-10-batches-py": "cifar10",
    "stl10_binary": "stl10",
    "sketch_train.txt": "sketch",
}
"""A file or folder that identifies a known data set, and the data set's name."""


@dataclass(frozen=True, slots=True)
class Side:
    """The images of one side of a split, as files or as pixels.

    Attributes
    ----------
    labels : (N,) int64
    files : tuple of N paths; empty if there are pixels.
    pixels : (N, H, W, 3) uint8 or None
    """

    labels: I64
    files: tuple[Path, ...] = ()
    pixels: U8 | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A data set on disk that has not been decoded.

    Attributes
    ----------
    name, licence, source : str
    classes : tuple of str
    train, test : Side
    dated : True if an image's modification time is part of the digest; else only its name and size are.
    notes : sentences on what was left out and which folders were chosen.
    """

    name: str
    classes: tuple[str, ...]
    train: Side
    test: Side
    licence: str = ""
    source: str = ""
    dated: bool = False
    notes: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return a SHA-256 over the names, sizes and labels of the images (or their pixels), to detect changes."""
        state = hashlib.sha256(json.dumps([self.name, list(self.classes)]).encode())
        for side in (self.train, self.test):
            state.update(np.ascontiguousarray(side.labels, "<i8").data)
            for file in side.files:
                state.update(
                    f"{file.parent.name}/{file.name} {_known_of(file, dated=self.dated)}\n".encode(
                        "utf-8", "surrogatepass"
                    )
                )
            if side.pixels is not None:
                state.update(np.ascontiguousarray(side.pixels).data)
        return state.hexdigest()


def _known_of(file: Path, *, dated: bool) -> str:
    """Return a file's size in bytes and, with `dated`, its modification time in ns."""
    try:
        stat = file.stat()
    except OSError:  # vanished or unreadable: reported by packing
        return "-1"
    return f"{stat.st_size} {stat.st_mtime_ns}" if dated else f"{stat.st_size}"


def recognise(path: Path) -> DomainInfo | None:
    """Return the registry's domain that is unpacked in a folder, with `folder` set to it; None if there is none."""
    for mark, name in _MARKS.items():
        if (path / mark).exists() or (path.name == mark and path.is_dir()):
            root = path if (path / mark).exists() else path.parent
            return replace(registry()[name], folder=str(root.resolve()))
    return None


def train_folder(path: Path) -> Path | None:
    """Return the folder with a user's training images, None if there is none."""
    return next(iter(_named(path, _TRAIN_FOLDERS)), None)


def _named(path: Path, names: Sequence[str]) -> list[Path]:
    """Return the sub-folders with these names, in this order; names in lower case come first."""
    try:
        there = sorted((p for p in path.iterdir() if p.name.lower() in names and p.is_dir()), reverse=True)
    except OSError:
        return []
    return sorted(there, key=lambda p: (names.index(p.name.lower()), p.name != p.name.lower()))


def is_image_folder(path: Path) -> bool:
    """True for a folder that `list_path` should be able to list."""
    return path.is_dir() and (train_folder(path) is not None or recognise(path) is not None)


def list_path(path: Path) -> ImageSet:
    """List a user's folder: train/ and test/ with one folder per class, or an unpacked data set of the registry.

    Raises as `list_folder` and `list_named`.
    """
    info = None if train_folder(path) else recognise(path)
    return list_named(info) if info else replace(list_folder(path), dated=True)


def list_named(info: DomainInfo) -> ImageSet:
    """List a data set of the registry on disk; raises `DomainError` if it is missing or incomplete."""
    if not info.root.is_dir():
        raise DomainError(info.name, f"is not on this machine: expected in {info.root}", info.remedy)
    if info.how == "torchvision":
        return _by_torchvision(info)
    if info.how == "lists":
        return _by_lists(info)
    keep: Sequence[int] | None = None
    if info.folder == "imagenet" and info.name != "imagenet":
        natural = [i for first, last in NATURAL for i in range(first, last + 1)]
        others = sorted(set(range(1000)) - set(natural))
        keep = natural if info.name == "imagenet-natural" else others
    try:
        images = list_folder(info.root, name=info.name, keep=keep, classes=1000)
    except DomainError as error:
        raise DomainError(info.name, f"is incomplete in {info.root} ({error.problem})", info.remedy) from error
    return replace(images, licence=info.licence, source=readable(info.root))


def list_folder(
    root: Path, *, name: str = "", keep: Sequence[int] | None = None, classes: int | None = None
) -> ImageSet:
    """List a folder with train/ and test/ (or val/), each with one folder of images per class.

    Every class needs a training image, but not a test image. With `classes`, both sides must have
    the same classes.

    Parameters
    ----------
    keep : sequence of int or None
        Indices of the domain's classes among the class folders sorted by name.
    classes : required number of class folders.

    Raises DomainError: a side is missing or empty, a class has no training image, or a folder cannot be read.
    """
    train = train_folder(root)
    candidates = _named(root, _TEST_FOLDERS)
    if train is None or not candidates:
        raise _no_side(root, "train" if train is None else "test")
    left = LeftOut()
    names = class_folders(train, left)
    if classes is not None and len(candidates) == 1:
        _check_names(root, names, class_folders(candidates[0], LeftOut()), classes)
    files = {c: class_images(train / c, left) for c in names}
    if not any(files.values()):
        raise DomainError(readable(train), f"has no images in class folders ({' '.join(sorted(ENDINGS))})", _LAYOUT)
    if empty := [readable(c) for c in names if not files[c]]:
        raise DomainError(readable(train), f"has no image of {_classes(empty)}", "add some, or remove the empty folder")
    test, held_out, chosen, notes = _test_side(root, candidates, names, left)
    if classes is not None:
        _check_names(root, names, chosen, classes)
    if odd := [readable(c) for c in chosen if c not in files and held_out.get(c)]:
        problem = f"has {_classes(odd)}, which {train.name}/ does not have"
        alike = [readable(c) for c in names if _plain(c) == _plain(odd[0])]
        remedy = f"rename it as {train.name}/{alike[0]}, from which it differs in capitals or accents" if alike else ""
        raise DomainError(readable(test), problem, remedy or "make their classes match")
    kept = names if keep is None else [names[i] for i in keep]
    sides = []
    for lists in (files, held_out):
        groups = [lists.get(c, []) for c in kept]
        labels = np.repeat(np.arange(len(kept), dtype=np.int64), [len(group) for group in groups])
        sides.append(Side(labels, tuple(path for group in groups for path in group)))
    return ImageSet(
        name or readable(root.resolve().name),
        tuple(readable(c) for c in kept),
        sides[0],
        sides[1],
        source=readable(root),
        notes=(*notes, *left.notes()),
    )


_LAYOUT = "put one folder of images per class into its folders train/ and test/ (or val/)"


def _no_side(root: Path, side: str) -> DomainError:
    """Return the error for a missing side; if a folder within was probably meant, the error names it."""
    within = [p for p in root.iterdir() if p.is_dir() and train_folder(p)] if root.is_dir() else []
    remedy = f"name {readable(within[0])} instead" if len(within) == 1 and side == "train" else _LAYOUT
    return DomainError(readable(root), f"has no folder {side}", remedy)


def _plain(name: str) -> str:
    """Return a name in lower case and in one Unicode form, to compare names that look alike."""
    return unicodedata.normalize("NFC", readable(name)).casefold()


def _classes(names: Sequence[str]) -> str:
    """Return "class a" or "3 classes (a, b, c)", with at most five names."""
    if len(names) == 1:
        return f"class {names[0]}"
    return f"{counted(len(names), 'class', 'classes')} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def _check_names(root: Path, train: Sequence[str], test: Sequence[str], classes: int) -> None:
    """Refuse a known data set whose classes are incomplete."""
    if odd := sorted(set(train) ^ set(test)):
        raise DomainError(root, f"has class {odd[0]} on one side only ({len(odd)} such)", "make their classes match")
    if classes != len(train):
        problem = f"has {counted(len(train), 'class folder')} instead of {classes}"
        raise DomainError(root, problem, "unpack the data set again, one folder per class")


def _test_side(
    root: Path, candidates: Sequence[Path], names: Sequence[str], left: LeftOut
) -> tuple[Path, dict[str, list[Path]], list[str], list[str]]:
    """Choose the first test folder that has images of the training classes.

    Returns
    -------
    The folder, its images by class, its class folders, and notes on the choice.
    """
    notes, foreign = [], []
    for number, side in enumerate(candidates):
        mine = LeftOut()
        chosen = class_folders(side, mine)
        files = {c: class_images(side / c, mine) for c in chosen}
        if any(files[c] for c in chosen if c in names):
            left.add(mine)
            if unused := [p.name for p in candidates[number + 1 :]]:
                notes.append(f"{side.name}/ is the test side; {'/, '.join(unused)}/ is not used")
            return side, files, chosen, notes
        notes.append(f"{side.name}/ has no images of the training classes and is not used")
        foreign += [readable(c) for c in chosen if files[c]]
    problem = f"has no images of the training classes in {' or '.join(f'{p.name}/' for p in candidates)}"
    if foreign:
        problem += f", only of {_classes(foreign)}"
    raise DomainError(readable(root), problem, _LAYOUT)


def _by_lists(info: DomainInfo) -> ImageSet:
    """List DomainNet's sketch: lines "sketch/CLASS/FILE LABEL" in sketch_train.txt and sketch_test.txt."""
    sides: list[Side] = []
    classes: dict[int, str] = {}
    for part in ("train", "test"):
        index = info.root / f"sketch_{part}.txt"
        if not index.is_file():
            raise DomainError(info.name, f"has no {index}", info.remedy)
        try:
            text = read_regular(index).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise DomainError(index, f"cannot be read ({reason})", info.remedy) from None
        rows = [line.rsplit(maxsplit=1) for line in text.splitlines() if line.strip()]
        if not rows or not all(len(r) == 2 and r[1].isdecimal() and len(Path(r[0]).parts) == 3 for r in rows):
            raise DomainError(index, "does not have lines 'sketch/CLASS/FILE LABEL'", info.remedy)
        labels = np.array([int(label) for _, label in rows], np.int64)
        classes |= {int(label): Path(file).parts[1] for file, label in rows}
        sides.append(Side(labels, tuple(info.root / file for file, _ in rows)))
    if sorted(classes) != list(range(len(classes))):
        raise DomainError(info.name, "has labels that are not 0, 1, 2, ...", "fetch the lists again")
    names = tuple(classes[i] for i in range(len(classes)))
    return ImageSet(info.name, names, sides[0], sides[1], info.licence, str(info.root))


def _by_torchvision(info: DomainInfo) -> ImageSet:
    """List the images of a data set with torchvision's loader."""
    from torchvision import datasets

    made: dict[str, Any] = {
        "food": lambda: _parts(datasets.Food101, info, ("train",), ("test",)),
        "pets": lambda: _parts(datasets.OxfordIIITPet, info, ("trainval",), ("test",)),
        "flowers": lambda: _parts(datasets.Flowers102, info, ("train", "val"), ("test",)),
        "cifar10": lambda: _parts(datasets.CIFAR10, info, (True,), (False,)),
        "stl10": lambda: _parts(datasets.STL10, info, ("train",), ("test",)),
    }
    try:
        images: ImageSet = made[info.name]()
    except (RuntimeError, OSError, ValueError, KeyError, IndexError) as error:
        problem = f"is incomplete in {info.root} ({str(error).splitlines()[0][:120]})"
        raise DomainError(info.name, problem, info.remedy) from error
    return images


def _parts(loader: Any, info: DomainInfo, train: tuple[Any, ...], test: tuple[Any, ...]) -> ImageSet:
    sides, named = [], None
    for splits in (train, test):
        keys = [{"train": s} if isinstance(s, bool) else {"split": s} for s in splits]
        sets = [loader(str(info.root), download=False, **key) for key in keys]
        sides.append(_side(sets))
        named = named or getattr(sets[0], "classes", None)
    classes = named or [f"{i + 1}" for i in range(info.classes)]
    return ImageSet(info.name, tuple(str(c) for c in classes), sides[0], sides[1], info.licence, str(info.root))


def _side(sets: list[Any]) -> Side:
    """Return the images of one or more loaders: CIFAR-10 and STL-10 provide pixels, the others file names."""
    first = sets[0]
    if hasattr(first, "data"):
        pixels = np.concatenate([s.data for s in sets])
        targets = [s.targets if hasattr(s, "targets") else s.labels for s in sets]
        if pixels.shape[1] == 3 and pixels.shape[3] != 3:
            pixels = pixels.transpose(0, 2, 3, 1)  # STL-10 is (N, 3, H, W)
        return Side(np.concatenate([np.asarray(y, np.int64) for y in targets]), (), np.ascontiguousarray(pixels))
    files = [s._image_files if hasattr(s, "_image_files") else s._images for s in sets]
    labels = np.concatenate([np.asarray(s._labels, np.int64) for s in sets])
    return Side(labels, tuple(Path(f) for group in files for f in group))
