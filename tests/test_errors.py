"""An error is one line: the thing, what is wrong, what to do."""

from __future__ import annotations

from mkfa.errors import BankError, MkfaError, WorkError, nearest


def test_one_sentence_whatever_the_parts_hold():
    error = BankError("a\nb\x1b[31m.h5", "is damaged.", "fetch it again.")
    assert str(error) == "a b\ufffd[31m.h5: is damaged; fetch it again."


def test_exit_codes():
    assert MkfaError("a", "b", "c").exit_code == BankError("a", "b", "c").exit_code == 2
    assert WorkError("a", "b", "c").exit_code == 1


def test_nearest_names():
    assert nearest("convnext_bas", ["convnext_base", "resnet50"]) == "did you mean convnext_base?"
    assert nearest("zzz", ["convnext_base"]) == ""
