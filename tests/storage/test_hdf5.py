"""Files that another program has open: in use, not damaged."""

from __future__ import annotations

import errno

import h5py
import numpy as np
import pytest

from mkfa.banks.bank_file import Analysis, read_analyses, read_bank, write_analysis, write_bank
from mkfa.errors import BankError, InUseError, MkfaError
from mkfa.images.domain_file import make_domain, read_domain, write_domain
from mkfa.storage.result_files import read_arrays, write_arrays


@pytest.fixture
def bank_file(bank_maker, tmp_path):
    return write_bank(bank_maker(), tmp_path / "bank.h5")


def test_a_bank_open_for_writing_elsewhere_is_in_use_and_not_damaged(bank_file, opened_elsewhere):
    before = bank_file.read_bytes()
    with opened_elsewhere(bank_file):
        opened = bank_file.read_bytes()  # HDF5 marks the file
        for action in (read_bank, read_analyses, lambda path: write_analysis(path, Analysis("a", {}, {}))):
            with pytest.raises(InUseError, match=r"is in use: another program.*close it there") as error:
                action(bank_file)
            assert "damaged" not in str(error.value) and "harvest" not in str(error.value)
            assert str(error.value).startswith(str(bank_file))
        assert bank_file.read_bytes() == opened != before


def test_other_readers_do_not_disturb(bank_file, bank_maker, opened_elsewhere):
    with opened_elsewhere(bank_file, "r"):
        assert read_bank(bank_file) == bank_maker()


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}])
def test_a_bank_that_a_killed_program_had_open_is_read_and_mended_by_the_next_write(
    bank_file, bank_maker, options, opened_elsewhere
):
    with opened_elsewhere(bank_file, **options):
        pass
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(bank_file, "r")
    assert read_bank(bank_file) == bank_maker()
    write_analysis(bank_file, Analysis("a", {"x": np.arange(3)}, {}))
    with h5py.File(bank_file, "r") as f:
        assert list(f["analysis"]) == ["a"]


def test_a_marked_file_whose_tables_are_half_written_is_in_use(bank_file, opened_elsewhere):
    with opened_elsewhere(bank_file):
        pass
    data = bytearray(bank_file.read_bytes())
    at = data.index(b"OHDR")
    data[at + 8 : at + 40] = bytes(32)
    bank_file.write_bytes(data)
    with pytest.raises(InUseError, match=r"marked as open for writing.*incomplete; close it there"):
        read_bank(bank_file)


def test_results_and_domains_in_use_are_said_to_be(tmp_path, opened_elsewhere):
    result = write_arrays(tmp_path / "r.h5", kind="atlas", arrays={"x": np.arange(3)}, attributes={})
    with opened_elsewhere(result), pytest.raises(InUseError, match="is in use"):
        read_arrays(result, kind="atlas")
    side = (np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]))
    domain = write_domain(make_domain("d", ["a", "b"], train=side, test=side), tmp_path / "d.h5", facts={})
    with opened_elsewhere(domain), pytest.raises(MkfaError, match=r"is in use.*close it there") as error:
        read_domain(domain)
    assert "pack the data set again" not in str(error.value)
    assert len(read_domain(domain).x_train) == 2  # the other program was killed


def test_a_file_system_without_locks_names_the_setting(bank_file, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(errno.ENOLCK, "Unable to open file (unable to lock file, errno = 37, error message = 'No locks')")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(BankError, match=r"cannot be locked.*No locks available.*HDF5_USE_FILE_LOCKING=FALSE"):
        read_bank(bank_file)
