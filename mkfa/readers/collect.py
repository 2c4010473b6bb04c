"""Harvest several sources into the library: one bank each, what is done is skipped."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mkfa.banks.bank_file import read_bank, write_bank
from mkfa.banks.library import bank_file_name, library_folder
from mkfa.errors import MkfaError, WorkError
from mkfa.readers.harvesting import HarvestOptions, harvest, is_path, network_name

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class Harvested:
    """What became of one source: `state` is "harvested", "skipped" (there already) or "failed" (`error` says why)."""

    source: str
    name: str
    state: str
    path: Path
    layers: int = 0
    filters: int = 0
    notes: tuple[str, ...] = ()
    error: MkfaError | None = None


def expand_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """Replace globs by the files they match, or else by the timm names with pretrained weights that they match.

    Raises
    ------
    MkfaError
        An empty name, or a glob that matches neither.
    """
    found: dict[str, None] = {}
    for source in sources:
        if not source.strip():  # as a path it would be the current folder
            raise MkfaError("a source", "is empty", "name a checkpoint, a folder or a timm network")
        if not any(c in source for c in _WILD) or Path(source).exists():
            found[source] = None
            continue
        matches = sorted(glob.glob(str(Path(source).expanduser())))  # noqa: PTH207 (absolute patterns)
        if not matches and not is_path(source):
            from mkfa.readers.timm.catalogue import expand

            matches = list(expand(source))
        if not matches:
            raise MkfaError(
                source,
                "matches no file and no timm network with weights and depthwise layers",
                "check the pattern, in quotes: 'convnext*'",
            )
        found.update(dict.fromkeys(matches))
    return tuple(found)


def collect(
    sources: Sequence[str],
    options: HarvestOptions,
    *,
    force: bool = False,
    tell: Callable[[Harvested], None] = lambda _: None,
) -> tuple[Harvested, ...]:
    """Harvest each source into the library under its network's name.

    Parameters
    ----------
    force : bool
        Replace banks that are in the library already.
    tell : callable
        Called after each source with what became of it.

    Returns
    -------
    tuple of Harvested, in the order of `sources`; failures are reported there, not raised.
    """
    folder, done = library_folder(create=True), []
    for source in sources:
        name = options.name or network_name(source)
        path = folder / bank_file_name(name)
        try:
            if path.name == ".h5":
                problem = "has no character that a file can be named by"
                raise MkfaError(f"name {name!r}", problem, "pass another --name")
            result = _collect_one(source, replace(options, name=name), path, force)
        except MkfaError as error:
            result = Harvested(source, name, "failed", path, error=error)
        tell(result)
        done.append(result)
    return tuple(done)


def _collect_one(source: str, options: HarvestOptions, path: Path, force: bool) -> Harvested:
    name = options.name
    if path.exists() and not force and _is_done(source, path):
        bank = read_bank(path)
        return Harvested(source, name, "skipped", path, len(bank.layers), len(bank))
    bank = harvest(source, options)
    write_bank(bank, path, overwrite=True)
    return Harvested(source, name, "harvested", path, len(bank.layers), len(bank), bank.provenance.notes)


def _is_done(source: str, path: Path) -> bool:
    """True when the bank at `path` was harvested from this source as it is now; refuses a bank of another source.

    A damaged bank counts as not done: it is harvested again.
    """
    try:
        had = read_bank(path).provenance
    except MkfaError:
        return False
    local = Path(source).expanduser()
    if local.is_file():
        with local.open("rb") as f:
            if hashlib.file_digest(f, "sha256").hexdigest() == had.source_sha256:
                return True
        if had.source == source:
            return False  # the same file, changed since
    elif had.source == source:
        return True
    problem = f"is in the library already, harvested from another source ({had.source})"
    raise MkfaError(path.stem, problem, "pass --name for another name or --force to replace it")


def failures(done: Sequence[Harvested]) -> WorkError | None:
    """Return one error that sums up what failed, or None."""
    failed = [h for h in done if h.error]
    if not failed:
        return None
    names = ", ".join(h.source for h in failed[:5]) + (", ..." if len(failed) > 5 else "")
    problem, remedy = f"failed ({names})", "see the lines above; the others are done"
    return WorkError(f"{len(failed)} of {len(done)} sources", problem, remedy)
