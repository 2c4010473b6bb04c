"""Folders as the programs leave them that write checkpoints: which file is the network, and what is said of it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from onnx_models import conv, model, stored
from safetensors.numpy import save_file

from mkfa.errors import SourceError
from mkfa.readers.collect import harvest_all
from mkfa.readers.folders import _state, choose
from mkfa.readers.harvesting import harvest


def net(seed=0, layers=2, dtype=np.float32, prefix=""):
    rng = np.random.default_rng(seed)
    out = {"stem.weight": rng.standard_normal((4, 3, 3, 3))}
    out |= {f"blocks.{i}.conv_dw.weight": rng.standard_normal((4, 1, 3, 3)) for i in range(layers)}
    return {prefix + key: value.astype(dtype) for key, value in out.items()}


def put(path: Path, seed=0, **more):
    """Write a network, in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(net(seed, **more), path)
    else:
        import torch

        torch.save({key: torch.from_numpy(value) for key, value in net(seed, **more).items()}, path)


def put_other(path: Path, value=None):
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state": {0: {"exp_avg": torch.ones(4, 1, 3, 3)}}} if value is None else value, path)


def taken(folder):
    """Return (seed of the network that was taken, the notes on the choice)."""
    bank = harvest(folder)
    seeds = [
        seed
        for seed in range(9)
        if np.array_equal(bank.of_layer(0).weight, net(seed)["blocks.0.conv_dw.weight"][:, 0].astype(np.float32))
    ]
    assert len(seeds) == 1
    return seeds[0], " ".join(note for note in bank.provenance.notes if "taken" in note)


def trainer(folder, seed=0, weights="model.safetensors"):
    """What a Hugging Face Trainer leaves beside the weights."""
    put(folder / weights, seed)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin", "scaler.pt"):
        put_other(folder / name)
    (folder / "config.json").write_text('{"architectures": ["MobileNetV2ForImageClassification"]}')
    (folder / "trainer_state.json").write_text('{"best_model_checkpoint": null, "global_step": 500}')


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_trainers_folder_is_its_weights(tmp_path, weights):
    trainer(tmp_path / "out", 3, weights)
    seed, said = taken(tmp_path / "out")
    assert seed == 3 and said.startswith(f"{weights} was taken; the other files are not weights by their names")
    assert "optimizer.pt" in said


def test_accelerates_folder_is_its_weights(tmp_path):
    put(tmp_path / "pytorch_model.bin", 2)
    for name in ("optimizer.bin", "scheduler.bin", "sampler.bin", "random_states_0.pkl", "custom_checkpoint_0.pkl"):
        put_other(tmp_path / name)
    assert taken(tmp_path)[0] == 2
    put(tmp_path / "pytorch_model_1.bin", 1, layers=3)  # the second of two prepared networks
    with pytest.raises(SourceError, match=r"has 2 checkpoints \(pytorch_model.bin, pytorch_model_1.bin\); name one"):
        harvest(tmp_path)


def test_a_folder_with_a_trainers_files_alone_has_no_checkpoint(tmp_path):
    put_other(tmp_path / "optimizer.pt")
    put_other(tmp_path / "training_args.bin")
    with pytest.raises(SourceError, match="is a folder without a checkpoint"):
        harvest(tmp_path)


def test_the_newest_of_a_trainers_checkpoints_is_taken_unless_it_names_the_best(tmp_path):
    for step in (500, 1000, 1500):
        trainer(tmp_path / f"checkpoint-{step}", step // 500)
    seed, said = taken(tmp_path)
    assert seed == 3
    assert "checkpoint-1500 was taken (the last by its number); left out: checkpoint-1000, checkpoint-500." in said
    for step, best in ((1000, 500), (1500, 1000)):
        state = {"best_model_checkpoint": f"/elsewhere/out/checkpoint-{best}", "global_step": step}
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    seed, said = taken(tmp_path)
    assert seed == 2 and "checkpoint-1000 was taken (the best by trainer_state.json)" in said
    put(tmp_path / "model.safetensors", 7)  # the final model beside them
    assert taken(tmp_path)[0] == 7


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["model.safetensors", "pytorch_model.bin"],
            "model.safetensors was taken; pytorch_model.bin is by name the same",
        ),
        (["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"], "fp16.safetensors is by"),
        (["net.safetensors", "net.pth"], "net.pth is by name the same"),
        (
            ["m.safetensors", "m.fp16.safetensors", "m.bin", "m.fp16.bin", "m-bf16.safetensors"],
            "m.bin, m-bf16.safetensors, m.fp16.safetensors, m.fp16.bin are by name the same network in another form",
        ),
    ],
)
def test_one_network_in_several_forms_is_taken_once_in_the_best(tmp_path, names, said):
    for seed, name in enumerate(names):
        put(tmp_path / name, seed, dtype=np.float16 if "fp16" in name else np.float32)
    seed, notes = taken(tmp_path)
    assert seed == 0 and said in notes


