"""Sources by name, networks other than the target's that lend filters, and what is refused before any work."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from mkfa.arms.plant import weights_of_layers
from mkfa.banks.bank_file import write_bank
from mkfa.banks.library import library_folder
from mkfa.engines.serial import Serial
from mkfa.engines.sweep import carry_out
from mkfa.engines.unit import borrow
from mkfa.errors import MkfaError, UnknownNameError
from mkfa.experiments.needed_runs import Setting, check_sources, choose_layers, plan_cells, tell_followers
from mkfa.experiments.sources import Source, find_sources, parse_network
from mkfa.images import load as domain_module
from mkfa.images.domain import Domain
from mkfa.images.domain_file import make_domain, write_domain
from mkfa.images.load import is_domain
from mkfa.images.opened import Domains
from mkfa.networks.build import build_network
from mkfa.results.curve import make_curve
from mkfa.results.gather import records_of
from mkfa.training.base_runs import trained_network
from mkfa.training.device import Execution
from mkfa.training.recipe import load_recipe
from mkfa.training.run import build
from mkfa.training.stopping import Stop

SMOKE = load_recipe("smoke")

ONE = Execution(device="cpu", threads=1)
torch.set_num_threads(1)  # nets of a few channels: threads only get into each other's way


def made_domain(name: str, channels: int = 1) -> Domain:
    rng = np.random.default_rng(len(name))
    y = np.arange(36) % 3
    x = (rng.integers(0, 160, (36, 16, 16, channels)) + 30 * y[:, None, None, None]).astype(np.uint8)
    return Domain(name, ("a", "b", "c"), x[:24], y[:24], x[24:], y[24:], f"digest of {name}")


@pytest.fixture
def domains(monkeypatch: pytest.MonkeyPatch) -> Domains:
    monkeypatch.setattr(
        domain_module, "load_domain", lambda name, *, size=None, **_: made_domain(name, 3 if name == "clipart" else 1)
    )
    return Domains(SMOKE.size, SMOKE.max_size)


def experiment(arch: str = "convmixer_8_3", **more: object) -> Setting:
    return Setting(arch, load_recipe("smoke", {"equal_steps": 3, "batch": 8}), **more)


def test_every_source_with_every_network():
    found = find_sources(
        "letters,emoji", what="depthwise", networks="convmixer_8_2,hornet_tiny", target=("convmixer_8_3", {"patch": 4})
    )
    assert [(o.domain, o.network, dict(o.options)) for o in found] == [
        ("letters", "convmixer_8_2", {"patch": 4}),
        ("letters", "hornet_tiny", {}),
        ("emoji", "convmixer_8_2", {"patch": 4}),
        ("emoji", "hornet_tiny", {}),
    ]
    assert [o.arch for o in find_sources("letters,emoji,letters", what="depthwise")] == ["", ""]


@pytest.mark.parametrize(
    ("text", "target", "options"),
    [
        ("convmixer_8_2", ("convmixer_8_3", {"kernel": 5, "patch": 4}), {"kernel": 5, "patch": 4}),
        ("convmixer_8_2:kernel=3", ("convmixer_8_3", {"kernel": 5, "patch": 4}), {"kernel": 3, "patch": 4}),
        ("hornet_tiny", ("convnext_femto", {"stem_stride": 1}), {"stem_stride": 1}),
        ("hornet_tiny:stem_stride=2", ("convnext_femto", {"stem_stride": 1}), {"stem_stride": 2}),
        ("convnext_femto", ("convmixer_8_3", {"kernel": 5, "stem_stride": 2}), {}),
        ("convmixer_8_2", ("convnext_femto", {"stem_stride": 1}), {}),
        ("convmixer_768_32", ("convmixer_8_3", {"patch": 4}), {}),
    ],
)
def test_a_sources_network_takes_the_options_that_it_has_use_for(text, target, options):
    assert parse_network(text, target=target) == (text, options)


@pytest.mark.parametrize("text", ["convmixer_8_2:", "convmixer_8_2:kernel", "convmixer_8_2:kernel=x", "a:depth=3"])
def test_options_that_are_none_are_refused(text):
    with pytest.raises(MkfaError, match="write it like"):
        parse_network(text, target=("convmixer_8_3", {}))


def test_sources_are_told_apart_by_what_they_hold(tmp_path, bank_maker):
    write_bank(bank_maker(name="mine"), library_folder(create=True) / "mine.h5")
    domain = make_domain(
        "tiny",
        ("a", "b", "c"),
        train=(made_domain("x").x_train, np.arange(24) % 3),
        test=(made_domain("x").x_test, np.arange(12) % 3),
    )
    packed = write_domain(domain, tmp_path / "tiny.h5", facts={"source": "made"})
    (tmp_path / "with, comma" / "train").mkdir(parents=True)
    assert is_domain(str(packed))
    assert not is_domain(str(library_folder() / "mine.h5"))
    bank, held = find_sources(f"mine,{packed}", what="depthwise")
    assert (bank.domain, bank.bank.name, held.domain, held.bank) == ("", "mine", str(packed), None)
    [folder] = find_sources(str(tmp_path / "with, comma"), what="depthwise")
    assert folder.domain
    with pytest.raises(MkfaError, match=r"--source-arch: .*mine is a bank"):
        find_sources("letters,mine", what="depthwise", networks="convmixer_8_2")
    with pytest.raises(MkfaError, match="unknown domain, and a bank has no conv filters"):
        find_sources("mine", what="conv")
    with pytest.raises(MkfaError, match="empty name"):
        find_sources("letters,,emoji", what="depthwise")
    with pytest.raises(UnknownNameError):
        find_sources("lettres", what="depthwise")


def test_two_sources_of_one_name_are_refused(tmp_path, bank_maker):
    from mkfa.experiments.planning import plan_curve

    paths = []
    for seed, place in enumerate("ab"):
        (tmp_path / place).mkdir()
        paths.append(str(write_bank(bank_maker(seed=seed, name="best"), tmp_path / place / "best.h5")))
    with pytest.raises(MkfaError, match="names 2 sources called best, which results could not tell apart"):
        plan_curve(
            {"arch": "convmixer_8_3", "recipe": "smoke", "out": str(tmp_path)},
            source=paths,
            target="letters",
            layers="1",
        )


def test_the_base_run_of_the_other_network_is_planned_first_and_is_no_base(domains, tmp_path):
    made = experiment()
    [origin] = find_sources("emoji", what="depthwise", networks="convmixer_12_2", target=(made.arch, {}))
    cells = [(origin, "emoji", arm, 3) for arm in ("stack", "selffer", "random")]
    plan = plan_cells(made, domains, cells=cells, seeds=2)
    assert [(p.spec.arm, p.spec.arch, p.source) for p in plan[:4:2]] == [
        ("baseline", "convmixer_8_3", "emoji"),
        ("baseline", "convmixer_12_2", "emoji+convmixer_12_2"),
    ]
    by_arm = {p.spec.arm: p for p in plan}
    assert by_arm["stack"].source_run.arch == "convmixer_12_2"
    assert by_arm["stack"].spec.source == f"run:{by_arm['stack'].source_run.hash}"
    assert by_arm["stack"].source_run.recipe == by_arm["stack"].spec.recipe
    assert (by_arm["selffer"].source_run.arch, by_arm["selffer"].source) == ("convmixer_8_3", "emoji")
    outcomes = carry_out(plan, Serial(ONE, domains, tmp_path), stop=Stop())
    assert {o.state for o in outcomes} == {"done"}
    curve = make_curve(records_of(plan, tmp_path), parameters={})
    assert curve.base.seeds == (0, 1)  # two of the four base runs: the other network's are no base
    own = [o.result.top1_last for o in outcomes[:2]]
    assert curve.base.top1 == tuple(own)


def test_the_folder_of_a_base_run_stands_for_its_bank(domains, tmp_path):
    plan = plan_cells(experiment(), domains, cells=[(Source("letters", "letters"), "emoji", "transfer", 2)], seeds=1)
    carry_out(plan, Serial(ONE, domains, tmp_path), stop=Stop())
    by_run = {(p.spec.domain, p.spec.arm): tmp_path / p.spec.hash for p in plan}
    [origin] = find_sources(str(by_run["letters", "baseline"]), what="depthwise")
    assert (origin.name, origin.domain) == (origin.bank.name, "")
    assert origin.name.startswith("letters+convmixer_8_3+")
    weights = trained_network(tmp_path, plan[-1].source_run, domains["letters"]).state_dict()
    np.testing.assert_array_equal(origin.bank.of_layer(1).weight, weights["blocks.1.0.fn.0.weight"].numpy()[:, 0])
    with pytest.raises(MkfaError, match=r"is a run that keeps no filters: base runs .* do; name a base run"):
        find_sources(str(by_run["emoji", "transfer"]), what="depthwise")


def test_the_targets_own_network_by_name_is_the_same_run(domains):
    made = experiment()
    [named] = find_sources("letters", what="depthwise", networks=made.arch, target=(made.arch, {}))
    plans = [
        plan_cells(made, domains, cells=[(o, "emoji", "transfer", 2)], seeds=1)
        for o in (named, Source("letters", "letters"))
    ]
    assert [p.spec.hash for p in plans[0]] == [p.spec.hash for p in plans[1]]


@pytest.mark.parametrize("what", ["depthwise", "pointwise"])
def test_stack_takes_the_other_networks_kernels_in_order(domains, tmp_path, what):
    """Against the order in words: the source's kernels end to end, from the beginning, started over."""
    made = experiment(what=what)
    [origin] = find_sources("letters", what=what, networks="convmixer_5_2", target=(made.arch, {}))
    plan = plan_cells(made, domains, cells=[(origin, "emoji", "stack", 3)], seeds=1)
    carry_out(plan, Serial(ONE, domains, tmp_path), stop=Stop())
    stack = plan[-1]
    lender = trained_network(tmp_path, stack.source_run, domains["letters"])
    layers = [block[0].fn[0].weight if what == "depthwise" else block[1].weight for block in lender.blocks]
    row = np.concatenate([w.detach().numpy().reshape(-1, *w.shape[-2:]) for w in layers])
    model, _ = build(stack.spec, domains["emoji"], borrow(stack, domains, tmp_path))
    now = [block[0].fn[0].weight if what == "depthwise" else block[1].weight for block in model.blocks]
    flat = np.concatenate([w.detach().numpy().reshape(-1, *w.shape[-2:]) for w in now])
    assert len(flat) > len(row)
    np.testing.assert_array_equal(flat, row[np.arange(len(flat)) % len(row)])


