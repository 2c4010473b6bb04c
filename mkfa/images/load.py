"""A domain by name or path: bundled, packed by the user, or decoded on first use."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.images.domain import Domain
from mkfa.images.domain_file import DomainError, read_domain
from mkfa.images.listing import ImageSet, is_image_folder, list_named, list_path, recognise
from mkfa.images.pack import Packed, pack, packed_bytes
from mkfa.images.registry import DomainInfo, bundled_domains, datasets_folder, file_name, registry
from mkfa.storage.result_files import open_arrays

__all__ = [
    "FOLDER_SIZE",
    "DomainError",
    "domain_info",
    "is_domain",
    "load_domain",
    "load_to_train",
    "pack_domain",
    "state_of",
]

Progress = Callable[[str, float], AbstractContextManager[Callable[[int], None]]]

FOLDER_SIZE = 64
"""Side to which the images of a user's folder are decoded where no other is asked for, pixels."""
DECODE_UNASKED = 4 << 30
"""A data set that takes up to so many bytes is packed when it is first used; a larger one only on request."""


@contextlib.contextmanager
def _no_progress(_label: str, _total: float) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def domain_info(name: str) -> DomainInfo:
    """Return what is known of a domain; raises `UnknownNameError` with the nearest names."""
    known = registry()
    if name not in known:
        remedy = nearest(name, known) or f"choose one of {', '.join(known)}, an image folder or a packed file"
        raise UnknownNameError(name, "is no domain", remedy)
    return known[name]


def state_of(info: DomainInfo) -> str:
    """Return "bundled", "packed at 64, 224 px", "here" (images, not packed) or "missing"."""
    if info.how == "bundled":
        return "bundled"
    pattern = re.compile(re.escape(file_name(info.name, 0)).replace("0", r"(\d+)"))
    folder = info.packed(0).parent
    names = [pattern.fullmatch(p.name) for p in folder.glob("domain_*.h5")] if folder.is_dir() else []
    sizes = sorted(int(match[1]) for match in names if match)
    if sizes:
        return f"packed at {', '.join(str(s) for s in sizes)} px"
    return "here" if info.how != "build" and info.root.is_dir() else "missing"


def is_domain(name_or_path: str | Path) -> bool:
    """True for a name of the registry, a packed domain's file and a folder of images; nothing is decoded."""
    path = Path(name_or_path).expanduser()
    if str(name_or_path) in registry() or is_image_folder(path):
        return True
    if path.suffix != ".h5" or not path.is_file():
        return False
    try:
        read_domain(path)
    except MkfaError:
        return False
    return True


