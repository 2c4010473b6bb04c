"""Harvesting from a hub on the loopback interface: what is asked for, what comes of it, what is kept."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import (
    CONVNEXT_ATTO,
    CONVNEXT_BASE,
    Client,
    Fault,
    HubServer,
    convnext_shapes,
    walk_log,
    write_safetensors,
)

from mkfa.banks.bank import FilterBank
from mkfa.errors import MkfaError
from mkfa.readers.hub.read_hub import _configured, _wanted, read_hub
from mkfa.readers.options import DEFAULT

REPO = "timm/convnext_atto.d2_in1k"
SHAPES = CONVNEXT_ATTO


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of repositories; convnext_atto as timm names it."""
    folder = tmp_path_factory.mktemp("hub")
    write_safetensors(folder / REPO / "model.safetensors", SHAPES)
    (folder / REPO / "config.json").write_text('{"architecture": "convnext_atto"}')
    return folder


@pytest.fixture(scope="module")
def tensors(root: Path) -> dict[str, np.ndarray[Any, Any]]:
    """What the file of `REPO` holds."""
    return write_safetensors(root.parent / "again.safetensors", SHAPES)


def holds(bank: FilterBank | None, tensors: dict[str, np.ndarray[Any, Any]]) -> bool:
    """True when the bank's filters and biases are those of the file, bit for bit."""
    assert bank is not None
    weight = {layer.name: filters for layer, filters in bank.iter_layers()}
    keys = [key for key in tensors if key.endswith("conv_dw.weight")]
    group = bank.groups[7, 7]
    bias = np.concatenate([tensors[layer.name.replace("weight", "bias")] for layer in bank.layers])
    return (
        sorted(weight) == sorted(keys)
        and all(np.array_equal(weight[key], tensors[key][:, 0]) for key in keys)
        and group.bias is not None
        and np.array_equal(group.bias, bias)
    )


def test_only_the_depthwise_tensors_are_fetched(
    harvest: Client, hub: HubServer, tensors: dict[str, np.ndarray[Any, Any]], tmp_path: Path
) -> None:
    run = harvest("convnext_atto")
    assert run.code == 0, run.message
    assert holds(run.bank, tensors)
    size = (hub.root / REPO / "model.safetensors").stat().st_size
    assert hub.sent < 0.04 * size
    assert len(hub.log) == 12, list(walk_log(hub))  # HEAD, header, ten ranges
    assert run.imported == ()
    assert not list((tmp_path / "hf").rglob("model.safetensors"))
    assert sum(r.sent for r in hub.log if r.origin == "hub") == 0  # the signed address was used for every range


def test_provenance_names_commit_digest_licence_and_training(harvest: Client, hub: HubServer) -> None:
    bank = harvest("convnext_atto").bank
    assert bank is not None
    told = bank.provenance
    assert (told.hub_commit, told.source_sha256) == (
        hub.commit(REPO),
        hub.sha256(hub.root / REPO / "model.safetensors"),
    )
    assert (told.architecture, told.rule, told.licence) == ("convnext_atto.d2_in1k", "catalogue", "apache-2.0")
    assert (told.training_set, told.task) == ("ImageNet-1k", "image classification")
    layer = bank.layers[4]
    assert (layer.name, layer.stage, layer.stride, layer.dilation) == (
        "stages.2.blocks.0.conv_dw.weight",
        2,
        (1, 1),
        (1, 1),
    )


