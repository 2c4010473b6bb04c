"""Harvest several networks into the library, one bank each; banks that exist are skipped."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mkfa.banks.bank import FilterBank, Provenance
from mkfa.banks.bank_file import read_analyses, read_bank, write_bank
from mkfa.banks.library import bank_file_name, library_folder
from mkfa.errors import MkfaError, WorkError
from mkfa.progress import Progress, follow
from mkfa.readers.harvesting import harvest, is_path, network_name, repository_of_page
from mkfa.storage.records import Result

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class HarvestedBank:
    """The outcome for one source.

    `state` is "harvested", "skipped" (the bank exists) or "failed" (`error` says why). `notes` are sentences
    for the reader.
    """

    source: str
    name: str
    state: str
    path: Path
    layers: int = 0
    filters: int = 0
    notes: tuple[str, ...] = ()
    error: MkfaError | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Harvests(Result):
    """The result of `harvest_all`: one entry a source, in their order."""

    KIND: ClassVar[str] = "harvest"
    banks: tuple[HarvestedBank, ...]

    def __len__(self) -> int:
        return len(self.banks)

    def __iter__(self) -> Iterator[HarvestedBank]:
        return iter(self.banks)

    def __getitem__(self, index: int) -> HarvestedBank:
        return self.banks[index]

    @property
    def failure(self) -> WorkError | None:
        """One error that lists the sources that failed; None if none did."""
        failed = [bank.source for bank in self if bank.error]
        if not failed:
            return None
        names = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
        problem, remedy = f"failed ({names})", "see the lines above; the others are done"
        return WorkError(f"{len(failed)} of {len(self)} sources", problem, remedy)

    def headline(self) -> str:
        counts = {state: sum(bank.state == state for bank in self) for state in ("harvested", "skipped", "failed")}
        return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no sources"

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"bank": b.name, "state": b.state, "layers": b.layers or None, "filters": b.filters or None} for b in self
        ]


def expand_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """Replace patterns by the files that they match, else by timm names with pretrained weights.

    Raises
    ------
    MkfaError
        A name is empty, or a pattern matches neither a file nor a timm name.

    Examples
    --------
    >>> from mkfa.readers.collect import expand_sources
    >>> expand_sources(["convnext_pico*", "mobilenetv3_small_050"])[-2:]
    ('convnext_pico_ols.d1_in1k', 'mobilenetv3_small_050')
    """
    expanded: dict[str, None] = {}
    for source in sources:
        if not source.strip():  # as a path it would be the current folder
            raise MkfaError("a source", "is empty", "name a checkpoint, a folder or a timm network")
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
    return tuple(expanded)


def harvest_all(
    sources: Sequence[str],
    *,
    name: str | None = None,
    force: bool = False,
    on_result: Callable[[HarvestedBank], object] | None = None,
    progress: Progress = None,
    **options: Any,
) -> Harvests:
    """Harvest networks into the library, each under its own name; banks that exist are skipped.

    A local checkpoint whose bytes changed is harvested again. A bank harvested from another source is replaced only
    with `force`.

    Parameters
    ----------
    sources : sequence of str
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
    sources = expand_sources(sources)
    if name is not None and len(sources) > 1:
        problem = f"names one bank, but there are {len(sources)} sources"
        raise MkfaError("name", problem, "leave it out: each bank gets its network's name")
    folder, done = library_folder(create=True), []
    with follow(progress, "harvest", len(sources)) as advance:
        for source in sources:
            label = name or network_name(source)
            path = folder / bank_file_name(label)
            try:
                result = _harvest_into(path, source, label, force=force, options=options)
            except MkfaError as error:
                result = HarvestedBank(source, label, "failed", path, error=error)
            done.append(result)
            advance(1)
            if on_result is not None:
                on_result(result)
    return Harvests(tuple(done))


def _harvest_into(path: Path, source: str, name: str, *, force: bool, options: dict[str, Any]) -> HarvestedBank:
    if path.name == ".h5":
        raise MkfaError(f"name {name!r}", "has no character that a file name may have", "pass another --name")
    present: FilterBank | None = None
    if not force:
        with contextlib.suppress(MkfaError):  # a missing or damaged bank is harvested again
            present = read_bank(path)
    if present is not None and not is_path(source):
        if present.provenance.source != source:
            raise _taken(path, present.provenance)
        return _skipped(source, path, present, options)
    bank = harvest(source, name=name, **options)
    if present is not None:
        old, new = present.provenance, bank.provenance
        if old.source_sha256 and old.source_sha256 == new.source_sha256:
            return _skipped(source, path, present, options)
        if old.source != new.source:
            raise _taken(path, old)
    notes = list(bank.provenance.notes)
    with contextlib.suppress(MkfaError):
        if lost := sorted(read_analyses(path)):
            notes.append(f"the analyses stored in the former bank of this name are gone: {', '.join(lost)}")
    write_bank(bank, path, overwrite=True)
    return HarvestedBank(source, name, "harvested", path, len(bank.layers), len(bank), tuple(notes))


def _skipped(source: str, path: Path, bank: FilterBank, options: dict[str, Any]) -> HarvestedBank:
    """Return the result for a bank that exists; its note names the options that had no effect."""
    fields = {"arch": "architecture", "training_set": "training_set", "task": "task", "licence": "licence"}
    ignored = [
        f"--{option.replace('_', '-')}"
        for option, field in fields.items()
        if options.get(option) and options[option] != getattr(bank.provenance, field)
    ]
    note = f"{' and '.join(ignored)} had no effect, since the bank exists; --force harvests it again"
    return HarvestedBank(source, bank.name, "skipped", path, len(bank.layers), len(bank), (note,) if ignored else ())


def _taken(path: Path, old: Provenance) -> MkfaError:
    problem = f"is in the library already, harvested from another source ({old.source})"
    return MkfaError(path.stem, problem, "pass --name for another name or --force to replace it")
