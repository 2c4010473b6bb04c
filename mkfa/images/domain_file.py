"""Domain files: HDF5 with the pixels of every image.

Format `mkfa.domain`: `x_train`, `x_test` (N, H, W, C) uint8, `y_train`, `y_test` (N,) integers, and the root attribute
`parameters`, JSON with the name, classes, licence, source and digest. A file from `mkfa domains pack` stores the digest
and the numbers of valid rows in small arrays instead, since they are known only at the end: `digest` (64,) uint8,
`rows` (2,). One that was packed for training crops has `extent_train` (N, 3), see `mkfa.images.domain.Domain`; its
`x_train` need not be square, and `x_test` may have another shape. Comparing the digest takes as long as reading all
pixels, so a packed file also has `crc_train` and `crc_test` (N,) uint32, the CRC-32 of each image, which is compared
when an image is first read, and `check` (64,) uint8, the digest of everything else (`tables_digest`), which is compared
when the file is opened. Files that earlier versions packed have neither and are read unchecked. The chunks of
compressed files have checksums of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import I64, U8
from mkfa.errors import BankError, InUseError, MkfaError
from mkfa.images.domain import Domain
from mkfa.storage.file_rows import Rows
from mkfa.storage.result_files import open_arrays, write_arrays
from mkfa.words import counted

_SLAB = 1 << 26
"""Bytes of pixels hashed at a time, so that a set in a file is never loaded completely."""
_NEEDED = ("x_train", "y_train", "x_test", "y_test")


class DomainError(MkfaError):
    """A labelled image set that is missing, damaged or inconsistent."""


def domain_digest(
    classes: Sequence[str], train: tuple[U8 | Rows, I64], test: tuple[U8 | Rows, I64], *, extents: I64 | None = None
) -> str:
    """Return the SHA-256 over the classes, labels and pixels of both sides, as 64 hexadecimal digits.

    Parameters
    ----------
    train, test : ((N, H, W, C) uint8, (N,) int64)
    extents : (N, 3) int64 or None
        As in `mkfa.images.domain.Domain`.
    """
    state = hashlib.sha256(json.dumps(list(classes)).encode())
    for pixels, labels in (train, test):
        state.update(json.dumps(pixels.shape).encode())
        state.update(np.ascontiguousarray(labels, "<i8").data)
        step = max(1, _SLAB // max(1, int(np.prod(pixels.shape[1:]))))
        for start in range(0, len(pixels), step):
            state.update(np.ascontiguousarray(pixels[start : start + step]).data)
    if extents is not None:
        state.update(np.ascontiguousarray(extents, "<i8").data)
    return state.hexdigest()


def tables_digest(classes: Sequence[str], arrays: Mapping[str, np.ndarray[Any, Any] | Rows]) -> str:
    """Return the SHA-256 over the classes and the small arrays of a packed file, as 64 hexadecimal digits."""
    state = hashlib.sha256(json.dumps(list(classes)).encode())
    for key in ("rows", "digest", "y_train", "y_test", "crc_train", "crc_test", "extent_train"):
        array = np.asarray(arrays.get(key, ()))
        state.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return state.hexdigest()


def is_unchecked(domain: Domain) -> bool:
    """True if the pixels are in a file that an earlier version packed without checksums."""
    sides = (domain.x_train, domain.x_test)
    return any(isinstance(x, Rows) and not x.piece and x.crcs is None for x in sides)


def make_domain(
    name: str, classes: Sequence[str], *, train: tuple[U8, I64], test: tuple[U8, I64], licence: str = ""
) -> Domain:
    """Build a domain from decoded images and compute its digest."""
    digest = domain_digest(classes, train, test)
    return Domain(name, tuple(classes), *train, *test, digest, licence)


def write_domain(domain: Domain, path: Path, *, facts: Mapping[str, Any], overwrite: bool = True) -> Path:
    """Write a domain as a compressed file and return its path.

    Labels of up to 256 classes are stored in one byte. `facts` (source, split rule, ...) are stored in addition to the
    domain's own attributes. Raises as `atomic_write`.
    """
    side = domain.size
    small = np.uint8 if len(domain.classes) <= 256 else np.int64
    arrays = {
        "x_train": np.asarray(domain.x_train),
        "y_train": domain.y_train.astype(small),
        "x_test": np.asarray(domain.x_test),
        "y_test": domain.y_test.astype(small),
    }
    known = {"name": domain.name, "classes": list(domain.classes), "licence": domain.licence, "digest": domain.digest}
    chunk = (1024, side, side, domain.channels)
    return write_arrays(
        path,
        kind="domain",
        arrays=arrays,
        attributes={**facts, **known},
        overwrite=overwrite,
        chunks={"x_train": chunk, "x_test": chunk},
    )


def read_domain(path: str | Path) -> Domain:
    """Open a domain file: labels are read, pixels stay in the file until they are indexed.

    Raises DomainError: the file is missing, damaged, unfinished or in another format, or its tables are inconsistent.
    """
    try:
        arrays, facts = open_arrays(path, kind="domain")
    except BankError as error:
        remedy = "pack the data set again, or fetch the file again"
        if isinstance(error, InUseError):
            remedy = error.remedy
        raise DomainError(path, error.problem.replace("a bank file", "a domain file"), remedy) from error
    if problem := _inconsistency(arrays, facts):
        raise DomainError(path, problem, "pack the data set again, or fetch the file again")
    rows = np.asarray(arrays["rows"]) if "rows" in arrays else [len(arrays["x_train"]), len(arrays["x_test"])]
    digest = (
        np.asarray(arrays["digest"]).tobytes().decode("ascii", "replace")
        if "digest" in arrays
        else str(facts["digest"])
    )
    x_train, x_test = (_first(arrays[f"x_{part}"], int(n)) for part, n in zip(("train", "test"), rows, strict=True))
    if "check" in arrays:
        if np.asarray(arrays["check"]).tobytes().decode("ascii", "replace") != tables_digest(facts["classes"], arrays):
            problem = "is damaged: its labels or checksums differ from those that were written"
            raise DomainError(path, problem, "pack the data set again, or fetch the file again")
        x_train, x_test = (
            x.with_crcs(np.asarray(arrays[f"crc_{part}"])) if isinstance(x, Rows) else x
            for part, x in (("train", x_train), ("test", x_test))
        )
    y_train, y_test = (
        np.asarray(arrays[f"y_{part}"][: len(x)], np.int64) for part, x in (("train", x_train), ("test", x_test))
    )
    classes = tuple(str(c) for c in facts["classes"])
    extents = np.asarray(arrays["extent_train"], np.int64)[: len(x_train)] if "extent_train" in arrays else None
    name, licence = str(facts["name"]), str(facts.get("licence", ""))
    eval_size = int(facts.get("eval_size", 0))
    return Domain(name, classes, x_train, y_train, x_test, y_test, digest, licence, extents, eval_size)


def _first(images: np.ndarray[Any, Any] | Rows, count: int) -> U8 | Rows:
    return images.first(count) if isinstance(images, Rows) else images[:count]


def _inconsistency(arrays: Mapping[str, np.ndarray[Any, Any] | Rows], facts: Mapping[str, Any]) -> str:
    """Return a description of the inconsistency, or ""."""
    missing = [n for n in _NEEDED if n not in arrays] + [n for n in ("name", "classes") if n not in facts]
    if missing:
        return f"has no {' and no '.join(missing)}"
    if "digest" not in facts and "digest" not in arrays:
        return "has no digest"
    if "check" in arrays and (missing := [n for n in ("rows", "digest", "crc_train", "crc_test") if n not in arrays]):
        return f"has no {' and no '.join(missing)}"
    if "rows" in arrays and not int(arrays["rows"][0]):
        return "is unfinished"
    cropped = "extent_train" in arrays
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], np.asarray(arrays[f"y_{part}"])
        square = x.ndim == 4 and (x.shape[1] == x.shape[2] or (cropped and part == "train"))
        if x.dtype != np.uint8 or not square or x.shape[3] not in (1, 3):
            return f"has x_{part} of {x.dtype} {x.shape}, but needs square uint8 images of 1 or 3 channels"
        if f"crc_{part}" in arrays and np.shape(arrays[f"crc_{part}"]) != (len(x),):
            sums = counted(int(np.size(arrays[f"crc_{part}"])), "checksum")
            return f"has {counted(len(x), 'image')} but {sums} on the {part} side"
        if y.shape != (len(x),):
            return f"has {counted(len(x), 'image')} but {counted(len(y), 'label')} on the {part} side"
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(facts["classes"]):
            return f"has labels outside its {counted(len(facts['classes']), 'class', 'classes')} on the {part} side"
    if not cropped and arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        return "has train and test images of different shapes"
    if cropped:
        extents, shape = np.asarray(arrays["extent_train"]), arrays["x_train"].shape
        if extents.shape != (shape[0], 3) or extents.dtype.kind != "i":
            return f"has an extent_train of {extents.dtype} {extents.shape}"
        used = extents[: int(np.asarray(arrays["rows"])[0])] if "rows" in arrays else extents
        if (used[:, :2] < 1).any() or (used[:, :2] > shape[1:3]).any():
            return "has training images that are larger than their rows"
    return ""
