"""How a domain looks: images of each class, contrast, and signs that something is wrong with the images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mkfa.array_types import I64, U8
from mkfa.images.domain import Domain
from mkfa.storage.file_rows import Rows
from mkfa.storage.records import Result
from mkfa.words import counted

LOOKED_AT = 1 << 29
"""Bytes of pixels on which contrast is measured; of larger sets, evenly spaced images are taken."""
COMPARED = 1 << 33
"""Equal images are searched for in sets of up to this many bytes; every image has to be read."""
UNIFORM_SD = 1.0
"""An image is uniform if no channel has a larger standard deviation, levels of 0 to 255."""
DARK, PALE = 64, 191
"""A class whose brightest pixel is below DARK, or a set whose darkest is above PALE, was probably scaled wrongly."""
_SLAB = 1 << 25


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Overview(Result):
    """What a domain's images look like.

    Attributes
    ----------
    name : str
    classes : tuple of str
    train, test : images of each class.
    size, channels : int
    mean, sd : of all pixels of the training images looked at, levels of 0 to 255.
    lowest, highest : the darkest and the brightest value of all images looked at.
    looked_at : number of images that contrast was measured on, of both sides.
    uniform, black, white : how many of them are uniform (`UNIFORM_SD`), and of these nearly black or white.
    example : the first uniform image; "" if there is none.
    dark : classes without a pixel brighter than `DARK` in the training images looked at.
    shared : test images whose pixels equal a training image's, uniform ones aside; None if the set is larger than
        `COMPARED`.
    mixed : different training images whose pixels occur in another class too.
    notes : what was left out of a folder, and which folders were chosen.
    """

    KIND: ClassVar[str] = "domain_overview"

    name: str
    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    size: int
    channels: int
    mean: float
    sd: float
    lowest: int
    highest: int
    looked_at: int
    uniform: int
    black: int
    white: int
    example: str
    dark: tuple[str, ...]
    shared: int | None
    mixed: int | None
    notes: tuple[str, ...] = ()

    def headline(self) -> str:
        """Return the counts and the contrast in one line."""
        counts = f"{counted(len(self.classes), 'class', 'classes')}; images per class: {_span(self.train)} to train"
        return f"{self.name}: {counts}, {_span(self.test)} to test; {self.contrast()}"

    def contrast(self) -> str:
        """Return the mean and standard deviation of the pixels in words."""
        return f"pixels have mean {self.mean:.0f} and SD {self.sd:.0f} (of 0 to 255)"

    def rows(self) -> list[dict[str, Any]]:
        """Return the number of images of each class."""
        return [
            {"class": name, "train": a, "test": b}
            for name, a, b in zip(self.classes, self.train, self.test, strict=True)
        ]

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for each sign that the images are not what they should be."""
        for counts, side in ((self.train, "training"), (self.test, "test")):
            if bare := [name for name, count in zip(self.classes, counts, strict=True) if not count]:
                yield f"{_named(bare)} no {side} image"
        if self.uniform:
            share = f"{self.uniform} of {counted(self.looked_at, 'image')}"
            shades = ", ".join(f"{n} {shade}" for n, shade in ((self.black, "black"), (self.white, "white")) if n)
            yield f"{share} show one colour only{f' ({shades})' if shades else ''}, such as {self.example}"
        if self.dark:
            yield (
                f"{_named(self.dark)} no pixel brighter than {DARK} of 255; if the files hold 10 or 12 bits in 16, pack"
                " with --levels 0,1023 or --levels 0,4095"
            )
        elif self.lowest > PALE:
            yield f"no pixel is darker than {self.lowest} of 255: pack with other --levels or another --background"
        if self.shared:
            are = counted(self.shared, "test image is", "test images are")
            yield f"{are} among the training images too, so that accuracy is too high"
        if self.mixed:
            yield f"{counted(self.mixed, 'training image equals', 'training images equal')} one of another class"
        if self.shared is None:
            yield f"equal images were not looked for, as the set is larger than {COMPARED >> 30} GiB"


