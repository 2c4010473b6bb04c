"""Augmentation: the distributions of timm's own, exact pixels where they can be said, and no draw shared by samples."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from timm.data.mixup import Mixup, mixup_target

from mkfa.images import augment


def images(count: int, side: int = 16, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def test_shifts_and_mirrors_are_those_of_a_plain_loop():
    x, shift = images(64), 3
    moved = augment.shift_and_flip(x, augment.draw_shifts(np.random.default_rng(1), 64, shift=shift, flip=0.5))
    rng = np.random.default_rng(1)
    down, right, mirrored = rng.integers(-shift, shift + 1, 64), rng.integers(-shift, shift + 1, 64), rng.random(64)
    for i in range(64):
        padded = np.pad(x[i].numpy(), ((0, 0), (shift, shift), (shift, shift)), mode="edge")
        cut = padded[:, shift + down[i] : shift + down[i] + 16, shift + right[i] : shift + right[i] + 16]
        np.testing.assert_array_equal(moved[i].numpy(), cut[:, :, ::-1] if mirrored[i] < 0.5 else cut)
    assert len(set(zip(down.tolist(), right.tolist(), strict=True))) > 20


def test_nothing_is_done_where_nothing_is_asked():
    x = images(4)
    rng = np.random.default_rng(0)
    assert augment.shift_and_flip(x, augment.draw_shifts(rng, 4, shift=0, flip=0.0)) is x
    assert augment.erase(x, augment.draw_erased(rng, 4, 16, probability=0.0)) is x
    assert augment.mix(x, augment.draw_mix(rng, 16, mixup=0.0, cutmix=0.0)) is x
    assert rng.random() == np.random.default_rng(0).random()  # nothing was drawn


@pytest.mark.parametrize("domain", ["letters", "digits", "scripts"])
def test_what_has_a_left_and_a_right_is_never_mirrored(domain):
    assert augment.effective_flip(0.5, domain) == 0
    assert augment.effective_flip(0.5, "emoji") == 0.5


def test_erased_rectangles_are_distributed_as_timms():
    from timm.data.random_erasing import RandomErasing

    side, count = 32, 3000
    box = augment.draw_boxes(
        np.random.default_rng(0), count, side, area=augment.ERASED_AREA, aspect=augment.ERASED_ASPECT
    )
    random.seed(1)
    blank = RandomErasing(probability=1.0, mode="const", device="cpu")(torch.ones(count, 1, side, side))[:, 0] == 0
    rows, columns = blank.any(2), blank.any(1)
    theirs = (rows.int().argmax(1), columns.int().argmax(1), rows.sum(1), columns.sum(1))
    for ours, other in zip((box.top, box.left, box.height, box.width), theirs, strict=True):
        assert ks_2samp(ours, other.numpy()).pvalue > 1e-3


def test_erasing_puts_noise_into_one_rectangle_of_a_share_of_the_images():
    x = torch.full((2000, 3, 16, 16), 7.0)
    torch.manual_seed(0)
    erased = augment.erase(x, augment.draw_erased(np.random.default_rng(3), 2000, 16, probability=0.25))
    changed = (erased != 7).any(1)
    assert 0.2 < changed.any(2).any(1).float().mean() < 0.3
    for one in changed[changed.any(2).any(1)][:50]:
        assert one.sum() == one.any(1).sum() * one.any(0).sum()
    noise = erased[erased != 7]
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixing_is_timms(mixup, cutmix, monkeypatch):
    """Given the same draws, the images and the targets are those of timm's Mixup."""
    x, labels, kinds = torch.rand(8, 3, 16, 16), torch.arange(8) % 4, set()
    for seed in range(20):
        mixing = augment.draw_mix(np.random.default_rng(seed), 16, mixup=mixup, cutmix=cutmix)
        mixed = augment.mix(x, mixing)
        rng = np.random.default_rng(seed)
        cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
        drawn = float(rng.beta(cutmix, cutmix) if cut else rng.beta(mixup, mixup))
        theirs = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, prob=1.0, label_smoothing=0.1, num_classes=4)
        monkeypatch.setattr(theirs, "_params_per_batch", lambda drawn=drawn, cut=cut: (drawn, cut))
        monkeypatch.setattr(np.random, "randint", lambda low, high, size=None, rng=rng: rng.integers(low, high))
        other, target = theirs(x.clone(), labels)
        torch.testing.assert_close(mixed, other)
        torch.testing.assert_close(mixup_target(labels, 4, mixing.share, 0.1), target)
        kinds.add(cut)
    assert kinds == ({True, False} if mixup and cutmix else {bool(cutmix)})
