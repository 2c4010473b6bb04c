"""List the images of a data set on disk: from torchvision's loaders, text files or folders (torchvision on demand).

Nothing is downloaded, and nothing is decoded except data sets stored as raw pixels (CIFAR-10, STL-10).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import I64, U8
from mkfa.images.domain_file import DomainError
from mkfa.images.registry import NATURAL, DomainInfo, registry

ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"))
_TEST_FOLDERS = ("test", "val", "valid", "validation")
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
    dated : bool
        True if an image's modification time is part of the digest; else only its name and size are.
    """

    name: str
    classes: tuple[str, ...]
    train: Side
    test: Side
    licence: str = ""
    source: str = ""
    dated: bool = False

    def digest(self) -> str:
        """Return a SHA-256 over the names, sizes and labels of the images (or their pixels), to detect changes."""
        state = hashlib.sha256(json.dumps([self.name, list(self.classes)]).encode())
        for side in (self.train, self.test):
            state.update(np.ascontiguousarray(side.labels, "<i8").data)
            for file in side.files:
                state.update(f"{file.parent.name}/{file.name} {_known_of(file, dated=self.dated)}\n".encode())
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
    """Return the registry's domain that is unpacked in a folder, with that folder set; None if there is none."""
    for mark, name in _MARKS.items():
        if (path / mark).exists() or (path.name == mark and path.is_dir()):
            root = path if (path / mark).exists() else path.parent
            return replace(registry()[name], folder=str(root.resolve()))
    return None


def is_image_folder(path: Path) -> bool:
    """True for a folder that `list_path` should be able to list."""
    return path.is_dir() and ((path / "train").is_dir() or recognise(path) is not None)


def list_path(path: Path) -> ImageSet:
    """List a user's folder: train/ and test/ with one folder per class, or an unpacked data set of the registry.

    Raises as `list_folder` and `list_named`.
    """
    info = None if (path / "train").is_dir() else recognise(path)
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
    return ImageSet(info.name, images.classes, images.train, images.test, info.licence, str(info.root))


def list_folder(
    root: Path, *, name: str = "", keep: Sequence[int] | None = None, classes: int | None = None
) -> ImageSet:
    """List a folder with train/ and test/ (or val/), each with one folder of images per class.

    Parameters
    ----------
    keep : sequence of int or None
        Indices of the domain's classes among the class folders sorted by name.
    classes : int or None
        Required number of class folders.

    Raises
    ------
    DomainError
        A side is missing or empty, or the two sides have different classes.
    """
    sides = [root / "train", next((root / n for n in _TEST_FOLDERS if (root / n).is_dir()), root / "test")]
    for side in sides:
        if not side.is_dir():
            remedy = "put one folder of images per class into its folders train/ and test/ (or val/)"
            raise DomainError(root, f"has no folder {side.name}", remedy)
    names = [sorted(p.name for p in side.iterdir() if p.is_dir() and not p.name.startswith(".")) for side in sides]
    if names[0] != names[1]:
        odd = sorted(set(names[0]) ^ set(names[1]))
        raise DomainError(root, f"has class {odd[0]} on one side only ({len(odd)} such)", "make their classes match")
    if classes is not None and len(names[0]) != classes:
        problem = f"has {len(names[0])} class folders instead of {classes}"
        raise DomainError(root, problem, "unpack the data set again, one folder per class")
    chosen = names[0] if keep is None else [names[0][i] for i in keep]
    lists = []
    for side in sides:
        files = [[p for p in sorted((side / c).rglob("*")) if p.suffix.lower() in ENDINGS] for c in chosen]
        if not any(files):
            raise DomainError(side, f"has no images ({' '.join(sorted(ENDINGS))})", "check the path")
        labels = np.repeat(np.arange(len(chosen), dtype=np.int64), [len(f) for f in files])
        lists.append(Side(labels, tuple(p for group in files for p in group)))
    return ImageSet(name or root.resolve().name, tuple(chosen), lists[0], lists[1], source=str(root))


def _by_lists(info: DomainInfo) -> ImageSet:
    """List DomainNet's sketch: lines "sketch/CLASS/FILE LABEL" in sketch_train.txt and sketch_test.txt."""
    sides: list[Side] = []
    classes: dict[int, str] = {}
    for part in ("train", "test"):
        index = info.root / f"sketch_{part}.txt"
        if not index.is_file():
            raise DomainError(info.name, f"has no {index}", info.remedy)
        rows = [line.rsplit(maxsplit=1) for line in index.read_text("utf-8").splitlines() if line.strip()]
        if not rows or not all(len(r) == 2 and r[1].isdigit() and len(Path(r[0]).parts) == 3 for r in rows):
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
