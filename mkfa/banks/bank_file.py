"""The HDF5 file of a bank: format `mkfa.filterbank`, version 1.

Root attributes contain the provenance, /layers is the layer table, /filters/KHxKW has `weight` (N, kh, kw) float32,
`layer` and `channel` (N,) int32 and, if a layer has one, `bias` (N,) float32. Every dataset has the attribute
`checksum` (see `mkfa.storage.hdf5.checksum`), and is refused if its values differ; older banks, without it, are read
unchecked.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.banks.bank import FilterBank, FilterGroup, Layer, Provenance
from mkfa.errors import BankError, InUseError, WorkError, as_path, wrong_type
from mkfa.frozen import FrozenDict
from mkfa.storage.atomic import atomic_write, check_target
from mkfa.storage.hdf5 import (
    changed_image,
    check_format,
    decode,
    encode,
    file_image,
    get_group,
    get_text,
    has,
    open_file,
    put_array,
    put_text,
    read_all,
    read_array,
    text_type,
)
from mkfa.storage.result_files import get_parameters
from mkfa.words import counted

LOCK_WAIT = 60.0
"""Seconds to wait for another process that changes a bank file."""

LONGEST_NAME = 4096
"""Most bytes of a layer's name. Each row of the layer table is as wide as the longest name."""

BANK_FORMAT = "mkfa.filterbank"
BANK_VERSION = 1

_TEXT_ATTRIBUTES = tuple(
    "source source_sha256 hub_commit architecture training_set task licence rule mkfa_version created weights".split()
)


def check_bank(f: Any) -> None:
    """Refuse a file that is not a bank."""
    check_format(f, BANK_FORMAT, version=BANK_VERSION)


def put_bank(f: Any, bank: FilterBank) -> None:
    """Fill an open, empty file."""
    facts, skipped, notes = bank.provenance, dict(bank.provenance.skipped), list(bank.provenance.notes)
    texts = {"format": BANK_FORMAT, "name": bank.name, "skipped": json.dumps(skipped), "notes": json.dumps(notes)}
    if facts.doubtful:
        texts["doubtful"] = json.dumps(dict(facts.doubtful))
    if facts.stood_in:
        texts["stood_in"] = json.dumps(dict(facts.stood_in))
    for key, text in (texts | {key: getattr(facts, key) for key in _TEXT_ATTRIBUTES}).items():
        put_text(f, key, text)
    f.attrs["format_version"] = BANK_VERSION
    table = np.zeros(len(bank.layers), _layer_dtype(bank.layers))
    for row, layer in zip(table, bank.layers, strict=True):
        for key in table.dtype.names or ():
            value = getattr(layer, key)
            row[key] = encode(value) if isinstance(value, str) else value
    put_array(f, "layers", table, checked=True)
    for (kh, kw), group in bank.groups.items():
        at = f.create_group(f"filters/{kh}x{kw}")
        for key, dtype in (("weight", "<f4"), ("layer", "<i4"), ("channel", "<i4"), ("bias", "<f4")):
            if getattr(group, key) is not None:
                put_array(at, key, np.asarray(getattr(group, key), dtype), checked=True)


def get_bank(f: Any) -> FilterBank:
    """Read an open file; raises BankError if its tables are inconsistent."""
    if not has(f, "layers"):
        raise BankError("bank", "has no /layers", "harvest the network again")
    filters, table = get_group(f, "filters"), read_array(f, "layers")
    layers = tuple(_layer(row) for row in table)
    groups = {}
    for size in filters:
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        if not match:
            problem = f"has a group /filters/{size}, which is not a kernel size"
            raise BankError("bank", problem, "harvest the network again")
        at = get_group(filters, size)
        bias = read_array(at, "bias").astype(np.float32, copy=False) if has(at, "bias") else None
        groups[int(match[1]), int(match[2])] = FilterGroup(
            read_array(at, "weight").astype(np.float32, copy=False),
            read_array(at, "layer").astype(np.int32, copy=False),
            read_array(at, "channel").astype(np.int32, copy=False),
            bias,
        )
    texts = {key: get_text(f, key) for key in _TEXT_ATTRIBUTES}
    skipped = {str(k): int(v) for k, v in json.loads(get_text(f, "skipped", "{}")).items()}
    notes = tuple(str(n) for n in json.loads(get_text(f, "notes", "[]")))
    doubtful = {str(k): str(v) for k, v in json.loads(get_text(f, "doubtful", "{}")).items()}
    stood_in = {str(k): int(v) for k, v in json.loads(get_text(f, "stood_in", "{}")).items()}
    provenance = Provenance(
        **texts, notes=notes, skipped=FrozenDict(skipped), doubtful=FrozenDict(doubtful), stood_in=FrozenDict(stood_in)
    )
    return FilterBank(get_text(f, "name"), layers, groups, provenance)


