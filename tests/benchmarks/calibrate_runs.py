"""The part of `calibrate.py` on accuracies: p and intervals over seeds, test images, numbers of layers and draws.

A made run answers an image right with a probability whose logit is the sum of the image's ease, of what the arm does to
that image, of the seed's luck and of the arm's strength, as images and seeds do in trained runs. Strengths are in
points of top-1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
from scipy.optimize import brentq

from mkfa.evidence.bend import fit_bend
from mkfa.grafts.estimates import FEWEST_DRAWS, estimate
from mkfa.results.allowance import answer
from mkfa.results.cells import group_cells, make_cell
from mkfa.results.contrasts import contrasts_of
from mkfa.results.record import RunRecord
from mkfa.results.trends import depth_trends
from mkfa.stats.intervals import paired_shares
from mkfa.training.result import RunResult, encode_right

IMAGES = 400
LAYERS = (2, 4, 6, 8, 10, 12, 14, 16, 18)
KNEE = 8
EASE, OWN, LUCK = 2.0, 0.7, 0.1
"""Standard deviations of logits: of images, of what an arm does to an image, of seeds."""
Found = dict[str, float]
Made = tuple[str, str, str, int, Callable[[np.random.Generator], Found]]


def _chance(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))


@cache
def logit_of(top1: float) -> float:
    """Return the strength with which an arm gets this share of all images right, over images and seeds."""
    x = np.random.default_rng(0).normal(0, np.sqrt(EASE**2 + OWN**2 + LUCK**2), 200_000)
    return float(brentq(lambda b: _chance(x + b).mean() - top1, -10, 10))


def made_runs(
    ease: np.ndarray, arm: str, layers: int, top1: float, seeds: Sequence[int], rng: np.random.Generator
) -> list[RunRecord]:
    """Return the runs of an arm at a number of layers, on images of this ease, (images,)."""
    own = ease + rng.normal(0, OWN, len(ease)) + logit_of(round(top1, 6))
    runs = []
    for seed in seeds:
        right = rng.random(len(ease)) < _chance(own + rng.normal(0, LUCK))
        result = RunResult(
            "done", float(right.mean()), chance=0.1, test_images=len(ease), test_right=encode_right(right.tolist())
        )
        runs.append(RunRecord("" if arm in ("baseline", "random") else "fashion", "digits", arm, layers, seed, result))
    return runs


def _interval(name: str, value: float, half: float) -> Found:
    return {f"{name}|value": value, f"{name}|low": value - half, f"{name}|high": value + half}


def difference(rng: np.random.Generator, *, seeds: int, points: float) -> Found:
    """Compare an arm with the base and with `random` filters, both weaker by so many points."""
    ease = rng.normal(0, EASE, IMAGES)
    base = made_runs(ease, "baseline", 0, 0.8, range(100, 100 + seeds), rng)
    arms = [
        run
        for arm, less in (("transfer", 0.0), ("random", points))
        for run in made_runs(ease, arm, 4, 0.8 - less / 100, range(seeds), rng)
    ]
    accuracy = [run.result.top1_last for run in base if run.result]
    cells = group_cells(arms, accuracy, base_runs=base)
    against = make_cell(base, accuracy, base_runs=base)
    weaker = next(cell for cell in cells if cell.arm == "random")
    found = _interval("change against the base", weaker.relative, weaker.half_width)
    for contrast in contrasts_of(against, cells, runs=[*base, *arms]):
        if contrast.series == "transfer" and contrast.against == "random":
            found |= {"p of a difference": contrast.p}
            found |= _interval("difference, Welch", contrast.difference, contrast.half_width)
            found |= _interval("difference, by seed", contrast.difference, contrast.paired)
    return found


def curve(rng: np.random.Generator, *, seeds: int, points: float) -> Found:
    """Freeze ever more layers, each at a cost of so many points, and fit the trends with depth."""
    ease = rng.normal(0, EASE, IMAGES)
    base = made_runs(ease, "baseline", 0, 0.8, range(100, 100 + seeds), rng)
    runs = [
        run
        for layers in LAYERS
        for arm, cost in (("transfer", points * layers), ("random", 0.0))
        for run in made_runs(ease, arm, layers, 0.8 - cost / 100, range(seeds), rng)
    ]
    accuracy = [run.result.top1_last for run in base if run.result]
    cells = group_cells(runs, accuracy, base_runs=base)
    margin = 0.045 if points else 0.01
    allowed = [layers for layers in LAYERS if points * layers / 100 <= margin]
    found: Found = {}
    for one in answer(make_cell(base, accuracy, base_runs=base), cells, margin=margin).allowances:
        if one.arm == "transfer" and one.low is not None and one.high is not None:
            found["share of intervals that hold the number of layers"] = float(one.low <= allowed[-1] <= one.high)
    for trend in depth_trends(runs):
        if trend.series == "transfer":
            name = "slope of a difference" if trend.against else "slope"
            found |= {f"p of the {name}": trend.p, f"p of the rank correlation, {name}": trend.p_rho}
            found |= _interval(name, trend.slope, trend.half_width)
    return found


def knee(rng: np.random.Generator, *, seeds: int, sd: float) -> Found:
    """Fit two pieces to curves that are level up to `KNEE` layers and fall by a point a layer beyond."""
    at = np.array((0, *LAYERS))
    true = 0.8 - 0.01 * np.maximum(at - KNEE, 0)
    curves = true[:, None] + rng.normal(0, sd / 100, (len(at), seeds))
    bend = fit_bend(dict(zip(at.tolist(), curves, strict=True)), shape="flat, then falling", seed=int(rng.integers(99)))
    if bend is None:
        raise ValueError("too few numbers of layers")
    return {"share of intervals that hold the knee": float(bend.low <= KNEE <= bend.high)}


def crossing(rng: np.random.Generator, *, seeds: int) -> Found:
    """Find where an arm that is ahead of another by 2.5 points, less .25 a layer, is ahead by one: at 6 layers."""
    ease = rng.normal(0, EASE, IMAGES)
    runs = [
        run
        for layers in LAYERS
        for arm, ahead in (("transfer", 2.5 - 0.25 * layers), ("random", 0.0))
        for run in made_runs(ease, arm, layers, 0.8 + ahead / 100, range(seeds), rng)
    ]
    (trend,) = (trend for trend in depth_trends(runs) if trend.against)
    at, low, high = trend.crossing
    if np.isnan(at):  # the slope may be 0: none is printed
        return {"share of trends with a crossing": 0.0, "share of crossings that are held": math.nan}
    return {"share of trends with a crossing": 1.0, "share of crossings that are held": float(low <= 6 <= high)}


def two_runs(rng: np.random.Generator, *, points: float) -> Found:
    """Compare two runs on the same images; where images are drawn again, they keep what they learned."""
    ease, luck = rng.normal(0, EASE, 20 * IMAGES), rng.normal(0, LUCK, 2)
    logits = [
        ease + rng.normal(0, OWN, len(ease)) + logit_of(0.8 - less / 100) + more
        for less, more in zip((0, points), luck, strict=True)
    ]
    true = float(_chance(logits[0]).mean() - _chance(logits[1]).mean())
    first, second = (rng.random(IMAGES) < _chance(x[:IMAGES]) for x in logits)
    counts = int((first > second).sum()), int((second > first).sum())
    low, high = paired_shares(*counts, IMAGES)
    return {"share of intervals that hold the difference (Agresti and Min)": float(low <= true <= high)}


def graft(rng: np.random.Generator, *, draws: int, images: int, share: float, luck: float = 0.3) -> Found:
    """Ask whether grafted networks give the same answer, on so many images with so many draws of filters.

    With one draw or two intervals hold for these draws alone: they are made without luck, a standard deviation.
    """
    ease = rng.normal(0, EASE, images)
    luck *= draws >= FEWEST_DRAWS
    logit = logit_of(share) + ease + rng.normal(0, luck, (draws, 1)) + rng.normal(0, OWN, (draws, images))
    same = estimate((rng.random((draws, images)) < _chance(logit)).astype(float), share=True)
    return {"same answer|value": same.mean, "same answer|low": same.low, "same answer|high": same.high}


def settings() -> Iterator[Made]:
    """Yield part, table, column, number of rows, and how a row is made."""
    for seeds, points in ((2, 0.0), (3, 0.0), (5, 0.0), (3, 2.0), (3, 5.0), (5, 2.0), (5, 5.0)):
        make = partial(difference, seeds=seeds, points=points)
        yield "runs", f"differences of accuracy, {IMAGES} test images", f"{seeds} seeds, {points:g} points", 400, make
    for seeds, points in ((2, 0.0), (3, 0.0), (5, 0.0), (3, 0.5), (5, 0.5)):
        make = partial(curve, seeds=seeds, points=points)
        title = "curves over nine numbers of layers"
        yield "runs", title, f"{seeds} seeds, {points:g} points a layer", 200, make
    for seeds, sd in ((3, 1.0), (5, 1.0), (5, 3.0)):
        title = "curves with a knee at 8 of 18 layers, 1 point a layer beyond"
        yield "runs", title, f"{seeds} seeds, SD {sd:g} points", 100, partial(knee, seeds=seeds, sd=sd)
    for seeds in (3, 5):
        title = "where an arm's lead over another falls to one point, 0.25 points a layer"
        yield "runs", title, f"{seeds} seeds", 200, partial(crossing, seeds=seeds)
    for points in (0.0, 5.0):
        title = f"two runs, {IMAGES} test images"
        yield "runs", title, f"{points:g} points", 1000, partial(two_runs, points=points)
    for draws, images, share in ((1, 100, 0.6), (2, 100, 0.6), (3, 100, 0.6), (3, 100, 0.2), (5, 300, 0.9)):
        make = partial(graft, draws=draws, images=images, share=share)
        yield "graft", "answers that stay the same", f"{images} images, {draws} draws, {share:g}", 1000, make
    for draws, images, luck in ((3, 100, 0.0), (3, 100, 0.7), (3, 1000, 0.7), (5, 100, 0.0), (5, 100, 0.7)):
        make = partial(graft, draws=draws, images=images, share=0.4, luck=luck)
        title = "answers that stay the same, .4, by the standard deviation of draws, logits"
        yield "graft", title, f"{images} images, {draws} draws, SD {luck:g}", 1000, make
