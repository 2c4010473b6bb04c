"""Groups of banks: planted groups are found, few banks are said to be few, relatives count once."""

from __future__ import annotations

import gc
import math

import h5py
import numpy as np
import pytest

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.banks.bank_file import write_bank
from mkfa.errors import MkfaError
from mkfa.similarity import groups as module
from mkfa.similarity.groups import compare_groups, read_groups
from mkfa.similarity.lineage import find_lineage
from mkfa.similarity.pairs import Sample
from mkfa.similarity.score import make_plan, score


def network(name: str, seed: int, patterns: int = 0, layers: int = 4, size: int = 5, filters: int = 40):
    """A bank of smooth noise; with `patterns`, a third of its filters are noisy copies of that set of patterns."""
    rng = np.random.default_rng([7, seed])
    made = []
    for i in range(layers):
        mixing = rng.normal(size=(size * size, size * size)) / size + np.eye(size * size)
        weight = rng.normal(size=(filters, size * size)) @ mixing
        if patterns:
            known = np.random.default_rng(patterns).normal(size=(6, size * size)) * 3
            rows = rng.permutation(filters)[: filters // 2]
            weight[rows] = known[rng.integers(0, 6, len(rows))] + 0.3 * weight[rows]
        layer = Layer(0, f"{name}.{i}", i, i / layers, filters, size, size)
        made.append((layer, weight.reshape(-1, size, size).astype(np.float32), None))
    return make_bank(name, made, Provenance())


def test_groups_that_share_patterns_are_found_and_others_are_not():
    planted = {g: [network(f"{g}{i}", 10 * k + i, patterns=k + 1) for i in range(5)] for k, g in enumerate("ab")}
    found = compare_groups(planted, draws=199)
    [kind] = found.kinds
    assert kind.sizes == {"a": 5, "b": 5} and [m.measure for m in kind.measures] == ["coverage", "energy", "frobenius"]
    test = kind.measures[0].between
    assert test.exact and test.m == 126 and test.p == pytest.approx(1 / 126) == pytest.approx(test.least)
    assert kind.measures[0].parts.group_share > 0.3
    assert "the groups differ" in found.in_words()[0]
    none = compare_groups({g: [network(f"{g}{i}", 99 + 10 * k + i) for i in range(5)] for k, g in enumerate("ab")})
    assert none.kinds[0].measures[0].between.p > 0.05
    assert "cannot be told" in none.in_words()[0]


def test_values_are_those_of_the_measures_on_the_samples():
    banks = [network("x", 1), network("y", 2, filters=20)]
    found = compare_groups({"a": banks[:1], "b": banks[1:]}, measures="coverage,energy")
    [kind] = found.kinds
    assert kind.n == 40 and [q.usable for q in kind.quotas] == [160, 80] and {q.taken for q in kind.quotas} == {40}
    read = [module._read(b, 192, (), 0).taken[b.kinds[0]] for b in banks]
    plan = make_plan((5, 5), ("coverage", "energy"), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
    samples = [Sample(t.vector[module._two_samples(t, 40)[0]][None], np.zeros(40, np.int64), 1, plan) for t in read]
    expected = score(*samples).values[0]
    for m, value in zip(kind.measures, expected, strict=True):
        assert m.value[0, 1] == m.value[1, 0] == pytest.approx(value, rel=1e-5)
        assert m.squared[0, 1] == pytest.approx((1 - value) ** 2 if m.measure == "coverage" else value, rel=1e-5)
    one, two = module._two_samples(read[0], 40)
    assert not set(one) & set(two) and len(set(one)) == 40
    assert np.bincount(read[0].layer[one]).tolist() == [10, 10, 10, 10]  # evenly over layers
    assert math.isnan(kind.measures[0].between.p) and "nothing can be tested" in found.in_words()[0]


def test_so_few_banks_that_nothing_can_pass_are_said_to_be_so():
    found = compare_groups({"a": [network("a", 1), network("b", 2)], "b": [network("c", 3), network("d", 4)]})
    assert found.kinds[0].measures[0].between.least == pytest.approx(1 / 3)
    assert "3 ways only" in found.in_words()[0]


def test_banks_of_one_parent_count_once():
    parent = network("parent", 1, filters=64)
    rng = np.random.default_rng(0)
    layers = [
        (layer, (parent.of_layer(i).weight + 0.1 * rng.normal(size=(64, 5, 5))).astype(np.float32), None)
        for i, layer in enumerate(parent.layers)
    ]
    child = make_bank("child", layers, Provenance())
    found = compare_groups(
        {"a": [parent, child, network("x", 2, filters=64)], "b": [network(n, 5 + i) for i, n in enumerate("yz")]}
    )
    assert found.families == (("parent", "child"),)
    assert found.kinds[0].sizes == {"a": 2, "b": 2}
    assert [m.counted for m in found.kinds[0].members] == [True, False, True, True, True]
    family, others, untold = found.notes
    test = find_lineage(parent, child)
    assert family == (
        f"parent, child: one parent, so that parent counts for them: filters of the same channel have mean |cos| "
        f"{test.cosine:.2f}, with channels permuted {test.permuted:.2f} (p <= {test.p:.3f}, 499 permutations, seed 0)"
    )
    assert others.startswith("No common parent was found in 3 of 10 pairs of banks: in up to 4 layers of each, filters")
    assert untold.startswith("Whether banks have a common parent cannot be told in 6 of 10 pairs: none of the 4 layers")
    assert found.kinds[0].measures[0].place.shape == (5, 2)  # shown on the map all the same


def test_banks_are_read_one_by_one(tmp_path, monkeypatch):
    paths = [write_bank(network(f"streamed{i}", i), tmp_path / f"n{i}.h5") for i in range(6)]
    alive, original = [], module.load_bank

    def load(bank):
        gc.collect()
        alive.append(sum(type(x) is FilterBank and x.name.startswith("streamed") for x in gc.get_objects()))
        return original(bank)

    monkeypatch.setattr(module, "load_bank", load)
    assert len(compare_groups({"a": paths[:3], "b": paths[3:]}).kinds[0].members) == 6
    assert alive == [0] * 6


def test_three_groups_are_compared_in_pairs_by_holm():
    named = {g: [network(f"{g}{i}", 10 * k + i, patterns=k) for i in range(4)] for k, g in enumerate("abc")}
    [kind] = compare_groups(named, measures="energy").kinds
    pairs = kind.measures[0].pairs
    assert [(a, b) for a, b, *_ in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(p >= test.p for *_, test, p in pairs)


def test_over_kernel_sizes_the_answer_is_that_of_holm():
    def both(name, seed):
        parts = [
            network(name, seed, size=5, layers=2, filters=60),
            network(name, seed + 50, size=3, layers=2, filters=60),
        ]
        layers = [(layer, part.of_layer(i).weight, None) for part in parts for i, layer in enumerate(part.layers)]
        return make_bank(name, layers, Provenance())

    found = compare_groups({g: [both(f"{g}{i}", 10 * k + i) for i in range(4)] for k, g in enumerate("ab")})
    raw = [kind.measures[0].between.p for kind in found.kinds]
    adjusted = [kind.measures[0].p_holm for kind in found.kinds]
    assert len(raw) == 2 and max(adjusted) <= 1 and min(adjusted) == pytest.approx(min(1, 2 * min(raw)))
    said = found.in_words()[int(np.argmin(raw))]
    assert "by Holm over the kernel sizes" in said and ("cannot be told" in said) == (min(adjusted) > 0.05)


def test_files_hold_the_distances(tmp_path):
    found = compare_groups({"a": [network("a", 1), network("b", 2)], "b": [network("c", 3), network("d", 4)]})
    with h5py.File(found.save(tmp_path / "g.h5")) as file:
        np.testing.assert_array_equal(file["5x5/coverage/value"], found.kinds[0].measures[0].value)
    assert len(found.rows()) == 3 * 6
    assert found.to_dict()["kinds"][0]["measures"][0]["between"]["m"] == 3


def test_groups_are_read_from_texts_files_and_folders(tmp_path):
    (tmp_path / "zoo").mkdir()
    for name in "ab":
        write_bank(network(name, 1), tmp_path / "zoo" / f"{name}.h5")
    (tmp_path / "g.toml").write_text('zoo = ["zoo"]\ntext = ["ppocrv4_det"]\n')
    found = read_groups([str(tmp_path / "g.toml"), "more=mobilenet_v2"])
    assert found == {
        "zoo": [str(tmp_path / "zoo" / f"{name}.h5") for name in "ab"],
        "text": ["ppocrv4_det"],
        "more": ["mobilenet_v2"],
    }


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["nothing"], "neither NAME=BANK,BANK nor a file"),
        (["a=x", "a=y"], "named twice"),
        (["a="], "no bank"),
        (["bad.toml"], "not a TOML file"),
        (["list.toml"], "not a list of names"),
    ],
)
def test_groups_that_cannot_be_read(texts, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("= 3")
    (tmp_path / "list.toml").write_text("a = 3")
    with pytest.raises(MkfaError, match=said):
        read_groups(texts)


def test_groups_that_cannot_be_compared():
    x = network("x", 1)
    with pytest.raises(MkfaError, match="name two groups"):
        compare_groups({"a": [x]})
    with pytest.raises(MkfaError, match="stands in a and in b"):
        compare_groups({"a": ["ppocrv4_det"], "b": ["ppocrv4_det"]})
    with pytest.raises(MkfaError, match="share no kernel size"):
        compare_groups({"a": [x], "b": [network("y", 2, size=3)]})
    with pytest.raises(MkfaError, match="depends on the number of filters"):
        compare_groups({"a": [x], "b": [network("y", 2)]}, measures="pca_kl")
