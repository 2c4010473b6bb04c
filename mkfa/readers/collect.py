"""Harvest several networks into the library, one bank each; banks that exist are kept."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from mkfa.arguments import check_arguments
from mkfa.banks.bank import FilterBank, Provenance
from mkfa.banks.bank_file import read_bank, replace_bank, same_filters, source_digest, write_bank
from mkfa.banks.library import bank_file_name, bundled_index, library_folder
from mkfa.errors import MkfaError, OutputExistsError, WorkError, as_path
from mkfa.progress import Progress, follow
from mkfa.readers.former import (
    Former,
    former_bank,
    may_differ,
    no_longer_recorded,
    option_name,
    options_given,
    real_path,
    refuse_other,
    same_network,
    same_source,
    whole_digest,
    with_facts,
)
from mkfa.readers.harvesting import harvest, is_path, network_name, repository_of_page
from mkfa.readers.tensors.shard_names import shard_name
from mkfa.several import as_several
from mkfa.storage.records import Listing
from mkfa.words import counted

STATES = ("harvested", "updated", "skipped", "failed")

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class HarvestedBank:
    """The outcome for one source. It stands for the path of its bank wherever one is wanted.

    Attributes
    ----------
    state : "harvested", "skipped" (the bank exists), "updated" (the bank exists and got the provenance that options
        state) or "failed" (`error` says why).
    notes : sentences of the bank's provenance, with `changes`.
    changes : sentences on a bank that was there before.
    """

    source: str
    name: str
    state: str
    path: Path
    layers: int = 0
    filters: int = 0
    notes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    error: MkfaError | None = None

    def __fspath__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Harvests(Listing[HarvestedBank]):
    """The result of `harvest_all`: one entry a source, in their order."""

    KIND: ClassVar[str] = "harvest"
    banks: tuple[HarvestedBank, ...]

    @property
    def failure(self) -> WorkError | None:
        """One error that lists the sources that failed; None if none did."""
        failed = [bank.source for bank in self if bank.error]
        if not failed:
            return None
        names = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
        problem, remedy = f"failed ({names})", "see the lines above; the others are done"
        return WorkError(f"{len(failed)} of {counted(len(self), 'network')}", problem, remedy)

    def headline(self) -> str:
        counts = {state: sum(bank.state == state for bank in self) for state in STATES}
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no networks"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"bank": b.name, "state": b.state, "layers": b.layers or None, "filters": b.filters or None}
            | {"error": str(b.error) if b.error else None}
            for b in self
        ]

    def facts(self) -> dict[str, Any]:
        return {"banks": self.banks}


def expand_sources(sources: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """Replace patterns by the files that they match, else by timm names with pretrained weights; list each file once.

    Raises MkfaError: a name is empty, or a pattern matches neither a file nor a timm name.

    Examples
    --------
    >>> from mkfa.readers.collect import expand_sources
    >>> expand_sources(["convnext_pico*", "mobilenetv3_small_050"])[-2:]
    ('convnext_pico_ols.d1_in1k', 'mobilenetv3_small_050')
    """
    expanded: dict[str, None] = {}
    for given in as_several(sources):
        as_path(given, "network", "a name or a path")
        source = str(given)
        if not source.strip():  # as a path it would be the current folder
            raise MkfaError("a network", "is empty", "name a checkpoint, a folder or a timm network")
        if not any(c in source for c in _WILD) or Path(source).exists():
            expanded[repository_of_page(source)] = None
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
        expanded.update(dict.fromkeys(matches))
    return _given_once(expanded)


def _given_once(sources: Iterable[str]) -> tuple[str, ...]:
    """Leave out paths to a file that is among the sources by another path, if both have the same default name."""
    unique: dict[tuple[str, str], str] = {}
    for source in sources:
        real = str(_first_of(real_path(source))) if is_path(source) else source
        unique.setdefault((real, network_name(source)), source)
    return tuple(unique.values())


def _first_of(path: Path) -> Path:
    """Return the first shard of the checkpoint that a shard belongs to; other paths as they are."""
    if shard_name(path.name) is None:
        return path
    from mkfa.readers.tensors.shards import together

    return next((path.parent / shard.name for shard in together(path)), path)


def harvest_all(
    sources: str | Path | Iterable[str | Path],
    *,
    name: str | None = None,
    force: bool = False,
    on_result: Callable[[HarvestedBank], object] | None = None,
    progress: Progress = None,
    **options: Any,
) -> Harvests:
    """Harvest networks into the library, each under its own name.

    A bank of the same network, by resolved path or name and by digest, is kept; options that state provenance update
    it. A bank of another network, or of other weights at the same path, is replaced only with `force`. Stored analyses
    are kept if the filters stay the same. Sources with the same default name get that of their folder or owner before
    it: run1-best, run2-best.

    Parameters
    ----------
    sources : str, Path, or several
        Paths, names or patterns, as for `expand_sources` and `harvest`.
    name : str, optional
        Name of the bank, if there is one source; None takes the network's name.
    force : bool
        Replace banks that exist.
    on_result : callable, optional
        Called with each result as soon as it is available.
    progress : bool or callable, optional
        See `mkfa.progress.Progress`; counts sources.
    **options
        `arch`, `weights`, `include`, `exclude`, `dilation`, `training_set`, `task`, `licence`, `allow_nonfinite`, as
        for `harvest`.

    Returns
    -------
    Harvests
        Failures are recorded in it, not raised.

    Raises
    ------
    MkfaError
        As `expand_sources`; one name for several sources; the library cannot be written to.

    Examples
    --------
    >>> import os, tempfile
    >>> import mkfa
    >>> from mkfa.storage.folders import data_file
    >>> with tempfile.TemporaryDirectory() as os.environ["MKFA_HOME"]:
    ...     mkfa.harvest_all([str(data_file("ppocr_cls.safetensors"))])
    <Harvests: 1 harvested>
    """
    check_arguments(harvest_all, locals())
    wanted = expand_sources(sources)
    if name is not None and len(wanted) > 1:
        problem = f"names one bank, but there are {counted(len(wanted), 'network')}"
        raise MkfaError("name", problem, "leave it out: each bank gets its network's name")
    folder, done = library_folder(create=True), []
    labels = {source: name or label for source, label in default_names(wanted, folder).items()}
    hub, twins = _Hub(), _Twins(folder)
    with follow(progress, "harvest", len(labels)) as advance:
        for source, label in labels.items():
            path = folder / bank_file_name(label)
            try:
                result = _harvest_into(path, source, label, force=force, options=options, hub=hub, twins=twins)
            except MkfaError as error:
                result = HarvestedBank(source, label, "failed", path, error=error)
            done.append(result)
            advance(1)
            if on_result is not None:
                on_result(result)
    return Harvests(tuple(done))


def default_names(sources: Sequence[str], folder: Path) -> dict[str, str]:
    """Return source -> name of its bank in a library.

    Names that several sources share get the folders or the owner before them, as many as tell them apart; a bank that
    has the plain name already keeps it.
    """
    names = {source: network_name(source) for source in sources}
    shared = Counter(map(bank_file_name, names.values()))
    parts = {
        source: [*_parts_before(source), name] for source, name in names.items() if shared[bank_file_name(name)] > 1
    }
    for source, own in parts.items():
        if _is_bank_of(folder / bank_file_name(names[source]), source):
            continue
        others = [other for key, other in parts.items() if key != source]
        for count in range(2, len(own) + 1):
            names[source] = "-".join(own[-count:])
            if all(bank_file_name("-".join(other[-count:])) != bank_file_name(names[source]) for other in others):
                break
    return names


def _parts_before(source: str) -> tuple[str, ...]:
    """Return the folders above a path, or the owner of a repository."""
    if is_path(source):
        return Path(source).expanduser().absolute().parent.resolve().parts[1:]
    return tuple(source.removeprefix("hf-hub:").partition("@")[0].split("/")[:-1])


def _is_bank_of(path: Path, source: str) -> bool:
    try:
        return path.is_file() and same_source(source, read_bank(path).provenance)
    except MkfaError:
        return False


@dataclass(slots=True)
class _Twins:
    """Finds banks of the same bytes under another name; the library is read once."""

    folder: Path
    _names: dict[str, str] | None = None

    def other(self, path: Path, sha256: str) -> str:
        """Return the name of another bank with that digest, "" if there is none, and remember this one."""
        if self._names is None:
            self._names = {}
            for file in sorted(self.folder.glob("*.h5")):
                self._names.setdefault(source_digest(file), file.stem)
        found = self._names.setdefault(sha256, path.stem) if sha256 else ""
        return "" if found == path.stem else found


@dataclass(slots=True)
class _Hub:
    """Asks whether repositories changed, until the hub does not answer."""

    silent: bool = False

    def changed(self, source: str, provenance: Provenance) -> bool:
        """True if a network on the hub has other bytes now than when it was harvested."""
        from mkfa.readers.hub.read_hub import state_of

        if self.silent:
            return False
        try:
            commit, sha256 = state_of(source)
        except MkfaError as error:
            self.silent = isinstance(error, WorkError)
            return False
        if sha256 and provenance.source_sha256:
            return sha256 != provenance.source_sha256
        return bool(commit and provenance.hub_commit) and commit != provenance.hub_commit


def _harvest_into(
    path: Path, source: str, name: str, *, force: bool, options: dict[str, Any], hub: _Hub, twins: _Twins
) -> HarvestedBank:
    if path.name == ".h5":
        raise MkfaError(f"name {name!r}", "has no character that a file name may have", "pass another --name")
    former, given = former_bank(path, force=force), options_given(options)
    present = former.bank
    if present is not None and not force and not is_path(source):
        known = same_source(source, present.provenance) and not may_differ(given, present)
        if known and not hub.changed(source, present.provenance):
            return _kept(source, path, present, given)
    bank = harvest(source, name=name, **options)
    if present is None or force:
        try:
            return _written(source, path, bank, former, twins)
        except OutputExistsError:  # another process harvested under this name meanwhile: decide by what it left
            return _harvest_into(path, source, name, force=force, options=options, hub=hub, twins=twins)
    if not same_network(present, bank):
        raise refuse_other(path, source, old=present.provenance, new=bank.provenance)
    notes = []
    if not same_source(source, present.provenance):
        notes.append(f"The bank was harvested from {present.provenance.source}, whose weights are the same bytes.")
    if not same_filters(present, bank):
        filters = [option_name(option) for option in given if may_differ({option: given[option]}, present)]
        if filters:
            problem = f"is in the library already, and {' and '.join(filters)} would change its filters or layers"
            raise MkfaError(path.stem, problem, "pass --name for another name or --force to replace it")
        made = present.provenance.mkfa_version
        notes.append(
            f"This mkfa reads other filters or layers from the same bytes than mkfa {made or 'of an unknown version'} "
            "with its options did; --force harvests them again."
        )
    elif "arch" in given:
        present = replace(present, provenance=replace(present.provenance, rule=bank.provenance.rule))
    return _kept(source, path, present, given, notes)


def _kept(source: str, path: Path, bank: FilterBank, given: dict[str, Any], notes: Sequence[str] = ()) -> HarvestedBank:
    """Return the result for a bank that exists, after giving it the provenance that options state."""
    stated, changed = with_facts(bank, given)
    if changed:
        replace_bank(stated, path)
        notes = [*notes, f"The bank existed; {' and '.join(changed)} changed what it says of the network."]
    state = "updated" if changed else "skipped"
    return _result(source, path, stated, state, notes)


def _written(source: str, path: Path, bank: FilterBank, former: Former, twins: _Twins) -> HarvestedBank:
    notes = []
    if other := twins.other(path, whole_digest(bank.provenance)):
        notes.append(f"The same bytes are in the library as {other} too; count the network once.")
    if former.bank is not None:
        old = former.bank.provenance
        if not same_source(source, old):
            notes.append(
                f"The former bank of this name, harvested from {old.source or 'an unknown checkpoint'}, is gone."
            )
        elif not same_network(former.bank, bank):
            notes.append("The weights differ from those of the former bank, which is gone.")
        notes += no_longer_recorded(old, bank.provenance)
    elif former.problem:
        notes.append(f"The former bank could not be read ({former.problem}) and was replaced.")
    elif path.stem in bundled_index()["banks"]:
        notes.append("The name now means this bank and no longer the one that comes with mkfa.")
    if former.bank is None and not former.problem:
        write_bank(bank, path, overwrite=False)
    else:
        notes += replace_bank(bank, path)
    return _result(source, path, bank, "harvested", notes)


def _result(source: str, path: Path, bank: FilterBank, state: str, changes: Sequence[str]) -> HarvestedBank:
    notes = (*bank.provenance.notes, *changes)
    return HarvestedBank(source, bank.name, state, path, len(bank.layers), len(bank), notes, tuple(changes))
