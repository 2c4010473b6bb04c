"""Walk folders of images as `torchvision.datasets.ImageFolder` does, and say what was left out.

As in ImageFolder, a folder in a split is a class, classes are sorted by name, files are found in folders within
folders, links are followed, and endings may be in upper case. Unlike ImageFolder, GIF files count as images, hidden
files and folders are left out, and links to folders that lie above or were read already are not followed (they would
make a loop or mix the classes).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mkfa.images.domain_file import DomainError
from mkfa.storage.files import readable
from mkfa.words import counted

ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"))
"""torchvision's endings and .gif, in lower case."""
SYSTEM_NAMES = frozenset(("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db"))
"""Names that operating systems leave in folders, in lower case; names that begin with a dot are hidden too."""

UNREAD = frozenset(
    (
        ".heic .heif .avif .jxl .jp2 .j2k .jpe .jfif .pbm .pnm .pfm .tga .psd .svg .exr .hdr .dng .nef .cr2 .cr3 .arw "
        ".raw .dcm .nii .npy .npz .mat .webm .mp4 .zip .tar .gz"
    ).split()
)
"""Endings of pictures, videos, arrays and archives that are not read: a note says how many there are."""


@dataclass(slots=True)
class LeftOut:
    """What a walk left out.

    Attributes
    ----------
    hidden : files with hidden names or in hidden folders
    hidden_names : the names that hid them
    special : paths with an image's ending that are pipes, devices or sockets
    broken : links to nothing, or in a circle
    outside : images that lie beside the class folders
    others : the endings in `UNREAD` that occur, and how often
    again : links to folders above, or to folders that were read already
    """

    hidden: int = 0
    hidden_names: set[str] = field(default_factory=set)
    special: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    again: list[Path] = field(default_factory=list)

    def add(self, more: LeftOut) -> None:
        """Add what another walk left out."""
        self.hidden += more.hidden
        self.hidden_names |= more.hidden_names
        for name in ("special", "broken", "outside", "again"):
            getattr(self, name).extend(getattr(more, name))
        for ending, count in more.others.items():
            self.others[ending] = self.others.get(ending, 0) + count

    def notes(self) -> Iterator[str]:
        """Yield one sentence for each kind."""
        if self.hidden:
            names = ", ".join(sorted(readable(name) for name in self.hidden_names)[:3])
            yield f"left out {counted(self.hidden, 'hidden file')} ({names})"
        for paths, one, many in (
            (self.special, "pipe, device or socket", "pipes, devices or sockets"),
            (self.broken, "broken link", "broken links"),
            (self.outside, "image beside the class folders", "images beside the class folders"),
        ):
            if paths:
                yield f"left out {counted(len(paths), one, many)}, such as {readable(paths[0])}"
        if self.others:
            kinds = ", ".join(sorted(self.others, key=lambda ending: (-self.others[ending], ending))[:4])
            yield f"left out {counted(sum(self.others.values()), 'file')} in formats that are not read ({kinds})"
        if self.again:
            links = counted(len(self.again), "link to a folder", "links to folders")
            yield f"did not follow {links} above or read already, such as {readable(self.again[0])}"


def is_hidden(name: str) -> bool:
    """True for names that begin with a dot, and for those in `SYSTEM_NAMES`."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def class_folders(side: Path, left: LeftOut) -> list[str]:
    """Return the names of a split's class folders, sorted as torchvision sorts them."""
    names = []
    above = _above(side)
    for entry in _entries(side):
        if _is_folder(entry):
            if is_hidden(entry.name):
                _count_hidden(entry, left)
            elif _identity(Path(entry.path)) in above:
                left.again.append(Path(entry.path))
            else:
                names.append(entry.name)
        elif is_hidden(entry.name):
            left.hidden += 1
            left.hidden_names.add(entry.name)
        elif Path(entry.name).suffix.lower() in ENDINGS:
            left.outside.append(Path(entry.path))
    return sorted(names)


def class_images(folder: Path, left: LeftOut) -> list[Path]:
    """Return the images in a class folder and the folders within it, sorted by path.

    Raises DomainError: a folder cannot be read.
    """
    found: list[Path] = []
    seen = _above(folder)
    todo = [folder]
    while todo:
        for entry in sorted(_entries(todo.pop()), key=lambda entry: entry.name):
            path = Path(entry.path)
            if _is_folder(entry):
                if is_hidden(entry.name):
                    _count_hidden(entry, left)
                elif (who := _identity(path)) in seen:
                    left.again.append(path)
                else:
                    seen.add(who)
                    todo.append(path)
            else:
                _sort_file(entry, path, found, left)
    return sorted(found)


def _sort_file(entry: os.DirEntry[str], path: Path, found: list[Path], left: LeftOut) -> None:
    ending = path.suffix.lower()
    if is_hidden(entry.name):
        left.hidden += 1
        left.hidden_names.add(entry.name)
    elif ending in UNREAD:
        left.others[ending] = left.others.get(ending, 0) + 1
    elif ending not in ENDINGS:
        return
    elif _is_file(entry):
        found.append(path)
    elif entry.is_symlink() and not path.exists():
        left.broken.append(path)
    else:
        left.special.append(path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise DomainError(readable(folder), problem, "check its permissions, or take it out") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _above(folder: Path) -> set[tuple[int, int]]:
    """Return a folder and the folders above it; a link to one of them would mix the classes."""
    return {_identity(at) for at in (folder, *folder.resolve().parents)}


def _identity(folder: Path) -> tuple[int, int]:
    try:
        stat = folder.stat()
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise DomainError(readable(folder), problem, "check its permissions, or take it out") from None
    return stat.st_dev, stat.st_ino


def _count_hidden(entry: os.DirEntry[str], left: LeftOut) -> None:
    """Count the files in a hidden folder; links in it are not followed."""
    if count := sum(len(names) for _, _, names in os.walk(entry.path)):
        left.hidden += count
        left.hidden_names.add(entry.name)
