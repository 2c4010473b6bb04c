"""Decode a data set once, in parallel, into one file that training reads (Pillow in the workers).

Each image is scaled so that its shorter side has the requested size (bicubic, antialiased) and then centre-cropped; or
training images are packed whole, in rows that hold the largest, for a recipe that cuts crops out of them. The file is
written next to its target and renamed when complete. Interrupted packing can be resumed, because the unfinished file
records which images it has.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mkfa.errors import BankError, WorkError
from mkfa.images.decode import DECODING, USUAL, Decoding, open_image, usual_range, wide_range
from mkfa.images.domain_file import DomainError, domain_digest, tables_digest
from mkfa.images.listing import ImageSet, Side
from mkfa.images.rows import Request, batches, decoded, place_of
from mkfa.images.sizes import ASPECT, Sizes, fit_size
from mkfa.storage.atomic import check_target
from mkfa.storage.file_rows import row_crcs
from mkfa.storage.files import readable
from mkfa.storage.locks import LockHeldError, hold
from mkfa.storage.records import Result
from mkfa.storage.result_files import map_arrays, reserve_arrays
from mkfa.threads import cores
from mkfa.words import counted

PENDING, DECODED, CORRUPT = 0, 1, 2
_SAVE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Packed(Result):
    """The outcome of packing.

    Attributes
    ----------
    path : Path
    train, test : numbers of images in the file.
    skipped : images that could not be decoded and were left out.
    resumed : number of images already present in an unfinished file.
    problems : what is wrong with each of `skipped`.
    notes : sentences on what was left out of the folder, which folders were chosen and how values were scaled.
    """

    KIND: ClassVar[str] = "packed_domain"
    path: Path
    train: int
    test: int
    skipped: tuple[str, ...] = ()
    resumed: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def headline(self) -> str:
        """Return the file and the number of images."""
        left = f", {len(self.skipped):,} left out" if self.skipped else ""
        return f"{self.path}, {self.train:,} train and {counted(self.test, 'test image')}{left}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row, and one for each image that was left out."""
        left = [{"left out": name, "why": why} for name, why in zip(self.skipped, self.problems, strict=True)]
        return [{"path": self.path, "train": self.train, "test": self.test}, *left]


def packed_bytes(images: ImageSet, size: int | Sizes) -> int:
    """Return the bytes of the packed file without its small tables; for training crops, an upper bound."""
    sizes = size if isinstance(size, Sizes) else Sizes(size)
    square = sizes.size * sizes.size * 3
    row = round(sizes.crop_from * sizes.crop_from * ASPECT) * 3 if sizes.crop_from else square
    if sizes.crop_from and images.train.pixels is not None:
        row = images.train.pixels[0].size
    return len(images.train) * row + len(images.test) * square


def _row_shape(side: Side, crop_from: int, workers: int) -> tuple[int, int]:
    """Return height and width of the rows that hold every image of a side, from the headers of its files."""
    from concurrent.futures import ThreadPoolExecutor

    def measure(file: Path) -> tuple[int, int]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with open_image(file) as picture:
                    return fit_size(*picture.size, crop_from)
        except Exception:  # it is reported when it is decoded
            return 1, 1

    if side.pixels is not None:
        height, width = side.pixels.shape[1:3]
        sizes = [fit_size(width, height, crop_from)]
    else:
        with ThreadPoolExecutor(min(4, workers)) as pool:
            sizes = list(pool.map(measure, side.files))
    return max(min(pair) for pair in sizes), max(max(pair) for pair in sizes)


