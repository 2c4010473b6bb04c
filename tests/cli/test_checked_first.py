"""Cheap faults are refused before any expensive work: no network is read, no image decoded, nothing trained."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import refused

from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import write_bank

WORK = {
    "harvest": ("mkfa.readers.harvesting._read", "mkfa.readers.collect._harvest_into"),
    "graft": ("mkfa.grafts.grafting.find_pictures", "mkfa.grafts.grafting.find_network"),
    "report": ("mkfa.report.writing.analyse",),
    "figure": ("mkfa.figures.filters.compute",),
    "assign": ("mkfa.banks.bank_file.read_bank", "mkfa.patterns.assigning._assign"),
    "atlas": ("mkfa.clusters.atlas.pool_banks",),
    "keys": ("mkfa.clusters.keys.pool_banks",),
    "compare": ("mkfa.similarity.comparing._draw_samples", "mkfa.similarity.groups._read"),
    "domains pack": ("mkfa.images.load.list_path", "mkfa.images.load.pack"),
    "runs pack": ("mkfa.cli.runs_archive._gather",),
    "train": ("mkfa.images.load.pack", "mkfa.engines.sweep.carry_out"),
}
WORK |= {verb: WORK["train"] for verb in ("transfer", "transfer-curve", "transfer-matrix", "transfer-sweep")}
"""By verb: the functions that do its expensive work."""

BASE = {
    "harvest": "harvest {here}/net.pth",
    "graft": "graft mobilenetv3_small_050 --images {here}/images --weights {here}/none.pth",
    "report": "report {here}/one.h5 {here}/two.h5",
    "figure": "figure filters {here}/one.h5",
    "assign": "assign {here}/one.h5",
    "atlas": "atlas {here}/one.h5",
    "keys": "keys {here}/one.h5",
    "compare": "compare {here}/one.h5 {here}/two.h5",
    "compare groups": "compare --group a={here}/one.h5 --group b={here}/two.h5",
    "domains pack": "domains pack {here}/images",
    "runs pack": "runs pack {here}/packed.json.gz",
    "train": "train {here}/images --recipe smoke --arch convmixer_8_2",
    "transfer": "transfer --source digits --target {here}/images --recipe smoke --arch convmixer_8_2",
    "transfer-curve": "transfer-curve --layers 1,2 --source digits --target {here}/images --recipe smoke "
    "--arch convmixer_8_2",
    "transfer-matrix": "transfer-matrix --source digits --target {here}/images --recipe smoke --arch convmixer_8_2",
    "transfer-sweep": "transfer-sweep --source digits --target {here}/images --recipe smoke",
}
"""By case: a command that would work, but for the option that is added."""

FILES = [
    (f"{option} {{here}}/{name}", said)
    for option, known in (("--out", ".h5"), ("--figure", ".png"))
    for name, said in (
        ("r.xlsx", "unknown ending"),
        (f"none/r{known}", "does not exist"),
        (f"there{known}", "exists already"),
    )
]
RESULT = [*FILES, ("--width column", "is the width of a figure")]
NULL = [("--null gausian", "unknown null")]
TRAINING = [
    ("--device cuda:7", "is not available"),
    ("--device nonsense", "is not available"),
    ("--engine nonsense", "is not an engine"),
    ("--address 10.0.0.1", "is for --engine ray"),
    ("--out {here}/there.png", "named like a file"),
    ("--out {here}/plain", "is a file, not a folder"),
    ("--set nonsense=3", "has no field"),
    ("--epochs 2 --equal-steps 3", ""),
    ("--arch nonsense", "unknown"),
    ("--recipe nonsense", "unknown"),
]
BORROWED = [
    ("--source nonsense", ""),
    ("--arms nonsense", "unknown arm"),
    ("--layers 0..x", "where a number or range is expected"),
    ("--layers 40", ""),
    ("--what nonsense", ""),
    ("--fit-kernel nonsense", ""),
]

FAULTS = {
    "harvest": [
        *FILES[:3],
        ("--name a/b", "has a slash"),
        ("--weights best", "is unknown"),
        ("--dilation conv", "cannot be read"),
    ],
    "graft": [
        *RESULT,
        ("--vocabulary nonsense", "or one of own, eight, basis"),
        ("--vocabulary keys:eight", "has one size"),
        ("--vocabulary covariance:nonsense", "nonsense"),
        ("--kernel-size 5by5", "cannot be read"),
        ("--layers 1..x", "where a number or range is expected"),
        ("--curves nonsense", "nonsense"),
        ("--sizes 8,x", ""),
        ("--at x", ""),
        ("--keep 2", ""),
        ("--thresholds 2", ""),
        ("--batch-norm nonsense", ""),
        ("--interpolation nonsense", "choose bilinear"),
        ("--crop-pct 2", "give a share"),
        ("--size 0", "give the side"),
        ("--std 0,1,1", "not above 0"),
        ("--device cuda:7", "is not available"),
    ],
    "report": [
        ("--out {here}/r.pdf", "unknown ending"),
        ("--out {here}/none/r.html", "does not exist"),
        ("--out {here}/there.html", "exists already"),
        ("--kernel-size 9x9", "9x9"),
        ("--kernel-size 5by5", "5by5"),
        ("--most-filters 0", "is not in 1"),
        ("--map-filters 3", "is not in 20"),
        ("{here}/none.h5", "none.h5"),
    ],
    "figure": [
        ("--out {here}/r.xlsx", "unknown ending"),
        ("--out {here}/none/r.png", "does not exist"),
        ("--out {here}/there.png", "exists already"),
    ],
    "assign": [*RESULT, *NULL, ("--basis nonsense", "unknown basis"), ("--draws 9", "too few")],
    "atlas": [
        *RESULT,
        *NULL,
        ("--null init", "is a whole network"),
        ("--sample 3", "too few"),
        ("--clusters 0", "too few"),
    ],
    "keys": [
        *RESULT,
        *NULL,
        ("--null init", "is a whole network"),
        ("--sample 3", "too few"),
        ("--keys 0", "too few"),
        ("--candidates 0", "too few"),
    ],
    "compare": [
        *RESULT,
        ("--nulls gausian", "unknown null"),
        ("--nulls covariance-layer,init", "names no architecture"),
        ("--measures nonsense", "unknown measure"),
        ("--kernel-size 5by5", "is not a kernel size"),
        ("--kernel-size 9x9", "no kernel size"),
        ("--sample 1", ""),
        ("--threshold 2", ""),
    ],
    "compare groups": [
        *RESULT,
        ("--measures nonsense", "unknown measure"),
        ("--measures pca_kl", "depends on the number of filters"),
        ("--kernel-size 5by5", "is not a kernel size"),
        ("--nulls gaussian", "is for pairs"),
        ("--group a={here}/two.h5", "is named twice"),
    ],
    "domains pack": [
        *FILES[:3],
        ("--contact-sheet {here}/r.xlsx", "unknown ending"),
        ("--contact-sheet {here}/there.png", "exists already"),
        ("--width column", "is the width of a figure"),
        ("--background nonsense", "nonsense"),
        ("--levels 3", "--levels"),
        ("--size 0", "choose 1 or more"),
        ("--size 64 --eval-size 32", "choose 64 or more"),
    ],
    "runs pack": [("--force x", ""), ("--name one --add", "is an experiment of")][1:],
    "train": TRAINING,
    "transfer": [*TRAINING, *BORROWED],
    "transfer-curve": [*TRAINING, *BORROWED, ("--with-paper --what conv", "")],
    "transfer-matrix": [
        *TRAINING,
        *[x for x in BORROWED if "arms" not in x[0]],
        ("--arms nonsense", ""),
        ("--controls nonsense", ""),
        ("--with-paper --what conv", ""),
    ],
    "transfer-sweep": [
        *[x for x in TRAINING if "--arch" not in x[0]],
        *[x for x in BORROWED if "what" not in x[0]],
        ("--channels x", ""),
        ("--kernels 4..3", ""),
    ],
}
CASES = [(case, fault, said) for case, faults in FAULTS.items() for fault, said in faults]


@pytest.fixture
def here(tmp_path: Path, bank_maker: Callable[..., FilterBank]) -> Path:
    """Return a folder with two banks, a data set of images, and files that stand where a result would."""
    for seed, name in enumerate(("one", "two")):
        write_bank(bank_maker([(40, 5, 5), (40, 5, 5), (30, 3, 3)], seed=seed, name=name), tmp_path / f"{name}.h5")
    for part in ("train", "test"):
        for label in "ab":
            folder = tmp_path / "images" / part / label
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "0.png")
    for name in ("there.h5", "there.png", "there.html", "plain", "net.pth"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(("case", "fault", "said"), CASES, ids=[f"{case} {fault}" for case, fault, _ in CASES])
def test_a_cheap_fault_is_refused_before_the_work(case, fault, said, here, monkeypatch):
    def work(*words: object, **options: object) -> None:
        pytest.fail(f"{case} {fault}: work has begun")

    for place in WORK[case.removesuffix(" groups")]:
        module, _, name = place.rpartition(".")
        monkeypatch.setattr(importlib.import_module(module), name, work)
    if case == "runs pack":
        packed = importlib.import_module("mkfa.results.archive").bundled_file()
        (here / "packed.json.gz").write_bytes(Path(packed).read_bytes())
        fault = fault.replace("one", importlib.import_module("mkfa.results.archive").read_experiments(packed)[0].name)
    monkeypatch.chdir(here)
    before = sorted(here.rglob("*"))
    error = refused(*f"{BASE[case]} {fault}".format(here=here).split())
    assert said in str(error), error
    assert sorted(here.rglob("*")) == before
