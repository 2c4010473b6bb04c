"""Batch norm over a batch that several processes share (torch inside functions).

Each process normalises its images by the statistics of the whole batch. torch's SyncBatchNorm does this too, but on
GPUs only, and it replaces modules; here modules, parameters, buffers and their names stay.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError

if TYPE_CHECKING:
    from torch import nn


def share_batch_norms(model: nn.Module, name: str, group: Any = None) -> None:
    """Make a network's batch norms use the statistics of all processes' images in training.

    Parameters
    ----------
    name : the network's name, for messages.
    group
        torch's process group; None: the default one.

    Raises MkfaError: the network has a batch norm that is neither torch's nor timm's.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    kinds = _shared()
    for module in model.modules():
        if not isinstance(module, _BatchNorm):
            continue
        if type(module) not in kinds:
            problem = f"has a {type(module).__name__}, whose statistics processes cannot share"
            raise MkfaError(name, problem, "train it in one process")
        module.__class__ = kinds[type(module)]
        module.group = group


@functools.cache
def _shared() -> dict[type, Any]:
    """Return the class for each kind of batch norm, created on first use: torch is imported only for training."""
    import torch
    import torch.distributed as dist
    from timm.layers.norm_act import BatchNormAct2d
    from torch import nn

    class Normalise(torch.autograd.Function):
        """(x - mean) / sqrt(variance + eps), with mean and variance, (C,), over the images of all processes.

        Statistics are computed in float32 where images are of lower precision, and sums over processes in float64.
        Returns the normalised images, the mean, and the variance with Bessel's correction.
        """

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, eps: float, group: Any) -> Any:
            kind = torch.promote_types(x.dtype, torch.float32)
            wide = x.to(kind)
            dims = [0, *range(2, x.ndim)]
            variance, mean = (part.double() for part in torch.var_mean(wide, dims, correction=0))
            count = torch.full((1,), x.numel() // x.shape[1], dtype=torch.float64, device=x.device)
            sums = torch.cat([count * mean, count * (variance + mean * mean), count])
            dist.all_reduce(sums, group=group)
            total = sums[-1]
            mean, square = (sums[:-1] / total).chunk(2)
            variance = square - mean * mean
            inverse, shape = (variance + eps).rsqrt().to(kind), (1, -1, *[1] * (x.ndim - 2))
            out = (wide - mean.to(kind).view(shape)) * inverse.view(shape)
            ctx.save_for_backward(out, inverse, total)
            ctx.group = group
            mean, unbiased = mean.to(kind), (variance * total / (total - 1)).to(kind)
            ctx.mark_non_differentiable(mean, unbiased)
            return out, mean, unbiased

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            out, inverse, total = ctx.saved_tensors
            g, dims = grads[0], [0, *range(2, out.ndim)]
            sums = torch.cat([g.sum(dims), (g * out).sum(dims)]).double()
            dist.all_reduce(sums, group=ctx.group)
            shape = (1, -1, *[1] * (out.ndim - 2))
            mean, slope = ((part / total).to(out.dtype).view(shape) for part in sums.chunk(2))
            return (g - mean - out * slope) * inverse.view(shape), None, None

    def normalised(norm: Any, x: torch.Tensor) -> torch.Tensor:
        """Return `norm` applied to x in training; its running statistics are updated as in torch."""
        out, mean, variance = Normalise.apply(x, norm.eps, norm.group)
        if norm.track_running_stats:
            with torch.no_grad():
                norm.num_batches_tracked += 1
                weight = 1 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
                norm.running_mean.lerp_(mean, weight)
                norm.running_var.lerp_(variance, weight)
        if norm.affine:
            shape = (1, -1, *[1] * (x.ndim - 2))
            out = out * norm.weight.view(shape) + norm.bias.view(shape)
        else:
            out = out.clone()  # an activation may overwrite it, and the backward pass needs it
        return out.to(x.dtype)  # type: ignore[no-any-return]

    class SharedBatchNorm1d(nn.BatchNorm1d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return normalised(self, x) if self.training else super().forward(x)

    class SharedBatchNorm2d(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return normalised(self, x) if self.training else super().forward(x)

    class SharedBatchNormAct(BatchNormAct2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training:
                return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]
            return self.act(self.drop(normalised(self, x)))  # type: ignore[no-any-return]

    return {nn.BatchNorm1d: SharedBatchNorm1d, nn.BatchNorm2d: SharedBatchNorm2d, BatchNormAct2d: SharedBatchNormAct}
