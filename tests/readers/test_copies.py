"""Copies of a network: settled by numbers and by the program that wrote the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mkfa
from mkfa.array_types import F32
from mkfa.banks.bank import FilterBank
from mkfa.errors import SourceError

State = dict[str, F32]
SHAPES = {"stem.weight": (8, 3, 3, 3)}
for _i in range(4):
    SHAPES |= {f"blocks.{_i}.dw.weight": (8, 1, 5, 5), f"blocks.{_i}.pw.weight": (8, 8, 1, 1)}
LAYERS = [f"blocks.{i}.dw.weight" for i in range(4)]


def net(seed: int) -> State:
    rng = np.random.default_rng(seed)
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in SHAPES.items()}


def near(state: State, seed: int = 99) -> State:
    """A later or averaged state of the same network."""
    rng = np.random.default_rng(seed)
    return {k: (0.9 * w + 0.1 * rng.standard_normal(w.shape)).astype(np.float32) for k, w in state.items()}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: w for key, w in state.items()}


def is_of(bank: FilterBank, state: State) -> bool:
    """True if the bank's layers are the state's, in order."""
    values = [w for _, w in bank.iter_layers()]
    return len(values) == 4 and all(np.array_equal(w, state[k][:, 0]) for w, k in zip(values, LAYERS, strict=True))


RAW = net(0)
EMA = near(RAW)

WRITERS: dict[str, dict[str, Any]] = {
    # mmengine's EMAHook swaps the copies when it saves
    "mmengine": {
        "state_dict": EMA,
        "ema_state_dict": {"steps": np.array(300), **prefixed(RAW, "module.")},
        "meta": {"epoch": 3},
    },
    "fixmatch": {"epoch": 3, "state_dict": RAW, "ema_state_dict": EMA},
    "timm": {"arch": "none", "state_dict": RAW, "state_dict_ema": EMA},
    "torchvision": {"model": RAW, "model_ema": {"n_averaged": np.array(7), **prefixed(EMA, "module.")}},
    "ultralytics": {"epoch": 3, "model": RAW, "ema": EMA, "updates": 9},
    # Lightning's WeightAveraging saves the average as state_dict
    "lightning": {
        "state_dict": prefixed(EMA, "model."),
        "current_model_state": prefixed(RAW, "model."),
        "averaging_state": {"n_averaged": np.array(5)},
    },
    "lightning callback": {
        "state_dict": prefixed(RAW, "net."),
        "callbacks": {"EMA": {"ema_weights": prefixed(EMA, "net.")}},
    },
    "latent diffusion": {
        "state_dict": {
            **prefixed(RAW, "model.net."),
            **{"model_ema.net" + k.replace(".", ""): w for k, w in EMA.items()},
        }
    },
    "mmcv": {"state_dict": {**EMA, **{"ema_" + k.replace(".", "_"): w for k, w in RAW.items()}}},
    "moco": {"state_dict": {**prefixed(RAW, "module.encoder_q."), **prefixed(EMA, "module.encoder_k.")}},
    "albef": {"model": {**prefixed(RAW, "visual_encoder."), **prefixed(EMA, "visual_encoder_m.")}},
    "mean teacher": {"student": RAW, "teacher": EMA},
    "byol": {"online_network": RAW, "target_network": EMA},
    "stylegan": {"G": RAW, "G_ema": EMA, "g_optim": {"state": {0: {"exp_avg": RAW["stem.weight"]}}}},
    # ema-pytorch keeps the raw network inside its average
    "ema-pytorch": {
        "model": RAW,
        "ema": {"initted": np.array(1), **prefixed(RAW, "online_model."), **prefixed(EMA, "ema_model.")},
    },
    "basicsr": {"params": RAW, "params_ema": EMA},
    "swa": {"model_state_dict": RAW, "swa_model_state_dict": {"n_averaged": np.array(2), **prefixed(EMA, "module.")}},
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_averaged_copy_is_taken_and_the_raw_one_on_request(writer: str) -> None:
    bank = mkfa.harvest(WRITERS[writer])
    assert is_of(bank, EMA)
    assert bank.provenance.weights == "ema"
    assert mkfa.harvest(WRITERS[writer], weights="ema").groups == bank.groups
    raw = mkfa.harvest(WRITERS[writer], weights="raw")
    assert is_of(raw, RAW)
    assert raw.provenance.weights == "raw"
    assert "taken" in " ".join(bank.provenance.notes)


def test_further_averages_are_named() -> None:
    bank = mkfa.harvest({"model": RAW, "ema_a": EMA, "ema_b": near(RAW, 5)})
    assert is_of(bank, EMA) and "and than 'ema_b', other averaged (EMA) ones" in bank.provenance.notes[0]


def test_an_average_of_the_layers_that_were_trained_on() -> None:
    """The first layers were frozen, so that the average has only the others."""
    part = {key: w for key, w in EMA.items() if not key.startswith(("stem", "blocks.0"))}
    file = {"state_dict": prefixed(RAW, "net."), "state_dict_ema": prefixed(part, "module.")}
    bank = mkfa.harvest(file)
    assert [layer.name for layer in bank.layers] == [
        "state_dict.net.blocks.0.dw.weight",
        *(f"state_dict_ema.module.{key}" for key in LAYERS[1:]),
    ]
    assert bank.provenance.skipped == {"not averaged (the EMA twin was taken)": 3} and bank.provenance.weights == "ema"
    (note,) = bank.provenance.notes
    assert note.startswith("'state_dict_ema' has averaged (EMA) weights of 3 of the 4 depthwise layers (r = 0.99)")
    assert is_of(mkfa.harvest(file, weights="raw"), RAW)
    other = {"state_dict": RAW, "state_dict_ema": {key: w for key, w in net(6).items() if key in part}}
    assert len(mkfa.harvest(other).layers) == 7


def test_an_average_under_the_name_of_each_weight() -> None:
    """As TensorFlow names the variables of its checkpoints."""
    raw, averaged = ({key.replace(".", "/"): w for key, w in state.items()} for state in (RAW, EMA))
    slots = {f"{key}/RMSProp": w**2 for key, w in raw.items()}
    bank = mkfa.harvest({**raw, **{f"{key}/ExponentialMovingAverage": w for key, w in averaged.items()}, **slots})
    assert is_of(bank, EMA) and bank.provenance.weights == "ema"
    assert [layer.name for layer in bank.layers] == [f"ExponentialMovingAverage.{key}" for key in LAYERS]


def test_arguments_that_lightning_saves_are_no_networks() -> None:
    """`save_hyperparameters` keeps the network that was passed, with other weights if an average was swapped in."""
    file = {"state_dict": prefixed(RAW, "net."), "hyper_parameters": {"net": net(3), "weight": np.ones((8, 1, 3, 3))}}
    bank = mkfa.harvest(file)
    assert is_of(bank, RAW) and bank.provenance.skipped == {"argument of the network (hyper_parameters)": 5}
    assert is_of(mkfa.harvest({"hyper_parameters": {"net": RAW}}), RAW)


def test_the_correlation_of_the_copies_is_said() -> None:
    assert "(r = 0.99)" in mkfa.harvest(WRITERS["timm"]).provenance.notes[0]


def test_an_averaged_copy_alone_is_known_and_the_raw_one_refused() -> None:
    for alone in ({"n_averaged": np.array(7), **prefixed(EMA, "module.")}, {"state_dict_ema": EMA}):
        assert mkfa.harvest(alone).provenance.weights == "ema"
        assert mkfa.harvest(alone, weights="ema").provenance.weights == "ema"
        with pytest.raises(SourceError, match=r"one copy of the weights, averaged \(EMA\) ones"):
            mkfa.harvest(alone, weights="raw")
    with pytest.raises(SourceError, match="one copy of the weights; leave --weights ema out"):
        mkfa.harvest(RAW, weights="ema")


@pytest.mark.parametrize(
    "names", [("source_encoder", "target_encoder"), ("netG_A", "netG_B"), ("student", "teacher"), ("rgb", "flow")]
)
def test_networks_that_do_not_correlate_are_all_taken(names: tuple[str, str]) -> None:
    bank = mkfa.harvest({names[0]: net(0), names[1]: net(1), "head": {"0.weight": np.ones((2, 8))}})
    assert [layer.name for layer in bank.layers] == [f"{name}.{key}" for name in names for key in LAYERS]
    assert bank.provenance.weights == ""
    assert "different networks" in bank.provenance.notes[0] and "r = " in bank.provenance.notes[0]


@pytest.mark.parametrize("names", [("model", "copy"), ("fold_0", "fold_1"), ("net_a", "net_b")])
def test_equal_copies_are_one_network(names: tuple[str, str]) -> None:
    bank = mkfa.harvest({names[0]: RAW, names[1]: dict(RAW)})
    assert is_of(bank, RAW) and "states of one network, r = 1.00" in bank.provenance.notes[0]


@pytest.mark.parametrize("name", ["avg_model", "model_smoothed", "ewma"])
def test_words_for_an_average(name: str) -> None:
    assert is_of(mkfa.harvest({"model": RAW, name: EMA}), EMA)


def test_a_module_with_ema_in_its_name_is_no_average() -> None:
    state = {**prefixed(net(0), "decoder.plain."), **prefixed(net(1), "decoder.ema_attention.")}
    bank = mkfa.harvest(state)
    assert len(bank.layers) == 8 and bank.provenance.weights == ""


def test_networks_of_a_common_parent_are_not_called_averaged() -> None:
    """Domain adaptation starts the target's encoder from the source's."""
    file = {"source_encoder": RAW, "target_encoder": EMA}
    with pytest.raises(SourceError, match=r"'source_encoder', 'target_encoder', which have a common parent \(r = 0.9"):
        mkfa.harvest(file)
    one = mkfa.harvest(file, include="target_encoder.*")
    assert one.provenance.skipped == {"of a copy or network that --include does not name": 4}
    assert [layer.name for layer in one.layers] == [f"target_encoder.{key}" for key in LAYERS]
    assert len(mkfa.harvest(file, include="*").layers) == 8
    assert len(mkfa.harvest(file, exclude="source_encoder.*").layers) == 4


@pytest.mark.parametrize("later", [near(RAW), net(5)])
@pytest.mark.parametrize(
    ("taken", "other"),
    [
        ("state_dict", "best_state_dict"),
        ("model", "best_model"),
        ("last", "best"),
        ("model_state", "initial_model_state"),
        ("weights", "pretrained_weights"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_of_several_states_the_plain_one_else_the_last_is_taken(
    taken: str, other: str, later: State, first: bool
) -> None:
    file = {taken: RAW, other: later} if first else {other: later, taken: RAW}
    bank = mkfa.harvest(file)
    assert [layer.name for layer in bank.layers] == [f"{taken}.{key}" for key in LAYERS]
    assert f"'{taken}' was taken of" in bank.provenance.notes[0]
    assert bank.provenance.skipped == {"another state of the same network": 4}


@pytest.mark.parametrize(
    "name",
    [
        "fold{}",
        "epoch_{}",
        "snapshots.epoch{}",
        "checkpoints.{}",
        "fold_{}_state_dict",
        "ckpt_{}",
        "cv.fold_{}",
        "checkpoint_step_{}",
    ],
)
def test_numbered_states_are_refused_with_their_names(name: str) -> None:
    file = {key: w for i in range(1, 4) for key, w in prefixed(net(i), name.format(i) + ".").items()}
    with pytest.raises(SourceError, match=name.format(2)):
        mkfa.harvest(file)
    bank = mkfa.harvest(file, include=name.format(2) + ".*")
    assert [layer.name for layer in bank.layers] == [f"{name.format(2)}.{key}" for key in LAYERS]
    rest = mkfa.harvest(file, exclude=[f"{name.format(i)}.*" for i in (1, 3)])
    assert rest.groups == bank.groups


def test_blocks_stages_and_branches_of_one_network_are_no_states() -> None:
    rng = np.random.default_rng(0)
    shapes = {f"stages.{s}.blocks.{b}.dw{k}.weight": (8, 1, k, k) for s in range(2) for b in range(2) for k in (3, 5)}
    shapes |= {key.replace("dw", "squeeze"): (8, 3, 1, 1) for key in shapes}
    state = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    first = {key: state[key.replace("stages.1", "stages.0").replace("blocks.1", "blocks.0")] for key in state}
    twin = {key: w + 0.1 * rng.standard_normal(w.shape) for key, w in first.items()}
    for file in (state, twin):
        bank = mkfa.harvest({"stem.weight": rng.standard_normal((8, 3, 3, 3)), **file})
        assert len(bank.layers) == 8 and not bank.provenance.notes


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("exp_avg", "exp_avg_sq"),
        ("opt_state.0.mu", "opt_state.0.nu"),
        ("mu", "nu"),
        ("momentum", "variance"),
        ("m", "v"),
    ],
)
def test_moments_under_the_names_of_the_weights_are_no_networks(first: str, second: str) -> None:
    moments = {key: w * 0.01 for key, w in net(7).items()}
    squares = {key: w**2 for key, w in net(8).items()}
    bank = mkfa.harvest({"params": RAW, first: moments, second: squares})
    assert is_of(bank, RAW) and bank.provenance.skipped == {"optimiser state": 8}


def test_a_momentum_encoder_is_no_momentum() -> None:
    bank = mkfa.harvest({"encoder": RAW, "momentum_encoder": EMA})
    assert is_of(bank, EMA) and bank.provenance.weights == "ema"


def test_buffers_named_after_the_weight_beside_them_are_no_layers() -> None:
    state = dict(RAW)
    for key in LAYERS:
        state |= {f"{key}_init": RAW[key] * 2, f"{key}_momentum": RAW[key] * 3}
    bank = mkfa.harvest(state)
    assert is_of(bank, RAW) and bank.provenance.skipped == {"buffer beside the weight": 8}


def test_generator_and_discriminator_are_both_taken() -> None:
    other = {key: np.concatenate([w, w]) for key, w in net(3).items()}
    bank = mkfa.harvest({"G": RAW, "D": other, "epoch": 3})
    assert len(bank.layers) == 8
    assert bank.provenance.notes == ("the depthwise layers of several networks were taken: 'G' (4), 'D' (4)",)
    assert mkfa.harvest({"net": RAW}).provenance.notes == ()


def test_a_file_on_disk_is_read_as_one_in_memory(tmp_path: Path) -> None:
    import torch

    for writer in ("mmengine", "latent diffusion"):
        path = tmp_path / f"{writer}.pth"
        torch.save(_torch(WRITERS[writer]), path)
        assert mkfa.harvest(path).groups == mkfa.harvest(WRITERS[writer]).groups


def _torch(value: Any) -> Any:
    import torch

    if isinstance(value, dict):
        return {key: _torch(inner) for key, inner in value.items()}
    return torch.from_numpy(np.asarray(value)) if isinstance(value, np.ndarray) else value


def test_an_unrelated_teacher_stays_beside_an_average() -> None:
    bank = mkfa.harvest({"student": RAW, "teacher": net(4), "ema": EMA})
    assert [layer.name.split(".")[0] for layer in bank.layers] == ["teacher"] * 4 + ["ema"] * 4
    assert bank.provenance.weights == "ema"


def test_the_best_state_in_a_dictionary_of_its_own() -> None:
    bank = mkfa.harvest({"model_state_dict": RAW, "best": {"model_state_dict": net(3), "accuracy": 0.9}})
    assert is_of(bank, RAW)


def test_a_live_average_is_known_as_one() -> None:
    from torch import nn
    from torch.optim.swa_utils import AveragedModel

    net = AveragedModel(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4)))
    bank = mkfa.harvest(net)
    assert bank.provenance.weights == "ema" and bank.layers[0].name == "1.weight"
    assert mkfa.harvest(net, weights="ema").groups == bank.groups


def test_a_bank_with_very_many_doubtful_layers_can_be_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state = {"stem.weight": rng.standard_normal((8, 3, 3, 3))}
    for i in range(600):
        state[f"part{'x' * 40}.{i}.mix.weight"] = rng.standard_normal((8, 1, 2, 2))
    bank = mkfa.harvest(state)
    assert len(bank.layers) == 600 and "more layers are doubtful" in bank.provenance.doubtful["others"]
    assert mkfa.read_bank(mkfa.write_bank(bank, tmp_path / "x.h5")) == bank
