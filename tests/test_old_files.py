"""Files that an earlier version wrote still read; its runs are shown as of their version of the training."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import call

import mkfa
from mkfa.banks.bank_file import read_analyses
from mkfa.errors import MkfaError
from mkfa.images.domain_file import read_domain
from mkfa.results.archive import read_experiments
from mkfa.results.gather import gather_experiment, rebuild
from mkfa.results.groups import group_runs
from mkfa.results.runs import list_runs
from mkfa.storage.result_files import read_arrays
from mkfa.training.folder import read_spec
from mkfa.training.run import compute_alone, train_run
from mkfa.training.spec import TRAINING_VERSION

OLD = Path(__file__).parent / "old_files"
RESULTS = ("curve", "table", "matrix")


def test_a_bank_and_the_result_stored_in_it():
    bank = mkfa.read_bank(OLD / "bank.h5")
    assert [(layer.name, layer.channels, layer.kh) for layer in bank.layers] == [
        ("stages.0.conv_dw.weight", 16, 3),
        ("stages.1.conv_dw.weight", 24, 5),
        ("stages.2.conv_dw.weight", 24, 5),
    ]
    assert bank.provenance.mkfa_version == "0.1.0"
    stored = read_analyses(OLD / "bank.h5")["assign-families"]
    assert stored.arrays["5x5.label"].shape == (48,)


@pytest.mark.parametrize(
    ("kind", "array", "shape"),
    [
        ("assignment", "assign-families/5x5.r2", (48,)),
        ("atlas", "prototype", None),
        ("keys", "curve/r2", None),
        ("comparison", "5x5/value", None),
    ],
)
def test_result_files_read_as_arrays(kind, array, shape):
    arrays, attributes = read_arrays(OLD / f"{kind}.h5", kind=kind)
    assert attributes
    assert any(name == array or name.endswith(array.split("/")[-1]) for name in arrays), sorted(arrays)
    if shape:
        assert arrays[array].shape == shape


def test_a_packed_domain_keeps_its_digest():
    domain = read_domain(OLD / "strokes.h5")
    assert domain.classes == ("bar", "cross")
    assert np.asarray(domain.x_train[:]).shape == (16, 16, 16, domain.channels)
    assert domain.digest == json.loads((OLD / "sweep/runs/034170d77efac2e5/spec.json").read_text())["domain_digest"]


def test_a_run_keeps_its_hash():
    folders = sorted((OLD / "sweep/runs").iterdir())
    assert len(folders) == 17
    for folder in folders:
        spec = read_spec(folder)
        assert spec is not None
        assert spec.hash == folder.name


def test_runs_of_a_folder_and_of_an_archive_are_done():
    assert {entry.state for entry in list_runs(OLD / "sweep/runs")} == {"done"}
    assert {entry.state for entry in list_runs(OLD / "archive.json.gz")} == {"done"}


def same(a, b):
    """Compare JSON values; numbers to twelve digits."""
    if isinstance(a, float) or isinstance(b, float):
        return b is not None and a is not None and bool(np.isclose(a, b, rtol=1e-12, equal_nan=True))
    if isinstance(a, dict):
        return a.keys() <= b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def over_seeds_alone(value):
    """Return a result with intervals over seeds alone, as earlier versions gave them, and without p-values.

    Where nothing differs there is no interval; earlier versions gave one of width 0. Nor is there one wider than all
    shares of images.
    """
    if isinstance(value, dict):
        kept = {key: over_seeds_alone(v) for key, v in value.items() if key not in ("p", "paired")}
        widths = ("half_width", "seeds_half_width", "detectable")
        kept = {k: None if k in widths and v is not None and not 0 < v <= 1 else v for k, v in kept.items()}
        return kept | ({"half_width": kept["seeds_half_width"]} if "seeds_half_width" in kept else {})
    return [over_seeds_alone(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_made_again_from_its_runs(name):
    from mkfa.storage.records import plain

    old = json.loads((OLD / f"sweep/{name}.json").read_text())
    for experiment in (
        gather_experiment(OLD / f"sweep/{name}.json", OLD / "sweep/runs", name=name),
        next(e for e in read_experiments(OLD / "archive.json.gz") if e.name == name),
    ):
        again = over_seeds_alone(plain(rebuild(experiment)))
        old = over_seeds_alone(old)
        assert {key for key in old if not same(old[key], again.get(key))} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", RESULTS)
def test_the_same_command_trains_anew_beside_the_runs_of_an_earlier_training(name, tmp_path, monkeypatch):
    """Runs of an earlier version of the training are neither taken as done nor touched, and no result mixes both."""
    shutil.copytree(OLD / "sweep", tmp_path / "sweep")
    for file in ("shapes.h5", "strokes.h5"):
        shutil.copy(OLD / file, tmp_path / file)
    command = json.loads((OLD / f"sweep/{name}.json").read_text())["parameters"]["command"]
    words = shlex.split(command)[1:]
    before = {p: p.read_bytes() for p in tmp_path.glob("sweep/runs/*/result.json")}
    monkeypatch.chdir(tmp_path)
    call(*words)
    assert {p: p.read_bytes() for p in before} == before
    listed = json.loads((tmp_path / f"sweep/{name}.json").read_text())["parameters"]["runs"]
    hashes = {run["hash"] for run in listed}
    assert hashes.isdisjoint(path.parent.name for path in before)
    assert {read_spec(tmp_path / "sweep/runs" / key).training_version for key in hashes} == {TRAINING_VERSION}


def test_runs_of_an_earlier_training_read_as_such_and_are_not_trained_on(tmp_path):
    runs = list_runs(OLD / "sweep/runs")
    assert {run.spec.training_version for run in runs} == {run.row()["training_version"] for run in runs} == {1}
    with pytest.raises(MkfaError, match="version 1 of the training, and this mkfa trains version 2"):
        compute_alone(train_run(runs[0].spec, read_domain(OLD / "strokes.h5"), source=None, root=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_old_and_new_runs_are_not_summed_up_together():
    [experiment] = [e for e in read_experiments(OLD / "archive.json.gz") if e.name == "curve"]
    first, *rest = experiment.runs
    newer = replace(first, spec=replace(first.spec, training_version=TRAINING_VERSION))
    with pytest.raises(MkfaError, match="versions 1 and 2 of the training"):
        rebuild(replace(experiment, runs=(newer, *rest)))
    tables = group_runs((newer, *rest), ["arm"])
    assert {table.setting["training_version"] for table in tables} == {1, 2}
