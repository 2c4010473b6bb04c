"""Optimiser and learning rate of a recipe.

The learning rate depends on the step only, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mkfa.training.recipe import Recipe

if TYPE_CHECKING:
    import torch


def lr_at(step: int, recipe: Recipe, *, steps: int) -> float:
    """Return the learning rate of optimiser step `step` (0-based) of `steps`.

    Linear warm-up from 0 over `warmup * steps`, then the SGDR cosine (arXiv 1608.03983, equation 5) over the full
    length, matching per-update timm CosineLRScheduler(t_initial=steps, warmup_t=..., warmup_prefix=False).
    """
    warm = warmup_steps(recipe, steps)
    if step < warm:
        return recipe.lr * step / warm
    return recipe.lr_min + 0.5 * (recipe.lr - recipe.lr_min) * (1 + math.cos(math.pi * step / steps))


def warmup_steps(recipe: Recipe, steps: int) -> int:
    """Return the number of warm-up steps."""
    return round(recipe.warmup * steps)


def build_optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return timm's AdamW over the trainable parameters; no weight decay on biases and norms."""
    from timm.optim._optim_factory import create_optimizer_v2

    device = next(model.parameters()).device.type
    kwargs: dict[str, Any] = {"eps": 1e-8, "fused": device in ("cpu", "cuda")}  # one pass per tensor instead of ten
    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model, opt="adamw", lr=recipe.lr, weight_decay=recipe.weight_decay, filter_bias_and_bn=True, **kwargs
    )
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
