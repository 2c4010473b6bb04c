"""Fits: planted truth, invariance, the optimum that scipy finds, and what coincides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mkfa.banks.canonical import normalise
from mkfa.patterns.coincidence import merged_classes
from mkfa.patterns.dictionary import dictionary, same
from mkfa.patterns.families import coordinate_to_scale
from mkfa.patterns.fit import fit, models, parameters, parsimony

NOISE = 0.1  # of the pattern's norm: 20 dB


def canonical(weight: np.ndarray) -> np.ndarray:
    return normalise(np.asarray(weight, np.float32).reshape(len(weight), -1))[0]


def planted(book, variant: int, count: int, rng: np.random.Generator, noise: float = NOISE):
    """Filters of one variant with random parameters, gain of either sign, offset; coordinates, pure patterns, gains."""
    axes = book.families[variant].coordinates(*book.size)
    place = np.zeros((count, 3))
    for column, axis in enumerate(axes):
        place[:, column] = rng.uniform(axis.low, axis.high, count)
    pure = book.patterns(variant, place)
    rows = pure.any(axis=1)
    pure, place = pure[rows], place[rows]
    error = rng.standard_normal(pure.shape)
    error -= error.mean(axis=1, keepdims=True)
    error *= noise / np.linalg.norm(error, axis=1, keepdims=True)
    gain = np.exp(rng.normal(size=(len(pure), 1))) * rng.choice([-1, 1], (len(pure), 1))
    return (pure + error) * gain + rng.normal(size=(len(pure), 1)), place, pure, gain[:, 0]


@pytest.mark.parametrize(("size", "sigma_error"), [(7, 0.05), (5, 0.05), (3, None)])
def test_planted_patterns_are_found_at_20_db(size, sigma_error):
    """Class right for 98 % (names that coincide are merged, as listed), sigma within 5 % in the median.

    At 3x3 a scale is not held to 5 %: along a central difference of three taps it does not show at all.
    """
    book, rng = dictionary("families", size, size), np.random.default_rng(size)
    merged = {(m.name, m.into) for m in merged_classes(size, size)}
    right, named, errors, sign = [], [], [], []
    for variant, family in enumerate(book.families):
        weight, place, pure, gain = planted(book, variant, 100, rng)
        found = fit(canonical(weight), book)
        own = book.variant_class[variant]
        right.append([lab == own or (family.name, book.names[lab]) in merged for lab in found.label.tolist()])
        # Where the pure pattern has its own class's name, the noisy one must have it without any merging.
        told = fit(pure, book).label == own
        named.append((found.label == own)[told])
        sign.append((np.sign(found.cosine) == np.sign(gain))[(found.label == own) & (found.r2 > 0.9) & told])
        if "x" in family.axes:
            got = parameters(found, book)
            same = (found.label == own) & (found.variant == variant)
            for axis, value in ((0, got.sigma_x), (1, got.sigma_y)):
                true = coordinate_to_scale(place[same, axis])
                errors.append(np.abs(value[same] / true - 1))
    assert np.mean(np.concatenate(right)) >= 0.98
    assert np.mean(np.concatenate(named)) >= 0.98
    if sigma_error is not None:
        assert np.median(np.concatenate(errors)) <= sigma_error


def test_an_angle_of_zero_is_the_derivative_along_x():
    book = dictionary("families", 7, 7)
    variant = [f.name for f in book.families].index("oriented_first")
    found = fit(book.patterns(variant, np.array([[1.5, 0.0, 0], [1.5, np.pi / 2, 0], [1.5, 0.7, 0]])), book)
    assert [book.names[i] for i in found.label] == ["central_dx", "central_dy", "oriented_first"]
    assert parameters(found, book).angle == pytest.approx([0, 90, np.degrees(0.7)], abs=0.2)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(0, 10**6), st.floats(0.001, 1000), st.floats(-50, 50), st.booleans())
def test_a_fit_does_not_depend_on_gain_sign_or_offset(seed, gain, offset, flip):
    weight = np.random.default_rng(seed).standard_normal((5, 5, 5))
    a = fit(canonical(weight), dictionary("families", 5, 5))
    b = fit(canonical((-gain if flip else gain) * weight + offset * gain), dictionary("families", 5, 5))
    # The offset is lost to float32 rounding, which may lead a noisy filter to the other of two close local optima.
    assert b.r2 == pytest.approx(a.r2, abs=5e-3)
    same = a.margin > 0.02  # a tie may fall either way on rounding
    assert (a.label == b.label)[same].all()
    assert (np.sign(b.cosine) == (-1 if flip else 1) * np.sign(a.cosine))[same].all()


def test_r2_is_the_share_of_variance_that_the_model_explains():
    vectors = canonical(np.random.default_rng(0).standard_normal((300, 7, 7)))
    book = dictionary("families", 7, 7)
    found = fit(vectors, book)
    model = models(found, book)
    for v, m, r2 in zip(vectors, model, found.r2, strict=True):
        slope = np.polyfit(m, v, 1)
        assert 1 - np.var(v - np.polyval(slope, m)) / np.var(v) == pytest.approx(r2, abs=1e-4)
        assert slope[0] > 0
    assert (found.runner_up != found.label).all()
    assert found.margin == pytest.approx(found.r2 - found.runner_up_r2)


def test_refinement_never_lowers_r2_and_ends_at_a_maximum():
    vectors = canonical(np.random.default_rng(1).standard_normal((400, 5, 5)).cumsum(axis=1))
    book = dictionary("families", 5, 5)
    fine, coarse = fit(vectors, book), fit(vectors, book, refine=False)
    same = fine.label == coarse.label
    assert same.mean() > 0.8
    assert (fine.r2 >= coarse.r2 - 1e-5)[same].all() and fine.r2.mean() > coarse.r2.mean() + 0.001
    rng, worse = np.random.default_rng(2), []
    for variant in np.unique(fine.variant).tolist():
        rows = np.flatnonzero(fine.variant == variant)
        axes = book.families[variant].coordinates(5, 5)
        for _ in range(8):
            moved = fine.coordinates[rows].astype(float)
            for column, axis in enumerate(axes):
                moved[:, column] += rng.uniform(-0.02, 0.02, len(rows))
                if not axis.periodic:
                    moved[:, column] = np.clip(moved[:, column], axis.low, axis.high)
            gain = np.einsum("nk,nk->n", vectors[rows], book.patterns(variant, moved)) ** 2 - fine.r2[rows]
            worse.append(gain)
    worse = np.concatenate(worse)
    assert np.quantile(worse, 0.99) < 1e-4 and worse.max() < 1e-3


def test_memory_and_results_do_not_depend_on_chunks(monkeypatch):
    vectors = canonical(np.random.default_rng(3).standard_normal((500, 3, 3)))
    whole = fit(vectors, dictionary("families", 3, 3))
    monkeypatch.setattr("mkfa.patterns.fit.CHUNK", 64)
    steps: list[int] = []
    parts = fit(vectors, dictionary("families", 3, 3), advance=steps.append)
    assert sum(steps) == 500 and len(steps) == 8
    assert (parts.label == whole.label).mean() > 0.995
    assert parts.r2 == pytest.approx(whole.r2, abs=1e-3)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_no_atom_would_be_preferred_to_the_fit(size):
    """R² less the price of all fitted coordinates, offsets included, is at least that of every atom of every class."""
    vectors = canonical(np.random.default_rng(5).standard_normal((400, size, size)))
    book = dictionary("families", size, size)
    found = fit(vectors, book)
    price = parsimony(size, size) * book.free
    best = (np.square(vectors @ book.atoms.T) - price[book.variant]).max(axis=1)
    assert (found.r2 - price[found.variant] >= best - 1e-5).mean() > 0.99


def test_zero_rows_have_no_class():
    vectors = canonical(np.random.default_rng(4).standard_normal((3, 5, 5)))
    vectors[1] = 0
    found = fit(vectors, dictionary("families", 5, 5))
    assert found.label[1] == -1 and found.r2[1] == 0 and found.runner_up[1] == -1
    assert (found.label[[0, 2]] >= 0).all()
    assert np.isnan(parameters(found, dictionary("families", 5, 5)).sigma_x[1])
    assert len(fit(vectors[:0], dictionary("families", 5, 5)).label) == 0


def test_eight_is_found_as_itself():
    book = dictionary("eight", 7, 7)
    found = fit(-book.atoms, book)
    assert found.label.tolist() == list(range(8)) and found.cosine == pytest.approx(-np.ones(8), abs=1e-6)
    assert np.isnan(parameters(found, book).sigma_x).all()


def test_a_half_pixel_shift_is_reported():
    book = dictionary("families", 5, 5)
    rows = [i for i, f in enumerate(book.families) if f.name == "gaussian"]
    for variant in rows:
        pure = book.patterns(variant, np.array([[0.9, 0.8, 0.0]]))
        got = parameters(fit(pure, book), book)
        assert (got.offset_x[0], got.offset_y[0]) == book.families[variant].offset


@pytest.mark.slow
def test_r2_is_at_least_that_of_curve_fit_from_many_starts():
    """Against scipy's curve_fit of the class and variant that was chosen, from seven starts, on real filters."""
    from scipy.optimize import curve_fit

    from mkfa.banks.library import load_bank
    from mkfa.patterns.families import kernels

    weight = load_bank("efficientnet_lite0").groups[5, 5].weight
    rng = np.random.default_rng(0)
    vectors = canonical(weight[rng.choice(len(weight), 60, replace=False)])
    book, table = dictionary("families", 5, 5), kernels(5, 5)
    found = fit(vectors, book)
    short = []
    for i, vector in enumerate(vectors.astype(float)):
        family = book.families[found.variant[i]]
        axes = family.coordinates(5, 5)
        if not axes:
            continue
        low = [-np.inf if a.periodic else a.low for a in axes]
        high = [np.inf if a.periodic else a.high for a in axes]

        def model(_, gain, offset, *c, family=family):
            return (gain * family.make(table, np.array([c])).reshape(-1) + offset).astype(float)

        best = 0.0
        starts = [found.coordinates[i, : len(axes)], *([rng.uniform(a.low, a.high) for a in axes] for _ in range(6))]
        for start in starts:
            inner = np.clip(start, np.array(low) + 1e-6, np.array(high) - 1e-6)
            try:
                p, _ = curve_fit(
                    model,
                    np.zeros(25),
                    vector,
                    p0=[1, 0, *inner],
                    maxfev=400,
                    diff_step=1e-3,
                    bounds=([-np.inf, -np.inf, *low], [np.inf, np.inf, *high]),
                )
            except RuntimeError:
                continue
            best = max(best, 1 - float(((vector - model(0, *p)) ** 2).sum()))
        short.append(best - float(found.r2[i]))
    assert np.median(short) <= 1e-5 and np.mean(short) <= 5e-5 and max(short) <= 1e-3


