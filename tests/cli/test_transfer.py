"""`mkfa transfer` and `mkfa transfer-curve`: every arm, several sources, networks of their own, tables."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from small import SMALL, call, options, pack_small_domain
from typer.testing import CliRunner

from mkfa.arms.arms import ARMS
from mkfa.banks.bank_file import write_bank
from mkfa.banks.filter_array import filters_bank
from mkfa.cli.app import app
from mkfa.errors import MkfaError


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return pack_small_domain(tmp_path, "here"), pack_small_domain(tmp_path, "there")


@pytest.mark.slow
def test_every_arm_trains_and_stands_in_one_table(pair, tmp_path):
    bank = filters_bank("mine", {"f": np.random.default_rng(0).standard_normal((40, 7, 7))}, source="here")
    write_bank(bank, tmp_path / "mine.h5")
    named = {name: re.sub(":.*", f":{tmp_path / 'mine.h5'}", name).replace("-k", "-2") for name in ARMS if ":" in name}
    asked = [named.get(name, name) for name in ARMS if name != "baseline"]
    arms = [name.replace(str(tmp_path / "mine.h5"), "mine") for name in asked]
    words = (
        "transfer",
        *options(source=pair[0], target=pair[1], arms=",".join(asked), layers="all", seeds=1, out=tmp_path / "out"),
        *SMALL,
    )
    found = json.loads(call(*words, "--json"))
    assert [row["label"] for row in found["rows"]] == arms
    assert all(len(row["cell"]["top1"]) == 1 for row in (*found["rows"], {"cell": found["base"]}))
    assert {row["cell"]["layers"] for row in found["rows"]} == {2}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"runs", "table.json", "table.csv", "table.png"}
    assert len((tmp_path / "out" / "table.csv").read_text().splitlines()) == 3 + len(arms)
    drawn = call("runs", "draw", tmp_path / "out" / "table.json", "--out", tmp_path / "again.png")
    assert "shuffle-network" in drawn
    assert "in SDs" in drawn
    assert (tmp_path / "again.png").stat().st_size > 10_000
    told = call(*words)  # nothing is trained again
    assert "Differences" in told
    assert "transfer minus random at 2 layers" in told
    planted = {json.loads(p.read_text())["planted"] for p in (tmp_path / "out" / "runs").glob("*/result.json")}
    # transfer+ and selffer+ plant what transfer and selffer do; first-k and stack, from two layers of that width, too
    assert len(planted - {None}) == len(arms) - 4


def test_every_arm_has_its_help_with_its_order():
    for verb in ("transfer", "transfer-curve"):
        text = " ".join(call(verb, "--help").split())
        for name, arm in ARMS.items():
            assert f"{name}: {arm.help.split(';')[0][:40]}" in text, name
        assert "49 and 4" in text
        assert "output channel first" in text


@pytest.mark.parametrize(
    ("what", "arms"),
    [
        ("pointwise", "transfer,shuffle,first-1,stack,random,covariance"),
        ("conv", "transfer,selffer,shuffle-network,stack"),
    ],
)
def test_other_kinds_of_layers(pair, tmp_path, what, arms):
    found = json.loads(
        call(
            "transfer",
            *options(source=pair[0], target=pair[1], arms=arms, layers=2, what=what, seeds=1, out=tmp_path / "out"),
            "--json",
            *SMALL,
        )
    )
    assert [row["label"] for row in found["rows"]] == arms.split(",")
    assert found["parameters"]["what"] == what


@pytest.mark.parametrize("arms", ["transfer", "transfer,selffer"])
def test_a_target_as_its_own_source_is_said_to_be_selffer(pair, tmp_path, arms):
    words = options(source=pair[1], target=pair[1], arms=arms, layers=2, seeds=1, out=tmp_path / "out")
    assert "transfer is selffer, and no transfer between domains" in " ".join(
        call("transfer", *words, "--dry-run", *SMALL).split()
    )
    words = options(source=pair[1], target=pair[1], arms="shuffle", layers=2, seeds=1, out=tmp_path / "out")
    assert "no transfer between domains" not in " ".join(call("transfer", *words, "--dry-run", *SMALL).split())


@pytest.mark.slow
def test_what_follows_a_block_is_said(pair, tmp_path):
    told = call(
        "transfer",
        *options(source=pair[0], target=pair[1], arms="random", layers="1", what="conv", seeds=1, out=tmp_path / "out"),
        "--dry-run",
        *SMALL,
        "--arch",
        "resnet26",
    )
    assert "resnet26 has 25 convolutions on its main path; 4 projections" in told


@pytest.mark.slow
def test_other_networks_lend_their_filters_by_stack(pair, tmp_path):
    words = (
        "transfer",
        *options(
            source=f"{pair[0]},{pair[1]}",
            target=pair[1],
            source_arch="convmixer_6_3,convmixer_8_2:kernel=5",
            arms="stack",
            layers="all",
            seeds=2,
            out=tmp_path / "out",
            fit_kernel="pad",
        ),
        *SMALL,
    )
    plan = json.loads(call(*words, "--dry-run", "--json"))
    assert [r["arm"] for r in plan["runs"]] == ["baseline"] * 10 + ["stack"] * 8
    told = call(*words)
    assert "base runs of other networks" in told
    found = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [row["label"] for row in found["rows"]] == [
        "here+convmixer_6_3",
        "here+convmixer_8_2:kernel=5",
        "there+convmixer_6_3",
        "there+convmixer_8_2:kernel=5",
    ]
    assert found["base"]["seeds"] == [0, 1]
    assert found["parameters"]["source_arch"] == "convmixer_6_3,convmixer_8_2:kernel=5"


@pytest.mark.slow
def test_a_curve_over_two_sources_has_a_series_each_and_its_contrasts(pair, tmp_path):
    words = (
        "transfer-curve",
        *options(
            source=f"{pair[0]},{pair[1]}",
            target=pair[1],
            source_arch="convmixer_6_3",
            layers="1..all",
            seeds=2,
            out=tmp_path / "out",
        ),
        *SMALL,
    )
    told = call(*words)
    assert "stack here+convmixer_6_3 - random" in told
    assert "mean of 2" in told
    found = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert {(c["arm"], c["source"]) for c in found["cells"]} == {
        ("stack", "here+convmixer_6_3"),
        ("stack", "there+convmixer_6_3"),
        ("selffer", "there"),
        ("random", ""),
        ("delta", ""),
    }
    assert {c["what"] for c in found["contrasts"]} == {"last", "all", "step"}
    assert found["parameters"]["network_layers"] == 2


def test_the_papers_tables_beside_ours(pair, tmp_path):
    words = (
        "transfer",
        *options(source=pair[0], target=pair[1], arms="transfer,shuffle", layers="all", seeds=1, out=tmp_path / "out"),
        *SMALL,
    )
    call(*words)
    plain = (tmp_path / "out" / "table.png").stat().st_size
    call(*words, "--with-paper")
    assert (tmp_path / "out" / "table.png").stat().st_size > 1.2 * plain


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--source-arch", "convmixer_8_1"), "--arms stack"),
        (("--source-arch", "convmixer_6_2"), "--arms stack"),
        (("--source-arch", "convmixer_6_2:depth=3"), "write it like"),
        (("--arms", "transfer,,stack"), "empty name"),
        (("--layers", "alle"), "or all"),
        (("--layers", "0"), "sets no layer"),
        (("--what", "conv", "--with-paper", "--arms", "stack,transfer"), "--with-paper"),
        (("--arms", "transfer,transfr"), "did you mean"),
    ],
)
def test_wrong_requests_are_one_sentence_and_train_nothing(pair, tmp_path, words, told):
    base = (
        "transfer",
        *options(source=pair[0], target=pair[1], arms="transfer", layers="2", seeds=1, out=tmp_path / "out"),
        *SMALL,
    )
    done = CliRunner().invoke(app, [str(w) for w in (*base, *words)])
    assert isinstance(done.exception, MkfaError)
    assert done.exception.exit_code == 2
    assert told in str(done.exception)
    assert not list((tmp_path / "out").glob("runs/*"))


def test_a_matrix_refuses_filters_that_do_not_fit_before_any_work(pair, tmp_path):
    words = [
        "transfer-matrix",
        *options(target=f"{pair[0]},emoji", what="conv", layers="1", out=str(tmp_path / "out")),
        *SMALL,
        "--arch",
        "resnet18",
    ]
    done = CliRunner().invoke(app, [str(w) for w in words])
    assert "source here layer conv1: has 64 filters where conv1 has 64 x 3 kernels" in str(done.exception)
    assert not list((tmp_path / "out").glob("runs/*"))


def test_a_matrix_of_pointwise_layers(pair, tmp_path):
    found = json.loads(
        call(
            "transfer-matrix",
            *options(target=f"{pair[0]},{pair[1]}", what="pointwise", out=tmp_path / "out"),
            "--json",
            *SMALL,
        )
    )
    assert {(c["source"], c["target"], c["arm"]) for c in found["cells"]} == {
        ("here", "here", "selffer"),
        ("here", "there", "transfer"),
        ("there", "here", "transfer"),
        ("there", "there", "selffer"),
    }
    assert all(len(c["top1"]) == 1 for c in found["cells"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [("--recipe", "smoke"), ("--recipe", "fast"), ("--recipe", "paper", "--set", "batch=16", "--set", "size=24")],
)
def test_every_recipe_on_bundled_domains(tmp_path, recipe):
    found = json.loads(
        call(
            "transfer",
            *options(
                source="letters",
                target="digits",
                arms="transfer",
                layers=2,
                arch="convmixer_8_2",
                seeds=1,
                equal_steps=2,
                threads=1,
                device="cpu",
                out=tmp_path / "out",
            ),
            "--json",
            *recipe,
        )
    )
    assert len(found["cells"][0]["top1"]) == 1
    assert found["parameters"]["recipe"]["equal_steps"] == 2
