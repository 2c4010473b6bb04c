"""Training crops and test images are those of timm's pipeline from the original files, in pixels and spectrum."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_images
from timm.data import create_transform
from timm.data.transforms import RandomResizedCropAndInterpolation

from mkfa.errors import MkfaError
from mkfa.images import augment
from mkfa.images.domain_file import DomainError, make_domain, write_domain
from mkfa.images.load import facts_to_train, load_domain, load_to_train, pack_domain
from mkfa.images.opened import Domains
from mkfa.images.resample import CROPPED_AREA, CROPPED_ASPECT, CropBoxes, draw_crops, place_crops, scale_boxes
from mkfa.training.batches import place
from mkfa.training.recipe import load_recipe

PAPER = load_recipe("paper")
SIZES = {"size": 224, "max_size": 0, "crop_from": PAPER.crop_from, "eval_size": PAPER.eval_size}
CPU = torch.device("cpu")
PHOTOGRAPHS = load_sample_images().images
"""Two photographs of 427 x 640 pixels."""


def crops(count: int, *, flip: float = 0.0, seed: int = 5) -> augment.Crops:
    return augment.draw_flipped_crops(np.random.default_rng(seed), count, flip=flip)


def boxes(*rectangle: int, count: int = 1) -> CropBoxes:
    return CropBoxes(*(torch.full((count,), float(n)) for n in rectangle))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of photographs as it lies on disk: one class of landscape, one of portrait format, PNG."""
    for side in ("train", "test"):
        for i, image in enumerate(PHOTOGRAPHS):
            place = tmp_path / "photographs" / side / f"class{i}"
            place.mkdir(parents=True)
            Image.fromarray(image if i == 0 else image.transpose(1, 0, 2)).save(place / "a.png")
    return tmp_path / "photographs"


def sides(folder: Path, recipe=PAPER):
    domain = load_to_train(folder, **SIZES)
    return domain, *place(domain, recipe, device=CPU, channels_last=False)


@pytest.mark.parametrize("rectangle", [(10, 20, 300, 400), (100, 200, 90, 120), (0, 0, 427, 640), (5, 7, 224, 224)])
@pytest.mark.parametrize(("name", "pillow"), [("bicubic", Image.BICUBIC), ("bilinear", Image.BILINEAR)])
def test_a_rectangle_is_cut_and_scaled_as_by_pillow(rectangle, name, pillow):
    top, left, height, width = rectangle
    x = torch.from_numpy(PHOTOGRAPHS[0].copy()).permute(2, 0, 1)[None]
    ours = scale_boxes(x, boxes(*rectangle), 224, interpolation=name)[0].permute(1, 2, 0).numpy()
    cut = Image.fromarray(PHOTOGRAPHS[0]).crop((left, top, left + width, top + height))
    gap = np.abs(ours - np.asarray(cut.resize((224, 224), pillow), float))
    assert gap.mean() < 0.25  # Pillow rounds between the two directions
    assert np.quantile(gap, 0.999) <= 1
    assert gap.max() <= 10


@pytest.mark.parametrize(("height", "width"), [(224, 224), (427, 640), (640, 427), (40, 400)])
def test_crops_are_distributed_as_timms(height, width):
    count = 4000
    full = torch.ones(count)
    ours = place_crops(draw_crops(np.random.default_rng(0), count), full * height, full * width)
    random.seed(0)
    torch.manual_seed(0)
    image = Image.new("L", (width, height))
    theirs = np.array(
        [RandomResizedCropAndInterpolation.get_params(image, CROPPED_AREA, CROPPED_ASPECT) for _ in range(count)]
    )
    for mine, column in zip((ours.top, ours.left, ours.height, ours.width), theirs.T, strict=True):
        assert ks_2samp(mine.numpy(), column).pvalue > 1e-3
    assert (ours.top >= 0).all()
    assert (ours.top + ours.height <= height).all()
    assert (ours.left + ours.width <= width).all()


def test_an_image_that_no_rectangle_fits_gives_its_centre_as_in_timm():
    image = Image.new("L", (1000, 2))
    theirs = RandomResizedCropAndInterpolation.get_params(image, (0.9, 1.0), CROPPED_ASPECT)
    drawn = draw_crops(np.random.default_rng(0), 50)
    wide = place_crops(drawn, torch.full((50,), 2.0), torch.full((50,), 1000.0))
    assert {tuple(int(n) for n in row) for row in torch.stack(wide).T} == {tuple(theirs)} == {(0, 498, 2, 3)}


def test_half_of_the_crops_are_mirrored_and_exchanged_axes_are_put_back():
    ramp = torch.arange(40.0).expand(30, 40)  # a landscape image, brighter to the right
    x = ramp.expand(400, 1, 30, 40)
    still = torch.tensor([[30, 40, 0]]).expand(400, 3)
    cut = augment.crop_and_flip(x, crops(400, flip=0.5), size=16, extents=still)
    assert 0.4 < (cut[:, 0, 8, 12] < cut[:, 0, 8, 4]).float().mean() < 0.6
    turned = still + torch.tensor([0, 0, 1])
    exchanged = augment.crop_and_flip(x, crops(400), size=16, extents=turned)
    assert (exchanged[:, 0, 12, 8] > exchanged[:, 0, 4, 8]).all()
    assert ((exchanged[:, 0, 8, 12] - exchanged[:, 0, 8, 4]).abs() <= 1).all()  # rounded


