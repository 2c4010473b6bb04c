"""Orders for `mkfa work`: written for every run that is left, carried out by somebody, taken over by the same call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mkfa.engines.choice import open_engine
from mkfa.engines.engine import HandedOver
from mkfa.engines.sweep import carry_out
from mkfa.engines.work import work
from mkfa.experiments.needed_runs import Domains, Setting, plan_bases
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.training.device import Execution
from mkfa.training.folder import TASK
from mkfa.training.recipe import load_recipe
from mkfa.training.stopping import Stop


def test_orders_are_written_and_their_results_are_taken_over(tmp_path: Path):
    rng = np.random.default_rng(0)
    y = np.arange(36, dtype=np.int64) % 3
    x = rng.integers(0, 256, (36, 16, 16, 1), dtype=np.uint8)
    made = make_domain("a", ("k", "l", "m"), train=(x[:24], y[:24]), test=(x[24:], y[24:]))
    images = str(write_domain(made, tmp_path / "a.h5", facts={"source": "made"}))
    setting = Setting("resmixer_8_2", load_recipe("smoke", {"equal_steps": 3, "batch": 8}), options={"patch": 4})
    domains = Domains(setting.recipe.size, setting.recipe.max_size)
    plan, root = plan_bases(setting, domains, names=[images], seeds=2), tmp_path / "runs"
    execution = Execution(device="cpu", threads=1, engine="orders")

    with open_engine(execution, plan, domains=domains, root=root) as engine:
        with pytest.raises(HandedOver, match=r"0 of 2 runs are done: 2 written as orders below .*runs, for 'mkfa work"):
            carry_out(plan, engine, stop=Stop())
        folders = [root / planned.spec.hash for planned in plan]
        assert all((folder / TASK).exists() for folder in folders)
        for folder in folders:
            assert work(folder, stop=Stop()).state == "done"
        outcomes = carry_out(plan, engine, stop=Stop())
    assert [(outcome.state, outcome.trained) for outcome in outcomes] == [("done", False)] * 2
    assert all(outcome.banks for outcome in outcomes)  # the library has them now