def overview(domain: Domain, *, notes: Sequence[str] = ()) -> Overview:
    """Count the images of each class, measure contrast, and look for uniform and equal images.

    Parameters
    ----------
    notes : sentences to keep with the result, `ImageSet.notes`

    Examples
    --------
    >>> from mkfa.images import load_domain
    >>> found = overview(load_domain("digits"))
    >>> print(found.headline())
    digits: 10 classes; images per class: 400 to train, 100 to test; pixels have mean 26 and SD 70 (of 0 to 255)
    >>> found.uniform, found.shared, list(found.warnings())
    (0, 0, [])
    """
    sides = (("training", domain.x_train, domain.y_train), ("test", domain.x_test, domain.y_test))
    whole = sum(x.nbytes for _, x, _ in sides)
    every = max(1, -(-whole // LOOKED_AT))
    compare = whole <= COMPARED
    total, squares, pixels, looked = 0.0, 0.0, 0, 0
    lowest, highest, uniform, shades, example = 255, 0, 0, [0, 0], ""
    brightest = np.full(len(domain.classes), -1)
    known: dict[bytes, int] = {}  # label of each training image's pixels, -1 for several
    shared = 0
    mixed = 0
    for side, x, y in sides:
        for start, images in _slabs(x, 1 if compare else every):
            step = 1 if compare else every
            rows = start + step * np.arange(len(images))
            chosen = np.flatnonzero(rows % every == 0)
            flat = np.zeros(len(images), bool)
            if len(chosen):
                mean, sd, low, tops = _measured(images[chosen])
                high = int(tops.max())
                if side == "training":
                    total += float(mean.sum())
                    squares += float((sd**2 + mean**2).sum())
                    pixels += mean.size
                    np.maximum.at(brightest, y[rows[chosen]], tops)
                lowest, highest = min(lowest, low), max(highest, high)
                one_colour = sd.max(1) < UNIFORM_SD
                flat[chosen] = one_colour
                looked += len(chosen)
                uniform += int(one_colour.sum())
                shades[0] += int((one_colour & (mean.max(1) < 8)).sum())
                shades[1] += int((one_colour & (mean.min(1) > 247)).sum())
                if one_colour.any() and not example:
                    row = int(rows[chosen[one_colour.argmax()]])
                    example = f"{side} image {row} of class {domain.classes[int(y[row])]}"
            if not compare:
                continue
            for row, image in zip(rows[~flat], images[~flat], strict=True):
                digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                if side == "training":
                    label = int(y[row])
                    known[digest] = label if known.get(digest, label) == label else -1
                else:
                    shared += digest in known
        if side == "training":
            mixed = sum(label < 0 for label in known.values())
    counts = [tuple(np.bincount(y, minlength=len(domain.classes)).tolist()) for _, _, y in sides]
    average = total / max(1, pixels)
    return Overview(
        name=domain.name,
        classes=domain.classes,
        train=counts[0],
        test=counts[1],
        size=domain.size,
        channels=domain.channels,
        mean=average,
        sd=float(np.sqrt(max(0.0, squares / max(1, pixels) - average**2))),
        lowest=lowest,
        highest=highest,
        looked_at=looked,
        uniform=uniform,
        black=shades[0],
        white=shades[1],
        example=example,
        dark=tuple(domain.classes[c] for c in np.flatnonzero((brightest >= 0) & (brightest < DARK))),
        shared=shared if compare else None,
        mixed=mixed if compare else None,
        notes=tuple(notes),
    )


def _slabs(x: U8 | Rows, every: int) -> Iterator[tuple[int, U8]]:
    """Yield every `every`-th image, several at a time if that is each image; with each slab its first image's row."""
    if every > 1:
        yield from ((row, x[row : row + 1]) for row in range(0, len(x), every))
        return
    step = max(1, _SLAB // max(1, int(np.prod(x.shape[1:]))))
    for start in range(0, len(x), step):
        yield start, np.asarray(x[start : start + step])


def _measured(images: U8) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int, np.ndarray[Any, Any]]:
    """Return mean and SD of each image and channel, (N, C), the lowest value, and the highest of each image, (N,)."""
    flat = images.reshape(len(images), -1, images.shape[3])
    return flat.mean(1, dtype=np.float64), flat.std(1, dtype=np.float32), int(flat.min()), flat.max((1, 2)).astype(int)


def _span(counts: Sequence[int] | I64) -> str:
    """Return "400", or "2 to 8 (median 5)"."""
    low, high = int(min(counts)), int(max(counts))
    return f"{low}" if low == high else f"{low} to {high} (median {float(np.median(counts)):g})"


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"class {names[0]} has"
    return f"{counted(len(names), 'class', 'classes')} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}) have"
