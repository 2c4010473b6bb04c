"""RandAugment against timm: each operation's pixels and each parameter's distribution."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import ks_2samp
from timm.data import auto_augment as theirs
from timm.data import create_transform

from mkfa.errors import MkfaError
from mkfa.images.rand_augment import FILL, OPERATIONS, draw_operations, magnitudes, parse_notation, rand_augment
from mkfa.training.recipe import load_recipe

PAPER = load_recipe("paper").rand_augment
GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}
BARE = {"AutoContrast", "Equalize", "Invert"}
MEAN = (124, 116, 104)


def test_fill_and_interpolation_are_those_of_the_papers_pipeline():
    """`create_transform` with the published command's options fills with the mean colour, bicubic throughout."""
    pipeline = create_transform(
        224, is_training=True, auto_augment=PAPER, interpolation="bicubic", re_prob=0.25, color_jitter=0.4
    )
    [augment] = [t for t in pipeline.transforms if isinstance(t, theirs.RandAugment)]
    for operation in augment.ops:
        assert tuple(operation.kwargs["fillcolor"]) == FILL == MEAN
        assert operation.kwargs["resample"] == Image.Resampling.BICUBIC


def pictures(count: int = 8, side: int = 32, channels: int = 3) -> np.ndarray:
    """Return smooth pictures that do not use the whole range; (B, H, W, C) uint8."""
    noise = np.random.default_rng(0).normal(size=(count, side, side, channels))
    smooth = gaussian_filter(noise, (0, 2, 2, 0))
    return np.clip(110 + 45 * smooth / smooth.std(), 20, 230).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_to_pixels_what_timms_does(name, channels):
    operation = OPERATIONS[name]
    x = pictures(channels=channels)
    rng = np.random.default_rng(3)
    values = operation.draw(rng, magnitudes(rng, len(x), parse_notation(PAPER)))
    parameter = torch.from_numpy(operation.parameter(values)).float()
    ours = operation.apply(torch.from_numpy(x).permute(0, 3, 1, 2).float(), parameter).permute(0, 2, 3, 1).numpy()
    for i, image in enumerate(x):
        pil = Image.fromarray(image if channels == 3 else image[..., 0])
        extra = {}
        if name in GEOMETRIC:
            extra = {"fillcolor": MEAN if channels == 3 else 115, "resample": Image.Resampling.BICUBIC}
        if name == "PosterizeIncreasing" and values[i] == 0:  # PIL refuses now what used to give black
            assert not ours[i].any()
            continue
        value = int(values[i]) if name.startswith(("Posterize", "Solarize")) else float(values[i])
        other = theirs.NAME_TO_OP[name](pil, *([] if name in BARE else [value]), **extra)
        expected = np.asarray(other, float).reshape(image.shape)
        gap = np.abs(ours[i] - expected)
        if name in GEOMETRIC:
            assert np.quantile(gap, 0.95) <= 5, name  # the cubic has another parameter
            assert np.median(gap) <= 1, name
            fill = MEAN if channels == 3 else 115
            assert ((ours[i] == fill).all(-1) == (expected == fill).all(-1)).mean() > 0.97
            assert np.abs(ours[i] - image).mean() > 4
        else:
            assert gap.max() <= (1 if "Increasing" in name else 0), name


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in BARE])
def test_a_parameter_is_distributed_as_timms(name, monkeypatch):
    count, policy = 4000, parse_notation(PAPER)
    rng = np.random.default_rng(0)
    ours = OPERATIONS[name].draw(rng, magnitudes(rng, count, policy))
    random.seed(0)
    operation = theirs.rand_augment_transform(PAPER, {"img_mean": (128, 128, 128)}).ops
    [one] = [op for op in operation if op.name == name]
    seen: list[float] = []
    one.prob = 1.0
    one.aug_fn = lambda img, value, **_: seen.append(value)
    for _ in range(count):
        one(None)
    assert ks_2samp(ours, seen, method="asymp").pvalue > 1e-3
    assert (ours.min(), ours.max()) == pytest.approx((min(seen), max(seen)), rel=0.15, abs=1)


def test_the_operations_their_number_and_their_probability_are_timms():
    transform = theirs.rand_augment_transform(PAPER, {})
    assert [op.name for op in transform.ops] == list(OPERATIONS)
    policy = parse_notation(PAPER)
    assert policy.layers == transform.num_layers
    for op in transform.ops:
        assert (op.prob, op.magnitude, op.magnitude_std) == (policy.probability, policy.magnitude, policy.deviation)


def test_each_sample_is_changed_on_its_own_and_a_quarter_not_at_all():
    x = torch.from_numpy(pictures(1)).permute(0, 3, 1, 2).expand(600, 3, 32, 32).contiguous()
    changed = rand_augment(x, draw_operations(np.random.default_rng(0), 600, notation=PAPER))
    same = (changed == x).flatten(1).all(1).float().mean()
    assert 0.18 < float(same) < 0.32
    assert len({t.numpy().tobytes() for t in changed}) > 300
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 255
    again = rand_augment(x, draw_operations(np.random.default_rng(0), 600, notation=PAPER))
    assert torch.equal(changed, again)


@pytest.mark.parametrize("text", ["rand-m9-mstd0.5", "rand-m9-inc0", "augmix-m3", "rand-m9-inc1-w0"])
def test_what_is_not_implemented_is_refused(text):
    with pytest.raises(MkfaError, match=r"rand-m9-mstd0\.5-inc1"):
        parse_notation(text)
