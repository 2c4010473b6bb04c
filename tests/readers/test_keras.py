"""Keras files: which layers are depthwise, the order of their filters, and what a hostile file cannot do."""

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_files import Layers, filters, layer, model, network, new_image, write_keras, write_old

from mkfa.banks.bank import FilterBank
from mkfa.errors import MkfaError, SourceError
from mkfa.readers.harvesting import harvest

DEPTHWISE = [
    ("dw", (2, 2), (1, 1), 2),
    ("sep", (1, 1), (2, 2), 3),
    ("grouped", (1, 1), (1, 1), 2),
    ("last", (1, 1), (1, 1), 1),
]
SKIPPED = {"1-D convolution": 1, "1x1 depthwise convolution": 1, "grouped convolution with several channels a group": 1}


def kernels(layers: Layers) -> dict[str, np.ndarray[Any, Any]]:
    """Filters of each depthwise layer."""
    made = {}
    for name, *_ in DEPTHWISE:
        weights = layers[name][1]
        made[name] = filters(weights["kernel"], groups=4) if name == "grouped" else filters(weights["depthwise_kernel"])
    return made


def same(bank: FilterBank, layers: Layers, names: list[str] | None = None) -> None:
    """The bank has these layers, in any order."""
    wanted = {name: array for name, array in kernels(layers).items() if names is None or name in names}
    found = [weight for _, weight in bank.iter_layers()]
    assert len(found) == len(wanted)
    for name, array in wanted.items():
        assert any(weight.shape == array.shape and np.array_equal(weight, array) for weight in found), name


@pytest.mark.parametrize(("suffix", "chunked"), [(":0", False), ("", True)])
def test_a_whole_model_of_keras_2(tmp_path: Path, suffix: str, chunked: bool) -> None:
    layers = network()
    write_old(tmp_path / "x.h5", layers, config=True, suffix=suffix, chunked=chunked)
    bank = harvest(str(tmp_path / "x.h5"))
    found = [(x.name.split("/")[0], x.stride, x.dilation, x.multiplier) for x in bank.layers]
    assert found == DEPTHWISE and bank.provenance.rule == "graph" and bank.provenance.skipped == SKIPPED
    for (name, array), (_, weight) in zip(kernels(layers).items(), bank.iter_layers(), strict=True):
        np.testing.assert_array_equal(weight, array, err_msg=name)
    assert [x.has_bias for x in bank.layers] == [True, False, False, False]  # a separable one's is after the 1x1 part
    np.testing.assert_array_equal(bank.of_layer(0).bias, layers["dw"][1]["bias"])


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_keras_archive(tmp_path: Path, names: bool, compression: int) -> None:
    layers = network()
    write_keras(tmp_path / "x.keras", model(layers), new_image(layers, names=names), compression)
    bank = harvest(str(tmp_path / "x.keras"))
    assert [(x.stride, x.dilation, x.multiplier) for x in bank.layers] == [row[1:] for row in DEPTHWISE]
    assert bank.provenance.rule == "graph" and bank.provenance.skipped == SKIPPED and bank.name == "x"
    for (name, array), (_, weight) in zip(kernels(layers).items(), bank.iter_layers(), strict=True):
        np.testing.assert_array_equal(weight, array, err_msg=name)


def test_weights_alone_go_by_names_and_biases(tmp_path: Path) -> None:
    layers = network()
    write_old(tmp_path / "x.h5", layers, config=False)
    (tmp_path / "x.weights.h5").write_bytes(new_image(layers))
    for name in ("x.h5", "x.weights.h5"):
        bank = harvest(str(tmp_path / name))
        same(bank, layers, ["dw", "sep", "last"])
        assert bank.provenance.rule == "shape" and bank.unknown_dilation
        assert bank.provenance.skipped["convolution whose kind the file does not state"] == 1  # grouped


