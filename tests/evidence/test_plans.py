"""The programme's runs are as many as a count by hand says, at the paper's scale without its images."""

from __future__ import annotations

import pytest

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.evidence.claims import all_claims, find_claims
from mkfa.evidence.plans import as_the_scale_says, plan_work
from mkfa.evidence.programme import find_entry, parse_entry, programme, scales
from mkfa.evidence.verbs import plan_claims

COUNTS = {
    # base runs, then arms x numbers of layers, for one seed
    ("figure2b", "paper"): 2 + 3 * 13,  # 1, 5, .. 49 of 49 layers
    ("figure2c", "paper"): 2 + 4 * 9,  # 2, 4, .. 18
    ("figure4", "paper"): 2 + 4 * 12,
    ("table1", "paper"): 2 + 5,
    ("table2", "paper"): 7 + 6 * 6 + 6 + 2 * 6,  # ImageNet's base run too; 36 transfers, 6 selffers, two controls
    ("table2-equal-steps", "paper"): 7 + 6 * 6 + 6 + 2 * 6,
    ("table3", "paper"): 1 + 7 + 7 + 2,  # Pets, ImageNet with seven networks, a stack of each, two controls
    ("table4", "paper"): 1 + 2 + 5,  # Food with two networks; stack, transfer, selffer, random, delta
    ("table5", "paper"): 7 + 6 * 6 + 6 + 6,  # delta cannot be a pointwise control
    ("table7", "paper"): 7,
    ("pairs", "paper"): 6
    + 2 * 4
    + 3 * 4,  # transfer and covariance of four pairs; selffer, random, delta of four targets
    ("eight", "paper"): 1 + 5,
    ("more-data", "paper"): 6 + 5 + 1,
    ("small-set-keys", "paper"): 4 * (3 + 2 * 3),
    ("shapes", "paper"): 1 + 4,
    ("table2", "laptop"): 6 + 6 * 5 + 6 + 2 * 6,
    ("pairs", "laptop"): 6 + 2 * 6 + 3 * 6,
    ("figure2b", "gpu"): 2 + 3 * 7,  # 1, 9, .. 49
    ("table3", "gpu"): 1 + 4 + 4 + 2,  # CIFAR-10 with four networks, a stack of each
    ("width", "laptop"): 7 * (2 + 3),
}
SLOW = ("figure2b", "table3")
"""Entries whose networks take minutes to build."""


def entries(*, slow):
    return [pair for pair in COUNTS if (pair[0] in SLOW) == slow]


def count(name, scale, seeds):
    options = {"seeds": seeds, "device": "cpu"}
    return len(plan_work([programme()[name]], scale, options, name=name, without_images=True).runs)


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path))


@pytest.mark.parametrize(("name", "scale"), entries(slow=False))
def test_runs_of_a_figure_or_table(name, scale):
    assert count(name, scale, 1) == COUNTS[name, scale]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), entries(slow=True))
def test_runs_of_large_networks(name, scale):
    assert count(name, scale, 1) == COUNTS[name, scale]


def test_every_figure_and_table_of_the_paper_has_a_file_with_its_scale():
    known = programme()
    named = {"figure2b", "figure2c", "figure4", *(f"table{n}" for n in range(1, 8))}
    assert named <= set(known)
    assert {name for name in known if "paper" in known[name].runs} - {name for name, _ in COUNTS} == set()
    assert all(known[name].paper for name in named)
    assert [name for name in known if not known[name].runs] == ["table6"]


def test_paper_scale_has_the_papers_data_network_and_recipe():
    work = plan_work([programme()["figure4"]], "paper", {"device": "cpu"}, name="x", without_images=True)
    assert len(work.runs) == 5 * 50
    [plan] = work.plans
    recipe = plan.setting.recipe
    assert (plan.setting.arch, recipe.name, recipe.epochs, recipe.batch, recipe.size) == (
        "convnext_femto",
        "paper",
        300,
        1024,
        224,
    )
    assert {run.spec.domain for run in work.runs} == {"food", "pets"}


def test_runs_that_claims_share_are_planned_once():
    def runs(ids):
        return {r.spec.hash for r in plan_claims(find_claims(ids), "laptop", {"device": "cpu"}).runs}

    assert runs("C5") == runs("C6") == runs("C5,C6")
    assert runs("C12") < runs("C12,C3")
    assert len(runs("C12,C3")) == len(runs("C12") | runs("C3"))


def test_options_of_the_user_replace_those_of_the_scale_field_by_field():
    options = {"set": ["lr=0.02"], "seeds": 1, "device": "cpu"}
    [plan] = plan_work([programme()["table1"]], "laptop", options, name="x").plans
    assert (plan.setting.recipe.lr, plan.setting.recipe.batch, plan.setting.recipe.equal_steps) == (0.02, 32, 150)
    assert not as_the_scale_says(options)
    assert as_the_scale_says({"seeds": 3, "device": "cpu"})


@pytest.mark.parametrize("change", [{"branch_gain": 1.0}, {"kernel": 3}, {"equal_steps": 5}, {"set": {"lr": 0.1}}])
def test_another_network_or_recipe_is_not_the_scales(change):
    assert not as_the_scale_says(change)


def test_a_claim_has_the_scales_of_its_experiments():
    claims = all_claims()
    assert claims["C12"].scales == ("laptop", "gpu", "paper")
    assert claims["C2"].scales == claims["C8b"].scales == claims["C18"].scales == claims["C20"].scales == ("paper",)
    with pytest.raises(MkfaError, match="--scale laptop: is not one at which C2 can be run; choose paper"):
        plan_claims(find_claims("C2"), "laptop", {})
    assert plan_claims(find_claims("C19,C21"), "laptop", {}) is None


def test_names_of_figures_and_tables():
    assert {find_entry(name).name for name in ("Figure 4", "figure4", "fig4", "Fig. 4")} == {"figure4"}
    assert find_entry("Table 2").name == "table2"
    with pytest.raises(UnknownNameError, match="figure9: unknown figure or table"):
        find_entry("figure9")


def test_every_scale_names_what_it_is():
    assert [s.seeds for s in scales().values()] == [5, 5, 5]
    assert len(scales()["laptop"].pairs) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "x"', "question"),
        ('title = "x"\nquestion = "y"\n[[runs.huge]]\nverb = "train"', "unknown scale huge"),
        ('title = "x"\nquestion = "y"\n[[runs.laptop]]\nverb = "guess"', "verb is 'guess'"),
        ('title = "x"\nquestion = "y"\n[[runs.laptop]]\nverb = "train"\nseed = 3', "unknown field seed"),
        ("title = ", "Invalid value"),
    ],
)
def test_damaged_entries_are_refused(text, message):
    with pytest.raises(MkfaError, match="does not describe an experiment") as raised:
        parse_entry("x", text)
    assert message in str(raised.value)
