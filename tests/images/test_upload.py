"""Arrays that go to a device together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mkfa.images import upload
from mkfa.images.upload import all_to_device
from mkfa.training.draws import draw
from mkfa.training.recipe import load_recipe


def test_one_copy_has_every_array_with_its_type_and_shape(monkeypatch):
    """The device is one in name only: what would be copied there stays in memory."""
    copies = []

    def to_device(values: np.ndarray, _: torch.Tensor) -> torch.Tensor:
        copies.append(values)
        return torch.from_numpy(values)

    recipe = load_recipe("paper", {"erasing": 0.5, "crop_from": 0, "eval_size": 0})
    draws = tuple(draw(recipe, seed=0, number=n, count=7, side=32, flip=0.5) for n in range(3))
    odd = (np.arange(3, dtype=np.uint8), np.zeros((0, 2), np.float32), np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    expected = all_to_device((draws, odd), torch.zeros(()))  # in memory, array by array
    monkeypatch.setattr(upload, "to_device", to_device)
    found = all_to_device((draws, odd), torch.zeros((), device="meta"))
    assert len(copies) == 1
    for (drawn, rest), same in zip((found, expected), ((draws, odd),) * 2, strict=True):
        assert [tensor.tolist() for tensor in rest] == [array.tolist() for array in same[1]]
        for one, other in zip(drawn, same[0], strict=True):
            assert (one.seed, one.count, one.mix) == (other.seed, other.count, other.mix)
            assert np.array_equal(one.crops.mirrored.numpy(), other.crops.mirrored)
            assert np.array_equal(one.erased.boxes.left.numpy(), other.erased.boxes.left)
            for mine, theirs in zip(one.operations, other.operations, strict=True):
                assert mine.operation is theirs.operation
                assert mine.rows.dtype == torch.int64 and mine.parameters.dtype == torch.float32
                assert np.array_equal(mine.parameters.numpy(), theirs.parameters)


def test_a_copy_on_a_cpu_is_no_copy():
    array = np.arange(3)
    (tensor,) = all_to_device((array,), torch.zeros(()))
    array[0] = 7
    assert tensor.tolist() == [7, 1, 2]


@pytest.mark.parametrize("like", ["cpu", "meta"])
def test_nothing_to_copy(like):
    assert all_to_device((None, (1, "a")), torch.zeros((), device=like)) == (None, (1, "a"))
