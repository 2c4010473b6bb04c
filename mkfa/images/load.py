"""Open a domain by name or path: bundled, packed by the user, or decoded on first use."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mkfa.arguments import check_arguments
from mkfa.errors import MkfaError, UnknownNameError, as_path, nearest
from mkfa.images.decode import DECODING, Decoding, parse_colour
from mkfa.images.domain import Domain
from mkfa.images.domain_file import DomainError, is_unchecked, read_domain
from mkfa.images.listing import ImageSet, is_image_folder, list_named, list_path, recognise, train_folder
from mkfa.images.overview import Overview, overview
from mkfa.images.pack import Packed, pack, packed_bytes
from mkfa.images.registry import DomainInfo, DomainList, bundled_domains, datasets_folder, file_name, registry
from mkfa.images.sizes import Sizes
from mkfa.progress import Progress, follow
from mkfa.storage.atomic import check_target
from mkfa.storage.files import readable
from mkfa.storage.folders import data_file
from mkfa.storage.result_files import open_arrays

DOMAIN = "the name or path of a domain"
"""What verbs want, in error messages."""
FOLDER_SIZE = 64
"""Default size to which the images of a user's folder are decoded, pixels."""
DECODE_UNASKED = 4 << 30
"""Data sets of up to this many bytes are packed on first use; larger ones only by `mkfa domains pack`."""

Notify = Callable[[str], object]
"""Called with a sentence before a slow operation, and to report images that were left out."""


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """Properties of a domain that are known without decoding it.

    Attributes
    ----------
    name : str
    classes : tuple of str
    train, test : numbers of images; decoding may find that some are damaged.
    size : size of the images, pixels.
    digest : SHA-256 over pixels, labels and classes; "" if the images are not decoded yet.
    """

    name: str
    classes: tuple[str, ...]
    train: int
    test: int
    size: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Images:
    """Images to be packed into a file when needed; `command` is the argument for `mkfa domains pack`."""

    images: ImageSet
    out: Path
    sizes: Sizes
    command: str

    @property
    def size(self) -> int:
        """Side of the packed images, pixels."""
        return self.sizes.size

    def packed(self) -> Domain | None:
        """Return the packed domain, or None if there is none, or the images or the rules of decoding changed since."""
        for path in filter(Path.is_file, _names_of(self.out)):
            domain = read_domain(path)
            facts = open_arrays(path, kind="domain")[1]
            same = facts.get("decoding", 1) == DECODING and _sizes_of(domain, facts) == self.sizes
            if same and facts.get("listing") == self.images.digest():
                return domain
        return None


def list_domains() -> DomainList:
    """Return the image sets that mkfa knows by name; the `state` of each shows whether it is on this machine.

    Examples
    --------
    >>> [(info.name, info.classes) for info in list_domains() if info.state == "bundled"][:2]
    [('letters', 26), ('fashion', 10)]
    >>> list_domains()  # a table in notebooks; also to_frame, save
    <DomainList: ... domains, ... bundled and ... not here>
    """
    return DomainList(tuple(registry().values()))


def domain_info(name: str) -> DomainInfo:
    """Return the registry entry of a domain; raises `UnknownNameError` with the nearest names."""
    known = registry()
    if name not in known:
        remedy = nearest(name, known) or f"choose one of {', '.join(known)}, an image folder or a packed file"
        raise UnknownNameError(name, "unknown domain", remedy)
    return known[name]


def is_domain(domain: str | Path) -> bool:
    """True for a registry name, a packed domain file or a folder of images; nothing is decoded."""
    path = Path(domain).expanduser()
    if str(domain) in registry() or is_image_folder(path):
        return True
    if path.suffix != ".h5" or not path.is_file():
        return False
    try:
        read_domain(path)
    except MkfaError:
        return False
    return True


