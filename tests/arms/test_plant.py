"""What an arm puts into a network stays there, bit for bit; what it leaves alone is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mkfa.arms.arms import ARMS, find_arm
from mkfa.arms.fillings import Weights, identity_kernels
from mkfa.arms.plant import check_planted, set_filters, train_mode
from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.errors import MkfaError, UnknownNameError, WorkError
from mkfa.networks.build import build_network
from mkfa.networks.layers import followers, norms_after, spatial_layers
from mkfa.patterns.named_sets import named_set

torch.set_num_threads(1)  # nets of a few channels: threads only get into each other's way
DEPTH, WIDTH, KERNEL = 4, 10, 5
IMAGES = np.random.default_rng(4).integers(0, 255, (6, 12, 12, 1)).astype(np.uint8)
COPIES = ("transfer", "selffer", "transfer+", "selffer+")


def net(seed=0, arch=f"convmixer_{WIDTH}_{DEPTH}", kernel=KERNEL, **options):
    return build_network(arch, **({"classes": 3, "channels": 1, "size": 12, "seed": seed, "kernel": kernel} | options))


def bank(widths=(WIDTH,) * DEPTH, kernel=KERNEL, seed=9, dilation=(1, 1), scale=None):
    rng = np.random.default_rng(seed)
    layers = []
    for i, n in enumerate(widths):
        weight = rng.standard_normal((n, kernel, kernel)).astype(np.float32) * (scale[i] if scale else 1)
        layers.append(
            (
                Layer(0, f"s.{i}.weight", 0, 0.0, n, kernel, kernel, (1, 1), dilation, 1),
                weight,
                rng.standard_normal(n).astype(np.float32),
            )
        )
    return make_bank("source", layers, Provenance())


def plant(model, arm, *, layers=3, source="auto", seed=0, **options):
    if isinstance(source, str):
        source = bank() if find_arm(arm).needs_source else None
    return set_filters(model, arm, layers=layers, source=source, seed=seed, images=IMAGES, **options)


def filters(model, what="depthwise"):
    return [module.weight.detach().clone() for _, module in spatial_layers(model, what)]


def train(model, steps=4):
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    torch.manual_seed(0)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 1, 12, 12)), torch.randint(0, 3, (8,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("arm", ARMS)
def test_planted_filters_stay_and_everything_else_is_trained(arm):
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    planted = plant(model, arm)
    put = dict(zip(planted.names, planted.values, strict=True))
    now = dict(model.named_parameters())
    assert len(put) == (0 if arm == "baseline" else 3)
    for name, value in now.items():
        assert torch.equal(value, put.get(name, before.get(name, torch.zeros(WIDTH, 1, 1, 1)))), name
    assert {name for name in now if name not in before} == {f"{name[:-6]}offset" for name in offset_of(arm, put)}
    train(model)
    check_planted(model, planted)
    for name, value in now.items():
        kept = planted.frozen and name in put
        assert torch.equal(value, put.get(name, before.get(name, torch.zeros(WIDTH, 1, 1, 1)))) == kept, name


def offset_of(arm, put):
    return put if find_arm(arm).offset else ()


@pytest.mark.parametrize("what", ["depthwise", "pointwise", "conv"])
def test_all_else_differs_from_the_source_and_from_other_seeds(what):
    lender = net(seed=5)
    other = lender.state_dict()
    models = [net(seed=1), net(seed=2)]
    names = set(plant(models[0], "transfer", source=other, what=what, layers=2).names)
    plant(models[1], "transfer", source=other, what=what, layers=2)
    a, b = (dict(m.named_parameters()) for m in models)
    drawn = [name for name, p in a.items() if p.detach().float().std() > 0]  # the rest begins as ones or zeros
    assert names < set(drawn)
    for name in drawn:
        same = name in names
        assert torch.equal(a[name], other[name]) == torch.equal(a[name], b[name]) == same, name
    for model in (lender, *models):
        train(model)
    for name in a:  # and after training nothing else is the same by chance
        same = name in names
        assert torch.equal(a[name], b[name]) == same, name
        assert torch.equal(a[name], dict(lender.named_parameters())[name]) is False, name


def test_a_frozen_filter_that_changed_is_found():
    model = net()
    planted = plant(model, "transfer")
    with torch.no_grad():
        weight = model.blocks[1][0].fn[0].weight
        weight.view(-1)[7] = torch.nextafter(weight.view(-1)[7], torch.tensor(9.0))
    with pytest.raises(WorkError, match=r"blocks\.1\.0\.fn\.0\.weight: was frozen by arm transfer"):
        check_planted(model, planted)


@pytest.mark.parametrize("arm", ["transfer", "random", "delta", "stack"])
def test_a_frozen_layer_costs_no_weight_gradient(arm):
    model = net()
    plant(model, arm)
    loss = model(torch.randn(2, 1, 12, 12)).sum()
    leaves, seen, stack = set(), set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        stack += [after for after, _ in node.next_functions]
    loss.backward()
    layers = [module for _, module in spatial_layers(model)]
    assert [id(m.weight) in leaves for m in layers] == [False, False, False, True]
    assert [m.weight.grad is None for m in layers] == [True, True, True, False]
    assert all(id(m.bias) in leaves and m.bias.grad is not None for m in layers)


@pytest.mark.parametrize("arm", COPIES)
def test_a_copy_is_the_sources_raw_weights_layer_by_layer(arm):
    model, source = net(), bank()
    initial = filters(model)
    plant(model, arm, source=source)
    for i, weight in enumerate(filters(model)):
        expected = torch.from_numpy(source.of_layer(i).weight)[:, None] if i < 3 else initial[i]
        assert torch.equal(weight, expected)


def test_a_run_of_the_same_architecture_is_a_source_for_every_kind_of_layer():
    other = net(seed=5).state_dict()
    for what in ("depthwise", "pointwise", "conv"):
        model = net()
        planted = plant(model, "transfer", source=other, what=what, layers=2)
        assert [torch.equal(v, other[n]) for n, v in zip(planted.names, planted.values, strict=True)] == [True, True]
        assert torch.equal(filters(model, what)[2], filters(net(), what)[2])


def test_shortcut_projections_go_with_their_block():
    other = build_network("resnet10t", classes=3, channels=1, size=16, seed=5).state_dict()
    model = build_network("resnet10t", classes=3, channels=1, size=16, seed=0)
    names = [name for name, _ in spatial_layers(model, "conv")]
    place = names.index("layer2.0.conv2") + 1
    planted = plant(model, "transfer", source=other, what="conv", layers=place)
    assert list(planted.names[-2:]) == ["layer2.0.conv2.weight", "layer2.0.downsample.1.weight"]
    assert not model.layer2[0].downsample[1].weight.requires_grad
    assert model.layer3[0].conv1.weight.requires_grad


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31), across=st.booleans(), layers=st.integers(1, DEPTH))
def test_shuffle_keeps_the_multiset(seed, across, layers):
    source, model = bank(), net()
    plant(model, "shuffle-network" if across else "shuffle", source=source, seed=seed, layers=layers, with_bias=True)
    modules = [m for _, m in spatial_layers(model)][:layers]
    # a filter travels with its bias: compare them as one row
    got = [np.c_[m.weight.detach().numpy().reshape(WIDTH, -1), m.bias.detach().numpy()] for m in modules]
    want = [np.c_[source.of_layer(i).weight.reshape(WIDTH, -1), source.of_layer(i).bias] for i in range(layers)]
    if across:
        got, want = [np.concatenate(got)], [np.concatenate(want)]
    for a, b in zip(got, want, strict=True):
        assert not np.array_equal(a, b)
        assert np.array_equal(a[np.lexsort(a.T)], b[np.lexsort(b.T)])


def test_the_two_shuffles_differ_in_what_they_mix():
    model = net()
    plant(model, "shuffle-network", layers=DEPTH)
    home = {row.tobytes(): i for i in range(DEPTH) for row in bank().of_layer(i).weight}
    came = [[home[f.numpy().tobytes()] for f in weight[:, 0]] for weight in filters(model)]
    assert any(len(set(layer)) > 1 for layer in came)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(widths=st.lists(st.integers(1, 40), min_size=1, max_size=6), layers=st.integers(1, DEPTH))
def test_stack_fills_wider_and_narrower_targets_without_gaps(widths, layers):
    source, model = bank(widths), net()
    plant(model, "stack", source=source, layers=layers)
    row = np.concatenate([w for _, w in source.iter_layers()])
    got = torch.cat(filters(model)[:layers])[:, 0].numpy()
    assert np.array_equal(got, row[np.arange(len(got)) % len(row)])


def test_stack_gain_takes_the_shapes_of_the_source_and_the_gain_of_the_target():
    stacked, scaled, untouched = net(), net(), [w.clone() for w in filters(net())]
    plant(stacked, "stack", layers=DEPTH)
    plant(scaled, "stack-gain", layers=DEPTH)
    for raw, got, initial in zip(filters(stacked), filters(scaled), untouched, strict=True):
        assert torch.allclose(got / got.norm(), raw / raw.norm(), atol=1e-6)
        assert torch.isclose(got.norm(), initial.norm(), rtol=1e-5)
        assert not torch.allclose(raw.norm(), initial.norm(), rtol=1e-2)


@pytest.mark.parametrize(("arm", "k"), [("first-k", 3), ("first-1", 1), ("first-2", 2)])
def test_first_k_repeats_the_first_layers(arm, k):
    source, model = bank(), net()
    plant(model, arm, source=source, layers=DEPTH)
    row = np.concatenate([source.of_layer(i).weight for i in range(k)])
    got = torch.cat(filters(model))[:, 0].numpy()
    assert np.array_equal(got, np.resize(row, got.shape))


def test_stack_takes_kernels_of_dense_layers_row_by_row():
    other = net(seed=5).state_dict()
    model = net()
    plant(model, "stack", source=other, what="pointwise", layers=DEPTH)
    whole = torch.cat([other[f"blocks.{i}.1.weight"].flatten() for i in range(DEPTH)])
    assert torch.equal(torch.cat([w.flatten() for w in filters(model, "pointwise")]), whole)


def test_covariance_has_the_sources_second_moments_layer_by_layer():
    wide = 4000
    layers, rng = [], np.random.default_rng(3)
    for i, scale in enumerate((0.1, 3.0)):  # taps that hang together, each layer's in its own way, with a mean
        taps = scale * (rng.standard_normal((wide, 9)) @ rng.standard_normal((9, 9)) + 0.5)
        layers.append(
            (
                Layer(0, f"s.{i}.weight", 0, 0.0, wide, 3, 3, (1, 1), (1, 1), 1),
                taps.reshape(wide, 3, 3).astype(np.float32),
                np.zeros(wide, np.float32),
            )
        )
    source = make_bank("source", layers, Provenance())
    model = net(arch=f"convmixer_{wide}_2", kernel=3, size=4)
    planted = plant(model, "covariance", source=source, layers=2)
    for i, value in enumerate(planted.values):
        want, got = (w.reshape(wide, 9).astype(np.float64) for w in (source.of_layer(i).weight, value.numpy()))
        want, got = want.T @ want / wide, got.T @ got / wide
        away = np.abs(want - np.diag(np.diag(want))).max()
        assert np.abs(got - want).max() < 0.1 * np.diag(want).max() < 0.5 * away  # one standard error: .016 to .022
        assert not np.array_equal(value.numpy()[:, 0], source.of_layer(i).weight)


def test_random_is_this_seeds_initialisation():
    a, b = net(seed=1), net(seed=1)
    plant(a, "random", seed=1)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not torch.equal(filters(a)[0], filters(net(seed=2))[0])


@pytest.mark.parametrize("arm", [a for a in ARMS if a != "baseline"])
def test_the_seed_decides_what_is_drawn_and_nothing_else(arm):
    def digest(seed, initial):
        return plant(net(seed=initial), arm, seed=seed).digest

    assert digest(0, 0) == digest(0, 0)
    drawn = arm in ("shuffle", "shuffle-network", "covariance", "basis", "impulse", "boxN", "gauss")
    drawn |= arm in ("random-k", "blurred-k", "covariance-k", "impulse-k", "gauss-k")
    assert (digest(0, 0) != digest(1, 0)) == drawn
    copied = find_arm(arm).source in ("needed", "own") and arm not in ("covariance-k", "stack-gain")
    assert (digest(0, 0) != digest(0, 1)) != copied  # all others are scaled to, or are, the initial weights


def test_delta_is_the_identity_and_box_the_mean_at_the_initial_norm():
    x = torch.randn(1, WIDTH, 8, 8)
    for arm in ("delta", "box"):
        model = net()
        norms = filters(model)[0].flatten(1).norm(dim=1)
        plant(model, arm)
        conv = spatial_layers(model)[0][1]
        assert torch.allclose(conv.weight.flatten(1).norm(dim=1), norms)
        if arm == "delta":
            y = conv(x) - conv.bias[:, None, None]
            assert torch.allclose(y, norms[:, None, None] * x, atol=1e-5)
        else:
            assert float(conv.weight.detach().flatten(1).std(dim=1).max()) < 1e-7


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("size", [3, 4, 6])
def test_an_identity_kernel_of_any_size_is_the_identity(size):
    """Some networks have even kernels, though our ConvMixers have none."""
    conv = torch.nn.Conv2d(6, 6, size, padding="same", groups=6, bias=False)
    layer = Weights("conv", conv.weight.detach().numpy().copy())
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(identity_kernels(layer, np.random.default_rng())))
    x, norms = torch.randn(1, 6, 8, 8), torch.from_numpy(layer.kernel).flatten(1).norm(dim=1)
    assert torch.allclose(conv(x), norms[:, None, None] * x, atol=1e-5)


def centred(kernels):
    flat = kernels.reshape(len(kernels), -1).numpy()
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def test_keys_are_the_keys_up_to_gain_and_offset_of_the_initial_kernels():
    model = net()
    before = filters(model)[0][:, 0]
    plant(model, "keys")
    after = filters(model)[0][:, 0]
    keys = named_set("eight", KERNEL, KERNEL).patterns.reshape(8, -1)
    cosine = (centred(after) * keys[np.arange(WIDTH) % 8]).sum(axis=1)
    assert np.allclose(np.abs(cosine), 1, atol=1e-5)
    assert torch.allclose(after.mean((1, 2)), before.mean((1, 2)), atol=1e-6)
    assert torch.allclose(after.flatten(1).norm(dim=1), before.flatten(1).norm(dim=1), atol=1e-6)


def test_keys_of_a_source_are_its_filters_best_fits():
    source, model = bank(), net()
    plant(model, "keys", source=source)
    keys = named_set("eight", KERNEL, KERNEL).patterns.reshape(8, -1).astype(np.float64)
    for got, theirs in zip(filters(model)[1][:, 0].numpy().reshape(WIDTH, -1), source.of_layer(1).weight, strict=True):
        fits = []
        for key in keys:  # independent: least squares over (key, constant), each key in turn
            design = np.c_[key, np.ones(len(key))]
            solved, residual, *_ = np.linalg.lstsq(design, theirs.ravel().astype(np.float64), rcond=None)
            fits.append((residual[0], design @ solved))
        assert np.allclose(got, min(fits, key=lambda f: f[0])[1], atol=1e-5)


def test_basis_patterns_differ_between_channels_and_keep_mean_and_norm():
    model = net()
    before = filters(model)[0][:, 0]
    plant(model, "basis")
    after = filters(model)[0][:, 0]
    cosine = np.abs(centred(after) @ centred(after).T)
    assert np.isfinite(after.numpy()).all()
    assert (np.triu(cosine, 1) < 0.999).all()
    assert torch.allclose(after.mean((1, 2)), before.mean((1, 2)), atol=1e-6)
    assert torch.allclose(after.flatten(1).norm(dim=1), before.flatten(1).norm(dim=1), atol=1e-5)


def test_biases_go_along_only_where_asked():
    source = bank()
    free, bound = net(), net()
    initial = free.blocks[0][0].fn[0].bias.detach().clone()
    plant(free, "transfer", source=source)
    planted = plant(bound, "transfer", source=source, with_bias=True)
    assert torch.equal(free.blocks[0][0].fn[0].bias, initial) and free.blocks[0][0].fn[0].bias.requires_grad
    assert torch.equal(bound.blocks[0][0].fn[0].bias, torch.from_numpy(source.of_layer(0).bias))
    assert len(planted.names) == 6
    train(bound)
    check_planted(bound, planted)


def test_biases_that_cannot_be_copied_are_noted():
    planted = plant(net(), "covariance", with_bias=True)
    assert "no biases to copy" in planted.notes[0]


@pytest.mark.parametrize(("theirs", "fit"), [(3, "pad"), (7, "crop")])
def test_other_kernel_sizes_are_fitted_only_where_asked(theirs, fit):
    source = bank(kernel=theirs)
    for arm in ("transfer", "stack", "covariance"):
        with pytest.raises(MkfaError, match=f"has {theirs}x{theirs} kernels .* --fit-kernel {fit}"):
            plant(net(), arm, source=source)
    with pytest.raises(MkfaError, match="--fit-kernel"):
        plant(net(), "transfer", source=source, fit_kernel="crop" if fit == "pad" else "pad")
    model = net()
    plant(model, "transfer", source=source, fit_kernel=fit)
    got, want = filters(model)[0][:, 0].numpy(), source.of_layer(0).weight
    if fit == "pad":
        assert np.array_equal(got[:, 1:4, 1:4], want)
        assert (got[:, 0] == 0).all() and (got[:, :, -1] == 0).all()
    else:
        assert np.array_equal(got, want[:, 1:6, 1:6])
    plant(net(), "stack", source=source, fit_kernel=fit)
    plant(net(), "covariance", source=source, fit_kernel=fit)


def test_another_dilation_is_noted():
    assert "dilations are [(3, 3)]" in plant(net(), "stack", source=bank(dilation=(3, 3))).notes[0]
    assert plant(net(), "stack").notes == ()


@pytest.mark.parametrize(
    ("arm", "options", "message"),
    [
        ("transfer", {"source": None}, "needs a source.*--source"),
        ("delta", {"source": bank()}, "uses no source"),
        ("transfer", {"layers": 5}, "choose --layers from 1 to 4"),
        ("transfer", {"layers": 0}, "choose --layers from 1 to 4"),
        ("transfer", {"source": bank((WIDTH, 12, WIDTH))}, "has 12 filters where blocks.1.0.fn.0 has 10.*stack"),
        ("transfer", {"source": bank((WIDTH,))}, "has 1 layer, but 3 are to be set"),
        ("transfer", {"what": "pointwise"}, "has depthwise filters only"),
        ("delta", {"what": "pointwise"}, "layers cannot use"),
        ("transfer", {"source": {}}, r"has no blocks\.0\.0\.fn\.0\.weight"),
        ("transfer", {"fit_kernel": "stretch"}, "choose pad or crop"),
    ],
)
def test_what_cannot_be_set_is_refused_in_one_sentence(arm, options, message):
    model = net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(MkfaError, match=message):
        plant(model, arm, **options)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_a_source_with_values_that_are_not_finite_is_refused():
    weights = net(seed=3).state_dict()
    weights["blocks.1.0.fn.0.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(MkfaError, match="non-finite weights in"):
        plant(net(), "transfer", source=weights)


def test_an_unknown_arm_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean transfer"):
        plant(net(), "tranfser", source=None)
    with pytest.raises(UnknownNameError):
        find_arm("first-0")


def perturbed(seed, arch, size=12, **options):
    """Return a network whose norm layers are as after training: other weights, biases and statistics."""
    model = build_network(arch, classes=3, channels=1, size=size, seed=seed, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.ndim == 1 and tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator))
    return model


@pytest.mark.parametrize("arm", COPIES)
def test_with_norm_the_norms_of_set_layers_come_along_and_stay(arm):
    source, model = perturbed(5, f"convmixer_{WIDTH}_{DEPTH}", kernel=KERNEL), net()
    theirs = source.state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    planted = plant(model, arm, layers=2, source=theirs, with_norm=True)
    keys = ("weight", "bias", "running_mean", "running_var")
    norms = [f"blocks.{i}.0.fn.2.{key}" for i in range(2) for key in keys]
    assert planted.names == ("blocks.0.0.fn.0.weight", "blocks.1.0.fn.0.weight", *norms)
    put = set(planted.names)
    for name, value in model.state_dict().items():
        assert torch.equal(value, theirs[name] if name in put else before[name]), name
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2, weight_decay=0.5)
    for step in range(3):
        train_mode(model, planted)
        torch.manual_seed(step)
        loss = torch.nn.functional.cross_entropy(model(torch.randn(8, 1, 12, 12)), torch.randint(0, 3, (8,)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    check_planted(model, planted)
    now = model.state_dict()
    assert all(torch.equal(now[name], theirs[name]) == find_arm(arm).frozen for name in norms)
    later = [n for n in now if n.startswith("blocks.2.0.fn.2.") and "num" not in n]
    assert not any(torch.equal(now[name], before[name]) for name in later)
    with torch.no_grad():
        model.blocks[0][0].fn[2].running_mean.add_(1)
    if find_arm(arm).frozen:
        with pytest.raises(WorkError, match="running_mean"):
            check_planted(model, planted)


def test_frozen_norms_normalise_by_the_sources_statistics_in_training_too():
    source, model = perturbed(5, f"convmixer_{WIDTH}_{DEPTH}", kernel=KERNEL), net()
    planted = plant(model, "transfer", layers=1, source=source.state_dict(), with_norm=True)
    x, seen = torch.randn(4, 1, 12, 12), []
    norm = model.blocks[0][0].fn[2]
    norm.register_forward_hook(lambda module, given, made: seen.append((given[0], made)))
    train_mode(model, planted)
    model(x)
    [(given, made)] = seen
    s = {key: getattr(source.blocks[0][0].fn[2], key).view(1, -1, 1, 1) for key in ("weight", "bias")}
    mean, var = (getattr(source.blocks[0][0].fn[2], f"running_{key}").view(1, -1, 1, 1) for key in ("mean", "var"))
    torch.testing.assert_close(made, (given - mean) / (var + norm.eps).sqrt() * s["weight"] + s["bias"])


def test_with_norm_needs_a_network_and_leaves_other_arms_as_they_are():
    with pytest.raises(MkfaError, match="no norm layers, which --with-norm requires"):
        plant(net(), "transfer", with_norm=True)
    for arm in ("random", "delta", "stack"):
        first, second = net(), net()
        a, b = plant(first, arm), plant(second, arm, with_norm=True)
        assert (a.names, a.digest, a.norms) == (b.names, b.digest, b.norms)


@pytest.mark.parametrize(
    ("arch", "what", "count", "first"),
    [
        ("resnet18", "conv", 20, "bn1"),
        ("mobilenetv2_050", "depthwise", 17, "blocks.0.0.bn1"),
        ("convnext_atto", "depthwise", 12, "stages.0.blocks.0.norm"),
        ("hornet_tiny", "depthwise", 0, ""),
    ],
)
def test_the_norm_of_a_layer_is_the_one_called_next(arch, what, count, first):
    model = build_network(arch, classes=3, channels=3, size=32, seed=0)
    names = [name for name, _ in spatial_layers(model, what)]
    names += [name for group in followers(model, what).values() for name, _ in group]
    found = norms_after(model, names)
    assert len(found) == count
    assert next(iter(found.values()), "") == first
    for layer, norm in found.items():
        weights = model.get_submodule(layer).weight
        assert model.get_submodule(norm).weight.shape == weights.shape[:1]
