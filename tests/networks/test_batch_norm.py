"""Batch norm over processes is torch's over the whole batch. Here the other process has the same images."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from mkfa.errors import MkfaError
from mkfa.networks.batch_norm import share_batch_norms


@pytest.fixture(autouse=True)
def twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, group=None: tensor.mul_(2))


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm2d(5), (6, 5, 4, 4)),
        (nn.BatchNorm2d(5, momentum=None, eps=1e-3), (6, 5, 4, 4)),
        (nn.BatchNorm2d(5, affine=False), (6, 5, 4, 4)),
        (nn.BatchNorm2d(5, track_running_stats=False), (6, 5, 4, 4)),
        (nn.BatchNorm1d(5), (6, 5)),
        (BatchNormAct2d(5, act_layer=nn.ReLU), (6, 5, 4, 4)),
        (BatchNormAct2d(5, affine=False), (6, 5, 4, 4)),
    ],
)
def test_outputs_gradients_and_statistics_are_those_of_the_whole_batch(norm, shape):
    import copy

    torch.manual_seed(0)
    for p in norm.parameters():
        nn.init.normal_(p)
    ours = copy.deepcopy(norm)
    share_batch_norms(ours, "it")
    x = (torch.randn(shape) * 3 + 100).requires_grad_()  # a mean that would cancel in sums of squares of float32
    whole = torch.cat([x.detach(), x.detach()]).requires_grad_()
    g = torch.randn(shape)
    for _ in range(2):
        out, expected = ours(x), norm(whole)
        torch.testing.assert_close(out, expected[: len(x)], atol=1e-4, rtol=1e-4)
    out.backward(g)
    expected.backward(torch.cat([g, g]))
    torch.testing.assert_close(x.grad, whole.grad[: len(x)], atol=1e-4, rtol=1e-3)
    for mine, theirs in zip(ours.parameters(), norm.parameters(), strict=True):
        torch.testing.assert_close(2 * mine.grad, theirs.grad, atol=1e-3, rtol=1e-4)  # summed over two processes
    assert list(ours.state_dict()) == list(norm.state_dict())
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(ours.get_buffer(name), buffer)
    assert type(ours) is not type(norm) and isinstance(ours, type(norm))
    torch.testing.assert_close(ours.eval()(x), norm.eval()(x))


def test_another_kind_of_batch_norm_is_refused():
    with pytest.raises(MkfaError, match="a network: has a BatchNorm3d, whose statistics processes cannot share"):
        share_batch_norms(nn.Sequential(nn.BatchNorm3d(2)), "a network")