def load_domain(
    domain: str | Path, *, size: int | None = None, notify: Notify | None = None, progress: Progress = None
) -> Domain:
    """Open a domain. If only its images are present, they are packed first, unless the data set is very large.

    The packed file is reused for the same folder path while the names, sizes and times of its images are unchanged.
    Interrupted packing is resumed.

    Parameters
    ----------
    domain : str or Path
        A registry name, a packed file (.h5), or a folder: train/ and test/ (or val/) with one folder of images per
        class, or an unpacked data set of the registry.
    size : int or None
        Size of the images, pixels; None: the file's, the registry's, or `FOLDER_SIZE` for a folder.
    notify : see `Notify`.
    progress : see `mkfa.progress.Progress`; counts images.

    Raises
    ------
    UnknownNameError
        No domain has that name.
    DomainError
        The data set is not on this machine (the message says where it is expected and what to run), is damaged, or
        has a different size from the one requested.

    Examples
    --------
    >>> digits = load_domain("digits")
    >>> digits
    <Domain: digits, 10 classes, 4,000 train and 1,000 test images of 32x32 pixels, gray>
    >>> digits.x_train[:2].shape, digits.y_train.dtype
    ((2, 32, 32, 1), dtype('int64'))
    """
    check_arguments(load_domain, locals())
    return _open(_locate(domain, size), size, notify=notify, progress=progress)


def _open(
    place: Path | _Images, size: int | None, *, notify: Notify | None, progress: Progress, looks: bool = True
) -> Domain:
    if isinstance(place, Path):
        return _of_size(read_domain(place), size)
    return place.packed() or _pack(place, notify or (lambda _: None), progress, looks=looks)


def domain_facts(domain: str | Path, *, size: int | None = None) -> DomainFacts:
    """Return a domain's properties without decoding it; parameters and errors as `load_domain`.

    Examples
    --------
    >>> facts = domain_facts("digits")
    >>> facts.name, len(facts.classes), facts.train, facts.test, facts.size, len(facts.digest)
    ('digits', 10, 4000, 1000, 32, 64)
    """
    place = _locate(domain, size)
    return _facts_of(_of_size(read_domain(place), size) if isinstance(place, Path) else place)


def _facts_of(place: Domain | _Images) -> DomainFacts:
    packed = place if isinstance(place, Domain) else place.packed()
    if packed is not None:
        counts = len(packed.x_train), len(packed.x_test)
        return DomainFacts(packed.name, packed.classes, *counts, packed.size, packed.digest)
    assert isinstance(place, _Images)
    images = place.images
    return DomainFacts(images.name, images.classes, len(images.train), len(images.test), place.size)


def describe_domain(
    domain: str | Path | Domain, *, size: int | None = None, notify: Notify | None = None, progress: Progress = None
) -> Overview:
    """Return what a domain's images look like: counts, contrast, and signs that something is wrong with them.

    Parameters
    ----------
    domain : str, Path or Domain
        As in `load_domain`, which packs the images first if need be; or a domain that is open.
    size, notify, progress : as in `load_domain`, which says what it raises.

    Examples
    --------
    >>> found = describe_domain("fashion")
    >>> print(found.headline())
    fashion: 10 classes; images per class: 977 to 1019 (median 1001.5) to train, 191 to 206 (median 200) to test; ...
    """
    check_arguments(describe_domain, locals())
    if isinstance(domain, Domain):
        return overview(domain)
    place = _locate(domain, size)
    notes = place.images.notes if isinstance(place, _Images) else ()
    opened = _open(place, size, notify=notify, progress=progress, looks=False)
    if is_unchecked(opened):
        notes = (
            *notes,
            "packed by an earlier version, without checksums: damage to images is not noticed; pack it again",
        )
    return overview(opened, notes=notes)


