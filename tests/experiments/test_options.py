"""Options of the training verbs that do not exist are refused: they would change nothing."""

from __future__ import annotations

from typing import Any

import pytest

import mkfa
from mkfa.errors import UnknownNameError


@pytest.mark.parametrize(
    ("verb", "words", "option", "remedy"),
    [
        (mkfa.train, ["digits"], "epoch", "did you mean epochs"),
        (mkfa.train, ["digits"], "what", "choose from arch, recipe"),
        (mkfa.transfer, ["letters", "digits"], "recipy", "did you mean recipe"),
        (mkfa.transfer_curve, [], "seed", "did you mean seeds"),
        (mkfa.transfer_sweep, [], "widths", "unknown option"),
        (mkfa.transfer_matrix, [], "source_arch", "unknown option"),
        (mkfa.run_claims, ["C12"], "seed", "did you mean seeds"),
        (mkfa.reproduce, ["table1"], "seed", "did you mean seeds"),
    ],
)
def test_an_unknown_option_is_refused_before_anything_is_planned(verb: Any, words: Any, option: str, remedy: str):
    with pytest.raises(UnknownNameError, match=f"option {option}: unknown option") as caught:
        verb(*words, **{option: 1})
    assert remedy in str(caught.value)
