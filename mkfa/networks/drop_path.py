"""Stochastic depth whose draws are inputs: drawn for a whole batch before the forward pass (torch inside functions).

timm's `DropPath` draws in the forward pass, for the images that it gets there. If the draws are made beforehand, a step
can be captured as a CUDA graph, and a process that computes part of a batch can use the draws of the whole batch.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

_IMAGES = 2
"""Number of images in the forward pass that finds the calls."""


class DropPaths:
    """All stochastic depth of a network in training, as one matrix of factors.

    Attributes
    ----------
    calls : tuple of modules
        In order of execution; a module that is called twice in a forward pass appears twice.
    """

    def __init__(self, calls: tuple[Any, ...]) -> None:
        self.calls = calls
        for module in calls:
            module.__class__, module.calls, module.at = _given(), (), 0
        for number, module in enumerate(calls):
            module.calls += (number,)

    def draw(self, count: int, device: torch.device) -> torch.Tensor | None:
        """Draw the factors of a batch, (calls, count) float32, from the device's generator; None without any calls.

        The draws, and their order, are those that timm's modules would make in a forward pass.
        """
        import torch

        if not self.calls:
            return None
        factors = torch.empty((len(self.calls), count), device=device)
        for row, module in zip(factors, self.calls, strict=True):
            keep = 1 - module.drop_prob
            row.bernoulli_(keep)
            if keep > 0 and module.scale_by_keep:
                row.div_(keep)
        return factors

    def use(self, factors: torch.Tensor | None) -> None:
        """Use these factors, (calls, B), in the next forward passes."""
        for module in self.calls:
            module.factors = factors


def give_drop_paths(model: nn.Module, shape: tuple[int, int, int]) -> DropPaths | None:
    """Make a network's stochastic depth use draws that are made before the forward pass.

    Parameters
    ----------
    model
        Parameters, buffers and their names do not change.
    shape : (C, H, W) of an image.

    Returns
    -------
    DropPaths or None
        None, with nothing changed, if the network has stochastic depth that does not act on whole images, or if it
        cannot run without data (device "meta"), which is how the calls are found.

    Examples
    --------
    >>> from mkfa.networks.build import build_network
    >>> model = build_network("convmixer_8_3", classes=2, channels=3, size=8, seed=0, drop_path=0.5)
    >>> drops = give_drop_paths(model, (3, 8, 8))
    >>> [module.drop_prob for module in drops.calls]
    [0.25, 0.5]
    """
    import torch
    from timm.layers.drop import DropPath

    ours = {name: module for name, module in model.named_modules() if isinstance(module, DropPath) and module.drop_prob}
    if not ours:
        return DropPaths(())
    shadow = copy.deepcopy(model).to("meta").train()
    seen: list[tuple[str, int]] = []
    for name in ours:
        shadow.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.append((name, len(inputs[0])))
        )
    try:
        with torch.no_grad():
            shadow(torch.empty((_IMAGES, *shape), device="meta"))
    except (NotImplementedError, RuntimeError):
        return None
    if any(images != _IMAGES for _, images in seen):
        return None
    return DropPaths(tuple(ours[name] for name, _ in seen))


@functools.cache
def _given() -> Any:
    """Return the class, created on first use so that torch is imported only for training."""
    from timm.layers.drop import DropPath

    class GivenDropPath(DropPath):
        """Stochastic depth with the factors that `DropPaths.use` was given."""

        factors: torch.Tensor
        calls: tuple[int, ...]
        at: int

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training:
                return x
            row = self.factors[self.calls[self.at]]
            self.at = (self.at + 1) % len(self.calls)
            return x * row.to(x.dtype).view(-1, *[1] * (x.ndim - 1))

    return GivenDropPath