def test_a_precision_alone_is_taken(tmp_path):
    put(tmp_path / "model.fp16.safetensors", 4)
    assert taken(tmp_path) == (4, "")


def test_weights_in_another_framework_are_the_same_network(tmp_path):
    put(tmp_path / "model.safetensors", 1)
    (tmp_path / "tf_model.h5").write_bytes(b"x")
    (tmp_path / "flax_model.msgpack").write_bytes(b"x")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"x")
    seed, said = taken(tmp_path)
    assert seed == 1 and "tf_model.h5 is by name the same network" in said


@pytest.mark.parametrize(
    ("names", "right", "why"),
    [
        (["best.pt", "last.pt"], "best.pt", "the best by its name"),  # Ultralytics
        (["model_best.pth.tar", "checkpoint-12.pth.tar", "last.pth.tar"], "model_best.pth.tar", "best"),  # timm
        (["model_best.pth.tar", "checkpoint-1.pth.tar", "recovery-1-20.pth.tar"], "model_best.pth.tar", "best"),
        (
            ["epoch=3-step=100.ckpt", "epoch=12-step=400.ckpt", "last.ckpt"],
            "last.ckpt",
            "last by its name",
        ),  # Lightning
        (["epoch=3-step=100.ckpt", "epoch=12-step=400.ckpt"], "epoch=12-step=400.ckpt", "last by its number"),
        (["epoch=3-val_loss=0.31.ckpt", "epoch=9-val_loss=0.12.ckpt"], "epoch=9-val_loss=0.12.ckpt", "number"),
        (["checkpoint-299.pth", "checkpoint-best.pth", "checkpoint-best-ema.pth"], "checkpoint-best.pth", "best"),
        (["model_0.pth", "model_10.pth", "model_9.pth", "checkpoint.pth"], "checkpoint.pth", "last"),  # torchvision
        (["model_0004999.pth", "model_final.pth"], "model_final.pth", "last"),  # detectron2
        (["convnext_best.pth", "convnext_last.pth"], "convnext_best.pth", "best"),
        (["iter_1000.pth", "iter_20000.pth"], "iter_20000.pth", "number"),
        (["last.ckpt", "last-v1.ckpt", "last-v2.ckpt"], "last-v2.ckpt", "last by its name"),  # Lightning, run again
        (["best-v1.ckpt", "best.ckpt", "last.ckpt"], "best-v1.ckpt", "best"),
    ],
)
def test_of_the_states_of_one_training_the_best_is_taken_else_the_last(tmp_path, names, right, why):
    for seed, name in enumerate(names):
        put(tmp_path / name, seed)
    seed, said = taken(tmp_path)
    assert names[seed] == right
    assert said.startswith(f"{right} was taken (") and why in said
    assert all(name in said for name in names)
    assert choose(tmp_path).path == tmp_path / right


def test_the_averaged_copy_is_taken_if_it_is_asked_for(tmp_path):
    for seed, name in enumerate(("checkpoint-best.pth", "checkpoint-best-ema.pth")):
        put(tmp_path / name, seed)
    assert choose(tmp_path, prefer_ema=True).path.name == "checkpoint-best-ema.pth"


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [("model.pth", "model_ema.pth"), ("model.safetensors", "ema.safetensors"), ("best.pth", "best_ema.pth")],
)
def test_files_of_both_copies_are_asked_for_by_option(tmp_path, plain, averaged):
    put(tmp_path / plain, 1)
    put(tmp_path / averaged, 2)
    for option, seed, copy in (("", 1, "raw"), ("raw", 1, "raw"), ("ema", 2, "ema")):
        bank = harvest(tmp_path, weights=option)
        wanted = net(seed)["blocks.0.conv_dw.weight"][:, 0].astype(np.float32)
        np.testing.assert_array_equal(bank.of_layer(0).weight, wanted)
        assert bank.provenance.weights == copy
    (tmp_path / averaged).unlink()
    with pytest.raises(SourceError, match="one copy of the weights; leave --weights ema out"):
        harvest(tmp_path, weights="ema")