def load_to_train(
    domain: str | Path,
    *,
    size: int,
    max_size: int,
    crop_from: int = 0,
    eval_size: int = 0,
    notify: Notify | None = None,
    progress: Progress = None,
) -> Domain:
    """Open a domain for training: at the recipe's size if that is available or can be packed, else at its own.

    The trainer scales images of other sizes. A folder, or a data set of the registry that is at least as large, is
    packed directly at the recipe's size. With `crop_from`, images on disk are packed whole; images that were not cut by
    packing, such as the bundled ones, are taken as they are.

    Parameters
    ----------
    size, max_size : from the recipe: image size, 0 for the domain's own; limit on the domain's own size, 0 for none.
    crop_from, eval_size : from the recipe: see `mkfa.training.recipe.Recipe`.
    Other parameters and errors as `load_domain`.

    Raises DomainError: as `load_domain`; or `crop_from` is set and the domain is a file that was packed in another way.
    """
    if crop_from:
        place = _locate_whole(domain, Sizes(size, crop_from, eval_size))
        if isinstance(place, Domain):
            return place
        return place.packed() or _pack(place, notify or (lambda _: None), progress)
    return _as_trained(
        domain, size, max_size, lambda size: load_domain(domain, size=size, notify=notify, progress=progress)
    )


def facts_to_train(
    domain: str | Path, *, size: int, max_size: int, crop_from: int = 0, eval_size: int = 0
) -> DomainFacts:
    """Return the properties of the domain that `load_to_train` would open, without decoding it."""
    if crop_from:
        return _facts_of(_locate_whole(domain, Sizes(size, crop_from, eval_size)))
    return _as_trained(domain, size, max_size, lambda size: domain_facts(domain, size=size))


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


T = TypeVar("T", bound=_Sized)


def _as_trained(domain: str | Path, size: int, max_size: int, get: Callable[[int | None], T]) -> T:
    if _is_folder(domain):
        own = folder_size(Path(domain).expanduser())
        return get(size or min(own, max_size or own))
    if size:
        try:
            return get(size)
        except DomainError:
            return get(None)
    info = registry().get(str(domain))
    if info is not None and info.how not in ("bundled", "build") and max_size and info.size > max_size:
        return get(max_size)
    whole = get(None)
    return get(max_size) if max_size and whole.size > max_size else whole


def pack_domain(  # noqa: PLR0913 (the options of the command line)
    domain: str | Path,
    *,
    size: int | None = None,
    crop_from: int = 0,
    eval_size: int = 0,
    out: str | Path | None = None,
    workers: int = 0,
    strict: bool = False,
    overwrite: bool = False,
    background: str = "white",
    levels: tuple[float, float] | None = None,
    progress: Progress = None,
) -> Packed:
    """Pack a registry domain or an image folder to where `load_domain` finds it (or into `out`).

    Parameters
    ----------
    domain, size : as in `load_domain`.
    workers : int
        Processes that decode; 0: one per core.
    strict : bool
        Fail at an image that cannot be decoded, instead of leaving it out.
    overwrite : bool
        Replace a file that exists.
    crop_from, eval_size : int
        As in a recipe (`mkfa.training.recipe.Recipe`): with `crop_from`, training images are packed whole.
    background : str
        Colour that transparent pixels show, by name or as "#rrggbb".
    levels : (low, high) or None
        Values that become black and white in images of more than 8 bits per channel, such as (0, 4095); None: the full
        range of 16-bit integers, and see `mkfa.images.decode` for others.
    progress : see `mkfa.progress.Progress`; counts images.

    Raises
    ------
    UnknownNameError, DomainError
        As `load_domain`; or, with `strict`, an image cannot be decoded.
    MkfaError
        The domain is bundled, or the file exists.
    WorkError
        The disk is full, memory is short, or another process packs the same file.

    Examples
    --------
    >>> pack_domain("my images", size=64)  # doctest: +SKIP
    <Packed: .../domain_my images-1f2e3d4c_64.h5, 6 train and 4 test images>
    >>> pack_domain("digits")
    Traceback (most recent call last):
    mkfa.errors.MkfaError: digits: comes packed with mkfa; use it as it is.
    """
    check_arguments(pack_domain, locals())
    path = as_path(domain, "domain", DOMAIN).expanduser()
    decoding = Decoding(background=parse_colour(background), levels=levels)
    if size is not None:
        Sizes(size, crop_from, eval_size)  # this and the file are refused before images are listed
    if out is not None:
        check_target(Path(out), overwrite=overwrite)
    if _is_folder(domain):
        images, side = list_path(path), size or folder_size(path)
        target = as_path(out, "out") if out else packed_folder(path, side, crop_from, eval_size=eval_size)
    else:
        info = domain_info(str(domain))
        if info.how == "bundled":
            raise MkfaError(info.name, "comes packed with mkfa", "use it as it is")
        if info.how == "build":
            raise MkfaError(info.name, "is built from packages, not from images on disk", info.remedy)
        images, side = list_named(info), size or info.size
        target = as_path(out, "out") if out else info.packed(side, crop_from, eval_size=eval_size)
    if out is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    with follow(progress, f"pack {images.name}", len(images.train) + len(images.test)) as advance:
        return pack(
            images,
            target,
            size=Sizes(side, crop_from, eval_size),
            workers=workers,
            strict=strict,
            overwrite=overwrite,
            decoding=decoding,
            advance=advance,
        )


