"""Recipes: what is packaged, files of the user's, changes, and the schedule against timm's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from mkfa.errors import MkfaError
from mkfa.training.optimizer import build_optimizer, lr_at, warmup_steps
from mkfa.training.recipe import RECIPES, change, epochs_between_evaluations, load_recipe, parse_changes

PAPER = {
    "epochs": 300,
    "batch": 1024,
    "lr": 4e-3,
    "lr_min": 1e-6,
    "weight_decay": 0.05,
    "drop_path": 0.1,
    "mixup": 0.8,
    "cutmix": 1.0,
    "erasing": 0.25,
    "label_smoothing": 0.1,
    "size": 224,
    "ema": 0.0,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "equal_steps": 0,
}


def test_the_paper_recipe_holds_the_papers_numbers():
    recipe = load_recipe("paper")
    assert {key: getattr(recipe, key) for key in PAPER} == PAPER
    assert warmup_steps(recipe, 300) == 50


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_file_of_the_users_reads_as_the_packaged_one(name, tmp_path):
    path = tmp_path / f"{name}.toml"
    path.write_text(files("mkfa.training").joinpath(f"{name}.toml").read_text())
    assert load_recipe(str(path)) == load_recipe(name)


def test_a_changed_recipe_is_called_after_what_it_holds(tmp_path):
    fast = load_recipe("fast")
    changed = load_recipe("fast", {"lr": 1e-3})
    assert (changed.lr, changed.epochs) == (1e-3, fast.epochs)
    assert changed.name.startswith("fast-")
    assert changed.name != load_recipe("fast", {"lr": 2e-3}).name
    assert change(fast, {"lr": fast.lr}) == fast
    text = files("mkfa.training").joinpath("fast.toml").read_text().replace("epochs = 20", "epochs = 21")
    (tmp_path / "fast.toml").write_text(text)
    assert load_recipe(str(tmp_path / "fast.toml")).name.startswith("fast-")


def test_changes_are_parsed_by_type():
    assert parse_changes(["lr=0.001", "epochs = 3", "crop=none"]) == {"lr": 0.001, "epochs": 3, "crop": "none"}
    with pytest.raises(MkfaError, match="--set lr"):
        parse_changes(["lr"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lrr": 1.0}, "did you mean lr"),
        ({"epochs": 1.5}, "value of type int"),
        ({"epochs": 0}, "from 1 to"),
        ({"crop": "square"}, "resized, shift, none"),
        ({"mixup": True}, "value of type float"),
        ({"name": "x"}, "no field"),
    ],
)
def test_wrong_changes_are_refused_by_name(changes, told):
    with pytest.raises(MkfaError, match=told):
        load_recipe("fast", changes)


def test_an_unknown_recipe_a_broken_file_and_a_missing_field_are_refused(tmp_path: Path):
    with pytest.raises(MkfaError, match="did you mean smoke"):
        load_recipe("smok")
    (tmp_path / "own.toml").write_text("epochs = = 3")
    with pytest.raises(MkfaError, match="not valid TOML"):
        load_recipe(str(tmp_path / "own.toml"))
    (tmp_path / "own.toml").write_text("epochs = 3")
    with pytest.raises(MkfaError, match=r"lacks .*batch"):
        load_recipe(str(tmp_path / "own.toml"))


def published_rates(lr, lr_min, *, epochs, per_epoch, warm_epochs):
    """`cosine_scheduler` of the published code (OscarXZQ/weight-selection, utils.py), written again."""
    import numpy as np

    warm = np.linspace(0, lr, warm_epochs * per_epoch)
    steps = np.arange(epochs * per_epoch - len(warm))
    return np.concatenate([warm, lr_min + 0.5 * (lr - lr_min) * (1 + np.cos(np.pi * steps / len(steps)))])


@pytest.mark.parametrize("per_epoch", [1, 3, 10])
def test_the_papers_learning_rate_is_the_published_one(per_epoch):
    paper, steps = load_recipe("paper"), 300 * per_epoch
    published = published_rates(4e-3, 1e-6, epochs=300, per_epoch=per_epoch, warm_epochs=50)
    ours = [lr_at(step, paper, steps=steps) for step in range(steps)]
    assert ours == pytest.approx(list(published), rel=1e-9, abs=1e-15)
    assert sum(ours) / sum(published) == pytest.approx(1, abs=1e-9)
    assert max(ours) == ours[50 * per_epoch - 1] == ours[50 * per_epoch] == 4e-3


@pytest.mark.parametrize("steps", [10, 300, 1234])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1 / 6])
def test_the_learning_rate_is_timms_after_the_warm_up(steps, warmup):
    import torch
    from timm.scheduler import CosineLRScheduler

    recipe = load_recipe("fast", {"warmup": warmup})
    warm = warmup_steps(recipe, steps)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.lr)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=steps - warm, lr_min=recipe.lr_min, t_in_epochs=False, warmup_t=warm, warmup_prefix=True
    )
    for step in range(steps):
        scheduler.step_update(step)
        theirs, ours = optimizer.param_groups[0]["lr"], lr_at(step, recipe, steps=steps)
        if step >= warm:
            assert ours == pytest.approx(theirs, rel=1e-12)
        else:  # timm's warm-up would reach the peak one step later
            assert 0 <= ours - theirs <= recipe.lr / warm * (1 + 1e-9)


@pytest.mark.parametrize(
    ("every", "steps", "epoch", "evaluations"),
    [
        (0, 300, 1, 50),
        (0, 299, 1, 50),
        (0, 20, 1, 20),
        (0, 15000, 1, 50),
        (0, 51, 1, 26),
        (1, 300, 3, 100),
        (7, 20, 2, 2),
        (0, 60, 125, 1),
    ],
)
def test_evaluations_are_at_most_fifty_unless_asked_for(every, steps, epoch, evaluations):
    recipe = load_recipe("smoke", {"evaluate_every": every})
    between = epoch * epochs_between_evaluations(recipe, steps=steps, epoch_steps=epoch)
    assert sum(step % between == 0 or step == steps for step in range(1, steps + 1)) == evaluations


def test_a_recipe_file_of_an_earlier_version_keeps_its_meaning(tmp_path):
    """Files without the newer fields evaluate every epoch, as they did."""
    text = files("mkfa.training").joinpath("fast.toml").read_text()
    (tmp_path / "own.toml").write_text("\n".join(line for line in text.split("\n") if "evaluate_every" not in line))
    assert load_recipe(str(tmp_path / "own.toml")).evaluate_every == 1


def test_the_optimiser_decays_neither_biases_nor_norms_and_leaves_frozen_tensors_out():
    import torch

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))
    model[2].weight.requires_grad_(False)
    optimizer = build_optimizer(model, load_recipe("paper"))
    decayed = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decayed[id(model[0].weight)] == 0.05
    assert decayed[id(model[0].bias)] == decayed[id(model[1].weight)] == 0
    assert id(model[2].weight) not in decayed
    assert isinstance(optimizer, torch.optim.AdamW)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"x = " + b"[" * 100_000, "is not valid TOML .it is nested too deeply"),
        (b"epochs = " + b"9" * 5000, "is not valid TOML .it has an integer of thousands of digits"),
        (b"epochs = 3 # caf\xe9", "cannot be read as a recipe .it is not text"),
        (b"epochs = 3\0", "is not valid TOML"),
        (b"epochs = 3\nepochs = 4", "is not valid TOML"),
        (b"#" * (1 << 21), "it has more than 1 MiB"),
        (b"lr = nan", "lacks"),
    ],
)
def test_odd_files_are_refused_with_a_reason(tmp_path, data, words):
    path = tmp_path / "odd.toml"
    path.write_bytes(data)
    with pytest.raises(MkfaError, match=words) as caught:
        load_recipe(str(path))
    assert caught.value.exit_code == 2 and len(str(caught.value)) < 400


def test_a_byte_order_mark_is_skipped(tmp_path):
    text = files("mkfa.training").joinpath("fast.toml").read_bytes()
    (tmp_path / "fast.toml").write_bytes(b"\xef\xbb\xbf" + text)
    assert load_recipe(str(tmp_path / "fast.toml")) == load_recipe("fast")


def test_a_setting_of_thousands_of_digits_is_refused():
    with pytest.raises(MkfaError, match="epochs"):
        load_recipe("fast", parse_changes(["epochs=" + "9" * 5000]))
