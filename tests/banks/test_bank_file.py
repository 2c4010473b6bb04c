"""Bank files that several processes change."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mkfa.banks import bank_file
from mkfa.banks.bank_file import Analysis, changing, read_analyses, replace_bank, write_analysis, write_bank
from mkfa.errors import BankError, WorkError

ADDER = """
import sys
import numpy as np
from mkfa.banks.bank_file import Analysis, write_analysis
for number in range(8):
    write_analysis(sys.argv[1], Analysis(f"{sys.argv[2]}{number}", {"v": np.arange(3)}, {}))
"""


def test_of_results_that_two_processes_store_none_is_lost(tmp_path, bank_maker):
    path = write_bank(bank_maker(), tmp_path / "bank.h5")
    both = [subprocess.Popen([sys.executable, "-c", ADDER, str(path), name]) for name in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    assert set(read_analyses(path)) == {f"{name}{number}" for name in "ab" for number in range(8)}


def test_a_result_is_not_stored_in_another_bank_than_was_analysed(tmp_path, bank_maker):
    first, second = bank_maker(seed=0), bank_maker(seed=1)
    path = write_bank(second, tmp_path / "bank.h5")
    with pytest.raises(BankError, match="was replaced by another bank while it was analysed; run the command again"):
        write_analysis(path, Analysis("a", {"v": np.arange(3)}, {}), of=first)
    assert not read_analyses(path)
    write_analysis(path, Analysis("a", {"v": np.arange(3)}, {}), of=second)
    assert set(read_analyses(path)) == {"a"}


def test_a_bank_is_not_replaced_while_a_result_is_stored_in_it(tmp_path, bank_maker, monkeypatch):
    monkeypatch.setattr(bank_file, "LOCK_WAIT", 0.1)
    bank = bank_maker()
    path = write_bank(bank, tmp_path / "bank.h5")
    with changing(path), pytest.raises(WorkError, match="is being changed by another process"):
        replace_bank(bank, path)
    write_analysis(path, Analysis("a", {"v": np.arange(3)}, {}))
    assert replace_bank(bank, path) == ()
    assert set(read_analyses(path)) == {"a"}
