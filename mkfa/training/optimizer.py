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

    Linear warm-up from 0 to the peak, which its last step reaches, over `warmup * steps`; then the SGDR cosine (arXiv
    1608.03983, equation 5) from the peak over the remaining steps. This is `cosine_scheduler` of the code of "weight
    selection" (github.com/OscarXZQ/weight-selection, utils.py) and, after warm-up, per-update timm
    CosineLRScheduler(t_initial=steps - warm, warmup_t=warm, warmup_prefix=True).

    Examples
    --------
    >>> from mkfa.training.recipe import load_recipe
    >>> paper = load_recipe("paper")
    >>> [round(lr_at(step, paper, steps=300), 6) for step in (0, 49, 50, 175, 299)]
    [0.0, 0.004, 0.004, 0.002001, 1e-06]
    """
    warm = warmup_steps(recipe, steps)
    if step < warm:
        return recipe.lr * step / max(1, warm - 1)
    done = (step - warm) / (steps - warm)
    return recipe.lr_min + 0.5 * (recipe.lr - recipe.lr_min) * (1 + math.cos(math.pi * done))


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
    """Set the learning rate of every parameter group, on the device where it is kept there (`as_capturable`)."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], float):
            group["lr"] = lr
        else:
            group["lr"].fill_(lr)


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state dict whatever strategy it was saved under: the learning rate becomes a number again."""
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["lr"], group["capturable"] = float(group["lr"]), False
    match_layout(optimizer)


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Give the moments the memory order of their parameters, since fused updates take tensors as they lie in memory."""
    import torch

    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def as_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keep the learning rate and the number of steps on the device, so that a CUDA graph reads them there."""
    import torch

    for group in optimizer.param_groups:
        group["lr"], group["capturable"] = torch.full((), float(group["lr"]), device=device), True
    for state in optimizer.state.values():
        state["step"] = state["step"].to(device)


def moving_average(model: torch.nn.Module, recipe: Recipe) -> Any:
    """Return timm's moving average of the weights; None if the recipe has none."""
    if not recipe.ema:
        return None
    from timm.utils.model_ema import ModelEmaV3

    return ModelEmaV3(model, decay=recipe.ema)
