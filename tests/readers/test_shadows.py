"""Lists of averaged weights without names, as torch_ema and diffusers store them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mkfa
from mkfa.errors import SourceError


def network() -> nn.Module:
    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 5, groups=8), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1))

    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), block(), block(), block(), nn.Linear(8, 4))


NET = network()
RAW = {key: value.detach().clone() for key, value in NET.state_dict().items()}
NAMES = [name for name, _ in NET.named_parameters()]
SHADOWS = [value.detach() * 0.75 for value in NET.parameters()]
LAYERS = ["1.0.weight", "2.0.weight", "3.0.weight"]


def averaged(shadows: list[torch.Tensor] = SHADOWS, **more: Any) -> dict[str, Any]:
    """What `torch_ema.ExponentialMovingAverage.state_dict` returns."""
    return {"decay": 0.999, "num_updates": 7, "shadow_params": shadows, "collected_params": None, **more}


def harvest(tmp_path: Path, checkpoint: dict[str, Any], **options: Any) -> Any:
    torch.save(checkpoint, tmp_path / "net.pt")
    return mkfa.harvest(tmp_path / "net.pt", **options)


def filters(bank: Any) -> list[np.ndarray[Any, Any]]:
    return [weight for _, weight in bank.iter_layers()]


@pytest.mark.parametrize("root", ["model", "state_dict.module", ""])
@pytest.mark.parametrize("collected", [None, [value.detach() for value in NET.parameters()]])
def test_the_list_gets_the_names_of_the_parameters(tmp_path: Path, root: str, collected: Any) -> None:
    """Buffers of normalisations are in the state dict and not in the list."""
    optimiser = torch.optim.AdamW(NET.parameters())
    state: dict[str, Any] = {f"{root.partition('.')[2]}.{key}".strip("."): value for key, value in RAW.items()}
    state = {root.partition(".")[0]: state} if root else state
    whole = {**state, "ema": averaged(collected_params=collected), "optimizer": optimiser.state_dict(), "step": 3}
    bank = harvest(tmp_path, whole)
    wanted = [SHADOWS[NAMES.index(name)][:, 0].numpy() for name in LAYERS]
    assert [layer.name for layer in bank.layers] == [f"ema.shadow_params.{name}" for name in LAYERS]
    for got, right in zip(filters(bank), wanted, strict=True):
        np.testing.assert_array_equal(got, right)
    text = " ".join(bank.provenance.notes)
    assert "list 'ema.shadow_params', averaged weights without names, were named after" in text and "r = 1.00" in text
    bank = harvest(tmp_path, whole, weights="raw")
    for got, name in zip(filters(bank), LAYERS, strict=True):
        np.testing.assert_array_equal(got, RAW[name][:, 0].numpy())


def test_the_lists_of_diffusers_are_known(tmp_path: Path) -> None:
    ema = {"decay": 0.9999, "optimization_step": 5, "use_ema_warmup": False, "shadow_params": SHADOWS}
    bank = harvest(tmp_path, {"unet": RAW, "ema_unet": ema})
    np.testing.assert_array_equal(filters(bank)[0], SHADOWS[NAMES.index(LAYERS[0])][:, 0].numpy())


@pytest.mark.parametrize("shadows", [SHADOWS[1:], [SHADOWS[1], SHADOWS[0], *SHADOWS[2:]]])
def test_a_list_that_does_not_fit_is_said_and_left_out(tmp_path: Path, shadows: list[torch.Tensor]) -> None:
    bank = harvest(tmp_path, {"model": RAW, "ema": averaged(shadows)})
    for got, name in zip(filters(bank), LAYERS, strict=True):
        np.testing.assert_array_equal(got, RAW[name][:, 0].numpy())
    assert any("fit no state dict beside them in number and shapes" in note for note in bank.provenance.notes)


def test_a_list_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="3 left out as averaged weight without a name"):
        harvest(tmp_path, averaged())
