"""Write a report: one HTML page that opens from disk without a network, and its data as files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mkfa.arguments import check_arguments
from mkfa.errors import MkfaError, as_path
from mkfa.progress import Progress
from mkfa.report.analyses import Wanted, analyse
from mkfa.report.data_files import check_data, write_data
from mkfa.report.facts import page_facts, sections
from mkfa.report.html import build_page
from mkfa.report.inputs import Item, sort_inputs
from mkfa.report.limits import DRAWS, MAP_FILTERS, MOST_FILTERS, MOST_PAIRS, MOST_RUNS, Limits
from mkfa.report.values import text
from mkfa.results.archive import command_without_places
from mkfa.several import as_several
from mkfa.storage.atomic import atomic_write, check_target
from mkfa.storage.heading import heading
from mkfa.storage.records import Result
from mkfa.words import counted


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Report(Result):
    """A report that was written.

    Attributes
    ----------
    path, bytes : the page and its size.
    data : files with the page's data.
    banks : names.
    filters, shown : number of filters of the banks, and of those on the page.
    sections : parts of the page.
    left_out : sentences on what is missing and which limits were reached.
    """

    KIND: ClassVar[str] = "report"

    path: str
    bytes: int
    data: tuple[str, ...]
    banks: tuple[str, ...]
    filters: int
    shown: int
    sections: tuple[str, ...]
    left_out: tuple[str, ...]

    def headline(self) -> str:
        """Return the file, its size and its parts."""
        return f"{self.path}, {self.bytes / 1e6:.2f} MB: {', '.join(self.sections)}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row."""
        return [{"path": self.path, "bytes": self.bytes, "filters": self.filters, "shown": self.shown}]


def write_report(  # noqa: PLR0913 (options are keywords)
    items: Item | Iterable[Item],
    out: str | Path = "report.html",
    *,
    title: str = "",
    compute: bool = True,
    kernel_size: str | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    most_filters: int = MOST_FILTERS,
    map_filters: int = MAP_FILTERS,
    most_pairs: int = MOST_PAIRS,
    most_runs: int = MOST_RUNS,
    data: bool = True,
    overwrite: bool = False,
    progress: Progress = None,
) -> Report:
    """Write one HTML page on banks and runs, which opens from disk without a network.

    It shows the filters of each layer with class, fit and nearest filters in the other banks, maps of filters,
    comparisons of layers and of groups of networks, shares of patterns beside chance, keys, grafts, curves, tables and
    matrices of training runs with the paper's values apart, verdicts on claims, where everything came from, and what
    was left out.

    Parameters
    ----------
    items : names or paths of banks, banks, results (comparisons of banks or groups, assignments, atlases, keys, grafts,
        curves, tables, matrices, verdicts) or their files (.json; atlases and groups also .h5), folders of training
        commands, files of packed runs, or "bundled" for the runs, the verdicts and the graft that come
        with mkfa.
    out : the page; its data are written into a folder of its name with "_data" beside it.
    title : of the page; the names of the banks where it is empty.
    compute : compute assignments, comparisons and a map where neither the banks nor the items have them. False only
        shows what is there.
    kernel_size : of the map that is computed, such as "5x5", or of several ("5x5,3x3"); None: the most frequent one.
    draws : of each null in comparisons that are computed.
    seed : of every random draw.
    most_filters, map_filters, most_pairs, most_runs : limits, see `mkfa.report.limits.Limits`; where one is reached,
        the page says so.
    data : write the data as files too.
    overwrite : replace files that exist.
    progress : True for a bar, or a function of (done, total) of each analysis.

    Raises
    ------
    MkfaError
        Nothing was named or analysed, an item is neither a bank nor a result, an option is out of range, or the files
        cannot be written.

    Examples
    --------
    >>> import mkfa
    >>> report = mkfa.write_report(["ppocrv4_rec", "bundled"], "rec.html", compute=False)
    >>> report
    <Report: rec.html, ... MB: filters, grafts, experiments, verdicts>
    >>> [name.rsplit("/")[-1] for name in report.data]
    ['report.json', 'filters.h5', 'layers.csv', 'grafts.csv', 'points.csv', 'verdicts.csv']
    """
    check_arguments(write_report, locals())
    path = as_path(out, "out").expanduser()
    if path.suffix.lower() not in (".html", ".htm"):
        raise MkfaError(path, "has an unknown ending", "end the name in .html")
    folder = path.with_name(f"{path.stem}_data")
    check_target(path, overwrite=overwrite)
    if data:
        check_data(folder, overwrite=overwrite)
    limits = Limits(most_filters, map_filters, most_pairs, most_runs)
    inputs = sort_inputs(as_several(items))
    wanted = Wanted(compute, kernel_size, draws, seed)
    wanted.check([one.bank for one in inputs.banks])
    analyses = analyse(inputs, wanted, limits, progress=progress)
    if not compute and not analyses.any and not inputs.results:
        names = ", ".join(one.bank.name for one in inputs.banks)
        remedy = f"run 'mkfa assign {inputs.banks[0].bank.name}', or leave out --no-compute"
        raise MkfaError(names, "nothing analysed yet", remedy)
    facts, blobs = page_facts(inputs, analyses, limits)
    banks = tuple(one.bank.name for one in inputs.banks)
    shown = sum(group["shown"] for group in facts["groups"])
    total = sum(group["filters"] for group in facts["groups"])
    name = text(title) or ", ".join(banks) or "Experiments"
    reached = [row["sentence"] for row in facts["limits"] if row["reached"]]
    summary = _summary(banks, total, facts)
    head = heading("report_data")
    head["command"] = command_without_places(head["command"])
    facts = {**head, "title": name, "summary": summary, "data": folder.name if data else "", **facts}
    page = build_page(facts, blobs)
    written = write_data(folder, facts, inputs=inputs, analyses=analyses, overwrite=overwrite) if data else ()
    atomic_write(path, page, overwrite=overwrite)
    return Report(
        str(path),
        len(page),
        tuple(map(str, written)),
        banks,
        total,
        shown,
        tuple(sections(facts)),
        (*reached, *facts["left_out"]),
    )


def _summary(banks: Sequence[str], filters: int, facts: dict[str, Any]) -> str:
    """Return one sentence on what the page has."""
    layers = sum(len(bank["layers"]) for bank in facts["banks"])
    parts = []
    if banks:
        where = f"{counted(layers, 'layer')} of {counted(len(banks), 'network')}"
        parts.append(f"{counted(filters, 'depthwise filter')} in {where}")
    nouns = {
        "comparisons": ("comparison", "comparisons"),
        "groups_compared": ("comparison of groups", "comparisons of groups"),
        "keys": ("set of keys", "sets of keys"),
        "grafts": ("graft", "grafts"),
        "sweeps": ("experiment", "experiments"),
    }
    for key, (single, several) in nouns.items():
        if count := len(facts[key]):
            parts.append(counted(count, single, several))
    if count := sum(len(one["verdicts"]) for one in facts["verdicts"]):
        parts.append(counted(count, "verdict"))
    return ", ".join(parts) + "."