def test_mmengines_pointer_names_the_last(tmp_path):
    for seed, name in enumerate(("epoch_1.pth", "epoch_2.pth", "epoch_10.pth")):
        put(tmp_path / name, seed)
    (tmp_path / "last_checkpoint").write_text("/home/me/work_dirs/net/epoch_2.pth\n")
    assert taken(tmp_path)[0] == 1
    assert choose(tmp_path).notes == (
        "epoch_2.pth was taken (the last by the file that names it); left out: epoch_1.pth, epoch_10.pth.",
    )
    (tmp_path / "last_checkpoint").write_text("epoch_99.pth")  # no longer there
    assert taken(tmp_path)[0] == 2
    put(tmp_path / "best_accuracy_top1_epoch_1.pth", 5)
    assert taken(tmp_path)[0] == 5


@pytest.mark.parametrize("below", ["weights", "version_0/checkpoints"])
def test_a_run_folder_is_its_only_folder_with_weights(tmp_path, below):
    for seed, name in enumerate(("last.ckpt", "best.ckpt")):
        put(tmp_path / "run" / below / name, seed)
    (tmp_path / "run" / "plots").mkdir()
    assert taken(tmp_path / "run")[0] == 1


@pytest.mark.parametrize(
    "names",
    [
        ["resnet.pth", "convnext.pth"],
        ["resnet_best.pth", "convnext_best.pth"],
        ["best.pth", "teacher.pth"],
        ["fold_0.pth", "fold_1.pth"],
        ["generator_epoch_3.pth", "discriminator_epoch_3.pth"],
        ["seed0/best.pt", "seed1/best.pt"],
    ],
)
def test_several_networks_are_refused_by_name(tmp_path, names):
    for seed, name in enumerate(names):
        put(tmp_path / name, seed)
    with pytest.raises(SourceError, match=r"has 2 checkpoints \(.*\); name one of them") as error:
        harvest(tmp_path)
    assert all(name.split("/")[0] in str(error.value) for name in names)


def test_a_folder_of_paddle_is_its_weights(tmp_path):
    """PaddleClas and PaddleSeg write weights, optimiser and states side by side."""
    weights = {f"blocks.{i}.dw.weight": np.random.default_rng(i).standard_normal((8, 1, 3, 3)) for i in range(2)}
    for ending, content in ((".pdparams", weights), (".pdopt", {"moment": weights}), (".pdstates", {"epoch": 3})):
        (tmp_path / f"model{ending}").write_bytes(pickle.dumps(content, protocol=4))
    bank = harvest(str(tmp_path))
    assert [layer.name for layer in bank.layers] == list(weights)
    np.testing.assert_array_equal(bank.of_layer(1).weight, weights["blocks.1.dw.weight"][:, 0].astype(np.float32))


def test_states_with_other_shapes_are_several_networks(tmp_path):
    put(tmp_path / "best.pth", 0, layers=2)
    put(tmp_path / "last.pth", 1, layers=3)
    with pytest.raises(SourceError, match=r"has 2 checkpoints \(best.pth, last.pth\)"):
        harvest(tmp_path)


def test_an_optimisers_copies_do_not_make_another_network(tmp_path):
    import torch

    put(tmp_path / "best.pth", 0)
    state = {key: torch.from_numpy(value) for key, value in net(1).items()}
    moments = {i: {"exp_avg": value.clone()} for i, value in enumerate(state.values())}
    put_other(tmp_path / "last.pth", {"model": state, "optimizer": {"state": moments}})
    assert taken(tmp_path)[0] == 0


# Pipelines


def pipeline(folder, **networks):
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    for seed, (name, layers) in enumerate(networks.items()):
        put(folder / name / "diffusion_pytorch_model.safetensors", seed, layers=layers)
        put(folder / name / "diffusion_pytorch_model.fp16.safetensors", seed, layers=layers, dtype=np.float16)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")


