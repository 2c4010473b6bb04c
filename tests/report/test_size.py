"""A page stays small enough to be sent: 1.5 MB for 20,000 filters of 7x7, 13 MB for 200,000, whatever they are."""

from __future__ import annotations

import pytest
from made import noise_bank, random_assignment, random_map

from mkfa.report.analyses import Analyses
from mkfa.report.facts import page_facts
from mkfa.report.html import build_page
from mkfa.report.inputs import Inputs, NamedBank
from mkfa.report.limits import Limits


@pytest.mark.parametrize(
    ("filters", "points", "most"), [(20_000, 20_000, 1.5e6), pytest.param(200_000, 4_000, 13e6, marks=pytest.mark.slow)]
)
def test_a_page_of_noise_with_classes_fits_and_a_map(filters, points, most):
    bank = noise_bank(filters)
    analyses = Analyses(assignments=[random_assignment(bank)], maps=[random_map(bank, points)])
    facts, blobs = page_facts(Inputs(banks=[NamedBank(bank)]), analyses, Limits(map_filters=points))
    assert sum(group["shown"] for group in facts["groups"]) == filters
    page = build_page({"title": "noise", "summary": "", **facts}, blobs)
    assert 0.5 * most < len(page) < most