def _layer(row: Any) -> Layer:
    return Layer(
        index=int(row["index"]),
        name=decode(row["name"]),
        stage=int(row["stage"]),
        depth=float(row["depth"]),
        channels=int(row["channels"]),
        kh=int(row["kh"]),
        kw=int(row["kw"]),
        stride=(int(row["stride"][0]), int(row["stride"][1])),
        dilation=(int(row["dilation"][0]), int(row["dilation"][1])),
        multiplier=int(row["multiplier"]),
        has_bias=bool(row["has_bias"]),
        dtype=decode(row["dtype"]),
        bn_folded=bool(row["bn_folded"]),
    )


def _layer_dtype(layers: tuple[Layer, ...]) -> np.dtype[Any]:
    """Return the type of the layer table, with texts of fixed length (see `mkfa.storage.hdf5.put_text`)."""
    if (longest := max((len(encode(layer.name)) for layer in layers), default=0)) > LONGEST_NAME:
        problem = f"has a layer whose name has {counted(longest, 'byte')}"
        raise BankError("bank", problem, f"shorten the names of its layers to {LONGEST_NAME} bytes")
    name, dtype = text_type([layer.name for layer in layers]), text_type([layer.dtype for layer in layers])
    return np.dtype(
        [
            ("index", "<i4"),
            ("name", name),
            ("stage", "<i4"),
            ("depth", "<f8"),
            ("channels", "<i4"),
            ("kh", "<i4"),
            ("kw", "<i4"),
            ("stride", "<i4", (2,)),
            ("dilation", "<i4", (2,)),
            ("multiplier", "<i4"),
            ("has_bias", "?"),
            ("dtype", dtype),
            ("bn_folded", "?"),
        ]
    )


@dataclass(frozen=True, slots=True)
class Analysis:
    """A result computed on a bank, with its parameters.

    `arrays` have one row a filter or layer; `parameters` is JSON-serialisable.
    """

    name: str
    arrays: Mapping[str, np.ndarray[Any, Any]]
    parameters: Mapping[str, Any]


def write_bank(
    bank: FilterBank, path: str | Path, *, analyses: Mapping[str, Analysis] | None = None, overwrite: bool = True
) -> Path:
    """Write a bank file and return its path.

    Parameters
    ----------
    bank : FilterBank
    path : str or Path
    analyses : what is stored beside the filters, by name. Analyses in a file that is replaced are gone, unless they are
        among these; a UserWarning names them.
    overwrite : replace a file that exists.

    Raises
    ------
    MkfaError
        The folder is missing or read-only, or the file exists and `overwrite` is False.
    WorkError
        The disk is full or failed; a file that was there is unchanged.

    Examples
    --------
    >>> import mkfa, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = mkfa.write_bank(mkfa.load_bank("ppocrv4_rec"), f"{folder}/copy.h5")
    ...     mkfa.read_bank(path) == mkfa.load_bank("ppocrv4_rec")
    True
    """
    check_arguments(write_bank, locals())
    if not isinstance(bank, FilterBank):
        raise wrong_type(bank, "bank", wanted="a FilterBank", remedy="mkfa.load_bank gets one by its name or path")
    path = as_path(path, "path")
    check_target(path, overwrite=overwrite)
    lost = {name: one for name, one in stored_analyses(path).items() if name not in (analyses or {})}
    write_quietly(bank, path, analyses, overwrite=overwrite)
    if lost:
        warnings.warn(f"{path}: {gone(lost)}", stacklevel=2)
    return path


def write_quietly(
    bank: FilterBank, path: Path, analyses: Mapping[str, Analysis] | None, *, overwrite: bool = True
) -> None:
    """Write a bank file as `write_bank`, for callers that say themselves which analyses are gone."""

    def fill(f: Any) -> None:
        put_bank(f, bank)
        for analysis in (analyses or {}).values():
            _put_analysis(f, analysis)

    atomic_write(path, file_image(fill), overwrite=overwrite)


