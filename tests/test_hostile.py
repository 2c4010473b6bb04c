"""Every kind of hostile file is read or refused in one line, in seconds, within a gigabyte, by the harvest command."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_hostile import cost_of, import_all
from hostile_files import BUILDERS

REFUSED = {
    "one_external_region",
    "one_tflite_region",
    "unwritten_chunks",
    "chunks_of_one_number",
    "packed_zeros",
    "packed_archive",
    "names_that_share_a_text",
    "names_without_end",
    "bank_of_unwritten_chunks",
    "bank_with_a_wide_table",
    "images_of_unwritten_pieces",
    "images_of_one_piece",
    "images_of_parts",
}
"""Builders whose files claim so much, even at this size, that they are refused."""


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Import what each child would."""
    import_all()


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_a_hostile_file_costs_little(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    cost = cost_of(name, 20, tmp_path)
    assert not cost.problem, cost
    if name in REFUSED:
        assert cost.code == 2
        reasons = ("far more than its", "characters, more than", "a file that mkfa", "packed otherwise than")
        assert any(words in cost.error for words in reasons)
    if name in ("many_nodes", "shared_readers", "chain_of_casts", "chain_of_dequantisations"):
        assert cost.code == 0, cost.error
