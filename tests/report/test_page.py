"""The page in a browser that has no network: nothing is asked for, nothing fails, and what a reader does works."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from browser import Browser
from made import HOSTILE, LAYER, graft_record, small_bank, sweep_record

from mkfa.clusters.keys import find_keys
from mkfa.errors import printable
from mkfa.report.writing import write_report
from mkfa.similarity.groups import compare_groups

SHOWN = printable(HOSTILE)


@pytest.fixture
def page(browser, made):
    """Open the report anew; at the end of each test nothing was asked for and nothing failed."""
    browser.open(made.path)
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if url != made.path.as_uri()] == []


def texts(page: Browser, selector: str) -> list[str]:
    return page.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")


def choose(page: Browser, label: str, value: str) -> None:
    """Choose an option of the select whose label begins with a text."""
    page.run(
        "(() => { const l = [...document.querySelectorAll('label')].find((e) => e.textContent.startsWith("
        f"{json.dumps(label)}) && e.querySelector('select')); const s = l.querySelector('select'); "
        f"s.value = {json.dumps(value)}; s.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"
    )


def toggle(page: Browser, label: str, within: str = "body") -> None:
    """Click the check box whose label is a text."""
    page.run(
        f"[...document.querySelector({json.dumps(within)}).querySelectorAll('label')]"
        f".find((e) => e.textContent.trim() === {json.dumps(label)}).querySelector('input').click()"
    )


def test_every_part_is_there_and_names_of_strangers_are_text(page):
    assert texts(page, "h2") == [
        *("Filters", "Map of filters", "Comparisons", "Patterns", "Experiments", "Verdicts", "Provenance"),
        "What was left out",
    ]
    assert page.run("window.hacked") is None
    assert page.run("document.querySelectorAll('img, iframe, object, link, b[onmouseover]').length") == 0
    assert page.run("document.scripts.length - document.querySelectorAll('script[type]').length") == 1
    assert texts(page, "h1") == [f"{SHOWN}, other"]
    assert page.run("document.title") == f"{SHOWN}, other - mkfa report"
    assert any(f"A note: {SHOWN}" in text for text in texts(page, "#provenance p"))
    assert "/home/somebody" not in page.run("document.body.textContent + JSON.stringify(document.title)")


def test_the_policy_forbids_every_address_and_scripts_of_others(page):
    policy = page.run("document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert page.run("fetch('https://example.org/').then(() => 'got it', () => 'refused')") == "refused"
    page.run("document.body.insertAdjacentHTML('beforeend', '<p id=p onclick=\"window.hacked=2\">x</p>')")
    page.run("document.getElementById('p').click()")
    assert page.run("window.hacked") is None
    assert len(page.errors) >= 2  # the refusals are in the console
    page.errors.clear()
    page.requests[:] = [url for url in page.requests if "example.org" not in url]


def test_hovering_a_filter_tells_weights_class_fit_and_the_nearest_in_the_other_bank(page, made, assigned):
    page.run("document.querySelectorAll('.layers button')[1].click()")  # layer 2, 30 filters of 3x3
    page.wait("document.querySelector('#filters p[id]').textContent.startsWith('Layer 2')")
    columns = page.run("Math.floor(document.querySelector('canvas.grid').width / 30)")
    x, y = page.place("canvas.grid", (5 % columns + 0.5) / columns, 0.5 / np.ceil(30 / columns))
    page.pointer("mouseMoved", x, y)
    page.wait("document.querySelector('.nearest b') !== null")
    told = dict(zip(texts(page, ".details dt"), texts(page, ".details dd"), strict=True))
    bank = made.banks[0]
    kind = next(k for k in assigned.kinds if str(k.kind) == "3x3")
    row = 40 + 5
    assert (told["network"], told["layer"], told["channel"]) == (SHOWN, "2, blocks.1.weight", "5")
    assert float(told["R²"]) == pytest.approx(kind.fit.r2[row], abs=0.003)
    assert float(told["p, chance"]) == pytest.approx(kind.p[row], rel=0.03)
    weights = [float(text.replace("−", "-")) for text in texts(page, ".details .weights td")]
    weight = bank.of_layer(1).weight[5].ravel()
    assert weights == pytest.approx(weight.tolist(), abs=float(np.abs(weight).max()) / 127)
    near = texts(page, ".near")[0]
    assert near.startswith("otherlayer 1, channel 7,")  # planted there, upside down and with another mean
    assert near.endswith("|cos| 1.000, with opposite sign")


def test_the_filters_can_be_read_with_the_keyboard_alone(page):
    page.run("document.querySelector('canvas.grid').focus()")
    page.key("ArrowRight")
    page.key("ArrowRight")
    assert "channel 2:" in page.run("document.querySelector('.details [role=status]').textContent")
    page.key("End")
    assert "channel 39:" in page.run("document.querySelector('.details [role=status]').textContent")
    assert "40 pictures" in page.run("document.querySelector('canvas.grid').getAttribute('aria-label')")


def test_tab_goes_through_the_page_in_order_and_every_control_has_a_name(page):
    page.run("document.activeElement.blur()")
    seen = []
    for _ in range(12):
        page.key("Tab")
        seen.append(page.run("document.activeElement.textContent.slice(0, 20)"))
    assert seen[:3] == ["Skip to the report", "Filters", "Map of filters"]
    unnamed = (
        "[...document.querySelectorAll('button, input, select, canvas, svg, [tabindex]')].filter((e) => !e.closest("
        "'[aria-hidden=true]') && !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label'))"
        ").map((e) => e.outerHTML.slice(0, 100))"
    )
    assert page.run(unnamed) == ["<main"] * 0
    ids = page.run("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    levels = page.run("[...document.querySelectorAll('h1, h2, h3, h4')].map((e) => Number(e.tagName[1]))")
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_filters_of_one_class_alone_and_in_order_of_fit(page):
    choose(page, "order by", "r2")
    page.wait("document.querySelector('.details dd:nth-of-type(5)').textContent !== '–'")
    best = page.run("document.querySelector('.details dd:nth-of-type(5)').textContent")
    page.run("document.querySelector('canvas.grid').focus()")
    page.key("ArrowRight")
    page.wait(f"document.querySelector('.details dd:nth-of-type(5)').textContent <= {best!r}")
    choose(page, "only", "254")
    page.wait("document.querySelector('canvas.grid').getAttribute('aria-label').includes('1 pictures')")
    assert texts(page, ".details dd")[3] == "dead"


def test_a_point_of_the_map_shows_its_filter_and_a_line_round_all_chooses_all(page, made):
    points = len(made.map.row)
    left, top = page.place(".mapbox canvas", 0, 0)
    canvas = [
        left,
        top,
        *page.run("(({clientWidth: w, clientHeight: h}) => [w, h])(document.querySelector('.mapbox canvas'))"),
    ]
    x0, y0, width, height = canvas
    low, high = made.map.position.min(0), made.map.position.max(0)
    size, middle = (high - low).max(), (low + high) / 2
    least = min(width, height)
    at = (made.map.position - middle) / size * 2 * 0.94 * least / 2  # as a map is drawn: the longer side fills it
    alone = np.linalg.norm(at[:, None] - at[None], axis=2) + 1e6 * np.eye(points)
    lonely = int(alone.min(axis=1).argmax())
    page.pointer("mouseMoved", x0 + width / 2 + float(at[lonely, 0]), y0 + height / 2 - float(at[lonely, 1]))
    page.wait("!document.getElementById('tip').hidden")
    assert page.run("document.querySelector('#tip canvas').width") >= 80
    assert "layer" in page.run("document.getElementById('tip').textContent")
    page.run("[...document.querySelectorAll('#map button')].find((b) => b.textContent === 'Lasso').click()")
    around(page, canvas, 0.01, 0.99)
    assert f"{points} filters chosen" in texts(page, "#map [role=status]")[0]
    assert page.run("document.querySelectorAll('.gallery canvas').length") == points
    # A box round the right half chooses the points there, counted here.
    around(page, canvas, 0.5, 0.99)
    right = int((at[:, 0] > 0).sum())
    assert f"{right} filters chosen" in texts(page, "#map [role=status]")[0]


def around(page: Browser, canvas: list[float], left: float, right: float) -> None:
    x0, y0, width, height = canvas
    corners = [(left, 0.01), (right, 0.01), (right, 0.99), (left, 0.99), (left, 0.02)]
    places = [(x0 + x * width, y0 + y * height) for x, y in corners]
    page.pointer("mouseMoved", *places[0])
    page.pointer("mousePressed", *places[0], pressed=True)
    for place in places[1:]:
        page.pointer("mouseMoved", *place, pressed=True)
    page.pointer("mouseReleased", *places[-1])


def test_without_a_pointer_the_map_chooses_by_name_and_steps_through_points(page, made):
    names = page.run(
        "[...[...document.querySelectorAll('#map label')].find((l) => l.textContent.startsWith('choose all of'))"
        ".querySelectorAll('option')].map((o) => o.value)"
    )
    choose(page, "colour by", "network")
    choose(page, "choose all of", "other")
    count = int((made.banks[1].of_kind("3x3").weight != 0).any(axis=(1, 2)).sum())
    assert f"{count} filters chosen: other" in texts(page, "#map [role=status]")[0]
    assert len(names) > 2
    page.run("document.querySelector('.mapbox canvas').focus()")
    page.key("n", "n")
    assert "channel" in texts(page, "#map [role=status]")[0]
    page.key("Escape")
    assert texts(page, "#map [role=status]")[0] == "No filter chosen."


def ink(page: Browser) -> int:
    """Return how many pixels of the map are not empty."""
    return page.run(
        "(() => { const c = document.querySelector('.mapbox canvas'), d = document.createElement('canvas'); "
        "d.width = c.width; d.height = c.height; const x = d.getContext('2d'); x.drawImage(c, 0, 0); "
        "const p = x.getImageData(0, 0, d.width, d.height).data; let n = 0; "
        "for (let i = 3; i < p.length; i += 4) n += p[i] > 0; return n; })()"
    )


def test_the_map_is_drawn_with_webgl_and_hides_what_is_unticked(page):
    assert page.run("document.querySelector('.mapbox canvas').getContext('webgl') !== null")
    every = ink(page)
    assert every > 100
    page.run("document.querySelector('#map fieldset input').click()")
    assert 0 < ink(page) < every


def test_without_webgl_the_map_is_drawn_all_the_same(browser, made):
    plain = Browser("--disable-3d-apis")
    try:
        plain.open(made.path)
        assert plain.run("document.createElement('canvas').getContext('webgl')") is None
        assert ink(plain) > 100
        assert plain.errors == []
    finally:
        plain.close()


def test_the_slider_hides_pairs_of_layers_with_larger_p(page, made):
    kind = made.comparison.kinds[0]
    null = kind.nulls[0]
    assert len(kind.layers_a) * len(kind.layers_b) == 4
    p = np.round(null.layer_p_max[0], 5)
    for value in (0, 40, 60, 80, 99):
        page.run(
            f"(() => {{ const s = document.querySelector('#comparisons input[type=range]'); s.value = {value}; "
            "s.dispatchEvent(new Event('input')); })()"
        )
        limit = 10 ** (-3 + 3 * value / 100)
        faded = page.run("document.querySelectorAll('#comparisons rect[opacity=\"0.1\"]').length")
        assert faded == int((p > limit).sum())
        assert f"{4 - faded} of 4 pairs" in texts(page, "#comparisons output")[1]
    cell = texts(page, "#comparisons h3")[0]
    assert cell == f"{SHOWN} and other, 3x3"
    said = page.run("document.querySelector('#comparisons rect[role=img]').getAttribute('aria-label')")
    assert f"coverage {kind.layer_value[0, 0, 0]:.3f}" in said
    assert printable(LAYER) in said


def test_a_click_on_a_pair_shows_the_filters_of_its_layer(page):
    page.run("document.querySelectorAll('#comparisons rect[role=img]')[2].dispatchEvent(new Event('click'))")
    page.wait("document.getElementById('grid-says').textContent.startsWith('Layer 2')")
    assert page.run("document.querySelector('#filters select').value") == "0"


def test_a_click_on_a_point_tells_everything_below_the_map(page):
    page.place(".mapbox canvas")
    page.run("document.querySelector('.mapbox canvas').focus({preventScroll: true})")
    page.key("n", "n")
    assert page.run("document.querySelector('#map .details').hidden")
    page.key("Enter")
    assert not page.run("document.querySelector('#map .details').hidden")
    page.wait("document.querySelector('#map .nearest b') !== null")
    assert texts(page, "#map .details dt")[:4] == ["network", "layer", "channel", "class"]


def test_arms_are_toggled_and_the_papers_values_stand_apart(page):
    articles = "[...document.querySelectorAll('#experiments article')]"
    curve = page.run(f"{articles}.findIndex((e) => e.querySelector('svg [data-arm=random]'))")
    first = f"#experiments article:nth-of-type({curve + 1})"
    assert page.run(f"document.querySelector('{first} svg [data-arm=random]') !== null")
    places = f"[...document.querySelectorAll('{first} svg .band')].map((e) => e.getAttribute('d').split(',')[0])"
    assert len(page.run(places)) == len(set(page.run(places))) > 3  # the bars of many arms stand side by side
    toggle(page, "random", first)
    assert page.run(f"document.querySelector('{first} svg [data-arm=random]')") is None
    toggle(page, "difference from the base", first)
    assert "difference from the base, points" in page.run(f"document.querySelector('{first} svg').textContent")
    toggle(page, "95 % intervals", first)
    assert page.run(f"document.querySelectorAll('{first} svg .band').length") == 0
    apart = "[...document.querySelectorAll('#experiments .apart')]"
    assert page.run(f"{apart}.every((e) => e.hidden)")
    page.run("document.querySelectorAll('#experiments .paper input').forEach((e) => e.click())")
    assert page.run(f"{apart}.every((e) => !e.hidden && e.textContent.includes('arXiv:2412.16751'))")
    assert page.run("document.querySelectorAll('#experiments figure svg [data-paper]').length") == 0


def test_the_matrix_shows_differences_from_its_diagonal(page):
    articles = "[...document.querySelectorAll('#experiments article')]"
    article = f"{articles}.find((e) => e.querySelector('h3').textContent.startsWith('Matrix'))"
    before = page.run(f"{article}.querySelector('svg').textContent")
    label = f"[...{article}.querySelectorAll('label')].find((e) => e.textContent.includes('diagonal'))"
    page.run(f"{label}.querySelector('input').click()")
    after = page.run(f"{article}.querySelector('svg').textContent")
    assert before != after
    assert after.count("0.0") >= 6  # the diagonal


def test_a_sweep_over_widths_has_its_axis_and_arms(browser, tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps(sweep_record()))
    write_report(tmp_path / "sweep.json", tmp_path / "r.html", data=False)
    browser.open(tmp_path / "r.html")
    said = browser.run("document.querySelector('#experiments svg').textContent")
    assert "D / f², channels over taps" in said
    assert "0.64" in said and "1.28" in said
    assert browser.run("document.querySelectorAll('#experiments svg circle').length") == 4
    toggle(browser, "random", "#experiments")
    assert browser.run("document.querySelectorAll('#experiments svg circle').length") == 2
    assert browser.errors == []


@pytest.fixture(scope="module")
def further(tmp_path_factory):
    """Return a page with a graft, keys and groups of networks, and what the latter two were made of."""
    folder = tmp_path_factory.mktemp("further")
    (folder / "graft.json").write_text(json.dumps(graft_record()))
    banks = [small_bank(f"{'ab'[i % 2]}{i} {HOSTILE if i == 0 else ''}", i) for i in range(6)]
    groups = {f"first {HOSTILE}": banks[:3], "second": banks[3:]}
    compared = compare_groups(groups, kernel_size="3x3", measures="coverage,energy", sample=24, draws=19)
    keys = find_keys(banks[:1], kernel_size="3x3", most=4, candidates=8, keys=3)
    write_report([str(folder / "graft.json"), keys, compared], folder / "r.html")
    return folder / "r.html", keys, compared


def test_a_graft_shows_the_curve_and_the_vocabularies_that_are_chosen(browser, further):
    browser.open(further[0])
    assert texts(browser, "h2")[:3] == ["Groups of networks", "Keys", "Grafts"]
    assert texts(browser, "#grafts h3") == [f"{SHOWN}: graft.json"]
    marks = "document.querySelectorAll('#grafts svg circle')"
    assert browser.run(f"{marks}.length") == 6
    told = browser.run(f"{marks}[1].getAttribute('aria-label')")
    assert told.startswith(f"keys:mine, {SHOWN}, 64 filters; same answer 60.0 % (50.0 % to 70.0 %)")
    # the second null of the same look has hollow marks
    assert browser.run(f"[...{marks}].map((c) => c.style.fill)") == ["", "", "", "", "var(--paper)", "var(--paper)"]
    toggle(browser, f"keys:mine, {SHOWN}", "#grafts")
    assert browser.run(f"{marks}.length") == 4
    toggle(browser, f"keys:mine, {SHOWN}", "#grafts")
    choose(browser, "curve", "alone")
    assert browser.run(f"{marks}[0].getAttribute('aria-label')").startswith(
        f"keys:mine, {SHOWN}, layer 2; same answer 50"
    )
    choose(browser, "curve", "size")
    choose(browser, "batch statistics", "re-estimated")
    assert browser.run(f"{marks}.length") == 3
    assert "no filter replaced" in browser.run("document.querySelector('#grafts svg').textContent")
    toggle(browser, "95 % intervals", "#grafts")
    assert browser.run("document.querySelectorAll('#grafts .band').length") == 0
    browser.run("document.querySelector('#grafts details').open = true")
    browser.wait("document.querySelectorAll('#grafts tbody tr').length === 17")
    assert browser.run("window.hacked") is None
    assert browser.errors == []


def test_keys_are_drawn_with_their_patterns_beside_the_null(browser, further):
    path, keys, _ = further
    browser.open(path)
    shares = [f"key {i}: {100 * row['share']:.1f} %" for i, row in enumerate(keys.rows(), 1)]
    assert texts(browser, "#keys li div:first-of-type") == shares
    dots = "document.querySelectorAll('#keys svg circle')"
    assert browser.run(f"{dots}.length") == 12
    assert f"mean R² of the best key {keys.curve.r2[0]:.3f}" in browser.run(f"{dots}[0].getAttribute('aria-label')")
    choose(browser, "show", "coverage")
    assert browser.run(f"{dots}.length") == 8
    # the picture's middle is red where the key's middle is above zero, as zero is white
    middle = browser.run(
        "(() => { const c = document.querySelector('#keys canvas'); return "
        "[...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data]; })()"
    )
    assert (middle[0] > middle[2]) == (keys.clusters.prototype[0][4] > 0)
    assert browser.errors == []


def test_groups_of_networks_have_a_map_tests_and_distances(browser, further):
    path, _, compared = further
    browser.open(path)
    measure = compared.kinds[0].measures[0]
    assert browser.run("document.querySelectorAll('#networks svg circle').length") == 6
    cell = browser.run("document.querySelectorAll('#networks rect[role=img]')[1].getAttribute('aria-label')")
    assert cell.endswith(f"distance by coverage {np.sqrt(measure.squared[0, 1]):.3f}")
    row = texts(browser, "#networks .scroll > table tbody tr:first-of-type > *")
    assert row[:2] == ["coverage", f"{measure.between.statistic:.2f}"] and row[3] == f"{measure.between.p:.3f}"
    toggle(browser, "second", "#networks")
    assert browser.run("document.querySelectorAll('#networks svg circle').length") == 3
    choose(browser, "measure", "1")
    assert "distance by energy" in browser.run("document.querySelector('#networks').textContent")
    assert browser.run("window.hacked") is None
    assert browser.errors == []


def test_the_further_parts_are_within_the_page_in_light_and_dark(browser, further):
    for width, dark in ((380, True), (1200, False)):
        browser.open(further[0], width=width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") <= width
        ids = browser.run("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))
        assert browser.errors == []
    folder = further[0].with_name("r_data")
    lines = {name: (folder / f"{name}.csv").read_text().splitlines() for name in ("grafts", "keys", "networks")}
    counts = {name: sum(not line.startswith("#") for line in text) - 1 for name, text in lines.items()}
    assert counts == {"grafts": 17, "keys": 3, "networks": 12}


def test_a_page_has_a_map_for_each_kernel_size_that_is_named(browser, tmp_path):
    banks = [small_bank("a", 1), small_bank("b", 2)]
    write_report(banks, tmp_path / "r.html", kernel_size="3x3,5x5", draws=19, data=False)
    browser.open(tmp_path / "r.html")
    labels = browser.run("[...document.querySelectorAll('#map canvas[role=application]')].map((c) => c.ariaLabel)")
    assert ["filters of 3x3" in label or "filters of 5x5" in label for label in labels] == [True, True]
    ids = browser.run("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    assert browser.errors == []


def test_results_without_numbers_are_said_and_take_nothing_with_them(browser, tmp_path):
    cell = {"source": None, "target": 3, "arm": "random", "layers": "many", "top1": [None], "mean": None}
    records = {
        "curve": {"base": None, "cells": []},
        "curve2": {"base": cell, "cells": [cell]},
        "table": {"base": {}, "rows": [{"label": None, "cell": cell}]},
        "matrix": {"bases": {"a": None}, "cells": [], "domains": [], "sources": None, "controls": [cell]},
        "sweep": {"points": [{"width": "x", "curve": None}], "trends": [{}]},
        "comparison": {"comparisons": [{"a": 1, "kinds": [{"measures": {"m": {}}, "layers": {"a": [], "b": []}}]}]},
        "assignment": {"assignments": [{"bank": "x", "classes": [{}], "whole": [{}], "layers": [{"shares": [None]}]}]},
        "graft": {"points": [{"curve": "size", "vocabulary": "x", "layers": 3}], "vocabularies": [{"name": "x"}, {}]},
        "keys": {"kernel": "x", "curve": {"r2": [None, 1]}, "each": [{"key": ["a"]}]},
        "group_comparison": {"groups": [], "kinds": [{"members": [{}], "measures": [{"map": [[1, None]]}, {}]}]},
        "claims": {"claims": [{"id": "C1", "verdict": {"state": "supported", "effect": {}, "findings": [{}]}}]},
    }
    paths = []
    for name, record in records.items():
        kind = name.rstrip("2")
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({"format": f"mkfa.{kind}", "parameters": {}, **record}))
    write_report(paths, tmp_path / "r.html", data=False)
    browser.open(tmp_path / "r.html")
    parts = ["Comparisons", "Groups of networks", "Patterns", "Keys", "Grafts", "Experiments", "Verdicts"]
    assert texts(browser, "h2")[:7] == parts
    assert [text for text in texts(browser, "p") if "could not be shown" in text] == []
    assert "NaN" not in browser.run("document.querySelector('main').innerHTML")
    assert browser.errors == []


def test_nulls_are_toggled_and_shares_stand_beside_them(page):
    curves = "document.querySelectorAll('#patterns article')[0].querySelectorAll('[data-null]').length"
    assert page.run(curves) == 4
    toggle(page, "blurred", "#patterns article")
    assert page.run(curves) == 3
    bar = page.run("document.querySelector('#patterns rect[role=img]').getAttribute('aria-label')")
    assert "; shuffled: " in bar


def test_pictures_have_their_numbers_as_tables(page):
    page.run("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    page.wait("document.querySelectorAll('#experiments details table').length >= 5")
    assert page.run("[...document.querySelectorAll('table')].every((t) => t.caption || t.getAttribute('aria-label'))")
    assert page.run("document.querySelectorAll('#comparisons details tbody tr').length") == 4


def test_verdicts_say_scale_seeds_and_what_could_be_seen(page):
    assert [text.split()[2] for text in texts(page, ".verdict h3")] == ["supported", "contradicted", "inconclusive"]
    first = page.run("document.querySelector('.verdict').textContent")
    for part in (
        "laptop: a mixer",
        "digits: +9.4 (4.5 to 14.2) points",
        "41.0 points",
        "1.2 points",
        "runs: x",
        "As printed",
    ):
        assert part in first
    second, third = (page.run(f"document.querySelectorAll('.verdict')[{i}].textContent") for i in (1, 2))
    assert "digits: 9.4 (4.5 to 14.2) %" in second and "1.2 points" in second
    assert "digits: +0.09 (0.04 to 0.14) rho" in third and "0.01 rho" in third
    toggle(page, "contradicted (1)")
    assert page.run("[...document.querySelectorAll('.verdict')].map((e) => e.hidden)") == [False, True, False]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [380, 1200])
def test_text_is_readable_and_nothing_is_wider_than_the_page(browser, made, dark, width):
    browser.open(made.path, width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    lowest = browser.run(
        """(() => {
          const lum = (c) => { const [r, g, b] = c.match(/[0-9.]+/g).slice(0, 3).map((v) => v / 255)
            .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const behind = (e) => { for (let n = e; n; n = n.parentElement) {
            const c = getComputedStyle(n).backgroundColor; if (c !== 'rgba(0, 0, 0, 0)') return c; }
            return 'rgb(255,255,255)'; };
          const kinds = 'p, td, th, button, summary, a, dt, dd, label, figcaption, h1, h2, h3';
          return Math.min(...[...document.querySelectorAll(kinds)]
            .filter((e) => e.textContent.trim() && e.offsetParent && !e.classList.contains('skip')).map((e) => {
              const a = lum(getComputedStyle(e).color), b = lum(behind(e));
              return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }));
        })()"""
    )
    assert lowest >= 4.5
    assert browser.errors == []


def test_it_prints(browser, made, tmp_path):
    browser.open(made.path)
    browser.look(paper=True)
    assert browser.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    import base64

    pages = base64.b64decode(browser.send("Page.printToPDF", printBackground=True)["data"])
    (tmp_path / "page.pdf").write_bytes(pages)
    assert pages.startswith(b"%PDF")
    # WebGL does not print: for paper the points are drawn into the canvas above it.
    drawn = (
        "(() => { const c = document.querySelectorAll('.mapbox canvas')[1]; "
        "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v); })()"
    )
    assert not browser.run(drawn)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run(drawn)
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert not browser.run(drawn)
    assert pages.count(b"/Type /Page\n") + pages.count(b"/Type /Page ") >= 1
    browser.look()