def read_bank(path: str | Path) -> FilterBank:
    """Read a bank file; `mkfa.load_bank` finds one by its name too.

    Parameters
    ----------
    path : str or Path
        A file that `write_bank` or `mkfa harvest` wrote.

    Raises
    ------
    BankError
        The file is missing, unreadable, damaged, inconsistent, or of another format or a newer version.

    Examples
    --------
    >>> import mkfa
    >>> entry = next(bank for bank in mkfa.list_banks() if bank.name == "mobilenet_v2")
    >>> mkfa.read_bank(entry.path).name
    'mobilenet_v2'
    """
    with open_file(as_path(path, "bank", "the path of its file")) as f:
        check_bank(f)
        return get_bank(f)


def source_digest(path: Path) -> str:
    """Return the digest of the source that a bank file records, without its filters; "" if it cannot be read."""
    try:
        with open_file(path) as f:
            return get_text(f, "source_sha256")
    except BankError:
        return ""


def same_filters(a: FilterBank, b: FilterBank) -> bool:
    """True if two banks have the same layers and filters; names and provenance do not count."""
    return a.layers == b.layers and dict(a.groups) == dict(b.groups)


def replace_bank(bank: FilterBank, path: str | Path) -> tuple[str, ...]:
    """Write a bank over a file that may exist, and return sentences on what is gone with it.

    Analyses stored in the file are kept if its filters are those of the bank. The file is locked meanwhile, as by
    `write_analysis`. Raises `InUseError` if another program has the file open for writing, else as `write_bank` and
    `changing`.
    """
    path = Path(path)
    check_target(path, overwrite=True)
    # Another process may be storing a result in the file.
    with changing(path) if path.is_file() else contextlib.nullcontext():
        former, analyses = None, stored_analyses(path)
        if analyses:
            with contextlib.suppress(BankError):
                former = read_bank(path)
        keep = former is not None and same_filters(former, bank)
        write_quietly(bank, path, analyses if keep else None)
    return () if keep or not analyses else (gone(analyses),)


def stored_analyses(path: Path) -> dict[str, Analysis]:
    """Return the analyses in a file that is to be replaced or removed; {} if it is missing, damaged or no bank.

    Raises `InUseError` if another program has the file open for writing.
    """
    if not path.is_file():
        return {}
    try:
        return read_analyses(path)
    except InUseError:
        raise
    except BankError:
        return {}


def gone(analyses: Mapping[str, Analysis]) -> str:
    """Return the sentence that names analyses of a bank that was replaced or removed."""
    return f"The analyses stored in the former bank are gone: {', '.join(sorted(analyses))}."


def write_analysis(path: str | Path, analysis: Analysis, *, of: FilterBank | None = None) -> None:
    """Store a result in the bank file under /analysis/<name>, replacing an earlier one; atomic.

    The file is locked meanwhile, so that of two processes that store results in it neither loses its own.

    Parameters
    ----------
    of : the bank that was analysed; None where nobody else can have replaced it.

    Raises BankError: the file is not a bank, or holds another bank than the one that was analysed. Raises WorkError:
    another process changes the file for longer than `LOCK_WAIT`, or the result cannot be written.
    """
    path = Path(path)
    with changing(path):
        with open_file(path) as f:
            check_bank(f)
            if of is not None and get_bank(f) != of:
                raise BankError(path, "was replaced by another bank while it was analysed", "run the command again")
        atomic_write(path, changed_image(path, lambda f: _put_analysis(f, analysis)))
        if analysis.name not in read_analyses(path):
            raise WorkError(path, f"does not have the result {analysis.name} that was just written", "check the disk")


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """Lock a bank file for a change that reads and writes it. Raises WorkError after `LOCK_WAIT` seconds."""
    from mkfa.storage.locks import LockHeldError, hold  # takes 10 ms, which reading and first writing need not

    try:
        with hold(path.with_name(f".{path.name}.lock"), wait=LOCK_WAIT):
            yield
    except LockHeldError:
        raise WorkError(path, "is being changed by another process", "wait for it to end") from None


def read_analyses(path: str | Path) -> dict[str, Analysis]:
    """Read all results stored in a bank file, by name; raises as `read_bank`."""
    with open_file(Path(path)) as f:
        check_bank(f)
        if not has(f, "analysis"):
            return {}
        stored = get_group(f, "analysis")
        groups = {name: get_group(stored, name) for name in stored}
        return {
            name: Analysis(name, FrozenDict(read_all(group)), get_parameters(group)) for name, group in groups.items()
        }


def _put_analysis(f: Any, analysis: Analysis) -> None:
    at = f.require_group("analysis")
    if has(at, analysis.name):
        del at[analysis.name]
    group = at.create_group(analysis.name)
    put_text(group, "parameters", json.dumps(dict(analysis.parameters)))
    for name, array in analysis.arrays.items():
        put_array(group, name, array, checked=True)
