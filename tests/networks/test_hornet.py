"""HorNet: the published sizes, the official names, and a forward pass written again."""

from __future__ import annotations

import pytest
import timm
import torch

from mkfa.errors import MkfaError
from mkfa.experiments.options import make_setting
from mkfa.experiments.sources import Source
from mkfa.networks import hornet
from mkfa.networks.build import build_network
from mkfa.networks.layers import spatial_layers

torch.set_num_threads(1)  # small maps: threads only get into each other's way


@pytest.mark.parametrize(
    ("name", "millions", "filters"),
    [("hornet_tiny", 22, 11488), ("hornet_small", 50, 17232), ("hornet_base", 87, 22976), ("hornet_large", 195, 34464)],
)
def test_published_sizes(name, millions, filters):
    hornet.register()
    with torch.device("meta"):
        model = timm.create_model(name)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions
    depthwise = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.groups == m.in_channels > 1]
    assert (len(depthwise), sum(m.out_channels for m in depthwise)) == (25, filters)
    assert {m.kernel_size for m in depthwise} == {(7, 7)}


def official_state():
    """Shapes by name of the authors' hornet_tiny_7x7, written down from the paper's table 1 and their key names."""
    shapes = {}

    def put(name, *shape, bias=True):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    dims = (64, 128, 256, 512)
    put("downsample_layers.0.0", 64, 3, 4, 4)
    put("downsample_layers.0.1", 64)
    for i in (1, 2, 3):
        put(f"downsample_layers.{i}.0", dims[i - 1])
        put(f"downsample_layers.{i}.1", dims[i], dims[i - 1], 2, 2)
    for stage, (dim, depth, order) in enumerate(zip(dims, (2, 3, 18, 2), (2, 3, 4, 5), strict=True)):
        widths = [dim // 2**i for i in range(order)][::-1]
        for block in range(depth):
            at = f"stages.{stage}.{block}"
            shapes[f"{at}.gamma1"] = shapes[f"{at}.gamma2"] = (dim,)
            put(f"{at}.norm1", dim)
            put(f"{at}.gnconv.proj_in", 2 * dim, dim, 1, 1)
            put(f"{at}.gnconv.dwconv", sum(widths), 1, 7, 7)
            put(f"{at}.gnconv.proj_out", dim, dim, 1, 1)
            for i in range(order - 1):
                put(f"{at}.gnconv.pws.{i}", widths[i + 1], widths[i], 1, 1)
            put(f"{at}.norm2", dim)
            put(f"{at}.pwconv1", 4 * dim, dim)
            put(f"{at}.pwconv2", dim, 4 * dim)
    put("norm", 512)
    put("head", 1000, 512)
    return shapes


def test_a_file_with_the_official_names_loads():
    state = {name: torch.zeros(shape) for name, shape in official_state().items()}
    model = timm.create_model("hornet_tiny") if timm.is_model("hornet_tiny") else None
    if model is None:
        hornet.register()
        model = timm.create_model("hornet_tiny")
    model.load_state_dict(state, strict=True)


@pytest.mark.parametrize("order", [2, 3, 5])
def test_a_gated_convolution_is_the_papers_recursion(order):
    torch.manual_seed(0)
    dim, size = 32, 5
    layer = hornet.classes().GatedConv(dim, order).double()
    x = torch.randn(2, dim, size, size, dtype=torch.float64)

    def dense(conv, value):  # a 1x1 convolution, position by position
        return torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], value) + conv.bias[:, None, None]

    mixed = dense(layer.proj_in, x)
    widths = [dim // 2 ** (order - 1 - i) for i in range(order)]
    p, q = mixed[:, : widths[0]], mixed[:, widths[0] :]
    padded = torch.nn.functional.pad(q, (3, 3, 3, 3))
    f = torch.zeros_like(q)
    for i in range(7):
        for j in range(7):
            f += layer.dwconv.weight[:, 0, i, j, None, None] * padded[:, :, i : i + size, j : j + size]
    f = (f + layer.dwconv.bias[:, None, None]) / 3
    start = 0
    for k, width in enumerate(widths):
        g = p if k == 0 else dense(layer.pws[k - 1], p)
        p = g * f[:, start : start + width]
        start += width
    assert start == q.shape[1]
    assert torch.allclose(layer(x), dense(layer.proj_out, p), rtol=1e-10, atol=1e-12)


def test_registering_again_changes_nothing_and_networks_know_the_names():
    hornet.register()
    before = timm.list_models("hornet*")
    hornet.register()
    assert timm.list_models("hornet*") == before == ["hornet_base", "hornet_large", "hornet_small", "hornet_tiny"]
    model = build_network("hornet_tiny", classes=4, channels=1, size=32, seed=0, drop_path=0.1)
    assert model.downsample_layers[0][0].stride == (2, 2)
    assert [n for n, _ in spatial_layers(model)][:3] == [
        "stages.0.0.gnconv.dwconv",
        "stages.0.1.gnconv.dwconv",
        "stages.1.0.gnconv.dwconv",
    ]
    assert model.stages[3][1].drop_path.drop_prob == pytest.approx(0.1)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_the_official_names_are_accepted_and_mean_the_same_run(size):
    name = f"hornet_{size}"
    assert hornet.plain_name(f"{name}_7x7") == hornet.plain_name(name) == name
    setting, _ = make_setting({"arch": f"{name}_7x7", "recipe": "smoke"})
    assert setting == make_setting({"arch": name, "recipe": "smoke"})[0]
    assert Source("letters", "letters", arch=f"{name}_7x7:stem_stride=2").network == name
    with pytest.raises(MkfaError, match="global filters"):
        make_setting({"arch": f"{name}_gf", "recipe": "smoke"})


def test_a_network_is_built_under_its_official_name():
    models = [build_network(n, classes=3, channels=1, size=32, seed=4) for n in ("hornet_tiny_7x7", "hornet_tiny")]
    first, second = (model.state_dict() for model in models)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