def load_domain(
    name_or_path: str | Path,
    *,
    size: int | None = None,
    tell: Callable[[str], None] = lambda _: None,
    progress: Progress = _no_progress,
) -> Domain:
    """Open a domain; a data set that is at hand as images only is packed first, unless it is very large.

    What was packed is found again by the folder's path, as long as the names, sizes and times of its images are the
    same; packing that was stopped goes on where it was.

    Parameters
    ----------
    name_or_path : str or Path
        A name of the registry, a packed file (.h5), or a folder: train/ and test/ (or val/) with a folder of images
        for each class, or a data set of the registry as it is unpacked.
    size : int or None
        Side of the images, pixels; None takes that of the file, the registry's, or `FOLDER_SIZE` for a folder.
    tell : called with a sentence before something that takes long, and of images that were left out.
    progress : context manager factory (label, total), which yields what is called with numbers of images done.

    Raises
    ------
    UnknownNameError
        No domain has that name.
    DomainError
        The data set is not on this machine (the message says where it was looked for and what to run), is damaged,
        or has another size than asked for.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix == ".h5" or path.is_file():
        return _of_size(read_domain(path), size)
    if _is_folder(name_or_path):
        wanted = size or folder_size(path)
        images, out = list_path(path), packed_folder(path, wanted)
        return _packed_or_pack(images, out, size=wanted, command=str(path), tell=tell, progress=progress)
    if str(name_or_path).startswith((".", "/", "~")):
        raise DomainError(name_or_path, "does not exist", "check the path, or name a domain; 'mkfa domains' lists them")
    info = domain_info(str(name_or_path))
    wanted = size or info.size
    if info.packed(wanted).is_file():
        return _of_size(read_domain(info.packed(wanted)), size)
    if info.how == "bundled":
        return _of_size(read_domain(Path(str(files("mkfa.data"))) / bundled_domains()[info.name]["file"]), size)
    if info.how == "build" or not info.root.is_dir():
        problem = f"is not on this machine: looked for {info.packed(wanted)} and {info.root}"
        raise DomainError(info.name, problem, info.remedy)
    return _packed_or_pack(
        list_named(info), info.packed(wanted), size=wanted, command=info.name, tell=tell, progress=progress
    )


def load_to_train(
    name_or_path: str | Path,
    *,
    size: int,
    max_size: int,
    tell: Callable[[str], None] = lambda _: None,
    progress: Progress = _no_progress,
) -> Domain:
    """Open a domain as a recipe wants it: at its size where it is or can be had in it, else at its own.

    The trainer scales images of another size. A folder, and a data set of the registry that is no smaller, is packed
    at the recipe's size at once.

    Parameters
    ----------
    size, max_size : int
        The recipe's: side of the images, 0 for the domain's own; limit on the domain's own, 0 for none.
    Other parameters and errors as `load_domain`.
    """
    more: dict[str, Any] = {"tell": tell, "progress": progress}
    if _is_folder(name_or_path):
        own = folder_size(Path(name_or_path).expanduser())
        return load_domain(name_or_path, size=size or min(own, max_size or own), **more)
    if size:
        try:
            return load_domain(name_or_path, size=size, **more)
        except DomainError:
            return load_domain(name_or_path, **more)
    info = registry().get(str(name_or_path))
    if info is not None and info.how not in ("bundled", "build") and max_size and info.size > max_size:
        return load_domain(name_or_path, size=max_size, **more)
    found = load_domain(name_or_path, **more)
    if max_size and found.size > max_size:
        return load_domain(name_or_path, size=max_size, **more)
    return found


def pack_domain(
    name_or_path: str | Path,
    *,
    size: int | None = None,
    out: Path | None = None,
    workers: int = 0,
    strict: bool = False,
    overwrite: bool = False,
    tell: Callable[[int, int], None] = lambda _a, _b: None,
) -> Packed:
    """Pack a domain of the registry, or an image folder, where `load_domain` finds it (or into `out`).

    Parameters
    ----------
    tell : called with (images done, images in all) as they are done.
    Other parameters as in `mkfa.images.pack.pack` and `load_domain`; raises as both.
    """
    path = Path(name_or_path).expanduser()
    if _is_folder(name_or_path):
        images, side = list_path(path), size or folder_size(path)
        target = out or packed_folder(path, side)
    else:
        info = domain_info(str(name_or_path))
        if info.how == "bundled":
            raise MkfaError(info.name, "comes packed with mkfa", "use it as it is")
        if info.how == "build":
            raise MkfaError(info.name, "is made from packages, not from images on disk", info.remedy)
        images, side = list_named(info), size or info.size
        target = out or info.packed(side)
    if out is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    total = len(images.train) + len(images.test)
    return pack(
        images, target, size=side, workers=workers, strict=strict, overwrite=overwrite, tell=lambda n: tell(n, total)
    )


def folder_size(folder: Path) -> int:
    """Return the side to which a folder's images are decoded where no other is asked for, pixels."""
    info = None if (folder / "train").is_dir() else recognise(folder)
    return info.size if info else FOLDER_SIZE


def packed_folder(folder: Path, size: int) -> Path:
    """Return where an image folder is packed to; two folders of one name do not meet."""
    path = folder.expanduser().resolve()
    return (
        datasets_folder()
        / "packed"
        / file_name(f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}", size)
    )


def _is_folder(name_or_path: str | Path) -> bool:
    """A name of the registry is that domain, even where a folder is called so; ./NAME is the folder."""
    text = str(name_or_path)
    path = Path(text).expanduser()
    return path.is_dir() and (text not in registry() or isinstance(name_or_path, Path))


def _packed_or_pack(
    images: ImageSet, out: Path, *, size: int, command: str, tell: Callable[[str], None], progress: Progress
) -> Domain:
    """Read a packed data set; pack it first where it is missing or its images changed since."""
    if out.is_file():
        found = read_domain(out)
        if open_arrays(out, kind="domain")[1].get("listing") == images.digest():
            return found
    need = packed_bytes(images, size)
    if need > DECODE_UNASKED:
        problem = f"is here but not packed at {size} px, which takes {need / 1e9:.0f} GB"
        raise DomainError(images.name, problem, f"run: mkfa domains pack {command} --size {size}")
    tell(f"decoding {images.name} at {size} px into {out} ({need / 1e6:.0f} MB), once")
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress(f"decode {images.name}", len(images.train) + len(images.test)) as advance:
        done = pack(images, out, size=size, overwrite=True, tell=advance)
    if done.skipped:
        more = f" and {len(done.skipped) - 1} more" if len(done.skipped) > 1 else ""
        tell(f"left out what cannot be decoded: {done.skipped[0]}{more}")
    return read_domain(out)


def _of_size(domain: Domain, size: int | None) -> Domain:
    if size is not None and domain.size != size:
        problem = f"is at hand at {domain.size} px, not at {size} px"
        raise DomainError(domain.name, problem, "leave the size out, or pack or build it at that size")
    return domain