def test_of_a_pipeline_the_only_network_with_depthwise_layers_is_taken(tmp_path):
    pipeline(tmp_path / "pipe", unet=0, vae=2, safety=0)
    seed, said = taken(tmp_path / "pipe")
    assert seed == 1
    assert "vae was taken, the only network of the pipeline with depthwise layers (of safety, unet, vae)." in said
    assert "diffusion_pytorch_model.fp16.safetensors is by name the same network in another form" in said


def test_a_pipeline_of_several_depthwise_networks_is_refused_by_name(tmp_path):
    pipeline(tmp_path / "pipe", unet=2, vae=3, text=0)
    with pytest.raises(SourceError, match=r"2 of its networks have depthwise layers \(unet, vae\); name one") as error:
        harvest(tmp_path / "pipe")
    assert str(tmp_path / "pipe" / "unet") in str(error.value)
    assert taken(tmp_path / "pipe" / "unet")[0] == 0
    pipeline(tmp_path / "none", unet=0, vae=0)
    with pytest.raises(SourceError, match=r"none of its networks has a depthwise layer \(unet, vae\)"):
        harvest(tmp_path / "none")


# Shards


def shard(folder, seed=0, index="model.safetensors.index.json", pattern="model-0000{}-of-00002.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    tensors, places = net(seed), {}
    for at, key in enumerate(tensors):
        places[key] = pattern.format(1 + at % 2)
    for name in set(places.values()):
        save_file({key: value for key, value in tensors.items() if places[key] == name}, folder / name)
    if index:
        (folder / index).write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize("index", ["model.safetensors.index.json", "model.safetensors.index.fp16.json"])
def test_shards_with_their_index_are_one_network(tmp_path, index):
    shard(tmp_path / "out", 2, index)
    put_other(tmp_path / "out" / "optimizer.pt")
    assert taken(tmp_path / "out")[0] == 2


def test_shards_without_their_index_are_one_network(tmp_path):
    shard(tmp_path, 4, index="")
    put_other(tmp_path / "optimizer.bin")
    assert taken(tmp_path)[0] == 4


def test_a_complete_file_is_preferred_to_shards_of_which_one_is_missing(tmp_path):
    shard(tmp_path, 4, index="")
    put(tmp_path / "pytorch_model.bin", 5)
    assert taken(tmp_path)[0] == 4
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert taken(tmp_path)[0] == 5
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(SourceError, match=r"model-00002-of-00002\.safetensors is not beside it"):
        harvest(tmp_path)


def test_shards_of_other_names_belong_to_the_index_that_lists_them(tmp_path):
    shard(tmp_path, 1, pattern="part{}.safetensors")
    assert taken(tmp_path) == (1, "")


def test_shards_and_index_in_a_hub_cache_are_links(tmp_path):
    shard(tmp_path / "real", 3)
    repository = tmp_path / "hub" / "models--me--net"
    snapshot = repository / "snapshots" / ("b" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted((tmp_path / "real").iterdir())):
        blob = repository / "blobs" / f"{number:064x}"
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    assert taken(snapshot)[0] == 3
    assert taken(snapshot / "model.safetensors.index.json")[0] == 3


def test_an_index_that_is_a_link_has_its_shards_beside_the_file_it_leads_to(tmp_path):
    shard(tmp_path / "real", 3)
    link = tmp_path / "net.safetensors.index.json"
    link.symlink_to(tmp_path / "real" / "model.safetensors.index.json")
    assert taken(link)[0] == 3


# Others


def test_a_graph_alone_in_a_folder_is_read(tmp_path):
    weight = net(4)["blocks.0.conv_dw.weight"]
    (tmp_path / "net.onnx").write_bytes(model([conv("w")], [stored("w", weight)]).SerializeToString())
    assert taken(tmp_path)[0] == 4


def test_names_say_what_state_they_are_of():
    assert _state("resnet50") is None and _state("seed_1") is None and _state("net") is None
    state = _state("best_coco_bbox_mAP_epoch_36")
    assert state is not None and state.best and state.numbers == (36,)


def test_a_folders_bank_is_kept_like_any_other(tmp_path):
    trainer(tmp_path / "out", 1)
    assert [h.state for h in harvest_all([str(tmp_path / "out")])] == ["harvested"]
    assert [h.state for h in harvest_all([str(tmp_path / "out")])] == ["skipped"]
    put(tmp_path / "out" / "model.safetensors", 2)
    (done,) = harvest_all([str(tmp_path / "out")])
    assert done.state == "failed" and "when it had other weights" in str(done.error)
