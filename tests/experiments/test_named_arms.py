"""Arms whose name says where their filters come from, in plans."""

from __future__ import annotations

import numpy as np
import pytest

import mkfa
from mkfa.banks.bank_file import write_bank
from mkfa.banks.filter_array import filters_bank
from mkfa.errors import MkfaError
from mkfa.experiments.named_arms import open_named
from mkfa.experiments.planning import plan_curve, plan_matrix

SMALL = {"arch": "resmixer_8_2", "recipe": "smoke", "seeds": 1, "device": "cpu"}


@pytest.fixture
def mine(tmp_path):
    weight = np.random.default_rng(0).standard_normal((50, 7, 7)).astype(np.float32)
    write_bank(filters_bank("mine", {"f": weight}, source="here"), tmp_path / "mine.h5")
    np.save(tmp_path / "own.npy", weight[:9])
    return tmp_path


def plan(folder, arms, **more):
    return plan_curve(SMALL | {"out": folder} | more, source="fashion", target="digits", layers="all", arms=arms)


def test_keys_of_a_bank_are_those_that_mkfa_keys_finds(mine):
    path = str(mine / "mine.h5")
    _, sources = open_named([f"keys-5:{path}", f"keys:{path}"], [(7, 7)])
    five, elbow = mkfa.find_keys([path], kernel_size="7x7", keys=5), mkfa.find_keys([path], kernel_size="7x7")
    for name, keys in (("keys-5:mine", five), ("keys:mine", elbow)):
        np.testing.assert_array_equal(
            sources[name].bank.of_kind("7x7").weight, keys.clusters.prototype.reshape(-1, 7, 7)
        )


def test_a_run_is_identified_by_the_filters_and_the_files_name_not_by_its_folder(mine):
    first = plan(mine, f"file:{mine / 'own.npy'}").runs[-1]
    (mine / "sub").mkdir()
    (mine / "own.npy").rename(mine / "sub" / "own.npy")
    moved = plan(mine, f"file:{mine / 'sub' / 'own.npy'}").runs[-1]
    assert (first.spec.arm, first.source, first.spec.hash) == ("file:own", "", moved.spec.hash)
    np.save(mine / "own.npy", np.ones((2, 7, 7)))
    assert plan(mine, f"file:{mine / 'own.npy'}").runs[-1].spec.hash != first.spec.hash


def test_such_an_arm_is_planned_once_whatever_the_sources(mine):
    made = plan_curve(
        SMALL | {"out": mine},
        source="fashion,letters",
        target="digits",
        layers="all",
        arms=f"transfer,file:{mine}/own.npy",
    )
    assert [run.spec.arm for run in made.runs].count("file:own") == 1
    assert [run.spec.arm for run in made.runs].count("transfer") == 2


def test_it_can_be_a_control_of_a_matrix(mine):
    made = plan_matrix(
        SMALL | {"out": mine}, target="fashion,digits", controls=f"impulse,file-3:{mine}/own.npy", layers="all"
    )
    arms = [run.spec.arm for run in made.runs]
    assert (arms.count("file-3:own"), arms.count("impulse")) == (2, 2)


@pytest.mark.parametrize(
    ("arms", "more", "message"),
    [
        ("file:{}/none.npy", {}, "none.npy: does not exist"),
        ("file:", {}, "arm file:: names nothing after the colon"),
        ("file:{}/own.npy,file:{}/sub/own.npy", {}, "is called file:own, as another arm is"),
        ("file:{}/own.npy", {"kernel": 5}, "arm file:own: has 7x7 kernels where .* has 5x5; .*--fit-kernel crop"),
        ("keys-4:{}/mine.h5", {"kernel": 5}, "bank mine has no filters of 5x5"),
        ("file-10:{}/own.npy", {}, "arm file-10:own: has 9 filters of 7x7, and 10 are asked for"),
        ("box50", {}, "arm box50: sets 50 taps, but kernels of"),
        ("keys-99", {}, "arm keys-99: asks for 99 filters, and there are 8"),
        ("keys-4:nosuch", {}, "nosuch"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(mine, arms, more, message):
    (mine / "sub").mkdir()
    np.save(mine / "sub" / "own.npy", np.ones((2, 7, 7)))
    with pytest.raises(MkfaError, match=message):
        plan(mine, arms.replace("{}", str(mine)), **more)


def test_with_fit_kernel_other_sizes_are_fitted(mine):
    made = plan(mine, f"file:{mine}/own.npy,keys-4:{mine}/mine.h5", kernel=5, fit_kernel="crop")
    assert {run.spec.arm for run in made.runs} == {"baseline", "file:own", "keys-4:mine"}