def pack(
    images: ImageSet,
    out: Path,
    *,
    size: int | Sizes,
    workers: int = 0,
    strict: bool = False,
    overwrite: bool = False,
    decoding: Decoding | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> Packed:
    """Decode a data set into a domain file of `size` x `size` images.

    Parameters
    ----------
    size : int or Sizes
        Side of the images, pixels; or `Sizes`, which also say whether training images are packed whole.
    workers : number of processes; 0: one per core, and none for a few small images, which are decoded here.
    strict : fail on an image that cannot be decoded instead of leaving it out.
    decoding : background of transparent images and range of values; the ranges of the data set are filled in.
    advance : called with the numbers of images as they are processed.

    Raises DomainError: an image cannot be decoded, with `strict`; or no image of a side or no training image of a class
    can be. Raises WorkError: the disk is full, memory is short, or another process is packing the same file.
    """
    sizes = size if isinstance(size, Sizes) else Sizes(size)
    check_target(out, overwrite=overwrite)
    partial = out.with_name(f".{out.name}.partial")
    threads = workers or cores()
    with _only_one(out):
        decoding, scaling = _with_ranges(images, decoding or USUAL, threads)
        arrays = _begin(images, partial, sizes, decoding, threads)
        resumed = sum(int((arrays[f"state_{p}"] != PENDING).sum()) for p in ("train", "test"))
        advance(resumed)
        how: Any = {"sizes": sizes, "decoding": decoding, "workers": workers, "strict": strict}
        reasons, turned = _decode(images, arrays, **how, advance=advance)
        corrupt = [
            (part, int(row), _name(side, int(row)))
            for part, side in _sides(images)
            for row in np.flatnonzero(arrays[f"state_{part}"] == CORRUPT)
        ]
        skipped = tuple(name for _, _, name in corrupt)
        if turned:
            have = counted(turned, "image has", "images have")
            scaling.append(f"{have} an EXIF orientation, which is not applied, as in torchvision")
        problems = tuple(reasons.get((part, row), "could not be decoded before") for part, row, _ in corrupt)
        if strict and skipped:
            raise _corrupt(skipped[0], problems[0], len(skipped))
        train, test = _finish(images, arrays)
        del arrays
        partial.replace(out)
    return Packed(out, train, test, skipped, resumed, problems, (*images.notes, *scaling))


def _with_ranges(images: ImageSet, decoding: Decoding, workers: int) -> tuple[Decoding, list[str]]:
    """Fill in one range for all images of 32-bit integers and one for those of floats; return a note on each.

    Only TIFF and PNM files can have such values. The range is that of the training images if there are any.
    """
    from concurrent.futures import ThreadPoolExecutor

    if decoding.levels is not None:
        return decoding, []
    ranges: dict[str, tuple[float, float]] = {}
    notes = []
    for _, side in _sides(images):
        files = [file for file in side.files if file.suffix.lower() in (".tif", ".tiff", ".pgm", ".ppm")]
        with ThreadPoolExecutor(min(workers, 4)) as pool:
            found = [wide for wide in pool.map(wide_range, files) if wide is not None]
        for mode, kind in (("I", "integers"), ("F", "floats")):
            extremes = [pair for wide, pair in found if wide == mode]
            if extremes and kind not in ranges:
                low, high = ranges[kind] = usual_range(extremes, floats=mode == "F")
                values = f"{min(a for a, _ in extremes):g} to {max(b for _, b in extremes):g}"
                notes.append(
                    f"images of {kind} have values from {values}; {low:g} is read as black and {high:g} as white"
                    " (--levels changes this)"
                )
    return replace(decoding, integers=ranges.get("integers"), floats=ranges.get("floats")), notes


@contextlib.contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Keep other processes from packing the same file."""
    try:
        with hold(out.with_name(f".{out.name}.lock"), wait=0):
            yield
    except LockHeldError:
        raise WorkError(out, "is being packed by another process", "wait for it to finish") from None


def _sides(images: ImageSet) -> tuple[tuple[str, Side], tuple[str, Side]]:
    return ("train", images.train), ("test", images.test)


def _begin(images: ImageSet, partial: Path, sizes: Sizes, decoding: Decoding, workers: int) -> dict[str, Any]:
    """Return the writable arrays of the unfinished file; an existing one of the same images and settings is reused."""
    listing = images.digest()
    rules = {
        "decoding": DECODING,
        "background": list(decoding.background),
        "levels": decoding.levels and list(decoding.levels),
        "size": sizes.size,
    }
    rules |= {key: getattr(sizes, key) for key in ("crop_from", "eval_size") if getattr(sizes, key)}
    if partial.exists():
        with contextlib.suppress(BankError):
            arrays, facts = map_arrays(partial, kind="domain", writable=True)
            same = rules == {key: facts.get(key) for key in {*rules, "crop_from", "eval_size"} if key in facts}
            if facts.get("listing") == listing and same and "check" in arrays:
                return arrays
        partial.unlink()
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "rows": ((2,), "<i8"),
        "digest": ((64,), "u1"),
        "check": ((64,), "u1"),
    }
    for part, side in _sides(images):
        if not len(side):
            raise DomainError(images.name, f"has no images on the {part} side", "check the data set")
        row = (sizes.size, sizes.size)
        if sizes.crop_from and part == "train":
            row = _row_shape(side, sizes.crop_from, workers)
            shapes["extent_train"] = (len(side), 3), "<i8"
        shapes |= {
            f"x_{part}": ((len(side), *row, 3), "u1"),
            f"y_{part}": ((len(side),), "<i8"),
            f"state_{part}": ((len(side),), "u1"),
            f"crc_{part}": ((len(side),), "<u4"),
        }
    facts = {
        "name": images.name,
        "classes": list(images.classes),
        "licence": images.licence,
        "source": images.source,
        "listing": listing,
        **rules,
        "scaled": "whole, smaller where needed (Lanczos); test: shorter side, bicubic; centre cut out"
        if sizes.crop_from
        else "shorter side, bicubic; centre cut out",
    }
    new = partial.with_name(f"{partial.name}.new")  # a file that an interrupted start left is never gone on with
    new.unlink(missing_ok=True)
    try:
        reserve_arrays(new, kind="domain", shapes=shapes, attributes=facts)
        if hasattr(os, "posix_fallocate"):  # reserve the space now: a full disk under a memory map kills the process
            with new.open("r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, new.stat().st_size)
        new.replace(partial)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        problem = "the disk is full" if full else f"could not be written ({error.strerror or error})"
        raise WorkError(
            partial, problem, f"free {(packed_bytes(images, sizes) >> 20) + 1} MiB or choose another --out"
        ) from error
    finally:
        new.unlink(missing_ok=True)
    return map_arrays(partial, kind="domain", writable=True)[0]


def _decode(
    images: ImageSet,
    arrays: dict[str, Any],
    *,
    sizes: Sizes,
    workers: int,
    strict: bool,
    decoding: Decoding,
    advance: Callable[[int], object],
) -> tuple[dict[tuple[str, int], str], int]:
    """Decode the pending images.

    Returns what is wrong with those that cannot be decoded, by side and row, and how many have an EXIF orientation.

    An image's state is recorded only after its pixels are in the file.
    """
    whole = "extent_train" in arrays
    todo = [
        Request(
            part,
            side,
            rows,
            place_of(arrays[f"x_{part}"]),
            sizes if part == "test" else replace(sizes, eval_size=0),
            decoding,
            place_of(arrays["extent_train"]) if whole and part == "train" else None,
        )
        for part, side in _sides(images)
        for rows in batches(np.flatnonzero(arrays[f"state_{part}"] == PENDING))
    ]
    reasons: dict[tuple[str, int], str] = {}
    turned = 0
    if not todo:
        return reasons, turned
    done: list[tuple[str, int, int]] = []
    saved = time.monotonic()

    def save() -> None:
        for part in ("train", "test"):
            arrays[f"x_{part}"].flush()
        if whole:
            arrays["extent_train"].flush()
        for part, row, state in done:
            arrays[f"state_{part}"][row] = state
        for part in ("train", "test"):
            arrays[f"state_{part}"].flush()
        done.clear()

    try:
        with contextlib.closing(decoded(todo, workers)) as outcomes:
            for request, problems, with_orientation in outcomes:
                turned += with_orientation
                for row, problem in zip(request.rows, problems, strict=True):
                    if problem and strict:
                        raise _corrupt(_name(request.side, row), problem, 1)
                    if problem:
                        reasons[request.part, row] = problem
                    done.append((request.part, row, CORRUPT if problem else DECODED))
                advance(len(request.rows))
                if time.monotonic() - saved > _SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
    except (BrokenExecutor, MemoryError) as error:
        problem = "a process that decodes images was ended, probably because memory was short"
        raise WorkError(images.name, problem, "pack with fewer --workers; what is decoded is kept") from error
    finally:
        save()
    return reasons, turned


def _name(side: Side, row: int) -> str:
    return readable(side.files[row]) if side.files else f"image {row}"


def _corrupt(name: str, problem: str, count: int) -> DomainError:
    more = f" (and {count - 1} more)" if count > 1 else ""
    return DomainError(name, f"cannot be decoded ({problem}){more}", "repair or remove it, or pack without --strict")


def _finish(images: ImageSet, arrays: dict[str, Any]) -> tuple[int, int]:
    """Fill the gaps left by corrupt images with the last good ones, then write checksums and, last, the row counts.

    Only gaps are written to, so this step can be repeated if it is killed.
    """
    rows = []
    for part, side in _sides(images):
        good = arrays[f"state_{part}"] == DECODED
        count = int(good.sum())
        if not count:
            raise DomainError(images.name, f"has no image on the {part} side that can be decoded", "fetch it again")
        if part == "train" and (lost := np.setdiff1d(side.labels, side.labels[good])).size:
            name = images.classes[int(lost[0])]
            raise DomainError(images.name, f"has no training image of class {name} that can be decoded", "repair one")
        order = np.arange(len(good))
        gaps, spare = order[:count][~good[:count]], order[count:][good[count:]]
        arrays[f"y_{part}"][:] = side.labels
        for gap, row in zip(gaps, spare, strict=True):
            arrays[f"x_{part}"][gap] = arrays[f"x_{part}"][row]
            arrays[f"y_{part}"][gap] = side.labels[row]
            if part == "train" and "extent_train" in arrays:
                arrays["extent_train"][gap] = arrays["extent_train"][row]
        rows.append(count)
    pairs = [(arrays[f"x_{p}"][:n], arrays[f"y_{p}"][:n]) for p, n in zip(("train", "test"), rows, strict=True)]
    for part, (pixels, _) in zip(("train", "test"), pairs, strict=True):
        arrays[f"crc_{part}"][: len(pixels)] = row_crcs(pixels)
    extents = arrays["extent_train"][: rows[0]] if "extent_train" in arrays else None
    digest = domain_digest(images.classes, pairs[0], pairs[1], extents=extents)
    arrays["digest"][:] = np.frombuffer(digest.encode(), np.uint8)
    check = tables_digest(images.classes, arrays | {"rows": np.asarray(rows, arrays["rows"].dtype)})
    arrays["check"][:] = np.frombuffer(check.encode(), np.uint8)
    for array in arrays.values():
        array.flush()
    arrays["rows"][:] = rows
    arrays["rows"].flush()
    return rows[0], rows[1]
