"""A bank that exists when its network is harvested again: the same network, or another one that it must not lose to.

A network is identified by where it comes from (the resolved path, or the repository) and by the digest of its weights.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkfa.banks.bank import FilterBank, Provenance
from mkfa.banks.bank_file import read_bank, same_filters
from mkfa.errors import BankError, DamagedBankError, InUseError, MkfaError
from mkfa.readers.harvesting import harvest, is_path

FACTS = {"arch": "architecture", "training_set": "training_set", "task": "task", "licence": "licence"}
"""Option of `harvest` -> field of `Provenance` that it sets."""

_SAID_ONLY = frozenset({"training_set", "task", "licence"})
"""Options that change no filter, so that the network need not be read again for them."""

EXTERNAL = "weights from "
"""How notes on files with weights outside the source begin; the source's digest does not cover them."""


@dataclass(frozen=True, slots=True)
class Former:
    """What is in place of a new bank: a bank, nothing (both empty), or a file that cannot be read (`problem`)."""

    bank: FilterBank | None = None
    problem: str = ""


def former_bank(path: Path, *, force: bool) -> Former:
    """Return what is at a bank's path.

    Raises InUseError: another program has the file open for writing. Raises MkfaError: it is neither a bank nor a
    damaged one, and `force` is False.
    """
    if not path.exists() and not path.is_symlink():
        return Former()
    try:
        return Former(read_bank(path))
    except InUseError:
        raise
    except BankError as error:
        if force or isinstance(error, DamagedBankError):
            return Former(problem=error.problem)
        raise MkfaError(path, error.problem, "pass --name for another name or --force to replace it") from error


def options_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `harvest` that differ from their defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(harvest).parameters.items()}
    given = {name: value for name, value in options.items() if name != "name" and value != defaults.get(name)}
    return {name: value for name, value in given.items() if value or defaults.get(name)}  # [] and () are both none


def may_differ(given: Mapping[str, Any], bank: FilterBank) -> bool:
    """True if options could change the filters of a bank, which are then read again to see it."""
    return any(
        option not in _SAID_ONLY and not (option in FACTS and getattr(bank.provenance, FACTS[option]) == value)
        for option, value in given.items()
    )


def same_source(source: str, provenance: Provenance) -> bool:
    """True if a bank was harvested from a path, or a name, that means the same file or network now."""
    if not is_path(source):
        return source == provenance.source
    return bool(provenance.source) and is_path(provenance.source) and real_path(source) == real_path(provenance.source)


def same_network(old: FilterBank, new: FilterBank) -> bool:
    """True if two banks were made of the same bytes; without digests, if they are equal."""
    a, b = old.provenance, new.provenance
    if a.source_sha256 and b.source_sha256:
        return a.source_sha256 == b.source_sha256 and _external(a) == _external(b)
    return same_filters(old, new)


def whole_digest(provenance: Provenance) -> str:
    """Return the digest of a source, "" if it does not cover all weights."""
    return "" if _external(provenance) else provenance.source_sha256


def refuse_other(path: Path, source: str, *, old: Provenance, new: Provenance) -> MkfaError:
    """Return the error for a bank of another network in place of a new one."""
    remedy = "pass --name for another name or --force to replace it"
    if same_source(source, old):
        then = f"sha256 {old.source_sha256[:12]}..." if old.source_sha256 else "digest not recorded"
        now = f"sha256 {new.source_sha256[:12]}..." if new.source_sha256 else "digest not known"
        problem = f"was harvested from this checkpoint when it had other weights ({then}, now {now}); the bank was kept"
        if old.source_sha256 == new.source_sha256:
            problem = "was harvested from this checkpoint when the files beside it had other weights; the bank was kept"
        return MkfaError(path.stem, problem, remedy)
    problem = f"is in the library already, harvested from another network ({old.source or 'not recorded'})"
    return MkfaError(path.stem, problem, remedy)


def with_facts(bank: FilterBank, given: Mapping[str, Any]) -> tuple[FilterBank, list[str]]:
    """Return a bank with the provenance that options state, and the options that changed it."""
    changed = {
        option: value
        for option, value in given.items()
        if option in FACTS and getattr(bank.provenance, FACTS[option]) != value
    }
    if not changed:
        return bank, []
    facts: dict[str, Any] = {FACTS[option]: value for option, value in changed.items()}
    return replace(bank, provenance=replace(bank.provenance, **facts)), [option_name(option) for option in changed]


def no_longer_recorded(old: Provenance, new: Provenance) -> list[str]:
    """Return a sentence on the provenance that a bank said and its successor does not; [] if there is none."""
    lost = [
        f"{option_name(option)} {getattr(old, field)!r}"
        for option, field in FACTS.items()
        if getattr(old, field) and not getattr(new, field)
    ]
    return [f"The former bank said more: {', '.join(lost)}."] if lost else []


def option_name(keyword: str) -> str:
    """Return an option as it is typed: allow_nonfinite becomes --allow-nonfinite."""
    return f"--{keyword.replace('_', '-')}"


def real_path(path: str) -> Path:
    """Return a path without links; a link that leads to itself stays as it is."""
    return Path(os.path.realpath(Path(path).expanduser()))


def _external(provenance: Provenance) -> list[str]:
    return sorted(note for note in provenance.notes if note.startswith(EXTERNAL))
