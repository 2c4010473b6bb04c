"""A common parent of two networks is found whatever fine-tuning and export did, and never where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.banks.library import load_bank
from mkfa.similarity.lineage import families, find_lineage

Change = Callable[[int, np.ndarray], np.ndarray]
RNG = np.random.default_rng(0)
BUNDLED = ("efficientnet_lite0", "mobilenet_v2", "ppocrv4_det", "ppocrv4_rec")


def changed(bank: FilterBank, change: Change) -> FilterBank:
    layers = [(x, change(i, w).astype(np.float32), None) for i, (x, w) in enumerate(bank.iter_layers())]
    return make_bank("tuned", layers, Provenance())


def tuned(i: int, weight: np.ndarray) -> np.ndarray:
    return weight + 0.3 * weight.std() * RNG.standard_normal(weight.shape)


def folded(i: int, weight: np.ndarray) -> np.ndarray:
    """Normalisation folded into the filters: another scale and sign for each channel."""
    return tuned(i, weight) * RNG.choice([-1, 1], (len(weight), 1, 1)) * RNG.uniform(0.1, 3, (len(weight), 1, 1))


def far(i: int, weight: np.ndarray) -> np.ndarray:
    """Long training from the same initial weights: little of them is left."""
    return weight + 1.5 * weight.std() * RNG.standard_normal(weight.shape)


@pytest.mark.parametrize("change", [lambda i, w: w, tuned, folded, far])
@pytest.mark.parametrize("name", ["mobilenet_v2", "ppocrv4_rec"])
def test_a_copy_is_found_after_training_and_export(name: str, change: Change):
    bank = load_bank(name)
    found = find_lineage(bank, changed(bank, change))
    assert found.found and found.p <= 0.01 and found.of == len(bank.layers) and found.layers >= 0.6 * found.of
    assert all(i == j for i, j in found.partners)
    assert found.cosine > found.permuted + 0.1
    assert f"in {found.layers} of {found.of} layers" in found.in_words("one", "other")


def test_one_shared_layer_is_enough():
    bank = load_bank("mobilenet_v2")
    found = find_lineage(bank, changed(bank, lambda i, w: w if i == 3 else RNG.permutation(w)))
    assert found.found and found.partners == ((4, 4),) and found.cosine == pytest.approx(1)


def test_layers_are_aligned_by_their_filters_not_by_name_or_number():
    """The second network has other names, lacks two layers and has a new one between the others."""
    bank = load_bank("ppocrv4_rec")
    kept = [
        (replace(x, name=f"m.{i}"), tuned(i, w).astype(np.float32), None) for i, (x, w) in enumerate(bank.iter_layers())
    ]
    kept.insert(8, (replace(kept[8][0], name="new"), RNG.standard_normal(kept[8][1].shape).astype(np.float32), None))
    found = find_lineage(bank, make_bank("other", kept[2:], Provenance()))
    expected = [(i + 1, i - 1 if i < 8 else i) for i in range(2, len(bank.layers))]
    assert found.found and list(found.partners) == expected


def test_unrelated_networks_raise_no_alarm():
    for a, b in combinations(BUNDLED, 2):
        for seed in range(3):
            lineage = find_lineage(load_bank(a), load_bank(b), seed=seed)
            assert not lineage.found and lineage.partners == ()
            assert lineage.in_words(a, b).startswith(
                f"No common parent of {a} and {b} was found: in {lineage.pairs} pair"
            )


@pytest.mark.parametrize("name", BUNDLED)
def test_the_same_filters_in_another_order_are_no_alarm(name: str):
    """Two networks with exactly the same distribution in every layer, as two seeds of one architecture have."""
    bank = load_bank(name)
    lineage = find_lineage(bank, changed(bank, lambda i, w: RNG.permutation(w)))
    assert not lineage.found and lineage.of == len(bank.layers)
    assert lineage.cosine == pytest.approx(lineage.permuted, abs=0.02)


def test_p_is_valid_under_chance():
    p = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        pair = []
        for name in "ab":
            shapes = [Layer(0, f"{name}{i}", 0, 0, 0, 3, 3) for i in range(4)]
            weights = [
                rng.standard_normal((24, 3, 3)) + 2 * np.eye(3) * rng.standard_normal((24, 1, 1)) for _ in shapes
            ]
            pair.append(
                make_bank(
                    name, [(x, w.astype(np.float32), None) for x, w in zip(shapes, weights, strict=True)], Provenance()
                )
            )
        p.append(find_lineage(*pair, m=39, seed=seed).p)
    assert (np.array(p) <= 0.1).sum() <= 18 and min(p) >= 0.05


def test_banks_without_layers_of_equal_shape_are_not_tested():
    a, b = (
        make_bank(
            "x",
            [(Layer(0, "l", 0, 0, 0, k, k), RNG.standard_normal((20, k, k)).astype(np.float32), None)],
            Provenance(),
        )
        for k in (3, 5)
    )
    lineage = find_lineage(a, b)
    assert not lineage.found and lineage.of == 0 and np.isnan(lineage.p)
    assert lineage.in_words("a", "b") == (
        "Whether a and b have a common parent cannot be told: they have no layers of one kernel size and one number of "
        "channels, 8 or more"
    )


def test_the_sentence_has_the_numbers_of_the_test():
    """Recomputed by hand: mean |cos| of the same channels over layers of equal shape, in their order."""
    rng = np.random.default_rng(1)
    weights = [[rng.standard_normal((24, 3, 3)).astype(np.float32) for _ in range(layers)] for layers in (3, 2)]
    a, b = (
        make_bank("x", [(Layer(i, f"l{i}", 0, 0, 0, 3, 3), w, None) for i, w in enumerate(side)], Provenance())
        for side in weights
    )
    lineage = find_lineage(a, b, seed=7)
    same = [
        abs(np.corrcoef(v.ravel(), w.ravel())[0, 1])
        for one, other in zip(*weights, strict=False)
        for v, w in zip(one, other, strict=True)
    ]
    assert lineage.pairs == 2 and lineage.cosine == pytest.approx(np.mean(same), abs=1e-5)
    needed = lineage.permuted + 0.05 * (1 - lineage.permuted)
    assert lineage.in_words("a", "b") == (
        f"No common parent of a and b was found: in 2 pairs of layers of equal shape, filters of the same "
        f"channel have mean |cos| {lineage.cosine:.2f}, with channels permuted {lineage.permuted:.2f} "
        f"(p = {lineage.p:.3f}, 499 permutations, seed 7); one is said from p <= 0.01 and |cos| >= {needed:.2f} on"
    )


def test_what_too_few_permutations_or_dead_filters_cannot_tell_is_said():
    bank = load_bank("mobilenet_v2")
    few = find_lineage(bank, bank, m=39)
    assert not few.found and few.in_words("a", "b").endswith("cannot be told: with 39 permutations p cannot reach 0.01")
    dead = find_lineage(bank, changed(bank, lambda i, w: np.zeros_like(w)))
    assert not dead.found and "cannot be told: no channel has a filter in both" in dead.in_words("a", "b")


def test_families_are_linked_banks():
    assert families(["a", "b", "c", "d", "e"], [(0, 1), (3, 4), (1, 2)]) == (("a", "b", "c"), ("d", "e"))
    assert families(["a", "b"], []) == ()
