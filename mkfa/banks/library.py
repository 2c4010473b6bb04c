"""The library of banks on this machine, and banks by name."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import changing, gone, read_analyses, read_bank, stored_analyses, write_quietly
from mkfa.errors import BankError, MkfaError, UnknownBankError, UnknownNameError, nearest, wrong_type
from mkfa.several import as_several
from mkfa.storage.atomic import atomic_write, check_target
from mkfa.storage.folders import data_file, home
from mkfa.storage.records import Listing
from mkfa.words import counted

BankLike = FilterBank | str | PathLike[str]
"""A bank, its name, the path of its file, or an entry of a list of banks."""
Banks = BankLike | Iterable[BankLike]
"""One bank or several."""


@dataclass(frozen=True, slots=True)
class BankEntry:
    """A bank by name: its file, and whether it is bundled. It stands for its path wherever one is wanted."""

    name: str
    path: Path
    bundled: bool

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BankList(Listing[BankEntry]):
    """The banks at hand, by name."""

    KIND: ClassVar[str] = "bank_list"
    banks: tuple[BankEntry, ...]

    def headline(self) -> str:
        """Return how many banks there are, and where."""
        bundled = sum(entry.bundled for entry in self)
        return f"{counted(len(self), 'bank')}, {bundled} bundled and {len(self) - bundled} in the library"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a bank, read from its file; `error` says why a file cannot be read."""
        rows: list[dict[str, Any]] = []
        for entry in self:
            row: dict[str, Any] = {"name": entry.name, "path": entry.path, "bundled": entry.bundled, "error": None}
            try:
                bank = read_bank(entry.path)
            except MkfaError as error:
                rows.append(row | {"error": str(error)})
                continue
            row |= {"layers": len(bank.layers), "filters": len(bank), "kernels": " ".join(map(str, bank.kinds))}
            rows.append(row | {"training_set": bank.provenance.training_set})
        return rows


def library_folder(*, create: bool = False) -> Path:
    """Return the folder that harvested banks go to."""
    folder = home() / "banks"
    if create:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"cannot be created ({error.strerror})"
            raise BankError(folder, problem, "set MKFA_HOME to a folder that you may write to") from error
    return folder


def bank_file_name(name: str) -> str:
    """Return the file name for a network's name; characters that file names cannot have become '-'."""
    return re.sub(r"[^\w.+=@-]+", "-", name).strip("-.") + ".h5"


def bundled_index() -> dict[str, Any]:
    """Return data/index.json: name -> file, origin, licence, sha256, command."""
    index: dict[str, Any] = json.loads(data_file("index.json").read_text("utf-8"))
    return index


def list_banks() -> BankList:
    """Return the banks of the library and the bundled ones; a bank of the library hides a bundled one of its name.

    Examples
    --------
    >>> import mkfa
    >>> [bank.name for bank in mkfa.list_banks() if bank.bundled][:3]
    ['convnext_clipart', 'convnext_fashion', 'convnext_scripts']
    >>> mkfa.list_banks()  # a table in notebooks; also to_frame, save
    <BankList: ... banks, ... bundled and ... in the library>
    """
    own = {p.stem: BankEntry(p.stem, p, False) for p in sorted(library_folder().glob("*.h5"))}
    for name, entry in bundled_index()["banks"].items():
        own.setdefault(name, BankEntry(name, data_file(entry["file"]), True))
    return BankList(tuple(own[name] for name in sorted(own)))


def resolve_path(name: str) -> Path:
    """Return the file of a bank: a path is returned unchanged, a name is looked up in the library and bundled banks.

    Raises UnknownNameError: the name is unknown; the message gives the nearest ones or says how to get it.
    """
    if not name:
        raise UnknownNameError("bank ''", "is an empty name", "name a bank; 'mkfa banks' lists the banks at hand")
    path = Path(name).expanduser()
    if path.is_file() or path.suffix == ".h5" or name.startswith((".", "/", "~")):
        return path
    entries = {e.name: e.path for e in list_banks()}
    for candidate in (name, Path(bank_file_name(name)).stem):
        if candidate in entries:
            return entries[candidate]
    get_one = f"'mkfa banks' lists the banks at hand, 'mkfa harvest {name}' gets a timm network or a checkpoint"
    raise UnknownBankError(name, nearest(name, sorted(entries)) or get_one)