def test_layers_of_a_program_s_own_go_by_their_biases(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, dense = rng.standard_normal((3, 3, 8, 2)).astype("f4"), rng.standard_normal((3, 3, 8, 16)).astype("f4")
    with h5py.File(tmp_path / "x.weights.h5", "w") as f:
        f["a/vars/0"], f["a/vars/1"] = kernel, np.ones(16, "f4")
        f["b/vars/0"], f["b/vars/1"] = dense, np.ones(16, "f4")
        f["c/vars/0"] = kernel[..., :1]
    bank = harvest(str(tmp_path / "x.weights.h5"))
    ((found, weight),) = bank.iter_layers()
    assert found.name == "a/vars/0" and found.multiplier == 2
    np.testing.assert_array_equal(weight, filters(kernel))
    assert bank.provenance.skipped == {"convolution whose kind the file does not state": 1}


def test_nested_models_and_wrappers(tmp_path: Path) -> None:
    layers, other = network(), network(1)
    config = {
        "class_name": "Functional",
        "config": {
            "name": "outer",
            "layers": [
                model(other, "first"),
                model(layers, "second"),
                layer("TimeDistributed", name="td", layer=layer("DepthwiseConv2D", name="x", dilation_rate=[4, 4])),
            ],
        },
    }
    rng = np.random.default_rng(5)
    wrapped = rng.standard_normal((3, 3, 4, 1)).astype("f4")
    with h5py.File(tmp_path / "w.h5", "w") as f:
        for i, part in enumerate((other, layers)):
            (tmp_path / "part.h5").write_bytes(new_image(part))
            with h5py.File(tmp_path / "part.h5") as g:
                g.copy(g["layers"], f.require_group(f"layers/sequential{'_1' * i}"), "layers")
        f["layers/time_distributed/layer/vars/0"] = wrapped
    write_keras(tmp_path / "x.keras", config, (tmp_path / "w.h5").read_bytes())
    bank = harvest(str(tmp_path / "x.keras"))
    expected = [*kernels(other).values(), *kernels(layers).values(), filters(wrapped)]
    for (_, weight), array in zip(bank.iter_layers(), expected, strict=True):
        np.testing.assert_array_equal(weight, array)
    assert [x.dilation for x in bank.layers] == [row[2] for row in DEPTHWISE] * 2 + [(4, 4)]
    with h5py.File(tmp_path / "x.h5", "w") as f:  # Keras 2: one group for all layers of a nested model
        f.attrs["model_config"] = json.dumps(config)
        root = f.create_group("model_weights")
        root.attrs["layer_names"] = [b"first", b"second", b"td"]
        for name, part in (("first", other), ("second", layers)):
            keys = [f"{key}/{weight}:0" for key, (_, own) in part.items() for weight in own]
            root.create_group(name).attrs["weight_names"] = [key.encode() for key in keys]
            for key, array in zip(keys, itertools.chain(*(own.values() for _, own in part.values())), strict=True):
                root[name][key] = array
        root.create_group("td").attrs["weight_names"] = [b"td/depthwise_kernel:0"]
        root["td/td/depthwise_kernel:0"] = wrapped
    bank = harvest(str(tmp_path / "x.h5"))
    for (found, weight), array in zip(bank.iter_layers(), expected, strict=True):
        np.testing.assert_array_equal(weight, array, err_msg=found.name)
    assert [x.dilation for x in bank.layers] == [row[2] for row in DEPTHWISE] * 2 + [(4, 4)]


def test_bfloat16_and_half_precision(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 1)).astype("f4")
    short = (kernel.view("u4") >> 16).astype("u2")
    with h5py.File(tmp_path / "x.weights.h5", "w") as f:
        f["layers/depthwise_conv2d/vars/0"] = kernel.astype("f2")
        data = f.create_dataset("layers/depthwise_conv2d_1/vars/0", data=short.view("V2"))
        data.attrs["dtype"] = "bfloat16"
    (half, first), (brain, second) = harvest(str(tmp_path / "x.weights.h5")).iter_layers()
    assert (half.dtype, brain.dtype) == ("float16", "bfloat16")
    np.testing.assert_array_equal(first, filters(kernel.astype("f2").astype("f4")))
    np.testing.assert_array_equal(second, filters((short.astype("u4") << 16).view("f4")))


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2"])
def test_numbers_of_the_other_byte_order(tmp_path: Path, dtype: str) -> None:
    layers = network()
    turned = {name: (node, {k: w.astype(dtype) for k, w in own.items()}) for name, (node, own) in layers.items()}
    write_old(tmp_path / "x.h5", turned, config=True)
    bank = harvest(str(tmp_path / "x.h5"))
    same(bank, {name: (node, {k: w.astype("f4") for k, w in own.items()}) for name, (node, own) in turned.items()})
    assert bank.layers[0].dtype == str(np.dtype(dtype).newbyteorder("="))


def test_keras_is_not_loaded(tmp_path: Path) -> None:
    import subprocess
    import sys

    write_old(tmp_path / "x.h5", network(), config=True)
    code = "import sys, mkfa; mkfa.harvest(sys.argv[1]); print({'keras', 'tensorflow', 'torch'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "x.h5")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_links_that_leave_the_file_are_not_followed(tmp_path: Path) -> None:
    kernel = np.ones((3, 3, 4, 1), "f4") * np.arange(4, dtype="f4")[:, None]
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["k"] = kernel
    with h5py.File(tmp_path / "x.weights.h5", "w") as f:
        f["layers/depthwise_conv2d/vars/0"] = kernel
        f["layers/depthwise_conv2d_1/vars/0"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "k")
        f["layers/depthwise_conv2d_2"] = h5py.SoftLink("/layers/depthwise_conv2d")
        f["layers/again"] = f["layers"]  # a circle
    bank = harvest(str(tmp_path / "x.weights.h5"))
    assert [x.name for x in bank.layers] == ["layers/depthwise_conv2d/vars/0"]
    with h5py.File(tmp_path / "y.weights.h5", "w") as f:
        f.create_dataset("layers/depthwise_conv2d/vars/0", (3, 3, 4, 1), "f4", external=[("/etc/hostname", 0, 144)])
    with pytest.raises(SourceError, match="outside the file, which is not read"):
        harvest(str(tmp_path / "y.weights.h5"))
    layout = h5py.VirtualLayout((3, 3, 4, 1), "f4")
    layout[...] = h5py.VirtualSource(str(tmp_path / "other.h5"), "k", (3, 3, 4, 1))
    with h5py.File(tmp_path / "z.weights.h5", "w") as f:
        f.create_virtual_dataset("layers/depthwise_conv2d/vars/0", layout)
    with pytest.raises(SourceError, match="outside the file, which is not read"):
        harvest(str(tmp_path / "z.weights.h5"))


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.weights.h5", "w") as f:
        f.create_dataset("layers/depthwise_conv2d/vars/0", (1000, 1000, 10_000, 100), "f4", compression="gzip")
    with pytest.raises(SourceError, match="would take more than 67 MB of memory"):
        harvest(str(tmp_path / "x.weights.h5"))
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("config.json", "{}")
        out.writestr("model.weights.h5", bytes(1 << 27))
    with pytest.raises(SourceError, match=r"would take more than .* of memory"):
        harvest(str(tmp_path / "x.keras"))


