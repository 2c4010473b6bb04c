"""Accuracy and loss of a network over one side of a domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mkfa.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    import torch

    from mkfa.training.batches import Side

EVALUATION_BATCH = 512


def evaluate(
    model: torch.nn.Module,
    images: Side,
    *,
    amp: bool,
    one_shape: bool = False,
    right: torch.Tensor | None = None,
    ranks: Ranks = ALONE,
) -> tuple[float, float]:
    """Return top-1 accuracy (0-1) and mean cross-entropy over one side of a domain.

    Parameters
    ----------
    one_shape : fill the last batch with the last image, which does not count: a compiled network is compiled for each
        shape of batches anew.
    right : (N,) bool on the device of the images, or None
        Is filled with whether each image is classified correctly.
    ranks : processes that share the batches; all return the same.
    """
    import torch
    import torch.nn.functional as functional

    device, count = images.device, len(images)
    right = torch.empty(count, dtype=torch.bool, device=device) if right is None else right
    mine = torch.zeros(count, dtype=torch.uint8, device=device)
    total = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    model.eval()
    size = min(EVALUATION_BATCH, count)
    starts = range(0, count, size)[ranks.rank :: ranks.world]
    batches = [
        np.arange(start, start + size if one_shape else min(start + size, count)).clip(max=count - 1)
        for start in starts
    ]
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=amp), images.read_ahead(batches, size):
        for start, rows in zip(starts, batches, strict=True):
            index, counted = images.index(rows), min(size, count - start)
            logits = model(images.normalise(images.take(index))).float()[:counted]
            labels = images.labels_of(index)[:counted]
            mine[start : start + counted] = logits.argmax(1) == labels
            total += functional.cross_entropy(logits, labels, reduction="sum")
    right.copy_(ranks.total(mine))
    return int(right.sum()) / count, float(ranks.total(total)) / count
