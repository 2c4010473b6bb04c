"""Names become banks: path, library, bundled, domain; an unknown one offers the nearest."""

from __future__ import annotations

import pytest

from mkfa.banks.bank_file import write_bank
from mkfa.banks.library import bank_file_name, library_folder, list_banks, load_bank, resolve_path
from mkfa.errors import BankError, MkfaError, UnknownNameError


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