@pytest.mark.parametrize("kind", ["x.h5", "x.weights.h5", "x.keras"])
def test_damage_is_one_sentence(tmp_path: Path, kind: str) -> None:
    layers, path = network(), tmp_path / kind
    if kind == "x.h5":
        write_old(path, layers, config=True)
    elif kind == "x.keras":
        write_keras(path, model(layers), new_image(layers))
    else:
        path.write_bytes(new_image(layers))
    raw, rng = path.read_bytes(), np.random.default_rng(0)
    for size in np.linspace(9, len(raw) - 2, 25).astype(int):
        path.write_bytes(raw[:size])
        with pytest.raises(SourceError) as error:
            harvest(str(path))
        assert "\n" not in str(error.value)
    for _ in range(60):
        broken = bytearray(raw)
        for at in rng.integers(8, len(raw), 8):
            broken[at] = rng.integers(256)
        path.write_bytes(broken)
        try:
            harvest(str(path), allow_nonfinite=True)
        except SourceError as damage:
            assert "\n" not in str(damage)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a model's"),
        (json.dumps(model({"dw": (layer("DepthwiseConv2D", strides=[0, 1]), {})})), "a stride of"),
        (json.dumps(model({"dw": (layer("DepthwiseConv2D", dilation_rate="x"), {})})), "a dilation of"),
        (json.dumps(model({"dw": (layer("DepthwiseConv1D"), {})})), "along 1 axis with a kernel of shape"),
        (json.dumps(model({"dw": (layer("Conv2D", groups=3), {})})), "in 3 groups|several channels"),
    ],
)
def test_configurations_that_lie(tmp_path: Path, config: str, problem: str) -> None:
    write_old(tmp_path / "x.h5", {"dw": network()["dw"]}, config=True)
    with h5py.File(tmp_path / "x.h5", "r+") as f:
        f.attrs["model_config"] = config
    with pytest.raises(SourceError, match=problem):
        harvest(str(tmp_path / "x.h5"))


def test_other_hdf5_files_are_told_apart(tmp_path: Path) -> None:
    import mkfa

    write_old(tmp_path / "x.h5", network(), config=True)
    mkfa.write_bank(harvest(str(tmp_path / "x.h5")), tmp_path / "bank.h5")
    with pytest.raises(SourceError, match="a file of mkfa, not a checkpoint"):
        harvest(str(tmp_path / "bank.h5"))
    with h5py.File(tmp_path / "data.h5", "w") as f:
        f["images"] = np.zeros((3, 3))
    with pytest.raises(SourceError, match="without the layers of a Keras model"):
        harvest(str(tmp_path / "data.h5"))
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as out:
        out.writestr("a", "b")
    with pytest.raises(SourceError, match=r"no model\.weights\.h5"):
        harvest(str(tmp_path / "x.keras"))


def test_a_file_that_is_being_written_is_in_use_not_damaged(tmp_path: Path) -> None:
    import subprocess
    import sys

    write_old(tmp_path / "x.h5", network(), config=True)
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x.h5")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
        with pytest.raises(MkfaError, match="is in use"):
            harvest(str(tmp_path / "x.h5"))
        writer.communicate(b"")
    assert len(harvest(str(tmp_path / "x.h5")).layers) == 4


def test_the_heaps_of_a_file_are_searched_once(tmp_path, monkeypatch):
    """The search reads the whole file; whether mkfa wrote it is told from the open file."""
    from mkfa.storage import hdf5

    with h5py.File(tmp_path / "w.h5", "w") as f:
        f["layers/depthwise/vars/0"] = np.ones((3, 3, 8, 1), np.float32)
    searched, search = [], hdf5.check_heaps
    monkeypatch.setattr(hdf5, "check_heaps", lambda *a, **k: (searched.append(1), search(*a, **k)))
    assert len(harvest(str(tmp_path / "w.h5")).layers) == 1
    assert len(searched) == 1