def test_hub_id_with_revision_gives_the_same_bank(
    harvest: Client, hub: HubServer, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    hub.signed = False
    run = harvest(f"hf-hub:{REPO}@{hub.commit(REPO)}")
    assert run.code == 0 and holds(run.bank, tensors), run.message
    assert all(f"/resolve/{hub.commit(REPO)}/" in r.path for r in hub.log)


def test_every_request_after_the_first_names_the_commit(harvest: Client, hub: HubServer) -> None:
    hub.signed = False
    assert harvest("convnext_atto.d2_in1k").code == 0
    first, *rest = hub.log
    assert (first.method, "/resolve/main/" in first.path) == ("HEAD", True)
    assert rest and all(f"/resolve/{hub.commit(REPO)}/" in r.path for r in rest)


def test_expired_signature_falls_back_to_the_hub(
    harvest: Client, hub: HubServer, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    hub.token = "hf_secret"
    hub.faults = [Fault("expired")]
    run = harvest("convnext_atto", env={"HF_TOKEN": "hf_secret"})
    assert run.code == 0 and holds(run.bank, tensors), run.message
    store = [r for r in hub.log if r.origin == "store"]
    assert any(r.status == 403 for r in store)
    assert not any(r.token for r in store)
    assert all(r.token for r in hub.log if r.origin == "hub")


def test_gated_repository_asks_for_a_token_and_takes_it(
    harvest: Client, hub: HubServer, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    hub.token = "hf_secret"
    refused = harvest("convnext_atto")
    assert refused.code == 2
    for word in ("gated", "licence", f"{hub.url}/{REPO}", "HF_TOKEN", "huggingface-cli login"):
        assert word in refused.message
    hub.log.clear()
    run = harvest("convnext_atto", env={"HF_TOKEN": "hf_secret"})
    assert run.code == 0 and holds(run.bank, tensors)
    assert [r.token for r in hub.log if r.origin == "store"].count(True) == 0


def test_cached_file_costs_no_request(
    harvest: Client, hub: HubServer, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    fetch = f"from huggingface_hub import hf_hub_download as get; get({REPO!r}, 'model.safetensors')"
    subprocess.run([sys.executable, "-c", fetch], env=harvest.environment, check=True, capture_output=True)
    hub.log.clear()
    run = harvest("convnext_atto")
    assert run.code == 0 and holds(run.bank, tensors), run.message
    assert hub.log == []
    assert run.bank is not None and run.bank.provenance.hub_commit == hub.commit(REPO)
    assert run.bank.provenance.source_sha256 == hub.sha256(hub.root / REPO / "model.safetensors")
    assert harvest("convnext_atto", env={"HF_HUB_OFFLINE": "1"}).code == 0
    assert harvest("convnext_atto", env={"HF_ENDPOINT": "http://127.0.0.1:9"}).code == 0  # nobody listens there


def test_offline_without_cache_says_so(harvest: Client, hub: HubServer) -> None:
    run = harvest("convnext_atto", env={"HF_HUB_OFFLINE": "1"})
    assert run.code == 1 and "HF_HUB_OFFLINE" in run.message and hub.log == []


def small_repo(hub: HubServer, name: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray[Any, Any]]:
    return write_safetensors(hub.root / name / "model.safetensors", shapes, seed=3)


def mostly_depthwise(channels: int = 400) -> dict[str, tuple[int, ...]]:
    """A file of which most is wanted, larger than the header probe."""
    shapes: dict[str, tuple[int, ...]] = {"stem.weight": (channels, 3, 4, 4)}
    return shapes | {f"blocks.{b}.conv_dw.weight": (channels, 1, 7, 7) for b in range(6)}


def test_file_that_is_mostly_wanted_comes_whole_and_verified(harvest: Client, hub: HubServer, tmp_path: Path) -> None:
    made = small_repo(hub, "me/dense", mostly_depthwise())
    run = harvest("hf-hub:me/dense")
    assert run.code == 0 and run.bank is not None and run.message == "", run.message
    got = {layer.name: weight for layer, weight in run.bank.iter_layers()}
    assert all(np.array_equal(got[key], made[key][:, 0]) for key in made if "conv_dw" in key)
    assert run.bank.provenance.rule == "shape"
    assert [r.range for r in hub.log if r.sent > 100_000] == [""]
    assert list((tmp_path / "hf").rglob("model.safetensors"))


def test_header_longer_than_the_first_read(harvest: Client, hub: HubServer) -> None:
    filler: dict[str, tuple[int, ...]] = {f"filler.{i}.weight": (8, 8, 3, 3) for i in range(1200)}
    made = small_repo(hub, "me/long", {**filler, **mostly_depthwise(20)})
    run = harvest("hf-hub:me/long")
    assert run.code == 0 and run.bank is not None, run.message
    got = {layer.name: weight for layer, weight in run.bank.iter_layers()}
    assert len(got) == 6 and all(np.array_equal(got[key], made[key][:, 0]) for key in got)
    parts = [r.range for r in hub.log if r.origin == "store"]
    assert parts[0] == "bytes=0-65535" and parts[1].startswith("bytes=65536-") and len(parts) == 3
    assert hub.sent < 0.4 * (hub.root / "me/long/model.safetensors").stat().st_size


def test_damaged_download_is_refused(harvest: Client, hub: HubServer) -> None:
    small_repo(hub, "me/dense", mostly_depthwise())
    hub.faults = [Fault("corrupt", 400_000, skip=1)]  # the header probe passes
    run = harvest("hf-hub:me/dense")
    assert run.code == 1 and "SHA-256" in run.message and "delete" in run.message


def test_server_without_ranges_gives_the_whole_file(
    harvest: Client, hub: HubServer, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    hub.faults = [Fault("ignore_range")]
    run = harvest("convnext_atto")
    assert run.code == 0 and holds(run.bank, tensors), run.message
    assert hub.sent < 2 * (hub.root / REPO / "model.safetensors").stat().st_size


def test_repository_with_only_a_pickle(harvest: Client, hub: HubServer) -> None:
    import torch

    rng = np.random.default_rng(5)
    shapes = convnext_shapes((1, 1, 1, 1), (8, 16, 24, 32))
    made = {key: torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for key, shape in shapes.items()}
    (hub.root / "me/old").mkdir(parents=True, exist_ok=True)
    torch.save(made, hub.root / "me/old/pytorch_model.bin")
    run = harvest("hf-hub:me/old")
    assert run.code == 0 and run.bank is not None, run.message
    got = {layer.name: weight for layer, weight in run.bank.iter_layers()}
    assert len(got) == 4
    assert all(np.array_equal(weight, made[key].numpy()[:, 0]) for key, weight in got.items())
    assert run.imported == ()


def shards(hub: HubServer, repo: str, ending: str, absent: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Store a network in three shards without an index, and return its tensors; one shard may be absent."""
    import torch

    made: dict[str, np.ndarray[Any, Any]] = {}
    for number in range(1, 4):
        shapes = {f"stages.{number}.conv_dw.weight": (16, 1, 7, 7), f"stages.{number}.fc.weight": (400, 400)}
        stem = "model" if ending == "safetensors" else "pytorch_model"
        path = hub.root / repo / f"{stem}-{number:05d}-of-00003.{ending}"
        part = write_safetensors(path.with_name("model.part"), shapes, seed=number)
        if ending == "safetensors":
            path.with_name("model.part").rename(path)
        else:
            torch.save({key: torch.from_numpy(value) for key, value in part.items()}, path)
            path.with_name("model.part").unlink()
        if number == absent:
            path.unlink()
        made |= part
    return made


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_without_an_index_are_read_together(
    harvest: Client, hub: HubServer, tmp_path: Path, ending: str
) -> None:
    made = shards(hub, f"me/sharded-{ending}", ending)
    run = harvest(f"hf-hub:me/sharded-{ending}")
    assert run.code == 0 and run.bank is not None, run.message
    got = {layer.name: weight for layer, weight in run.bank.iter_layers()}
    assert list(got) == [f"stages.{number}.conv_dw.weight" for number in (1, 2, 3)]
    assert all(np.array_equal(got[key], made[key][:, 0]) for key in got)
    provenance = run.bank.provenance
    assert provenance.hub_commit == hub.commit(f"me/sharded-{ending}")
    assert any("3 shards were read together" in note for note in provenance.notes)
    files = sorted((hub.root / f"me/sharded-{ending}").iterdir())
    lines = "".join(f"{hub.sha256(file)}  {file.name}\n" for file in files)
    assert provenance.source_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    if ending == "safetensors":  # three headers and three layers, not the matrices
        assert hub.sent < 0.3 * sum(file.stat().st_size for file in files)
    else:  # a whole revision in the user's cache needs no request
        refs = tmp_path / "hf/hub/models--me--sharded-bin/refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text(provenance.hub_commit)
        hub.log.clear()
        again = harvest(f"hf-hub:me/sharded-{ending}", env={"HF_HUB_OFFLINE": "1"})
        assert again.code == 0 and again.bank is not None and hub.log == [], again.message
        assert again.bank.provenance.source_sha256 == provenance.source_sha256


def test_a_missing_shard_is_named(harvest: Client, hub: HubServer) -> None:
    shards(hub, "me/lacking", "safetensors", absent=2)
    run = harvest("hf-hub:me/lacking")
    assert run.code == 2 and "3 shards, of which model-00002-of-00003.safetensors is missing" in run.message


def test_other_checkpoints_of_a_repository_are_named(harvest: Client, hub: HubServer) -> None:
    (hub.root / "me/other").mkdir(parents=True, exist_ok=True)
    (hub.root / "me/other/yolov8n.pt").write_bytes(b"x")
    run = harvest("hf-hub:me/other")
    assert run.code == 2 and "on the hub, but yolov8n.pt" in run.message, run.message


def test_repository_with_a_network_that_was_saved_whole(harvest: Client, hub: HubServer) -> None:
    import torch

    (hub.root / "me/whole").mkdir(parents=True, exist_ok=True)
    layer = torch.nn.Conv2d(6, 6, 3, groups=6, stride=2, dilation=3)
    torch.save({"model": torch.nn.Sequential(torch.nn.Conv2d(3, 6, 1), layer)}, hub.root / "me/whole/pytorch_model.bin")
    run = harvest("hf-hub:me/whole")
    assert run.code == 0 and run.bank is not None, run.message
    ((found, weight),) = run.bank.iter_layers()
    assert (found.name, found.stride, found.dilation) == ("model.1.weight", (2, 2), (3, 3))
    assert np.array_equal(weight, layer.weight.detach().numpy()[:, 0])
    assert run.bank.provenance.stood_in["torch.nn.modules.conv.Conv2d"] == 2
    assert run.imported == ()


def test_repository_tells_its_architecture(harvest: Client, hub: HubServer) -> None:
    small_repo(hub, "me/tuned", SHAPES)
    config = {"architecture": "convnext_atto", "num_classes": 10, "pretrained_cfg": {"tag": "mine_in1k"}}
    (hub.root / "me/tuned/config.json").write_text(json.dumps(config))
    run = harvest("hf-hub:me/tuned")
    assert run.code == 0 and run.bank is not None, run.message
    told = run.bank.provenance
    assert (run.bank.name, told.architecture, told.rule) == ("tuned", "convnext_atto.mine_in1k", "catalogue")
    assert run.bank.layers[0].stride == (1, 1)


def test_useless_configuration_does_no_harm(harvest: Client, hub: HubServer) -> None:
    small_repo(hub, "me/odd", mostly_depthwise(20))
    (hub.root / "me/odd/config.json").write_text('{"architecture": 3, "pretrained_cfg": 1}')
    run = harvest("hf-hub:me/odd")
    assert run.code == 0 and run.bank is not None and len(run.bank.layers) == 6, run.message


@pytest.mark.parametrize("config", ["[1]", "no json", "[" * 100_000, '{"architectures": ["X"]}', "\xff"])
def test_foreign_configuration_says_nothing(config: str) -> None:
    wanted = _wanted("hf-hub:me/odd", DEFAULT)
    assert _configured(wanted, config.encode("latin-1")) == wanted


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hf-hub:me/none", "is not a repository of the hub"),
        ("hf-hub:timm/convnext_atto.d2_in1k@v9", "no revision v9"),
        ("hf-hub:me/empty", "model.safetensors and pytorch_model.bin"),
        ("convnext_bsae", "did you mean convnext_base"),
    ],
)
def test_wrong_request_is_one_sentence(harvest: Client, hub: HubServer, source: str, words: str) -> None:
    (hub.root / "me/empty").mkdir(parents=True, exist_ok=True)
    (hub.root / "me/empty/README.md").write_text("nothing here")
    run = harvest(source)
    assert run.code == 2 and words in run.message, run.message


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("convnext_base.fb_in2k", "did you mean fb_in22k"),
        ("resnet50", "has no depthwise layer"),
        ("gcvit_tiny", "--arch gcvit_tiny"),
        ("timm/convnext_base.fb_in22k", "hf-hub:timm/convnext_base.fb_in22k"),
        ("hf-hub:a b/c", "hf-hub:OWNER/NAME"),
        ("hf-hub:", "hf-hub:OWNER/NAME"),
        ("hf-hub:a/../../b", "hf-hub:OWNER/NAME"),
        ("hf-hub:a/b@", "hf-hub:OWNER/NAME"),
        ("hf-hub:-a/b..c", "hf-hub:OWNER/NAME"),
    ],
)
def test_wrong_name_costs_no_request(source: str, words: str) -> None:
    with pytest.raises(MkfaError, match=re.escape(words)):
        read_hub(source)


@pytest.mark.slow
def test_architecture_that_does_not_fit_is_refused(harvest: Client) -> None:
    run = harvest("convnext_atto", architecture="efficientnet_lite0")
    assert run.code == 2 and "lacks 16 of the 16" in run.message


@pytest.mark.slow
def test_convnext_base_costs_one_percent_and_forty_requests(harvest: Client, hub: HubServer) -> None:
    repo = "timm/convnext_base.fb_in22k_ft_in1k"
    made = write_safetensors(hub.root / repo / "model.safetensors", CONVNEXT_BASE)
    hub.sha256(hub.root / repo / "model.safetensors")
    hub.delay = 0.02
    run = harvest("convnext_base")
    assert run.code == 0 and holds(run.bank, made), run.message
    assert run.bank is not None and len(run.bank) == 18_048
    assert len(hub.log) <= 40
    assert hub.sent <= 0.011 * (hub.root / repo / "model.safetensors").stat().st_size
    assert run.imported == ()