def folder_size(folder: Path) -> int:
    """Return the default size to which a folder's images are decoded, pixels."""
    info = None if train_folder(folder) else recognise(folder)
    return info.size if info else FOLDER_SIZE


def packed_folder(folder: Path, size: int, crop_from: int = 0, *, eval_size: int = 0) -> Path:
    """Return the file that an image folder is packed into; folders with the same name get different files."""
    path = folder.expanduser().resolve()
    name = f"{readable(path.name)}-{hashlib.sha256(str(path).encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return datasets_folder() / "packed" / file_name(name, size, crop_from, eval_size=eval_size)


def _names_of(out: Path) -> tuple[Path, ...]:
    """Return a packed file's path, and the one that earlier versions gave it."""
    former = out.with_name(re.sub(r"_eval_\d+\.h5$", ".h5", out.name))
    return (out,) if former == out else (out, former)


def _locate_whole(domain: str | Path, sizes: Sizes) -> Domain | _Images:
    """Return the images of a domain from which training crops are cut, or what to pack for them.

    Raises as `load_to_train`.
    """
    path = as_path(domain, "domain", DOMAIN).expanduser()
    options = f"--size {sizes.size} --crop-from {sizes.crop_from}"
    options += f" --eval-size {sizes.eval_size}" if sizes.eval_size else ""
    if path.suffix == ".h5" or path.is_file():
        return _whole(read_domain(path), path, sizes, options)
    if _is_folder(domain):
        out = packed_folder(path, sizes.size, sizes.crop_from, eval_size=sizes.eval_size)
        return _Images(list_path(path), out, sizes, str(path))
    if str(domain).startswith((".", "/", "~")):
        raise DomainError(domain, "does not exist", "check the path, or name a domain; 'mkfa domains' lists them")
    info = domain_info(str(domain))
    out = info.packed(sizes.size, sizes.crop_from, eval_size=sizes.eval_size)
    if info.how in ("bundled", "build"):
        return read_domain(_own_file(info))
    if info.root.is_dir():
        return _Images(list_named(info), out, sizes, info.name)
    for file in _names_of(out):
        if file.is_file():
            return _whole(read_domain(file), file, sizes, options)
    for size in (sizes.size, info.size):
        if info.packed(size).is_file():
            return _whole(read_domain(info.packed(size)), info.packed(size), sizes, options)
    raise DomainError(info.name, f"is not on this machine: expected in {out} or {info.root}", info.remedy)


def _own_file(info: DomainInfo) -> Path:
    """Return the file of a bundled domain, or of one that was built."""
    if info.packed(info.size).is_file() or info.how == "build":
        return info.packed(info.size)
    return data_file(bundled_domains()[info.name]["file"])


def _whole(domain: Domain, path: Path, sizes: Sizes, options: str) -> Domain:
    """Return the domain; raises DomainError if packing cut its images in another way than the recipe asks for."""
    facts = open_arrays(path, kind="domain")[1]
    found = _sizes_of(domain, facts)
    if domain.extents is not None:
        if found != sizes:
            problem = f"is packed for other crops (size {found.size}, from {found.crop_from}, test {found.eval_size})"
            raise DomainError(path, problem, f"pack it again with {options}, or change the recipe (--set)")
    elif "scaled" in facts:
        problem = f"is packed as squares of {domain.size} px, and the recipe cuts crops out of whole images"
        remedy = f"pack the images again with {options}, or pass --set crop_from=0"
        raise DomainError(path, problem, remedy)
    return domain


