"""A small report with everything on it, whose names are hostile, and a browser to open it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from made import HOSTILE, claims, small_bank

from mkfa.banks.bank import FilterBank
from mkfa.clusters.atlas import Atlas, FilterMap, build_atlas
from mkfa.patterns.assigning import assign
from mkfa.report.writing import Report, write_report
from mkfa.results.archive import bundled_file
from mkfa.similarity.comparing import compare


@dataclasses.dataclass
class Made:
    """The report and what it was made from."""

    report: Report
    path: Path
    banks: tuple[FilterBank, FilterBank]
    comparison: object
    map: FilterMap
    atlas: Atlas


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Write the report once for all tests."""
    folder = tmp_path_factory.mktemp("report")
    one = small_bank(HOSTILE, 1)
    other = small_bank("other", 2, planted=-2 * one.of_layer(1).weight[5] + 0.3)
    atlas = build_atlas([one, other], kernel_size="3x3", clusters=3, sample=120)
    # UMAP takes seconds to load: the places are the first two taps.
    row = np.arange(len(atlas.pool))
    made_map = FilterMap(row, atlas.pool.vector[:, :2].astype(np.float32))
    atlas = dataclasses.replace(atlas, map=made_map)
    comparison = compare(one, other, draws=39, sample=24, kernel_size="3x3", measures="coverage,mmd")
    verdicts = folder / "verdicts.json"
    verdicts.write_text(json.dumps(claims()))
    items = [one, other, atlas, comparison, str(bundled_file()), str(verdicts)]
    banks = [dataclasses.replace(bank) for bank in (one, other)]
    report = write_report(items, folder / "page.html", map_filters=200)
    return Made(report, folder / "page.html", (banks[0], banks[1]), comparison, made_map, atlas)


@pytest.fixture(scope="session")
def assigned(made: Made):
    """Return the assignment of the first bank, computed apart from the report."""
    return assign(made.banks[0], draws=10000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return a browser; the test is skipped where Chromium is not installed."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    browser = Browser()
    yield browser
    browser.close()
