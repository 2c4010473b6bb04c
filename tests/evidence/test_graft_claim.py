"""The claim about replacement, judged from results of grafts whose agreement is planted."""

from __future__ import annotations

import json

import pytest

from mkfa.errors import MkfaError
from mkfa.evidence.claims import all_claims
from mkfa.evidence.graft_claim import judge_grafts

CLAIM = all_claims()["C17"]


def graft(path, **agreement):
    """Write a graft's result: vocabulary -> agreement with eight filters."""
    points = [
        {
            "curve": "size",
            "vocabulary": name,
            "size": size,
            "batch_norm": "kept",
            "draws": 5,
            "agreement": value if size == 8 else 0.99,
            "agreement_low": value - 0.03,
            "agreement_high": value + 0.03,
        }
        for name, value in agreement.items()
        for size in (64, 8)
    ]
    record = {"format": "mkfa.graft", "network": path.stem, "images": "photos", "asked": 500, "points": points}
    record["layers"] = [{"number": 1, "kernel": "7x7"}]
    path.write_text(json.dumps(record))
    return path


@pytest.mark.parametrize(
    ("eight", "gaussian", "state"),
    [
        (0.95, 0.40, "supported"),
        (0.30, 0.10, "contradicted"),  # eight keys do not suffice
        (0.96, 0.95, "contradicted"),  # eight random ones do it too
        (0.91, 0.40, "inconclusive"),  # the interval holds the margin
    ],
)
def test_eight_keys_must_keep_the_answers_and_eight_random_filters_must_not(tmp_path, eight, gaussian, state):
    found = judge_grafts(CLAIM, [graft(tmp_path / "net.json", eight=eight, gaussian=gaussian)])
    assert found.state == state
    assert "net (7x7)" in found.basis and "500 images of photos" in found.scale.text


def test_a_verdict_on_a_graft_says_what_it_rests_on_and_what_it_could_have_seen(tmp_path):
    effect = judge_grafts(CLAIM, [graft(tmp_path / "net.json", eight=0.95, gaussian=0.40)]).effect
    assert effect.sample == "500 images; draws of a vocabulary: 5, seed 0"
    assert effect.detectable == pytest.approx((1.959964 + 0.841621) * (0.9 * 0.1 / 500) ** 0.5, abs=1e-6)
    assert (effect.sensitivity, effect.control) == (pytest.approx(0.6), "gaussian of size 8")


def test_one_network_that_fails_contradicts(tmp_path):
    files = [graft(tmp_path / "a.json", eight=0.96, gaussian=0.3), graft(tmp_path / "b.json", eight=0.5, gaussian=0.3)]
    found = judge_grafts(CLAIM, files)
    assert found.state == "contradicted"
    assert "b, eight" in found.reason


def test_what_is_missing_is_said_with_its_command(tmp_path):
    found = judge_grafts(CLAIM, [])
    assert (found.state, found.missing[0]) == ("inconclusive", "runs: a graft of 8 filters of eight")
    assert found.command.startswith("mkfa graft")
    found = judge_grafts(CLAIM, [graft(tmp_path / "net.json", eight=0.95)])
    assert (found.state, found.missing) == ("inconclusive", ("runs: a graft of 8 filters of gaussian",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"format": "mkfa.claims"}', "is not a graft's result"),
        ('{"format": "mkfa.graft", "network": "n", "images": "i", "asked": 1, "points": [{}]}', "damaged point"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(MkfaError, match=message):
        judge_grafts(CLAIM, [tmp_path / "x.json"])