def laplacian(image: np.ndarray) -> float:
    a = np.asarray(image, float).mean(-1)
    return float(np.std(4 * a[1:-1, 1:-1] - a[:-2, 1:-1] - a[2:, 1:-1] - a[1:-1, :-2] - a[1:-1, 2:]))


def spectrum(image: np.ndarray) -> np.ndarray:
    """Return the power of an image in eight bands of frequency up to Nyquist's."""
    a = np.asarray(image, float).mean(-1)
    side = len(a)
    power = np.abs(np.fft.fft2((a - a.mean()) * np.outer(np.hanning(side), np.hanning(side)))) ** 2
    away = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    return np.array([power[(away >= k / 16) & (away < (k + 1) / 16)].mean() for k in range(8)])


def test_training_crops_have_the_detail_of_timms_from_the_original_files(folder, monkeypatch):
    """End to end: folder, packed file, crops of the paper's recipe, against timm's `create_transform` on the files.

    Both cut the same rectangles; that these are distributed as timm's is tested above.
    """
    _, train, _ = sides(folder)
    index = torch.arange(2).repeat(40)
    extents = train.extents_of(index)
    ours = augment.crop_and_flip(
        train.whole(index), crops(80, seed=1), size=train.side, extents=extents, interpolation=PAPER.interpolation
    )
    drawn = place_crops(draw_crops(np.random.default_rng(1), 80), extents[:, 0].float(), extents[:, 1].float())
    rectangles = [[int(n) for n in row] for row in torch.stack(drawn).T]
    pipeline = create_transform(
        224,
        is_training=True,
        auto_augment=None,
        color_jitter=None,
        hflip=0,
        re_prob=0,
        interpolation="bicubic",
        normalize=False,
    )
    files, theirs = sorted(folder.glob("train/*/*.png")), []
    for (top, left, height, width), row, (_, _, exchanged) in zip(rectangles, index, extents, strict=True):
        cut = (left, top, width, height) if exchanged else (top, left, height, width)
        monkeypatch.setattr(RandomResizedCropAndInterpolation, "get_params", staticmethod(lambda *_, cut=cut: cut))
        theirs.append(np.asarray(pipeline(Image.open(files[row]))).transpose(1, 2, 0))
    shown = list(ours.permute(0, 2, 3, 1).numpy())
    assert max(np.abs(a - b.astype(float)).mean() for a, b in zip(shown, theirs, strict=True)) < 0.5
    assert np.mean([laplacian(a) for a in shown]) == pytest.approx(np.mean([laplacian(a) for a in theirs]), rel=0.05)
    bands = np.sqrt(np.mean([spectrum(a) for a in shown], 0) / np.mean([spectrum(a) for a in theirs], 0))
    np.testing.assert_allclose(bands, 1, atol=0.05)


def test_test_images_are_timms_bit_by_bit(folder):
    domain, _, test = sides(folder)
    assert domain.eval_size == 256
    pipeline = create_transform(224, is_training=False, interpolation="bicubic", crop_pct=224 / 256, normalize=False)
    shown = test.take(torch.arange(2)).permute(0, 2, 3, 1).numpy()
    for i, path in enumerate(sorted(folder.glob("test/*/*.png"))):
        np.testing.assert_array_equal(shown[i], np.asarray(pipeline(Image.open(path))).transpose(1, 2, 0))


def test_images_that_come_packed_are_tested_as_by_timm():
    """Bundled images of 32 px are enlarged to 256 px, of which the centre is cut out, as CIFAR-10's in the pipeline."""
    domain = load_to_train("fashion", **SIZES)
    assert (domain.extents, domain.eval_size, domain.size) == (None, 0, 32)
    _, test = place(domain, PAPER, device=CPU, channels_last=False)
    pipeline = create_transform(224, is_training=False, interpolation="bicubic", crop_pct=224 / 256, normalize=False)
    shown = test.take(torch.arange(3))[:, 0].numpy()
    for i in range(3):
        image = Image.fromarray(np.asarray(domain.x_test[i])[..., 0])
        theirs = np.asarray(pipeline(image), float)[0]
        gap = np.abs(shown[i] - theirs)  # Pillow rounds and cuts off between the two directions
        assert gap.mean() < 0.5
        assert np.quantile(gap, 0.99) <= 2