def _sizes_of(domain: Domain, facts: Mapping[str, Any]) -> Sizes:
    """Return the sizes that a file was packed with."""
    return Sizes(domain.size, int(facts.get("crop_from", 0)), domain.eval_size)


def _locate(domain: str | Path, size: int | None) -> Path | _Images:
    """Return a domain's packed file, or its images; raises as `load_domain`."""
    path = as_path(domain, "domain", DOMAIN).expanduser()
    if path.suffix == ".h5" or path.is_file():
        return path
    if _is_folder(domain):
        wanted = size or folder_size(path)
        return _Images(list_path(path), packed_folder(path, wanted), Sizes(wanted), str(path))
    if str(domain).startswith((".", "/", "~")):
        raise DomainError(domain, "does not exist", "check the path, or name a domain; 'mkfa domains' lists them")
    info = domain_info(str(domain))
    wanted = size or info.size
    if info.packed(wanted).is_file():
        return info.packed(wanted)
    if info.how == "bundled":
        return data_file(bundled_domains()[info.name]["file"])
    if info.how == "build" or not info.root.is_dir():
        problem = f"is not on this machine: expected in {info.packed(wanted)} or {info.root}"
        raise DomainError(info.name, problem, info.remedy)
    return _Images(list_named(info), info.packed(wanted), Sizes(wanted), info.name)


def _is_folder(domain: str | Path) -> bool:
    """True for a folder. A registry name means that domain even if a folder has the same name; ./NAME is the folder."""
    text = str(domain)
    path = Path(text).expanduser()
    return path.is_dir() and (text not in registry() or isinstance(domain, Path))


def _pack(place: _Images, notify: Notify, progress: Progress, *, looks: bool = True) -> Domain:
    """Decode images into the packed file; say what was left out and, with `looks`, how the images look."""
    images, out, sizes = place.images, place.out, place.sizes
    need = packed_bytes(images, sizes)
    at = f"at {sizes.size} px" + (f" with whole images of up to {sizes.crop_from} px" if sizes.crop_from else "")
    if need > DECODE_UNASKED:
        problem = f"is on this machine but not packed {at}; packing needs {need / 1e9:.0f} GB"
        options = {"--size": sizes.size, "--crop-from": sizes.crop_from, "--eval-size": sizes.eval_size}
        words = " ".join(f"{option} {value}" for option, value in options.items() if value)
        raise DomainError(images.name, problem, f"run: mkfa domains pack {place.command} {words}")
    notify(f"decoding {images.name} once, {at}, into {out} ({need / 1e6:.0f} MB)")
    if out.is_file() and open_arrays(out, kind="domain")[1].get("decoding", 1) < DECODING:
        notify(f"{out} is from an earlier version, which read 16-bit and transparent images differently")
    out.parent.mkdir(parents=True, exist_ok=True)
    with follow(progress, f"decode {images.name}", len(images.train) + len(images.test)) as advance:
        done = pack(images, out, size=sizes, overwrite=True, advance=advance)
    for note in done.notes:
        if looks or note not in images.notes:
            notify(f"{images.name}: {note}")
    if done.skipped:
        more = f" and {len(done.skipped) - 1} more" if len(done.skipped) > 1 else ""
        notify(f"left out images that cannot be decoded: {done.skipped[0]} ({done.problems[0]}){more}")
    domain = read_domain(out)
    if looks:
        found = overview(domain)
        notify(found.headline())
        for warning in found.warnings():
            notify(f"{images.name}: {warning}")
    return domain


def _of_size(domain: Domain, size: int | None) -> Domain:
    if size is not None and domain.size != size:
        problem = f"is available at {domain.size} px, not at {size} px"
        raise DomainError(domain.name, problem, "omit the size, or pack or build the domain at that size")
    return domain
