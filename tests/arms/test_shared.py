"""K filters that all channels share, with a trained offset."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mkfa.arms.arms import find_arm
from mkfa.arms.plant import check_planted, set_filters
from mkfa.banks.filter_array import filters_bank
from mkfa.errors import MkfaError
from mkfa.networks.build import build_network
from mkfa.networks.layers import spatial_layers
from mkfa.patterns.named_sets import named_set

KERNEL, WIDTH, DEPTH = 5, 20, 3
IMAGES = np.random.default_rng(0).integers(0, 255, (30, 12, 12, 1)).astype(np.uint8)


def net(width=WIDTH, seed=0, **options):
    options = {"classes": 3, "channels": 1, "size": 12, "kernel": KERNEL, "patch": 2} | options
    return build_network(f"resmixer_{width}_{DEPTH}", seed=seed, **options)


def bank(filters=60, seed=3):
    weight = np.random.default_rng(seed).standard_normal((filters, KERNEL, KERNEL)).astype(np.float32)
    return filters_bank("mine", {"filters": weight}, source="here")


def plant(model, arm, *, layers=DEPTH, seed=0):
    source = bank() if find_arm(arm).needs_source else None
    return set_filters(model, arm, layers=layers, source=source, seed=seed, images=IMAGES)


def filters(model):
    return [module.weight.detach()[:, 0].double().numpy() for _, module in spatial_layers(model)]


ARMS = ("random-6", "blurred-6", "covariance-6", "keys-6", "pca-6", "impulse-6", "gauss-6", "file-6:a", "keys-6:a")


@pytest.mark.parametrize("arm", ARMS)
def test_all_layers_share_k_centred_filters_at_one_gain_each(arm):
    model, before = net(), filters(net())
    planted = plant(model, arm)
    first = filters(model)[0] / np.linalg.norm(filters(model)[0][0])
    for kernel, initial in zip(filters(model), before, strict=True):
        gain = np.sqrt((initial**2).sum(axis=(1, 2)).mean())
        np.testing.assert_allclose(np.linalg.norm(kernel, axis=(1, 2)), gain, rtol=1e-5)
        np.testing.assert_allclose(kernel.mean(axis=(1, 2)), 0, atol=1e-7)
        np.testing.assert_allclose(kernel / gain, first[np.arange(WIDTH) % 6], atol=1e-6)
    flat = first[:6].reshape(6, -1)
    cosine = flat @ flat.T
    assert (np.abs(cosine - np.eye(6))[~np.eye(6, dtype=bool)] < 0.999).all()
    assert all(name.endswith("depthwise.conv.weight") for name in planted.names)


def test_keys_are_the_published_and_there_are_eight():
    model = net()
    plant(model, "keys-8")
    cosine = (filters(model)[1] * named_set("eight", KERNEL, KERNEL).patterns[np.arange(WIDTH) % 8]).sum(axis=(1, 2))
    np.testing.assert_allclose(cosine / np.linalg.norm(filters(model)[1], axis=(1, 2)), 1, atol=1e-6)
    with pytest.raises(
        MkfaError, match=r"arm keys-9: asks for 9 filters, and there are 8; .* name a bank: keys-9:NAME"
    ):
        plant(net(), "keys-9")
    assert find_arm("keys-9:mine").number == 9


def test_filters_of_a_file_are_its_first_and_more_than_it_has_are_refused():
    model, theirs = net(), bank().of_layer(0).weight.astype(np.float64)
    plant(model, "file-4:a")
    wanted = theirs[:4] - theirs[:4].mean(axis=(1, 2), keepdims=True)
    cosine = (filters(model)[2][:4] * wanted).sum(axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))
    np.testing.assert_allclose(cosine / np.linalg.norm(filters(model)[2][:4], axis=(1, 2)), 1, atol=1e-6)
    with pytest.raises(MkfaError, match="has 60 filters of 5x5, and 61 are asked for"):
        plant(net(), "file-61:a")


def test_a_file_in_turn_keeps_the_initial_norms():
    model, before, theirs = net(80), filters(net(80)), bank().of_layer(0).weight.astype(np.float64)
    planted = plant(model, "file:a")
    unit = theirs / np.linalg.norm(theirs, axis=(1, 2), keepdims=True)
    for kernel, initial in zip(filters(model), before, strict=True):
        norm = np.linalg.norm(initial, axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(kernel, unit[np.arange(80) % 60] * norm, atol=1e-6)
    assert not any(name.endswith("offset") for name, _ in model.named_parameters()) and planted.frozen


def test_draws_of_a_covariance_have_the_sources_second_moment():
    rng = np.random.default_rng(1)
    root = rng.standard_normal((25, 25)) * np.linspace(0.2, 2, 25)
    weight = (rng.standard_normal((3000, 25)) @ root).reshape(-1, 5, 5).astype(np.float32)
    source = filters_bank("planted", {"filters": weight}, source="here")
    model = net(3000, size=4, patch=4)
    set_filters(model, "covariance-3000", layers=1, source=source)
    wanted, got = (x.reshape(3000, 25).astype(np.float64) for x in (weight, filters(model)[0]))
    moments = []
    for x in (wanted, got):
        x = x - x.mean(axis=1, keepdims=True)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        moments.append(x.T @ x / 3000)
    assert np.abs(moments[0] - moments[1]).max() < 0.1 * np.abs(moments[0]).max()
    assert not np.isclose(np.abs(got @ wanted.T).max() / np.linalg.norm(got[0]), 1)


def test_impulses_and_gaussians_take_all_places_before_one_comes_twice():
    model = net(50)
    plant(model, "impulse-25")
    assert sorted(filters(model)[0][:25].reshape(25, -1).argmax(axis=1)) == list(range(25))
    plant(model := net(60), "gauss-30")
    often = np.bincount(filters(model)[0][:30].reshape(30, -1).argmax(axis=1), minlength=25)
    assert sorted(often) == [1] * 20 + [2] * 5


def test_a_layer_convolves_with_its_filter_plus_the_offset_and_only_that_is_trained():
    model = net().double()
    planted = plant(model, "keys-4")
    name, conv = spatial_layers(model)[1]
    weight = conv.weight.detach().clone()
    x = torch.randn(2, WIDTH, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        conv.offset.copy_(torch.randn(WIDTH, 1, 1, 1))
    wanted = torch.nn.functional.conv2d(x, weight + conv.offset, conv.bias, padding=KERNEL // 2, groups=WIDTH)
    torch.testing.assert_close(conv(x), wanted)
    (conv(x) ** 2).sum().backward()
    full = (weight + conv.offset).detach().requires_grad_(True)
    (torch.nn.functional.conv2d(x, full, conv.bias, padding=KERNEL // 2, groups=WIDTH) ** 2).sum().backward()
    torch.testing.assert_close(conv.offset.grad, full.grad.sum((2, 3), keepdim=True))
    assert conv.weight.grad is None and name + ".weight" in planted.names
    check_planted(model.float(), planted)


def test_layers_beyond_those_that_are_set_have_no_offset():
    model = net()
    plant(model, "random-8", layers=2)
    assert [hasattr(module, "offset") for _, module in spatial_layers(model)] == [True, True, False]
