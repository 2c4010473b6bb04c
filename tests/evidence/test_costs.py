"""The costs of the paper's programme against counts by hand, and rates by where they come from."""

from __future__ import annotations

import time

import pytest

from mkfa.errors import MkfaError
from mkfa.evidence.costs import measure_rate, paper_costs
from mkfa.images import rand_augment
from mkfa.images.registry import images_of


def test_runs_images_and_operations_of_a_table_counted_by_hand():
    costs = {cost.title: cost for cost in paper_costs().costs}
    figure4 = costs["Figure 4"]  # 12 numbers of layers from two sources; 3 steps of 1024 of the 3680 images an epoch
    assert (figure4.runs, figure4.train_images, figure4.test_images) == (24, 24 * 300 * 3072, 24 * 300 * 3669)
    assert figure4.operations == 24 * 300 * (3 * 3072 + 3669) * 2 * 779_629_824
    assert figure4.hours == pytest.approx(24 * 300 * (3072 + 3669 / 3) / 9000 / 3600)
    assert figure4.days == {count: pytest.approx(figure4.hours / 24 / count) for count in (1, 8, 64)}
    assert costs["Figure 2b"].runs == 51


def test_options_leave_out_what_they_say():
    whole, thin = paper_costs(seeds=5), paper_costs(seeds=5, download_sources=True, every=4)
    assert whole.total.runs - thin.total.runs == 5 + 36  # five sources; 13 of 49 numbers of layers
    assert whole.days()[1] == pytest.approx(5 * whole.total.hours / 24)
    assert whole.days()[8] == pytest.approx(whole.days()[1] / 8)


def test_rates_say_where_they_come_from():
    costs = paper_costs(rates={"resnet50": 8400.0})
    [known] = [rate for rate in paper_costs().rates if rate.kind == "published"]
    assert known.network == "resnet50" and "2,470 on an A100" in known.note
    kinds = {rate.network: rate.kind for rate in costs.rates}
    assert kinds == {**dict.fromkeys(kinds, "assumed"), "resnet50": "given"}
    before = {cost.title: cost.hours for cost in paper_costs().costs}
    assert {c.title: c.hours for c in costs.costs}["Figure 2b"] == pytest.approx(before["Figure 2b"] / 2)


def test_the_halves_of_imagenet_are_the_whole():
    whole, natural, manmade = (images_of(f"imagenet{half}") for half in ("", "-natural", "-manmade"))
    assert tuple(map(sum, zip(natural, manmade, strict=True))) == whole


@pytest.mark.slow
def test_the_recorded_multiply_adds_are_those_of_the_networks():
    import tomllib
    from importlib.resources import files

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mkfa.networks.build import build_network

    table = tomllib.loads(files("mkfa.evidence").joinpath("costs.toml").read_text("utf-8"))["networks"]
    for name in ("convnext_femto", "resnet50", "hornet_tiny"):
        model = build_network(name, classes=1000, channels=3, size=224, seed=0).to("meta").eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 224, 224, device="meta"))
        assert counter.get_total_flops() == 2 * table[name]["macs"]


def test_a_rate_is_measured_on_a_real_network_with_the_augmentation_of_the_recipe(monkeypatch):
    """Steps of the trainer: as many as are timed, each with RandAugment; the rate is that of a clock around them."""
    augmented: list[float] = []

    def seen(x: object, operations: object) -> object:
        augmented.append(time.perf_counter())
        return augment(x, operations)

    augment = rand_augment.rand_augment
    monkeypatch.setattr(rand_augment, "rand_augment", seen)
    rate = measure_rate("convnext_16_2", size=32, device="cpu", classes=10)
    assert len(augmented) >= 4
    apart = (augmented[-1] - augmented[2]) / (len(augmented) - 3)  # seconds between the steps that were timed
    assert rate == pytest.approx(4 / apart, rel=0.5)


def test_a_measured_rate_is_that_of_this_machine(monkeypatch):
    monkeypatch.setattr("mkfa.evidence.costs.measure_rate", lambda network, **_: 7.0)
    costs = paper_costs(measure=True, rates={"resnet50": 8.0})
    assert {rate.network: rate.kind for rate in costs.rates}["convnext_tiny"] == "measured"
    assert {rate.network: rate.kind for rate in costs.rates}["resnet50"] == "given"


def test_bad_rates_are_refused():
    with pytest.raises(MkfaError, match="is a network that is not trained"):
        paper_costs(rates={"vgg": 1.0})
    with pytest.raises(MkfaError, match="is not a number of images per second"):
        paper_costs(rates={"resnet50": 0.0})
    with pytest.raises(MkfaError, match="choose 1 or more"):
        paper_costs(every=0)
