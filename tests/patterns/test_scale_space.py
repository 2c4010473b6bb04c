"""Discrete scale-space kernels against their closed forms and against pyscsp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyscsp.discscsp import dxmask, dxxmask, make1Ddiscgaussfilter

from mkfa.patterns.scale_space import OPERATORS, average, central, forward, positions, profile, second, smoothing

WIDE = np.arange(-40, 41)
VARIANCE = st.floats(0.01, 12)


@given(VARIANCE)
def test_smoothing_has_unit_sum_mean_zero_and_its_variance(t):
    kernel = smoothing(WIDE, t)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert (kernel * WIDE).sum() == pytest.approx(0, abs=1e-12)
    assert (kernel * WIDE**2).sum() == pytest.approx(t, rel=1e-9)


@given(VARIANCE, VARIANCE)
def test_smoothing_has_the_semigroup_property(s, t):
    both = np.convolve(smoothing(WIDE, s), smoothing(WIDE, t))[40:-40]
    assert both == pytest.approx(smoothing(WIDE, s + t), abs=1e-9)


@given(st.floats(0.05, 12))
def test_smoothing_solves_the_diffusion_equation(t):
    step = 1e-4
    slope = (smoothing(WIDE, t + step) - smoothing(WIDE, t - step)) / (2 * step)
    assert slope[1:-1] == pytest.approx(second(smoothing(WIDE, t)) / 2, abs=1e-6)


@given(st.floats(0.05, 12))
def test_the_central_difference_of_t_is_minus_n_over_t_times_it(t):
    kernel = smoothing(WIDE, t)
    assert central(kernel) == pytest.approx((-WIDE / t * kernel)[1:-1], abs=1e-9)


def test_no_smoothing_is_the_impulse():
    assert smoothing([-1, 0, 1], 0).tolist() == [0, 1, 0]


@pytest.mark.parametrize("sigma", [0.36, 0.6, 0.95, 1.4, 2.5])
def test_smoothing_and_differences_agree_with_pyscsp(sigma):
    reference = make1Ddiscgaussfilter(sigma, 1e-12, 1)
    radius = len(reference) // 2
    ours = smoothing(np.arange(-radius, radius + 1), sigma**2)
    assert ours == pytest.approx(reference, abs=1e-9)
    for mask, operator in ((dxmask(), central), (dxxmask(), second)):
        assert operator(ours) == pytest.approx(np.correlate(ours, mask[0], "valid"), abs=1e-12)


@pytest.mark.parametrize("taps", [1, 3, 4, 7])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_profile_is_the_cropped_infinite_kernel(operator, taps):
    t, at = 1.3, positions(taps)
    kernel = dict(zip(WIDE.tolist(), smoothing(WIDE, t).tolist(), strict=True))
    by_hand = {
        "smooth": lambda n: kernel[n],
        "smooth-": lambda n: (kernel[n + 1] + kernel[n]) / 2,
        "smooth+": lambda n: (kernel[n] + kernel[n - 1]) / 2,
        "forward": lambda n: kernel[n + 1] - kernel[n],
        "backward": lambda n: kernel[n] - kernel[n - 1],
        "central": lambda n: (kernel[n + 1] - kernel[n - 1]) / 2,
        "second": lambda n: kernel[n + 1] - 2 * kernel[n] + kernel[n - 1],
        "third": lambda n: (kernel[n + 2] - 2 * kernel[n + 1] + 2 * kernel[n - 1] - kernel[n - 2]) / 2,
    }
    assert profile(operator, taps, t) == pytest.approx([by_hand[operator](n) for n in at.tolist()], abs=1e-12)


CENTRES = {"smooth-": -0.5, "smooth+": 0.5, "forward": -0.5, "backward": 0.5, "smooth": 0, "central": 0, "second": 0}


@pytest.mark.parametrize(("operator", "centre"), CENTRES.items())
def test_operators_are_centred_where_they_say(operator, centre):
    kernel = np.abs(profile(operator, 81, 0.8))
    assert (kernel * positions(81)).sum() / kernel.sum() == pytest.approx(centre, abs=1e-9)


def test_differences_are_those_of_numpy():
    f = np.random.default_rng(0).standard_normal((3, 9))
    assert forward(f) == pytest.approx(np.diff(f))
    assert second(f) == pytest.approx(np.diff(f, 2))
    assert central(f) == pytest.approx(np.gradient(f, axis=1)[:, 1:-1])
    assert average(f) == pytest.approx((f[:, 1:] + f[:, :-1]) / 2)


def test_positions_have_zero_at_half():
    assert positions(7).tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert positions(4).tolist() == [-2, -1, 0, 1]
