"""Dilations that a graph writes as space-to-batch: every b-th pixel goes into one image of the batch.

TensorFlow writes a convolution of dilation b as SpaceToBatchND with block b, the convolution without dilation, and
BatchToSpaceND (https://www.tensorflow.org/api_docs/python/tf/space_to_batch). The convolution's taps are then b pixels
apart, whatever the padding, the cropping and the order of the blocks within the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mkfa.banks.bank import UNKNOWN
from mkfa.readers.reading import DepthwiseLayer

Block = tuple[int, int]
"""Distance in pixels of the image between vertical and between horizontal neighbours; 0 if it is not known."""

PLAIN: Block = (1, 1)
NOT_KNOWN: Block = (0, 0)


def spread(layer: DepthwiseLayer, block: Block) -> DepthwiseLayer:
    """Return a layer with the dilation that it has in the image; an unknown distance makes it unknown."""
    if block == PLAIN:
        return layer
    if 0 in block:
        return replace(layer, dilation=(UNKNOWN, UNKNOWN))
    return replace(layer, dilation=(layer.dilation[0] * block[0], layer.dilation[1] * block[1]))


def after_space_to_batch(block: Block, factors: Sequence[int] | None) -> Block:
    """Return the distance after SpaceToBatchND; with one factor it is along the rows. `factors` None: not constant."""
    step = _two(factors)
    return NOT_KNOWN if step is None else (block[0] * step[0], block[1] * step[1])


def after_batch_to_space(block: Block, factors: Sequence[int] | None) -> Block:
    """Return the distance after BatchToSpaceND; a batch that was not made of blocks keeps its distance."""
    step = _two(factors)
    if block == PLAIN:
        return PLAIN
    if step is None or 0 in block or block[0] % step[0] or block[1] % step[1]:
        return NOT_KNOWN
    return block[0] // step[0], block[1] // step[1]


def _two(factors: Sequence[int] | None) -> Block | None:
    if factors is None or len(factors) not in (1, 2) or min(factors) < 1:
        return None
    return int(factors[0]), int(factors[1]) if len(factors) == 2 else 1
