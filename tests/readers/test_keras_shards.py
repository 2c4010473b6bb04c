"""Keras networks in several files, and TensorFlow's own formats, which are refused."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from keras_files import filters, model, network, new_image, write_keras, write_shards

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest


def weights_of(bank):
    return {layer.name: weight for layer, weight in bank.iter_layers()}


@pytest.fixture
def whole(tmp_path):
    """The same network in one file."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "net.weights.h5").write_bytes(new_image(network()))
    return weights_of(harvest(folder / "net.weights.h5"))


@pytest.mark.parametrize(("count", "divide"), [(1, ""), (2, ""), (3, "dw"), (5, "sep"), (11, "")])
def test_shards_are_one_network(tmp_path, whole, count, divide):
    folder = tmp_path / "shards"
    folder.mkdir()
    index = write_shards(folder, network(), count=count, divide=divide)
    names = [f"model_{i:05d}.weights.h5" for i in range(count)]
    lines = "".join(f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in (index.name, *names))
    for source in (index, folder, *(folder / name for name in names)):
        bank = harvest(source)
        got = weights_of(bank)
        assert got.keys() == whole.keys() and len(got) >= 3
        for name, weight in whole.items():
            np.testing.assert_array_equal(got[name], weight)
        assert bank.provenance.source_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    layers = network()
    np.testing.assert_array_equal(got["layers/depthwise_conv2d/vars/0"], filters(layers["dw"][1]["depthwise_kernel"]))


def test_the_bias_of_a_divided_layer_is_found(tmp_path):
    index = write_shards(tmp_path, network(), count=3, divide="dw")
    bank = harvest(index)
    at = [layer.name for layer in bank.layers].index("layers/depthwise_conv2d/vars/0")
    np.testing.assert_array_equal(bank.of_layer(at).bias, network()["dw"][1]["bias"])


def test_the_configuration_beside_the_weights_tells_stride_and_dilation(tmp_path):
    """`model.save(folder, zipped=False)` writes a folder; so does the hub of Keras."""
    layers = network()
    write_keras(tmp_path / "net.keras", model(layers), new_image(layers))
    truth = {layer.name: (layer.stride, layer.dilation) for layer in harvest(tmp_path / "net.keras").layers}
    for kind in ("one", "shards"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(model(layers)))
        (folder / "metadata.json").write_text("{}")
        if kind == "one":
            (folder / "model.weights.h5").write_bytes(new_image(layers))
        else:
            write_shards(folder, layers, count=3)
        bank = harvest(folder)
        assert {layer.name: (layer.stride, layer.dilation) for layer in bank.layers} == truth
        assert bank.provenance.rule == "graph"
        (folder / "config.json").write_text('{"architectures": ["MobileNet"]}')  # of another program
        assert harvest(folder).provenance.rule == "shape"


def test_a_missing_shard_is_named(tmp_path):
    index = write_shards(tmp_path, network(), count=3)
    (tmp_path / "model_00001.weights.h5").unlink()
    for source in (index, tmp_path, tmp_path / "model_00002.weights.h5"):
        with pytest.raises(SourceError, match=r"model_00001\.weights\.h5: does not exist"):
            harvest(source)


def test_shards_without_their_index_are_refused(tmp_path):
    write_shards(tmp_path, network(), count=3).unlink()
    for name in ("model_00000.weights.h5", "model_00002.weights.h5"):
        with pytest.raises(SourceError, match=r"one of several shards .* and model\.weights\.json is not beside it"):
            harvest(tmp_path / name)


def test_a_state_of_an_epoch_is_no_shard(tmp_path):
    (tmp_path / "net_00003.weights.h5").write_bytes(new_image(network()))
    assert len(harvest(tmp_path / "net_00003.weights.h5").layers) >= 3


def test_an_index_that_lies_is_refused(tmp_path):
    index = write_shards(tmp_path, network(), count=2)
    facts = json.loads(index.read_text())
    for change, match in (
        ({"/layers/other/vars": ["model_00001.weights.h5"]}, "lists '/layers/other/vars' in model_00001"),
        ({"/x": ["../model_00001.weights.h5"]}, "names a shard outside its folder"),
        ({"/x": [3]}, "not the index of a Keras network"),
        ({"/x": 3}, "not the index of a Keras network"),
    ):
        index.write_text(json.dumps({"weight_map": {**facts["weight_map"], **change}}))
        with pytest.raises(SourceError, match=match):
            harvest(index)
    for text in ("[]", "{}", "no", '{"weight_map": {}}', '{"weight_map": []}'):
        index.write_text(text)
        with pytest.raises(SourceError):
            harvest(index)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("saved_model.pb", "is a TensorFlow SavedModel, which is not read; save the network as .keras or .h5"),
        ("frozen.pb", "is a frozen TensorFlow graph"),
        ("tensorflowjs_model.pb", "before version 1, whose graph is not read; convert the network again"),
        ("weights_manifest.json", "before version 1, whose graph is not read; convert the network again"),
        ("model.ckpt-12.data-00000-of-00001", "is a part of a TensorFlow checkpoint"),
        ("variables.index", "is a part of a TensorFlow checkpoint"),
    ],
)
def test_tensorflows_own_formats_say_what_to_save(tmp_path, name, match):
    (tmp_path / name).write_bytes(b"[]" if name.endswith("json") else b"\x08\x01\x12\x00" + bytes(64))
    with pytest.raises(SourceError, match=match):
        harvest(tmp_path / name)


def test_a_folder_of_tensorflow_says_what_to_save(tmp_path):
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    (folder / "variables" / "variables.index").write_bytes(bytes(64))
    with pytest.raises(SourceError, match="is a TensorFlow SavedModel"):
        harvest(folder)
    (folder / "net.weights.h5").write_bytes(new_image(network()))  # beside it, Keras's own weights
    assert len(harvest(folder).layers) >= 3
