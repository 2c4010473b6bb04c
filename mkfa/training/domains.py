"""A domain by name or path: bundled, packed by the user, or decoded on first use (layer 5)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.training.contract import Domain
from mkfa.training.domain_files import DomainError, read_domain
from mkfa.training.image_sets import ImageSet, list_folder, list_named
from mkfa.training.pack import Packed, pack, packed_bytes
from mkfa.training.registry import DomainInfo, bundled_domains, datasets_folder, file_name, registry

__all__ = ["FOLDER_SIZE", "DomainError", "domain_info", "load_domain", "pack_domain", "state_of"]

FOLDER_SIZE = 64
"""Side to which the images of a user's folder are decoded where no other is asked for, pixels."""
DECODE_UNASKED = 4 << 30
"""A data set that takes up to so many bytes is packed when it is first used; a larger one only on request."""


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


def load_domain(name_or_path: str | Path, *, size: int | None = None,
                tell: Callable[[str], None] = lambda _: None) -> Domain:  # fmt: skip
    """Return a domain, decoded; a data set that is at hand as images only is packed first, unless it is very large.

    Parameters
    ----------
    name_or_path : str or Path
        A name of the registry, a packed file (.h5), or a folder with train/ and test/ (or val/).
    size : int or None
        Side of the images, pixels; None takes that of the file, the registry's, or `FOLDER_SIZE` for a folder.
    tell : called with a sentence before something that takes long.

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
        images, out = list_folder(path), packed_folder(path, size or FOLDER_SIZE)
        return _packed_or_pack(images, out, size=size or FOLDER_SIZE, command=str(path), tell=tell)
    info = domain_info(str(name_or_path))
    wanted = size or info.size
    if info.packed(wanted).is_file():
        return _of_size(read_domain(info.packed(wanted)), size)
    if info.how == "bundled":
        return _of_size(read_domain(Path(str(files("mkfa.data"))) / bundled_domains()[info.name]["file"]), size)
    if info.how == "build" or not info.root.is_dir():
        problem = f"is not on this machine: looked for {info.packed(wanted)} and {info.root}"
        raise DomainError(info.name, problem, info.remedy)
    return _packed_or_pack(list_named(info), info.packed(wanted), size=wanted, command=info.name, tell=tell)


def pack_domain(name_or_path: str | Path, *, size: int | None = None, out: Path | None = None, workers: int = 0,
                strict: bool = False, overwrite: bool = False,
                tell: Callable[[int, int], None] = lambda _a, _b: None) -> Packed:  # fmt: skip
    """Pack a domain of the registry, or an image folder, where `load_domain` finds it (or into `out`).

    Parameters
    ----------
    tell : called with (images done, images in all) as they are done.
    Other parameters as in `mkfa.training.pack.pack` and `load_domain`; raises as both.
    """
    path = Path(name_or_path).expanduser()
    if _is_folder(name_or_path):
        images, side = list_folder(path), size or FOLDER_SIZE
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
    return pack(images, target, size=side, workers=workers, strict=strict, overwrite=overwrite,
                tell=lambda n: tell(n, total))  # fmt: skip


def packed_folder(folder: Path, size: int) -> Path:
    """Return where an image folder is packed to; two folders of one name do not meet."""
    path = folder.expanduser().resolve()
    return datasets_folder() / "packed" / file_name(f"{path.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}",
                                                    size)  # fmt: skip


def _is_folder(name_or_path: str | Path) -> bool:
    """A name of the registry is that domain, even where a folder is called so; ./NAME is the folder."""
    text = str(name_or_path)
    path = Path(text).expanduser()
    return path.is_dir() and (text not in registry() or isinstance(name_or_path, Path))


def _packed_or_pack(images: ImageSet, out: Path, *, size: int, command: str, tell: Callable[[str], None]) -> Domain:
    """Read a packed data set; pack it first where it is missing or its images changed since."""
    from mkfa.store import map_arrays

    if out.is_file():
        found = read_domain(out)
        if map_arrays(out, kind="domain")[1].get("listing") == images.digest():
            return found
    need = packed_bytes(images, size)
    if need > DECODE_UNASKED:
        problem = f"is here but not packed at {size} px, which takes {need / 1e9:.0f} GB"
        raise DomainError(images.name, problem, f"run: mkfa domains pack {command} --size {size}")
    tell(f"decoding {images.name} at {size} px into {out} ({need / 1e6:.0f} MB), once")
    out.parent.mkdir(parents=True, exist_ok=True)
    pack(images, out, size=size, overwrite=True)
    return read_domain(out)


def _of_size(domain: Domain, size: int | None) -> Domain:
    if size is not None and domain.size != size:
        problem = f"is at hand at {domain.size} px, not at {size} px"
        raise DomainError(domain.name, problem, "leave the size out, or pack or build it at that size")
    return domain
