"""Recipes: what is packaged, files of the user's, changes, and the schedule against timm's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from mkfa.errors import MkfaError
from mkfa.training.optimizer import build_optimizer, lr_at, warmup_steps
from mkfa.training.recipe import RECIPES, change, load_recipe, parse_changes

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


@pytest.mark.parametrize("steps", [10, 300, 1234])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 1 / 6])
def test_the_learning_rate_is_timms(steps, warmup):
    import torch
    from timm.scheduler import CosineLRScheduler

    recipe = load_recipe("fast", {"warmup": warmup})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.lr)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=steps, lr_min=recipe.lr_min, t_in_epochs=False, warmup_t=warmup_steps(recipe, steps)
    )
    for step in range(steps):
        scheduler.step_update(step)
        assert lr_at(step, recipe, steps=steps) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


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