def test_the_border_of_images_is_seen(tmp_path):
    """Red lies outside the centre square of a landscape image, blue outside that of a portrait one."""
    wide = np.full((40, 60, 3), 128, np.uint8)
    wide[:, :6] = (255, 0, 0)
    tall = np.full((70, 40, 3), 128, np.uint8)
    tall[-6:] = (0, 0, 255)
    for side in ("train", "test"):
        for name, image in (("wide", wide), ("tall", tall)):
            (tmp_path / "set" / side / name).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / "set" / side / name / "a.png")
    domain = load_to_train(tmp_path / "set", **SIZES)
    assert np.asarray(domain.x_train).shape == (2, 40, 70, 3)
    assert domain.extents.tolist() == [[40, 70, 1], [40, 60, 0]]
    np.testing.assert_array_equal(domain.picture(0), tall)
    np.testing.assert_array_equal(domain.picture(1), wide)
    train, _ = place(domain, PAPER, device=CPU, channels_last=False)
    index = torch.tensor([0, 1]).repeat(50)
    cut = augment.crop_and_flip(train.whole(index), crops(100), size=32, extents=train.extents_of(index))
    red, blue = (cut[:, 0] - cut[:, 1] > 100), (cut[:, 2] - cut[:, 1] > 100)
    assert red[1::2].any(1).any(1).float().mean() > 0.1
    assert blue[::2].any(1).any(1).float().mean() > 0.1
    assert not red[::2].any()
    assert not blue[1::2].any()
    assert red[1::2, :, 0].any()  # in the first column, where it was
    assert blue[::2, -1].any()


def test_larger_images_are_made_smaller_and_small_ones_are_left(tmp_path):
    for side in ("train", "test"):
        for name, shape in (("large", (100, 130)), ("long", (20, 90)), ("small", (10, 12))):
            (tmp_path / "set" / side / name).mkdir(parents=True)
            picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "set" / side / name / "a.png")
    packed = pack_domain(tmp_path / "set", size=16, crop_from=40, eval_size=20)
    assert packed.path.name.endswith("_16_from_40_eval_20.h5")
    domain = load_to_train(tmp_path / "set", size=16, max_size=0, crop_from=40, eval_size=20)
    assert domain.extents.tolist() == [[40, 52, 0], [13, 60, 0], [10, 12, 0]]
    assert np.asarray(domain.x_train).shape == (3, 40, 60, 3)
    assert np.asarray(domain.x_test).shape == (3, 16, 16, 3)
    assert (domain.size, domain.eval_size) == (16, 20)
    facts = facts_to_train(tmp_path / "set", size=16, max_size=0, crop_from=40, eval_size=20)
    assert (facts.size, facts.digest) == (16, domain.digest)
    again = load_to_train(tmp_path / "set", size=16, max_size=0, crop_from=40, eval_size=24)  # packed anew
    assert again.eval_size == 24
    first = packed.path.stat()
    for eval_size in (20, 24, 20):  # each recipe keeps its own file
        assert (
            load_to_train(tmp_path / "set", size=16, max_size=0, crop_from=40, eval_size=eval_size).eval_size
            == eval_size
        )
    assert packed.path.stat().st_ino == first.st_ino and packed.path.stat().st_mtime_ns == first.st_mtime_ns
    former = packed.path.with_name(packed.path.name.replace("_eval_20", ""))  # as earlier versions called it
    packed.path.rename(former)
    assert load_to_train(tmp_path / "set", size=16, max_size=0, crop_from=40, eval_size=20).eval_size == 20
    assert former.exists() and not packed.path.exists()
    assert again.digest != domain.digest
    with pytest.raises(MkfaError, match="whole images"):
        place(domain, load_recipe("fast"), device=CPU, channels_last=False)


def test_squares_packed_before_are_not_taken_for_whole_images(folder, tmp_path):
    """A file of squares stays readable, and is refused with a way out where crops need whole images."""
    squares = pack_domain(folder, size=32, out=tmp_path / "squares.h5").path
    assert load_domain(squares).size == 32
    for domain in (str(squares), squares):
        with pytest.raises(DomainError, match=r"squares of 32 px.*--crop-from 448 --eval-size 256.*crop_from=0"):
            load_to_train(domain, **SIZES)
    assert load_to_train(squares, size=224, max_size=0).size == 32
    whole = pack_domain(folder, size=32, crop_from=40, out=tmp_path / "whole.h5").path
    with pytest.raises(DomainError, match=r"packed for other crops \(size 32, from 40"):
        load_to_train(whole, **SIZES)
    own = make_domain("own", ["a", "b"], train=own_images(4), test=own_images(2))
    write_domain(own, tmp_path / "own.h5", facts={})
    assert load_to_train(tmp_path / "own.h5", **SIZES).size == 8  # images of the user's own, as they are


def own_images(count: int):
    return np.arange(count * 8 * 8 * 3).astype(np.uint8).reshape(count, 8, 8, 3), np.arange(count) % 2


def test_domains_are_opened_at_the_recipes_sizes_here_and_in_workers(folder):
    domains = Domains(224, 0, crop_from=PAPER.crop_from, eval_size=256)
    assert domains[str(folder)].extents is not None
    assert domains.facts(str(folder)).digest == domains[str(folder)].digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"crop": "shift"}, "without resized crops"),
        ({"size": 0}, "without resized crops"),
        ({"eval_size": 200}, "at least its size, 224"),
        ({"interpolation": "cubic"}, "bicubic, bilinear"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(changes, told):
    with pytest.raises(MkfaError, match=told):
        load_recipe("paper", changes)
