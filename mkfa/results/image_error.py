"""What the choice of test images adds to the variance of an accuracy difference.

All runs on a target are tested on the same images. The variance between seeds says how far other seeds would move a
difference on *these* images; other images would move it too. An interval here is about both: images and seeds are
crossed random effects (Searle, Casella & McCulloch 1992, Variance Components, chapter 4; Owen 2007, The Pigeonhole
Bootstrap, arXiv 0712.1111), so that the variance of the difference D between two arms is

    var D = (between seeds) / seeds + (between images) / images - (interaction, which both terms contain).

**Paired by image.** Two arms err on the same hard images, so the variance between images is that of the per-image
difference, not the sum of two binomial variances. Runs record which images they get right, and
`image_variance` computes it from that. Runs of earlier versions did not; for these the sum of the binomial variances
p (1 - p) / n stands in, an upper bound unless images that are hard for one arm are easy for the other; `exact` says
which was used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F64
from mkfa.frozen import ByContent
from mkfa.results.record import RunRecord

Right = Mapping[int, F64]
"""By seed: for each test image, the share of the averaged runs that classified it correctly, (images,)."""


@dataclass(frozen=True, slots=True)
class ImageError:
    """The variance that other test images would add to a difference, beyond that between seeds.

    Attributes
    ----------
    variance : in units of squared shares; 0 if the number of images is unknown.
    images : number of test images; 0 if unknown.
    exact : True if it was computed from the images that both sides got right; False for the binomial upper bound.
    """

    variance: float
    images: int
    exact: bool

    @property
    def sd(self) -> float:
        """Its square root: the standard error that the test images cause."""
        return math.sqrt(self.variance)


NONE = ImageError(0.0, 0, False)
"""If nothing is known of the test images."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers(ByContent):
    """Runs of one point: accuracies by seed, number of test images, and which of them each run got right, if known."""

    top1: Mapping[int, float]
    images: int
    right: Right | None

    @classmethod
    def of(cls, runs: Sequence[RunRecord]) -> Answers:
        """Return the answers of the finished runs among `runs`."""
        done = {r.seed: r.result for r in runs if r.result is not None and r.result.done}
        counts = {result.test_images for result in done.values()}
        images = counts.pop() if len(counts) == 1 else 0
        known = {seed: result.right for seed, result in done.items()}
        right = None
        if images and known and all(len(answers) == images for answers in known.values()):
            right = {seed: np.asarray(answers, np.float64) for seed, answers in known.items()}
        return cls({seed: result.top1_last for seed, result in done.items()}, images, right)

    @classmethod
    def mean(cls, points: Sequence[Answers], seeds: Sequence[int]) -> Answers:
        """Return the mean of several points on the same images, seed by seed."""
        top1 = {seed: float(np.mean([point.top1[seed] for point in points])) for seed in seeds}
        images = {point.images for point in points}
        right = None
        if len(images) == 1 and all(point.right is not None for point in points):
            right = {seed: np.mean([(p.right or {})[seed] for p in points], axis=0) for seed in seeds}
        return cls(top1, images.pop() if len(images) == 1 else 0, right)


def error_of_difference(a: Answers, b: Answers, *, paired: bool = False) -> ImageError:
    """Return what the test images add to the variance of mean(a) - mean(b), both over seeds.

    `paired`: seeds are common to both and compared one by one, so that the interaction is that of their differences.
    """
    images = a.images if a.images == b.images else 0
    if not images or not a.top1 or not b.top1:
        return NONE
    if a.right is not None and b.right is not None and images > 1:
        if paired:
            answers = [np.stack([a.right[seed] - b.right[seed] for seed in a.right])]
        else:
            answers = [np.stack(list(a.right.values())), -np.stack(list(b.right.values()))]
        return ImageError(image_variance(*answers), images, True)
    shares = [min(max(float(np.mean(list(side.top1.values()))), 0.0), 1.0) for side in (a, b)]
    return ImageError(sum(p * (1 - p) for p in shares) / images, images, False)


def image_variance(*answers: F64) -> float:
    """Return the variance of the sum of mean(x) over x in `answers` that is due to the images, without interaction.

    Parameters
    ----------
    *answers : (seeds, images) float64
        Answers of the runs of one side, +1 or 0 for each image; negative for the side that is subtracted.

    Notes
    -----
    With m_i the sum of the sides' means over seeds for image i, the variance of the m_i over images divided by the
    number of images estimates images and interaction together. The interaction, estimated from the deviations from
    additivity, is in the variance between seeds as well and is subtracted; the result is not negative.

    Examples
    --------
    >>> a = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], float)
    >>> b = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], float)
    >>> round(image_variance(a, -b), 4)  # they differ in one of four images, in every seed
    0.0625
    """
    images = answers[0].shape[1]
    total = float(np.var(np.sum([x.mean(0) for x in answers], axis=0), ddof=1)) / images
    interaction = 0.0
    for x in answers:
        if len(x) > 1:
            rest = x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()
            interaction += float((rest**2).sum()) / ((len(x) - 1) * (images - 1)) / (len(x) * images)
    return float(max(0.0, total - interaction))