def test_layers_of_a_residual_network_have_their_projection_behind_their_block():
    model = build_network("resnet26", classes=3, channels=3, size=32, seed=0)
    names = [w.name for w in weights_of_layers(model, "conv")]
    at = names.index("layer1.0.downsample.0")
    assert names[at - 1 : at + 2] == ["layer1.0.conv3", "layer1.0.downsample.0", "layer1.1.conv1"]


@pytest.mark.parametrize(
    ("networks", "arm", "more", "told"),
    [
        ("convmixer_8_2", "transfer", {}, r"source emoji\+convmixer_8_2: has 2 layers, but 3 .*--arms stack"),
        ("convmixer_12_3", "shuffle", {}, r"source emoji\+convmixer_12_3 layer .*12 filters .* 8 .*--arms stack"),
        ("convmixer_8_3:kernel=5", "stack", {}, "--fit-kernel pad"),
        ("resnet18", "stack", {}, "has no depthwise layers"),
        ("convmixer_12_3", "transfer", {"what": "pointwise"}, "use --arms stack"),
        ("convmixer_8_2", "transfer", {"what": "pointwise"}, "--arms stack"),
        ("convnext_fento", "stack", {}, "did you mean"),
    ],
)
def test_filters_that_do_not_fit_are_refused_before_any_work(domains, networks, arm, more, told):
    made = experiment(**more)
    origins = find_sources("emoji", what=made.what, networks=networks, target=(made.arch, {}))
    with pytest.raises(MkfaError, match=told):
        check_sources(made, domains, cells=[(o, "letters", arm, 3) for o in origins])


