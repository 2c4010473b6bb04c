"""The bundled verdicts: complete, at their scale, and what the bundled runs still say by today's rules."""

from __future__ import annotations

import json

import pytest

import mkfa
from mkfa.evidence.claims import all_claims
from mkfa.evidence.stored import BUNDLED, bundled_verdicts
from mkfa.storage.folders import data_file

VERDICTS = bundled_verdicts()
FROM_RUNS = [id for id, claim in all_claims().items() if not claim.about_banks]


def test_a_check_takes_the_bundled_graft_as_it_takes_the_bundled_runs_and_banks():
    assert mkfa.check_claims("C17")["C17"].chosen == VERDICTS["C17"].chosen
    assert mkfa.check_claims("C17", grafts=())["C17"].chosen.state == "inconclusive"


def test_every_claim_has_a_dated_verdict_that_names_what_it_rests_on():
    assert set(VERDICTS) == set(all_claims())
    for id, judgement in VERDICTS.items():
        v = judgement.chosen
        assert judgement.judged >= "2026-11-28" and judgement.sentence == all_claims()[id].sentence
        if v.state == "inconclusive":
            assert v.missing and v.command
            continue
        assert v.scale.name in ("laptop", "banks", "graft") and v.basis
        if v.scale.name == "laptop":
            assert v.seeds >= 5 and v.scale.pixels == 32 and v.scale.steps > 0
            assert v.effect.detectable > 0 and v.effect.sensitivity > 5 * v.effect.error


def test_no_path_of_the_machine_that_judged_is_in_the_file():
    text = data_file(BUNDLED).read_text()
    assert "/home" not in text and "/tmp" not in text and "/root" not in text
    assert json.loads(text)["format"] == "mkfa.claims"


@pytest.mark.slow
def test_the_bundled_runs_still_give_the_bundled_verdicts():
    found = mkfa.check_claims(FROM_RUNS, place="bundled")
    for id in FROM_RUNS:
        assert found[id].chosen.state == VERDICTS[id].chosen.state, id
        assert found[id].chosen.missing == VERDICTS[id].chosen.missing, id
        if VERDICTS[id].chosen.effect is not None:
            assert found[id].chosen.effect.difference == pytest.approx(VERDICTS[id].chosen.effect.difference), id


def test_pointwise_layers_are_not_judged_where_random_ones_cost_too_little_to_see():
    v = mkfa.claims("C10")["C10"].chosen
    assert (v.state, v.seeds) == ("inconclusive", 5)
    assert v.missing and all(reason.startswith("sensitivity: random on") for reason in v.missing)


def test_what_six_pairs_and_five_seeds_say_of_learned_filters():
    v = mkfa.claims("C12")["C12"].chosen
    assert (v.state, v.seeds, len(v.findings[0].units)) == ("supported", 5, 6)
    assert v.effect.low > 0.01


@pytest.mark.parametrize(
    ("id", "state", "points"),
    [
        ("C1", "contradicted", -2.5),  # transfer less the base, all 18 layers, thirty pairs
        ("C3", "supported", 0.1),  # shuffled less transferred, 14 seeds
        ("C6", "contradicted", -9.0),  # clipart -> letters
        ("C11", "contradicted", -2.4),  # the gain of transfer on digits falls with the number of layers
        ("C14", "supported", 3.1),
        ("C15", "supported", 17.4),  # keys less random one-tap filters
        ("C16", "contradicted", -4.1),  # eight keys less the base
        ("C17", "contradicted", 3.5),  # percent of a MobileNetV2's answers that eight keys keep
    ],
)
def test_what_the_bundled_verdicts_say(id, state, points):
    v = mkfa.claims(id)[id].chosen
    assert (v.state, round(100 * v.effect.difference, 1)) == (state, points)
