"""The bundled banks of base runs: labelled as such, small, of 7x7 filters, and made by the module in the index."""

from __future__ import annotations

import json
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import mkfa
from mkfa.banks.bank_file import read_bank
from mkfa.banks.library import bundled_index
from mkfa.bundling import base_runs
from mkfa.bundling.base_runs import DOMAINS, NETWORKS, BaseRun, index_entry, main
from mkfa.errors import WorkError
from mkfa.similarity.lineage import find_lineage

DATA = Path(str(files("mkfa.data")))
NAMES = [f"{network.name}_{domain}" for network in NETWORKS for domain in DOMAINS]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_index_and_the_bank_say_is_so(name):
    entry, file = bundled_index()["banks"][name], DATA / f"{name}.h5"
    bank = read_bank(file)
    assert entry == index_entry(bank, file)
    assert file.stat().st_size < 300_000
    assert bank.name == name and [str(kind) for kind in bank.kinds] == ["7x7"] and not bank.unknown_dilation
    network = next(n for n in NETWORKS if name.startswith(n.name))
    domain = name.removeprefix(f"{network.name}_")
    provenance = bank.provenance
    assert (provenance.architecture, provenance.licence) == (network.arch, "Apache-2.0")
    assert provenance.source == f"run:{entry['origin']['run']}"
    for said in ("no published network", network.arch, f"{network.steps} steps", f"image set {domain}", "32 x 32"):
        assert said in provenance.notes[0]
    assert "Top-1" in provenance.notes[1]
    assert all(np.isfinite(group.weight).all() for group in bank.groups.values())


def test_the_notice_names_them_and_says_what_they_are():
    notice = (DATA / "NOTICE.txt").read_text("utf-8")
    assert all(f"{name}.h5" in notice for name in NAMES)
    assert "of no published network" in notice


def test_owners_of_convnexts_can_compare_at_once(bank_maker):
    own = bank_maker(((96, 7, 7),) * 3, name="own")
    kind = mkfa.compare(own, "convnext_fashion", draws=19, measures="coverage", splits=1).kinds[0]
    assert str(kind.kind) == "7x7" and np.isfinite(kind.value[0])


def test_they_have_no_common_parent():
    banks = [mkfa.load_bank(name) for name in NAMES]
    assert not any(find_lineage(a, b).found for a, b in combinations(banks, 2))


def test_a_small_one_is_trained_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(base_runs, "NETWORKS", (BaseRun("tiny", "convmixer_8_2", 2, 0.01),))
    monkeypatch.setattr(base_runs, "DOMAINS", ("fashion",))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.json").write_text(json.dumps({"banks": {"there": {"file": "there.h5"}}}))
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    index = json.loads((tmp_path / "out" / "index.json").read_text())["banks"]
    assert list(index) == ["there", "tiny_fashion"] and index["tiny_fashion"]["filters"] == 16
    before = (tmp_path / "out" / "tiny_fashion.h5").read_bytes()
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0  # nothing is trained again
    assert (tmp_path / "out" / "tiny_fashion.h5").read_bytes() == before


def test_a_run_without_a_result_is_refused(tmp_path, monkeypatch):
    import mkfa.results.record as record

    monkeypatch.setattr(mkfa, "train", lambda *_, **__: (record.RunRecord("", "fashion", "baseline", 0, 0, None),))
    with pytest.raises(WorkError, match="has no result"):
        base_runs.make(NETWORKS[0], "fashion", tmp_path)