def test_filters_that_fit_are_not_refused(domains):
    made = experiment()
    for networks, arm in (
        ("convmixer_12_2", "stack"),
        ("convmixer_12_2", "covariance"),
        ("convmixer_8_5", "transfer"),
        ("convmixer_12_2", "first-2"),
        ("convmixer_8_4", "selffer"),
    ):
        origins = find_sources("emoji", what="depthwise", networks=networks, target=(made.arch, {}))
        check_sources(made, domains, cells=[(o, "letters", arm, n) for o in origins for n in (0, 1, 3)])


def test_colour_filters_do_not_fit_a_gray_target(domains):
    made = experiment("resnet18", what="conv")
    with pytest.raises(MkfaError, match=r"source clipart layer conv1: has 64 x 3 kernels where conv1 has 64 filters"):
        check_sources(made, domains, cells=[(Source("clipart", "clipart"), "emoji", "transfer", 1)])


def test_all_layers_by_word(domains):
    made, domain = experiment(), domains["emoji"]
    assert choose_layers("all", made, domain) == ((3,), 3)
    assert choose_layers("1..all", made, domain) == ((1, 2, 3), 3)
    assert choose_layers("0,2", made, domain) == ((0, 2), 3)
    for text, told in (("4", "choose from 1 to 3"), ("alle", "or all"), ("2..", "or all")):
        with pytest.raises(MkfaError, match=told):
            choose_layers(text, made, domain)


def test_what_follows_a_block_is_told(domains):
    conv = experiment("resnet50", what="conv")
    count = choose_layers("all", conv, domains["clipart"])[1]
    told = tell_followers(conv, domains["clipart"], count)
    assert told.startswith("resnet50 has 49 convolutions on its main path; 4 projections of shortcuts")
    assert tell_followers(experiment(what="conv"), domains["emoji"], 4) == ""
    assert tell_followers(experiment(), domains["emoji"], 3) == ""


def test_a_keras_checkpoint_and_a_bank_are_told_apart_where_both_end_in_h5(tmp_path, bank_maker):
    kernel = np.random.default_rng(0).standard_normal((3, 3, 4, 1)).astype("f4")
    with h5py.File(tmp_path / "net.h5", "w") as f:
        f["layers/depthwise_conv2d/vars/0"] = kernel
        f["layers/depthwise_conv2d/vars/1"] = np.zeros(4, "f4")
    bank = bank_maker()
    path = write_bank(bank, tmp_path / "bank.h5")
    [keras], [own] = (find_sources(str(tmp_path / name), what="depthwise") for name in ("net.h5", path.name))
    np.testing.assert_array_equal(keras.bank.of_layer(0).weight, kernel[..., 0].transpose(2, 0, 1))
    assert own.bank == bank
    with pytest.raises(MkfaError, match="does not exist"):
        find_sources(str(tmp_path / "none.h5"), what="depthwise")
