"""The images that a network is asked about: a folder, a packed file or a domain, read as they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.array_types import I64
from mkfa.errors import MkfaError, UnknownNameError, as_path, nearest
from mkfa.images.domain import Domain
from mkfa.images.registry import registry
from mkfa.images.walk import LeftOut, class_images
from mkfa.storage.files import readable
from mkfa.words import counted

if TYPE_CHECKING:
    import torch

    from mkfa.grafts.preprocessing import Transform

_SIDES = ("test", "testing", "val", "valid", "validation", "dev", "eval")
_TRAIN = ("train", "training")
_AHEAD = 4
"""Images decoded ahead of the network, for each decoding thread."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Images, not decoded yet.

    Attributes
    ----------
    name : str
    files : paths, or () for a domain.
    domain : its images come test side first.
    classes : names of the classes; () if there are none.
    label : (N,) int64, index into `classes`, -1 where unknown.
    notes : sentences on what was left out.
    """

    name: str
    files: tuple[Path, ...] = ()
    domain: Domain | None = None
    classes: tuple[str, ...] = ()
    label: I64 = field(default_factory=lambda: np.zeros(0, np.int64))
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def read(self, row: int) -> Any:
        """Return one image in mode RGB (Pillow).

        Raises DomainError, OSError, ValueError: the file is damaged or not an image.
        """
        if self.domain is None:
            from mkfa.images.decode import open_image, to_rgb

            with open_image(self.files[row]) as picture:
                return to_rgb(picture)
        from PIL import Image

        tests = len(self.domain.x_test)
        pixels = np.asarray(self.domain.x_test[row]) if row < tests else self.domain.picture(row - tests)
        return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")


def find_pictures(images: str | Path | Domain) -> Pictures:
    """Return the images of a folder, of a packed file (.h5), or of a domain that `mkfa domains` lists.

    In a folder, images are found at any depth, and its immediate subfolders are classes. If it has `train/` and `val/`
    (or `test/`), only the images of the latter are used, since the network may have been trained on the others.

    Raises
    ------
    UnknownNameError
        There is no such folder, file or domain.
    MkfaError
        There is no image.
    DomainError
        A folder cannot be read, or a domain is not on this machine.
    """
    if isinstance(images, Domain):
        return _of_domain(images)
    path = as_path(images, "images", "a folder or a domain").expanduser()
    if path.is_dir():
        return _of_folder(path)
    if path.suffix == ".h5" or str(images) in registry():
        from mkfa.images.load import load_domain

        return _of_domain(load_domain(images))
    if path.exists() or str(images).startswith((".", "/", "~")):
        problem = "is not a folder of images" if path.exists() else "does not exist"
        raise MkfaError(readable(path), problem, "give a folder, a packed file (.h5) or a domain's name")
    remedy = nearest(str(images), registry()) or "give a folder of images; 'mkfa domains' lists domains"
    raise UnknownNameError(str(images), "is neither a folder of images nor a domain", remedy)


def _of_domain(domain: Domain) -> Pictures:
    label = np.concatenate([domain.y_test, domain.y_train])
    return Pictures(domain.name, domain=domain, classes=domain.classes, label=label)


def _of_folder(root: Path) -> Pictures:
    left = LeftOut()
    sides = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
    test = next((sides[name] for name in _SIDES if name in sides), None)
    notes: list[str] = []
    at = root
    if test is not None and any(name in sides for name in _TRAIN):
        at = test
        notes.append(f"Of {readable(root.resolve().name)}, the images in {test.name}/ are taken.")
    files = class_images(at, left)
    if not files:
        raise MkfaError(readable(at), "has no images", "give a folder with images, at any depth")
    parts = [file.relative_to(at).parts for file in files]
    classes = sorted({part[0] for part in parts if len(part) > 1})
    place = {name: i for i, name in enumerate(classes)}
    label = np.array([place[part[0]] if len(part) > 1 else -1 for part in parts], np.int64)
    notes += [f"{note[0].upper()}{note[1:]}." for note in left.notes()]
    name = readable(root.resolve().name)
    return Pictures(name, tuple(files), None, tuple(readable(c) for c in classes), label, tuple(notes))


def network_labels(
    pictures: Pictures, labels: Sequence[str], classes: int, *, given: Mapping[str, int] | None = None
) -> tuple[I64 | None, str]:
    """Return each image's class as an index into a network's logits, -1 where unknown, and a sentence on its origin.

    Parameters
    ----------
    labels : the network's classes as a folder would call them, in order of the logits; () if not known.
    classes : number of its logits.
    given : name of a class -> its logit, by the user.

    Returns
    -------
    None for the labels if the classes are not the network's, and the reason.
    """
    if not pictures.classes:
        return None, "The images have no labels, so accuracy is not measured."
    order = dict(given) if given else {name: i for i, name in enumerate(labels)}
    if order and all(name in order for name in pictures.classes):
        table = np.array([order[name] for name in pictures.classes], np.int64)
        said = "Accuracy is against the names of the folders."
    elif len(pictures.classes) == classes and (not labels or pictures.domain is not None or not given):
        if labels and pictures.domain is None and len(labels) != len(pictures.classes):
            return None, "The classes of the images are not the network's, so accuracy is not measured."
        table = np.arange(classes)
        said = (
            f"For accuracy, the {counted(classes, 'class', 'classes')}, sorted by name, are matched with the network's "
            "outputs in order."
        )
    else:
        problem = (
            f"The {counted(len(pictures.classes), 'class', 'classes')} of the images are not the network's {classes}"
        )
        return None, f"{problem}, so accuracy is not measured."
    known = pictures.label >= 0
    return np.where(known, table[np.where(known, pictures.label, 0)], -1), said


class Reader:
    """Decodes and prepares images in threads, a few ahead of the network.

    Parameters
    ----------
    pictures, transform : what is read, and how it is prepared.
    threads : number of decoding threads.

    Attributes
    ----------
    damaged : rows of images that could not be decoded, and why; they are left out.
    """

    def __init__(self, pictures: Pictures, transform: Transform, *, threads: int) -> None:
        self.pictures, self.transform, self.threads = pictures, transform, max(1, threads)
        self.damaged: dict[int, str] = {}

    def batches(self, rows: Sequence[int], size: int) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield (rows, images (n, C, H, W)), batches of nearly equal size up to `size`."""
        import torch

        number = -(-len(rows) // size)
        each = -(-len(rows) // max(number, 1))
        got: list[tuple[int, Any]] = []
        for row, image in self._ahead(rows):
            if image is None:
                continue
            if got and image.shape != got[0][1].shape:
                problem = f"become {tuple(image.shape)} and {tuple(got[0][1].shape)} by the transform"
                raise MkfaError(self.pictures.name, f"has images that {problem}", "give a transform with one size")
            got.append((row, image))
            if len(got) == each:
                yield [r for r, _ in got], torch.stack([x for _, x in got])
                got = []
        if got:
            yield [r for r, _ in got], torch.stack([x for _, x in got])

    def _ahead(self, rows: Sequence[int]) -> Iterator[tuple[int, Any]]:
        waiting: deque[tuple[int, Future[Any]]] = deque()
        left = iter(rows)
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                while True:
                    while len(waiting) < _AHEAD * self.threads and (row := next(left, None)) is not None:
                        waiting.append((row, pool.submit(self._one, row)))
                    if not waiting:
                        return
                    row, future = waiting.popleft()
                    yield row, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _one(self, row: int) -> Any:
        import warnings

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture = self.pictures.read(row)
        except MemoryError:
            raise
        except Exception as error:  # Pillow has many errors for a damaged file
            if row not in self.damaged:
                self.damaged[row] = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            return None
        return self.transform(picture)
