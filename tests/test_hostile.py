"""Every kind of hostile file is read or refused in one line, in seconds, within a gigabyte, by the harvest command."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_hostile import cost_of
from hostile_files import BUILDERS


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_hostile_file_costs_little(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    cost = cost_of(name, 60, tmp_path)
    assert not cost.problem, cost
    if name in ("one_external_region", "sparse_tensors", "one_tflite_region", "one_key_of_dots"):
        assert cost.code == 2
        assert "m." in cost.error
    if name in ("many_nodes", "shared_readers", "chain_of_casts", "chain_of_dequantisations"):
        assert cost.code == 0, cost.error
