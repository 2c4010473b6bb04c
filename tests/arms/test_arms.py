"""Arms are entries of one table; users add their own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mkfa.arms.arms import ARMS, Arm, find_arm
from mkfa.arms.plant import set_filters
from mkfa.errors import MkfaError
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.networks.build import build_network
from mkfa.networks.layers import spatial_layers

PLUGIN = """
from mkfa.arms import ARMS, Arm
def fill(layer, rng): return 0 * layer.kernel + rng.integers(1, 9)
ARMS.register(Arm("mine", "one number at every tap", fill=fill))
"""


@pytest.fixture
def table(monkeypatch):
    """The table of arms; what a test registers is gone after it."""
    monkeypatch.setattr(ARMS, "_parts", dict(ARMS._parts))
    return ARMS


def net(seed=0):
    return build_network("convmixer_6_2", classes=3, channels=1, size=12, seed=seed)


def test_the_table_loads_neither_numpy_nor_torch():
    code = "import sys; from mkfa.arms import ARMS; list(ARMS); print({'numpy', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


@pytest.mark.parametrize("name", ARMS)
def test_arms_have_help_and_survive_pickle(name):
    arm = ARMS[name]
    assert arm.help.endswith(".") and pickle.loads(pickle.dumps(arm)) == arm
    assert find_arm(name) is arm
    assert (arm.fill is None and arm.fill_network is None) == (name == "baseline")


def test_a_numbered_arm_has_any_number():
    assert (find_arm("first-k").number, find_arm("first-7").number, find_arm("first-7").name) == (3, 7, "first-7")
    for name in ("first-0", "first-07", "first-", "stack-2", "transfer-2"):
        with pytest.raises(MkfaError, match="unknown arm"):
            find_arm(name)


def test_an_arm_of_ones_own_sets_every_layer(table):
    table.register(Arm("negated", "the initial kernels, negated", fill=lambda layer, rng: -layer.kernel))
    model, initial = net(), net()
    planted = set_filters(model, "negated", layers=2)
    assert planted.frozen
    for (_, module), (_, before) in zip(spatial_layers(model), spatial_layers(initial), strict=True):
        assert torch.equal(module.weight, -before.weight)


def test_an_arm_of_ones_own_can_change_the_filters_of_a_source(table):
    table.register(Arm("mirrored", "mirrored", fill=lambda layer, rng: layer.kernel[..., ::-1], source="needed"))
    source, model = net(5).state_dict(), net()
    planted = set_filters(model, "mirrored", layers=1, source=source)
    assert torch.equal(planted.values[0], source["blocks.0.0.fn.0.weight"].flip(-1))
    with pytest.raises(MkfaError, match="arm mirrored: needs a source"):
        set_filters(net(), "mirrored", layers=1)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (lambda layer, rng: layer.kernel[:, 0], r"returned kernels of shape \(6, \d, \d\) for blocks.0.0.fn.0"),
        (lambda layer, rng: layer.kernel * np.nan, r"returned non-finite kernels for blocks.0.0.fn.0"),
    ],
)
def test_kernels_that_do_not_fit_are_refused(table, fill, message):
    table.register(Arm("odd", "odd", fill=fill))
    with pytest.raises(MkfaError, match=f"arm odd: {message}"):
        set_filters(net(), "odd", layers=1)
    with pytest.raises(MkfaError, match="returned 0 layers instead of 1"):
        table.register(Arm("none", "none", fill_network=lambda request: []))
        set_filters(net(), "none", layers=1)


def domain(folder: Path, name: str) -> Path:
    rng = np.random.default_rng(len(name))
    y = np.arange(24, dtype=np.int64) % 3
    x = rng.integers(0, 255, (24, 16, 16, 1)).astype(np.uint8)
    made = make_domain(name, ("a", "b", "c"), train=(x[:12], y[:12]), test=(x[12:], y[12:]))
    return write_domain(made, folder / f"{name}.h5", facts={})


@pytest.mark.slow
def test_an_arm_of_a_plugin_trains_by_name_on_the_command_line(tmp_path):
    """In two processes: each has to import the plugin too."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    words = [
        "transfer",
        "--source",
        domain(tmp_path, "here"),
        "--target",
        domain(tmp_path, "there"),
        "--arms",
        "mine,delta",
    ]
    words += ["--layers", 1, "--seeds", 2, "--jobs", 2, "--out", tmp_path / "out", "--arch", "convmixer_6_2"]
    words += ["--recipe", "smoke", "--equal-steps", 2, "--set", "batch=4", "--threads", 1, "--device", "cpu", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "mkfa.cli.app", *map(str, words)],
        env=os.environ | {"MKFA_PLUGINS": str(tmp_path / "plugin.py"), "MKFA_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["label"] for row in found["rows"]] == ["mine", "delta"]
    results = [json.loads(p.read_text()) for p in (tmp_path / "out" / "runs").glob("*/result.json")]
    assert [r["state"] for r in results] == ["done"] * 6
    assert len({r["planted"] for r in results}) == 5  # one for each arm and seed, and none for the base runs