def load_bank(bank: BankLike) -> FilterBank:
    """Return a bank by its name or path; a bank is returned unchanged.

    Parameters
    ----------
    bank : name of a bank (`mkfa.list_banks`), path of its file, an entry of a list, or a bank.

    Raises
    ------
    UnknownNameError
        No bank has that name; the message gives the nearest ones or says how to get it.
    BankError
        As `mkfa.read_bank`.

    Examples
    --------
    >>> import mkfa
    >>> bank = mkfa.load_bank("efficientnet_lite0")
    >>> bank.of_layer(0).weight.shape  # filters, height, width
    (32, 3, 3)
    """
    if isinstance(bank, FilterBank):
        return bank
    if not isinstance(bank, str | PathLike):
        raise wrong_type(bank, "bank", wanted="one bank", remedy="give one name, path or bank")
    return read_bank(resolve_path(bank) if isinstance(bank, str) else Path(bank).expanduser())


def load_banks(banks: Banks) -> tuple[FilterBank, ...]:
    """Return one bank or several, each as `load_bank` does.

    Examples
    --------
    >>> [bank.name for bank in load_banks("ppocrv4_det")]
    ['ppocrv4_det']
    """
    return tuple(map(load_bank, several_banks(banks)))


def several_banks(banks: Banks) -> tuple[BankLike, ...]:
    """Return the banks of a list, such as `list_banks` and `harvest_all` return; one bank alone as a tuple of it."""
    return tuple(banks) if isinstance(banks, Listing) else as_several(banks)


@dataclass(frozen=True, slots=True)
class BankChange:
    """What became of a bank: the path of its file, and sentences on what is gone."""

    path: Path
    notes: tuple[str, ...] = ()


def remove_bank(name: str) -> BankChange:
    """Delete a bank of the library, with its analyses."""
    path = _own_file(name)
    with changing(path):
        analyses = stored_analyses(path)
        path.unlink()
    return BankChange(path, (gone(analyses),) if analyses else ())


def rename_bank(name: str, new_name: str, *, overwrite: bool = False) -> BankChange:
    """Rename a bank of the library, with its analyses."""
    old = _own_file(name)
    file = bank_file_name(new_name)
    if file == ".h5":
        raise BankError(f"name {new_name!r}", "has no character that a file name may have", "choose another name")
    new = library_folder() / file
    check_target(new, overwrite=overwrite)
    notes: list[str] = []
    with contextlib.ExitStack() as locks:
        for path in sorted({old, new}):  # in one order, so that two renamings do not wait for each other
            locks.enter_context(changing(path))
        check_target(new, overwrite=overwrite)
        if new.is_file() and new != old:
            notes.append(f"The bank that was called {new.stem} is gone.")
            notes += [gone(analyses)] if (analyses := stored_analyses(new)) else []
        write_quietly(replace(read_bank(old), name=new_name), new, read_analyses(old), overwrite=overwrite)
        if new != old:
            old.unlink()
    return BankChange(new, tuple(notes))


def export_bank(bank: BankLike, path: Path, *, overwrite: bool = False) -> BankChange:
    """Write a bank for other programs, as .h5 (a bank file, with stored analyses) or .npz.

    The .npz has `names`, the layers' names, and for each kernel size arrays such as `weight_5x5` (filters, height,
    width), `layer_5x5` (from 1) and `channel_5x5`.
    """
    import io

    import numpy as np

    if path.suffix.lower() not in (".h5", ".npz"):
        raise BankError(path, "has an unknown ending", "end the name in .h5 or .npz")
    check_target(path, overwrite=overwrite)
    given, bank = bank, load_bank(bank)
    file = None if isinstance(given, FilterBank) else resolve_path(str(given))
    if path.suffix.lower() == ".h5":
        kept = {} if file is None else read_analyses(file)
        lost = {name: one for name, one in stored_analyses(path).items() if name not in kept}
        write_quietly(bank, path, kept, overwrite=overwrite)
        return BankChange(path, (gone(lost),) if lost else ())
    arrays: dict[str, Any] = {"names": np.array([layer.name for layer in bank.layers])}
    for kind in bank.kinds:
        group = bank.of_kind(kind)
        arrays |= {f"weight_{kind}": group.weight, f"layer_{kind}": group.layer + 1, f"channel_{kind}": group.channel}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic_write(path, buffer.getbuffer(), overwrite=overwrite)
    return BankChange(path)


def _own_file(name: str) -> Path:
    """Return the file of a bank of the library; refuses bundled banks."""
    path = resolve_path(name)
    if path.parent.resolve() != library_folder().resolve() or not path.is_file():
        raise BankError(name, "is not a bank of the library", "'mkfa banks' lists them; bundled banks are read-only")
    return path
