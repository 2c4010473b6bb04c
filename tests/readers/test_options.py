"""What the user decides about layers is followed, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mkfa
from mkfa.banks.bank_file import read_bank, write_bank
from mkfa.errors import MkfaError, SourceError
from mkfa.readers.options import EXCLUDED, make_options, matches

RNG = np.random.default_rng(0)
NET = {"stem.weight": RNG.standard_normal((8, 3, 3, 3))}
for i in range(3):
    NET[f"blocks.{i}.dw.weight"] = RNG.standard_normal((8, 1, 5, 5))
    NET[f"blocks.{i}.pw.weight"] = RNG.standard_normal((8, 8, 1, 1))
NET["head.upconv.weight"] = RNG.standard_normal((8, 1, 2, 2))


def names(**options: object) -> list[str]:
    return [layer.name for layer in mkfa.harvest(NET, **options).layers]  # type: ignore[arg-type]


def test_layers_are_left_out_by_name() -> None:
    assert names(exclude="blocks.1.*") == ["blocks.0.dw.weight", "blocks.2.dw.weight"]
    assert names(exclude=["*.0.dw", "blocks.2.dw.weight"]) == ["blocks.1.dw.weight"]
    assert mkfa.harvest(NET, exclude="blocks.1.*").provenance.skipped[EXCLUDED] == 1


def test_no_layer_left_is_told_with_the_option() -> None:
    with pytest.raises(SourceError, match=r"no depthwise layer left: --exclude \* leaves out all 3; give narrower"):
        mkfa.harvest(NET, exclude="*")
    with pytest.raises(SourceError, match=r"--exclude blocks.0\* --exclude \*.dw leaves out all 3"):
        mkfa.harvest(NET, exclude=["blocks.0*", "*.dw"])


def test_layers_are_taken_by_name_whatever_the_rules_say() -> None:
    assert "head.upconv.weight" not in names()
    assert names(include="*upconv*") == [*names(), "head.upconv.weight"]


def test_the_options_that_chose_layers_are_recorded(tmp_path: Path) -> None:
    bank = mkfa.harvest(NET, include="*upconv*", exclude=["blocks.1.*", "*.2.dw"])
    write_bank(bank, tmp_path / "b.h5")
    said = "layers chosen by the user: --include *upconv* --exclude blocks.1.* --exclude *.2.dw"
    assert read_bank(tmp_path / "b.h5").provenance.notes[-1] == said
    copies = {f"ema_state_dict.{key}": value + 1 for key, value in NET.items()}
    both = {**{f"state_dict.{key}": value for key, value in NET.items()}, **copies}
    for options, words in (
        ({"include": "ema_state_dict.*dw*"}, "--include ema_state_dict.*dw*"),
        ({"weights": "ema"}, "--weights ema"),
        ({"weights": "raw", "exclude": "*.0.*"}, "--weights raw --exclude *.0.*"),
    ):
        bank = mkfa.harvest(both, **options)  # type: ignore[arg-type]
        assert f"layers chosen by the user: {words}" in bank.provenance.notes
    assert not any("chosen by the user" in note for note in mkfa.harvest(NET).provenance.notes)


def test_dilations_are_given_by_name() -> None:
    for given in ({"blocks.1.*": 3, "blocks.2.*": (1, 2)}, ["blocks.1.*=3", "blocks.2.*=1x2"]):
        bank = mkfa.harvest(NET, dilation=given)  # type: ignore[arg-type]
        assert [layer.dilation for layer in bank.layers] == [(-1, -1), (3, 3), (1, 2)]
        assert any("blocks.1.*=3x3" in note for note in bank.provenance.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"include": "nowhere*"}, "no layer that matches --include nowhere"),
        ({"include": "stem*"}, "no layer that matches --include stem"),
        ({"exclude": "nowhere*"}, "no layer that matches --exclude nowhere"),
        ({"dilation": "nowhere*=2"}, "no layer that matches --dilation nowhere"),
        ({"weights": "ema"}, "one copy of the weights"),
    ],
)
def test_what_fits_no_layer_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        mkfa.harvest(NET, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"weights": "best"}, {"include": ""}, {"dilation": "x"}, {"dilation": "x=0"}, {"dilation": {"x": 1.5}}]
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(MkfaError):
        make_options(**options)  # type: ignore[arg-type]


def test_names_match_with_and_without_their_ending() -> None:
    assert matches("a.b.weight", ["a.b"]) and matches("a.b.weight", ["*weight"]) and not matches("a.b.weight", ["a"])


def test_a_dilation_that_contradicts_the_modules_is_refused() -> None:
    from torch import nn

    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(SourceError, match="1x1 in its graph"):
        mkfa.harvest(net, dilation="*=2")
    assert mkfa.harvest(net, dilation="*=1").layers[0].dilation == (1, 1)


def test_a_bank_keeps_what_was_decided(tmp_path: Path) -> None:
    bank = mkfa.harvest(NET, dilation="*=2", exclude="blocks.0.*")
    assert read_bank(write_bank(bank, tmp_path / "x.h5")) == bank
