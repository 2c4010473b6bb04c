"""Names become banks: path, library, bundled, domain; an unknown one offers the nearest."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.banks import bank_file
from mkfa.banks.bank_file import Analysis, read_analyses, replace_bank, write_analysis, write_bank
from mkfa.banks.library import (
    bank_file_name,
    export_bank,
    library_folder,
    list_banks,
    load_bank,
    remove_bank,
    rename_bank,
    resolve_path,
)
from mkfa.errors import BankError, InUseError, MkfaError, UnknownNameError, WorkError


@pytest.fixture
def stored(bank_maker):
    return write_bank(bank_maker(name="mine"), library_folder(create=True) / "mine.h5")


def test_the_library_is_where_the_user_says(own_home, monkeypatch, tmp_path):
    assert library_folder() == own_home / "banks"
    monkeypatch.delenv("MKFA_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert library_folder() == tmp_path / "mkfa" / "banks"


def test_a_name_resolves_to_library_then_bundled(stored, bank_maker):
    assert load_bank("mine").name == "mine"
    assert resolve_path("efficientnet_lite0").parent.name == "data"
    own = write_bank(bank_maker(name="efficientnet_lite0"), stored.with_name("efficientnet_lite0.h5"))
    assert resolve_path("efficientnet_lite0") == own
    assert [e.bundled for e in list_banks() if e.name == "efficientnet_lite0"] == [False]


def test_a_path_is_a_path(stored, tmp_path, monkeypatch):
    assert resolve_path(str(stored)) == stored
    monkeypatch.chdir(stored.parent)
    assert load_bank("./mine.h5").name == "mine"
    with pytest.raises(BankError, match="does not exist"):
        load_bank("other.h5")


def test_unknown_names_say_what_to_do(stored):
    with pytest.raises(UnknownNameError, match=r"did you mean .*efficientnet_lite0"):
        resolve_path("eficientnet_lite")
    with pytest.raises(UnknownNameError, match=r"'mkfa harvest qqqq' gets"):
        resolve_path("qqqq")


def test_a_domain_resolves_once_its_bank_is_there(stored, bank_maker):
    write_bank(bank_maker(name="food"), stored.with_name("food.h5"))
    assert load_bank("food").name == "food"


@pytest.mark.parametrize("name", ["a/b c", "../../etc/x", "hf:owner/net", "convnext_base.fb_in22k"])
def test_bank_file_names_stay_in_the_library(name):
    made = bank_file_name(name)
    assert made.endswith(".h5")
    assert "/" not in made
    assert not made.startswith(".")


def test_an_unwritable_home_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "file"))
    with pytest.raises(MkfaError, match="MKFA_HOME"):
        library_folder(create=True)


GONE = "The analyses stored in the former bank are gone: assign.gaussian."


@pytest.fixture
def analysed(stored):
    write_analysis(stored, Analysis("assign.gaussian", {"best": np.arange(4)}, {}))
    return stored


def test_a_bank_is_removed_with_the_names_of_its_analyses(analysed):
    assert remove_bank("mine").notes == (GONE,)
    assert not analysed.exists()


def test_a_renamed_bank_takes_its_analyses_along_and_says_what_it_replaces(analysed, bank_maker):
    other = write_bank(bank_maker(seed=1), library_folder() / "other.h5")
    write_analysis(other, Analysis("assign.gaussian", {}, {}))
    with pytest.raises(MkfaError, match="exists already"):
        rename_bank("mine", "other")
    done = rename_bank("mine", "other", overwrite=True)
    assert done.notes == ("The bank that was called other is gone.", GONE)
    assert list(read_analyses(other)["assign.gaussian"].arrays) == ["best"] and not analysed.exists()


@pytest.mark.parametrize("held", ["mine", "other"])
def test_a_bank_is_renamed_only_while_no_process_changes_it_or_the_one_it_replaces(
    analysed, bank_maker, monkeypatch, held
):
    other = write_bank(bank_maker(seed=1), library_folder() / "other.h5")
    before = analysed.read_bytes(), other.read_bytes()
    monkeypatch.setattr(bank_file, "LOCK_WAIT", 0.05)
    with bank_file.changing(library_folder() / f"{held}.h5"):
        with pytest.raises(WorkError, match=f"{held}.h5: is being changed by another process"):
            rename_bank("mine", "other", overwrite=True)
        if held == "mine":
            with pytest.raises(WorkError, match="is being changed"):
                remove_bank("mine")
    assert before == (analysed.read_bytes(), other.read_bytes())


def test_an_exported_bank_has_its_analyses(analysed, tmp_path, bank_maker):
    out = export_bank("mine", tmp_path / "x.h5").path
    assert list(read_analyses(out)) == ["assign.gaussian"]
    write_bank(bank_maker(seed=1), library_folder() / "other.h5")
    assert export_bank("other", out, overwrite=True).notes == (GONE,)
    assert not export_bank("mine", tmp_path / "x.npz").notes


def test_writing_over_a_bank_warns_of_its_analyses(analysed, bank_maker):
    with pytest.warns(UserWarning, match=r"mine\.h5: The analyses stored .* are gone: assign\.gaussian"):
        write_bank(bank_maker(), analysed)
    write_bank(bank_maker(), analysed)  # none left


def test_analyses_are_kept_only_with_the_filters_that_they_are_of(analysed, bank_maker):
    assert replace_bank(bank_maker(name="new name"), analysed) == ()
    assert list(read_analyses(analysed)) == ["assign.gaussian"] and load_bank("mine").name == "new name"
    assert replace_bank(bank_maker(seed=1), analysed) == (GONE,)
    assert not read_analyses(analysed)


def test_a_bank_in_use_is_neither_removed_nor_replaced(stored, bank_maker, opened_elsewhere):
    with opened_elsewhere(stored):
        for action in (lambda: remove_bank("mine"), lambda: replace_bank(bank_maker(), stored)):
            with pytest.raises(InUseError):
                action()
        with pytest.raises(InUseError):
            write_bank(bank_maker(), stored)
    assert load_bank("mine") == bank_maker(name="mine")
