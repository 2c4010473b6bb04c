"""The network's own weights among optimiser state, averaged copies and buffers."""

import pytest

from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.copies import NOT_AVERAGED, OPTIMISER, SECOND_COPY, roles
from mkfa.readers.tensors.roles import is_optimiser, is_weight_name

NET = {"stem.weight": (8, 3, 3, 3), "blocks.0.dw.weight": (8, 1, 3, 3), "blocks.1.dw.weight": (8, 1, 5, 5)}


def infos(*prefixes: str, net: dict[str, tuple[int, ...]] = NET) -> dict[str, TensorInfo]:
    return {p + k: TensorInfo(p + k, s, "float32", 4) for p in prefixes for k, s in net.items()}


def alive(found: dict[str, TensorInfo]) -> set[str]:
    left_out = roles(found).left_out
    return {key for key in found if key not in left_out}


@pytest.mark.parametrize(
    ("plain", "averaged"),
    [
        ("state_dict.", "state_dict_ema."),
        ("model.", "model_ema.module."),
        ("state_dict.model.", "ema."),
        ("", "ema.module."),
        ("state_dict.student.backbone.", "state_dict.teacher.backbone."),
        ("module.encoder_q.", "module.encoder_k."),
        ("online.net.", "target.net."),
        ("model._orig_mod.module.", "modelEma.module._orig_mod."),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_averaged_twin_is_taken_under_any_wrapper(plain: str, averaged: str, first: bool) -> None:
    found = infos(*([plain, averaged] if first else [averaged, plain]))
    assert alive(found) == {averaged + key for key in NET}
    why = roles(found).left_out
    assert {why[plain + key] for key in NET} == {NOT_AVERAGED}
    assert averaged.split(".")[0] in roles(found).notes[0]


def test_an_averager_that_drops_the_dots_is_a_twin() -> None:
    found = infos("state_dict.model.")
    bare = {f"state_dict.model_ema.{k.replace('.', '')}": shape for k, shape in NET.items()}
    found |= {k: TensorInfo(k, s, "float32", 4) for k, s in bare.items()}
    assert alive(found) == set(bare)


def test_three_copies_leave_one() -> None:
    found = infos("model.", "ema.", "teacher.")
    assert alive(found) == {"ema." + key for key in NET}
    assert roles(found).left_out["teacher.stem.weight"] == SECOND_COPY


def test_a_teacher_of_another_shape_is_no_twin() -> None:
    other = {key: (2 * s[0], *s[1:]) for key, s in NET.items()}
    found = infos("student.") | infos("teacher.", net=other)
    assert alive(found) == set(found)
    assert "does not match" in roles(found).notes[0]


@pytest.mark.parametrize("names", [("rgb.", "depth."), ("blocks_k.", "blocks."), ("stage1.target.", "stage2.target.")])
def test_equal_parts_of_one_network_are_not_twins(names: tuple[str, str]) -> None:
    found = infos(*names)
    assert alive(found) == set(found)


def test_equal_blocks_and_projections_are_not_twins() -> None:
    net = {f"blocks.{i}.attn.conv_{p}.weight": (8, 1, 3, 3) for i in range(3) for p in "qkv"}
    assert alive(infos("", net=net)) == set(net)


def test_an_averaged_copy_alone_is_the_network() -> None:
    found = infos("state_dict_ema.module.")
    assert alive(found) == set(found)
    assert roles(found).notes == ()


@pytest.mark.parametrize(
    ("key", "optimiser"),
    [
        ("optimizer.state.0.exp_avg", True),
        ("optimizer_states.0.state.12.exp_avg_sq", True),
        ("state.3.momentum_buffer", True),
        ("opt.state.3.anything", True),
        ("exp_avg.blocks.0.dw.weight", True),
        ("blocks.0.dw.weight", False),
        ("state.0.weight", False),
        ("state_dict.blocks.0.dw.weight", False),
    ],
)
def test_optimiser_state_is_told_by_its_path(key: str, optimiser: bool) -> None:
    assert is_optimiser(key) is optimiser
    why = roles({key: TensorInfo(key, (8, 1, 3, 3), "float32", 4)}).left_out
    assert why == ({key: OPTIMISER} if optimiser else {})


@pytest.mark.parametrize(
    ("key", "weight"),
    [
        ("a.weight", True),
        ("weight", True),
        ("a.dw_weight", True),
        ("a.depthwise_kernel", True),
        ("a.filt", False),
        ("a.blur_kernel", False),
        ("a.bias", False),
        ("a.weight_orig", False),
        ("a.parametrizations.weight.0", False),
        ("a.gamma", False),
    ],
)
def test_weights_are_told_from_buffers_by_their_last_name(key: str, weight: bool) -> None:
    assert is_weight_name(key) is weight
