"""The palette: complete, the same everywhere, and told apart by readers of any colour vision."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from mkfa.arms.arms import ARMS
from mkfa.clusters.atlas import CLASS_GROUPS
from mkfa.colours import ARMS as ARM_LOOKS
from mkfa.colours import CATEGORIES, GROUPS, NO_CLASS, arm_looks, bank_looks, class_look, contrast, group_of, ink_on
from mkfa.colours import NULLS as NULL_LOOKS
from mkfa.nulls.draws import NULLS
from mkfa.patterns.families import FAMILIES
from mkfa.patterns.named_sets import named_set
from mkfa.patterns.wide_families import WIDE

# Machado, Oliveira & Fernandes 2009 (IEEE TVCG 15:1291), severity 1.0: linear RGB as each reader sees it.
SEEN = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, seen: object) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(seen) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    t = np.asarray(to_xyz) @ linear / [0.95047, 1.0, 1.08883]
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest_pair(colours: list[str]) -> float:
    """Return the smallest CIE76 difference of any two colours for any reader; 2.3 is just noticeable."""
    return min(
        float(np.linalg.norm(lab(a, seen) - lab(b, seen)))
        for a, b in combinations(colours, 2)
        for seen in SEEN.values()
    )


@pytest.mark.parametrize(
    "colours",
    [
        [look.colour for look in NULL_LOOKS.values()],
        [*(colour for colour, _ in GROUPS.values()), NO_CLASS.colour],
        list(CATEGORIES),
    ],
    ids=["nulls", "groups of classes", "categories"],
)
def test_readers_of_any_colour_vision_tell_the_colours_apart(colours):
    assert nearest_pair(colours) > 10
    assert nearest_pair(["#2ca02c", "#d62728", "#8c564b"]) < 10  # what the measure rejects: matplotlib's own


def test_every_null_class_and_built_in_arm_has_a_look_of_its_own():
    assert set(NULLS) <= set(NULL_LOOKS)
    named = {
        name: name.replace("-k", "-8").replace("boxN", "box3") for name in ARMS if name not in ("baseline", "first-k")
    }
    families = {name: re.match(r"[a-z+]+", name)[0] for name in named if name not in ARM_LOOKS}
    assert set(families.values()) <= set(ARM_LOOKS)
    looks = arm_looks([*named.values(), "first-3"])
    assert all(looks[named[name]].colour == ARM_LOOKS[family].colour for name, family in families.items())
    assert len(set(looks.values())) == len(looks)
    for family in (*FAMILIES, *WIDE):
        assert group_of(family.name), family.name
    assert all(group_of(label) for label in named_set("eight", 5, 5).labels)
    for looks in (NULL_LOOKS, ARM_LOOKS, {f.name: class_look(f.name) for f in WIDE}):
        assert len(set(looks.values())) == len(looks)
    for looks in (NULL_LOOKS, ARM_LOOKS):  # in black and white too
        assert len({(look.dash, look.marker) for look in looks.values()}) == len(looks)


def test_the_groups_are_those_of_the_atlas():
    for title, names in CLASS_GROUPS:
        assert {group_of(name) for name in names} == {title}


def test_series_without_a_look_differ_from_all_others():
    names = ["random", "stack a", "stack b", "random-4", "random-16", "first-5", "mine", *(f"x{i}" for i in range(6))]
    assert len(set(arm_looks(names).values())) == len(names)
    assert arm_looks(["first-5"])["first-5"] == ARM_LOOKS["first-k"]
    assert len(set(bank_looks(f"bank {i}" for i in range(40)).values())) == 40


def test_text_is_read_on_any_background():
    rng = np.random.default_rng(0)
    for rgb in rng.integers(0, 256, (200, 3)):
        background = "#" + "".join(f"{c:02x}" for c in rgb)
        assert contrast(ink_on(background), background) >= 4.5


def test_the_palette_loads_no_library():
    code = "import sys, mkfa.colours; print(sorted({'numpy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
