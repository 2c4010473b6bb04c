"""A domain by name or path: bundled, packed by the user, or decoded on first use (layer 4)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from mkfa.errors import UnknownNameError, nearest
from mkfa.training.contract import Domain
from mkfa.training.domain_files import DomainError, read_domain
from mkfa.training.registry import DomainInfo, bundled_domains, registry

__all__ = ["DomainError", "domain_info", "load_domain"]


def domain_info(name: str) -> DomainInfo:
    """Return what is known of a domain; raises `UnknownNameError` with the nearest names."""
    known = registry()
    if name not in known:
        remedy = nearest(name, known) or f"choose one of {', '.join(known)}, an image folder or a packed file"
        raise UnknownNameError(name, "is no domain", remedy)
    return known[name]


def load_domain(name_or_path: str | Path, *, size: int | None = None) -> Domain:
    """Return a domain, decoded.

    Parameters
    ----------
    name_or_path : str or Path
        A name of the registry, or a packed file (.h5).
    size : int or None
        Side of the images, pixels; None takes the size that the domain is at hand in.

    Raises
    ------
    UnknownNameError
        No domain has that name.
    DomainError
        The data set is not on this machine (the message says where it was looked for and what to run), is damaged,
        or has another size than asked for.
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    if path.suffix == ".h5" or path.is_file():
        return _of_size(read_domain(path), size)
    info = domain_info(text)
    wanted = size or info.size
    packed = info.packed(wanted)
    if packed.is_file():
        return _of_size(read_domain(packed), size)
    if info.how == "bundled":
        found = read_domain(Path(str(files("mkfa.data"))) / bundled_domains()[info.name]["file"])
        return _of_size(found, size)
    raise DomainError(info.name, f"is not on this machine: looked for {packed} and {info.root}", info.remedy)


def _of_size(domain: Domain, size: int | None) -> Domain:
    if size is not None and domain.size != size:
        remedy = f"leave the size out, or pack it: mkfa domains pack {domain.name} --size {size}"
        raise DomainError(domain.name, f"is at hand at {domain.size} px, not at {size} px", remedy)
    return domain
