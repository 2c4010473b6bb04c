"""The file of claims: it lists C1 to C21, and nothing in it that the rules do not know is let through."""

from __future__ import annotations

import re

import pytest

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.evidence.claims import FILE, all_claims, find_claims, parse_claims
from mkfa.evidence.statements import words

SMALL = """
seeds = 5
margin = 1.0
sensitivity = 5.0
controls = ["delta"]
[[claim]]
id = "C1"
sentence = "s"
source = "T1"
number = "1"
supports = [{ rule = "within", of = "transfer", than = "baseline" }]
contradicts = [{ rule = "below", of = "transfer", than = "baseline", margin = -1.0 }]
"""


def test_all_claims_are_there_with_two_sided_criteria():
    claims = all_claims()
    ids = [f"C{n}" for n in range(1, 22) if n != 8]
    assert list(claims) == [*ids[:7], "C8a", "C8b", *ids[7:]]
    for claim in claims.values():
        assert claim.supports and claim.contradicts
        assert claim.sentence.endswith(".") and claim.source
        assert claim.runs or claim.command
        assert (claim.seeds, claim.sensitivity, claim.margin) == (5, 5.0, 1.0)
        assert all(words(statement, claim) for statement in claim.statements)


def test_ids_are_found_in_any_form():
    assert [c.id for c in find_claims("c12")] == ["C12"]
    assert [c.id for c in find_claims(["C8", "1"])] == ["C8a", "C8b", "C1"]
    assert len(find_claims()) == 22
    with pytest.raises(UnknownNameError, match="C99: unknown claim"):
        find_claims("C99")


def test_a_criterion_is_read_as_it_is_written():
    [claim] = parse_claims(SMALL).values()
    assert claim.arms == ("transfer",)
    assert claim.margin_of(claim.supports[0]) == 1.0
    assert claim.margin_of(claim.contradicts[0]) == -1.0
    assert words(claim.supports[0], claim) == "transfer equals baseline within 1 point"
    assert words(claim.contradicts[0], claim) == "transfer is below baseline by more than 1 point"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rule = "within"', 'rule = "resembles"', "rule is 'resembles'"),
        ('of = "transfer", than = "baseline" }]\nc', 'of = "transfer", over = "most" }]\nc', "over is 'most'"),
        ('number = "1"', 'nunber = "1"', "unknown field nunber"),
        ('sentence = "s"\n', "", "lacks sentence"),
        ("seeds = 5", "seeds = ", "Invalid value"),
        ('number = "1"', 'number = "1"\nat = ["huge"]', "unknown scale huge"),
        ('number = "1"', 'number = "1"\nruns = ["figure9"]', "figure9 is not in the programme"),
        ("margin = 1.0", "", "margin"),
    ],
)
def test_what_the_rules_do_not_know_is_refused(old, new, message):
    with pytest.raises(MkfaError, match=re.escape(FILE)) as raised:
        parse_claims(SMALL.replace(old, new, 1))
    assert message in str(raised.value)
