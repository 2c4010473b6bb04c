"""`mkfa graft`: what is printed, written and drawn."""

from __future__ import annotations

import json
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file

from mkfa.cli import app as command_line


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_file(timm.create_model("lcnet_035").state_dict(), tmp_path / "x.safetensors")

    def run(text, code=0):
        monkeypatch.setattr(sys, "argv", ["mkfa", *text.split()])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        shown = capsys.readouterr()
        assert (stopped.value.code or 0) == code, shown.err
        return shown

    return run


BASE = "graft lcnet_035 --weights x.safetensors --images emoji --size 32 --count 6 --device cpu --threads 1"


def test_tables_sentences_figure_and_file(run, tmp_path):
    shown = run(
        f"{BASE} --vocabulary ppocrv4_rec --sizes 8 --draws 1 --curves size,layers,similarity --figure g.png -o g.json"
    )
    out = " ".join(shown.out.split())
    assert "lcnet_035: answers on 3 images of emoji, batch statistics kept" in out
    assert "batch statistics re-estimated" in out and "unchanged network" in out
    for said in ("keys:own", "covariance:ppocrv4_rec", "delta", "Layers 1 to n", "One layer alone", "|cos| t or more"):
        assert said in out
    assert "To keep 90 % of its answers, lcnet_035 needs this many filters of each kernel size" in out
    assert "variants of lcnet_035" in shown.err
    assert (tmp_path / "g.png").stat().st_size > 10_000
    saved = json.loads((tmp_path / "g.json").read_text())
    assert saved["command"].startswith("mkfa graft lcnet_035") and saved["answer"] in out.replace(" ", " ")


def test_images_that_are_missing_are_told_before_weights_are_downloaded(run, monkeypatch):
    def download(*_, **__):
        raise AssertionError("weights were asked for")

    monkeypatch.setattr(timm, "create_model", download)
    shown = run("graft lcnet_035 --images nodir", 2)
    assert "nodir" in shown.err and len(shown.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--vocabulary nothing_such", "or one of own, eight"),
        ("--thresholds a,b", "is not a list of numbers"),
        ("--interpolation magic", "choose bilinear, bicubic, nearest"),
        ("--batch-norm maybe", "choose from both, kept, re-estimated"),
        ("--layers 99", "names layers that lcnet_035 does not have"),
    ],
)
def test_bad_requests_write_nothing(run, tmp_path, options, says):
    shown = run(f"{BASE} {options} -o g.json", 2)
    assert says in shown.err and len(shown.err.strip().splitlines()) == 1
    assert not (tmp_path / "g.json").exists()