def test_a_real_network_is_fitted_far_better_than_its_shuffled_taps():
    """efficientnet-lite0's 5x5 filters: a median R2 of at least 0.78; shuffled taps reach 0.31 at most."""
    from mkfa.banks.library import load_bank
    from mkfa.banks.usable import usable_filters
    from mkfa.nulls.draws import draw_null

    live = usable_filters(load_bank("efficientnet_lite0"), "5x5").weight
    real = fit(canonical(live), dictionary("families", 5, 5))
    null = fit(canonical(draw_null("shuffled", live, np.random.default_rng(0))), dictionary("families", 5, 5))
    assert np.median(real.r2) >= 0.78
    assert np.median(null.r2) <= 0.31


def test_the_same_threshold_makes_names_unique():
    """What is called by a simpler name is explained by it to nearly `same`."""
    book = dictionary("families", 7, 7)
    for variant, family in enumerate(book.families):
        axes = family.coordinates(7, 7)
        place = np.zeros((60, 3))
        for column, axis in enumerate(axes):
            place[:, column] = np.random.default_rng(variant).uniform(axis.low, axis.high, 60)
        pure = book.patterns(variant, place)
        found = fit(pure[pure.any(axis=1)], book)
        assert found.r2.min() > same(7, 7) - 0.025, family.name
