"""`mkfa harvest`, `mkfa banks`, `mkfa show` as a user types them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file
from small import Ended

from mkfa.banks.bank_file import Analysis, read_bank, write_analysis, write_bank
from mkfa.banks.library import library_folder

MKFA = [sys.executable, "-m", "mkfa.cli.app"]


def assert_refused(done, words, code=2):
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1, done.err
    for word in [words] if isinstance(words, str) else words:
        assert word in done.err


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        "stem.weight": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "blocks.0.conv_dw.weight": rng.standard_normal((8, 1, 3, 3)).astype(np.float32),
        "blocks.0.conv_pw.weight": rng.standard_normal((16, 8, 1, 1)).astype(np.float32),
        "blocks.1.conv_dw.weight": rng.standard_normal((16, 1, 5, 5)).astype(np.float32),
    }
    save_file(tensors, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_harvest_to_a_file_then_show_it(mkfa, checkpoint, tmp_path):
    out = tmp_path / "bank.h5"
    done = mkfa("harvest", checkpoint, "--out", out, "--training-set", "mine", "--licence", "MIT")
    assert done.code == 0, done.err
    assert "24 depthwise filters in 2 layers" in done.out
    assert f"Wrote {out}" in done.out
    bank = read_bank(out)
    assert [layer.name for layer in bank.layers] == ["blocks.0.conv_dw.weight", "blocks.1.conv_dw.weight"]
    assert (bank.provenance.training_set, bank.provenance.licence) == ("mine", "MIT")
    shown = mkfa("show", out)
    assert shown.code == 0, shown.err
    assert "blocks.1.conv_dw.weight" in shown.out
    facts = json.loads(mkfa("show", out, "--json").out)
    assert facts["filters"] == 24
    assert [layer["kh"] for layer in facts["layers"]] == [3, 5]


def test_layers_copies_and_dilations_are_chosen_on_the_command_line(mkfa, tmp_path):
    rng = np.random.default_rng(0)
    raw = {
        "stem.weight": (8, 3, 3, 3),
        "blocks.0.conv_dw.weight": (8, 1, 3, 3),
        "blocks.1.conv_dw.weight": (8, 1, 5, 5),
        "blocks.2.conv_pw.weight": (8, 8, 1, 1),
        "mask_embed.0.weight": (4, 1, 3, 3),
        "mask_embed.2.weight": (8, 4, 1, 1),
    }
    state = {f"model.{key}": rng.standard_normal(shape).astype(np.float32) for key, shape in raw.items()}
    save_file(
        state | {key.replace("model.", "model_ema."): w * 1.01 for key, w in state.items()}, tmp_path / "n.safetensors"
    )
    source, out = tmp_path / "n.safetensors", tmp_path / "bank.h5"
    done = mkfa("harvest", source, "--out", out)
    assert done.code == 0, done.err
    text = " ".join(done.out.split())
    assert "the averaged (EMA) copy" in text and "r = 1.00" in text
    assert "doubtful model_ema.mask_embed.0.weight: left out as a dense convolution of one channel" in text
    options = [
        "--weights",
        "raw",
        "--include",
        "*mask_embed.0*",
        "--exclude",
        "*blocks.0.*",
        "--dilation",
        "*blocks*=2",
    ]
    done = mkfa("harvest", source, *options, "--out", out, "--force")
    assert done.code == 0, done.err
    bank = read_bank(out)
    assert bank.provenance.weights == "raw"
    assert [(x.name, x.dilation) for x in bank.layers] == [
        ("model.mask_embed.0.weight", (-1, -1)),
        ("model.blocks.1.conv_dw.weight", (2, 2)),
    ]
    facts = json.loads(mkfa("show", out, "--json").out)
    assert facts["provenance"]["weights"] == "raw"
    assert_refused(
        mkfa("harvest", source, "--weights", "best", "--out", out, "--force"), ["--weights best", "raw or ema"]
    )
    assert_refused(mkfa("harvest", source, "--exclude", "nothing*", "--out", out, "--force"), ["nothing*", "check the"])


def test_many_dead_filters_are_warned_of(mkfa, tmp_path):
    weight = np.random.default_rng(0).standard_normal((10, 1, 3, 3)).astype(np.float32)
    weight[:4] *= 1e-9
    save_file({"blocks.0.conv_dw.weight": weight}, tmp_path / "net.safetensors")
    done = mkfa("harvest", tmp_path / "net.safetensors")
    assert done.code == 0 and "4 of 10 filters are dead" in " ".join(done.err.split())


def test_show_draws_a_layer(mkfa, checkpoint, tmp_path):
    mkfa("harvest", checkpoint)
    done = mkfa("show", "net", "--layer", 2, "--figure", "net.png", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")
    assert_refused(mkfa("show", "net", "--layer", 2, "--figure", "net.png", cwd=tmp_path), ["net.png", "--force"])
    assert_refused(mkfa("show", "net", "--layer", 3), ["layer 3", "from 1 to 2"])
    assert_refused(mkfa("show", "net", "--png"), "add --layer N")


def test_into_the_library_and_listed(mkfa, checkpoint):
    done = mkfa("harvest", checkpoint)
    assert done.code == 0, done.err
    assert (library_folder() / "net.h5").is_file()
    rows = {r["name"]: r for r in json.loads(mkfa("banks", "--json").out)["banks"]}
    assert rows["net"]["filters"] == 24
    assert not rows["net"]["bundled"]
    assert rows["efficientnet_lite0"]["bundled"]
    assert "the bank exists" in mkfa("harvest", checkpoint).out.lower()


def test_a_bank_is_not_lost_to_another_network_of_its_name(mkfa, checkpoint, tmp_path):
    for place, scale in (("run1", 1), ("run2", 2)):
        (tmp_path / place).mkdir()
        tensors = {
            "stem.weight": np.ones((8, 3, 3, 3)),
            "blocks.0.conv_dw.weight": scale * np.eye(9).reshape(9, 1, 3, 3),
        }
        save_file(
            {key: value.astype(np.float32) for key, value in tensors.items()}, tmp_path / place / "ck.safetensors"
        )
    assert mkfa("harvest", "ck.safetensors", cwd=tmp_path / "run1").code == 0
    bank = library_folder() / "ck.h5"
    write_analysis(bank, Analysis("assign.gaussian", {"best": np.arange(9)}, {}))
    before = bank.read_bytes()
    done = mkfa("harvest", "ck.safetensors", cwd=tmp_path / "run2")
    assert_refused(done, ["ck: is in the library already", str(tmp_path / "run1" / "ck.safetensors"), "--name"])
    assert bank.read_bytes() == before
    done = mkfa("harvest", "ck.safetensors", "--training-set", "ImageNet-1k", cwd=tmp_path / "run1")
    assert done.code == 0 and "--training-set changed" in done.err and f"Wrote {bank}" in done.out
    assert read_bank(bank).provenance.training_set == "ImageNet-1k"
    done = mkfa("harvest", "ck.safetensors", "--force", cwd=tmp_path / "run2")
    assert done.code == 0
    assert "analyses stored in the former bank are gone: assign.gaussian" in done.err
    assert read_bank(bank).of_layer(0).weight.max() == 2


def test_out_over_a_bank_says_which_analyses_are_gone(mkfa, checkpoint, tmp_path, bank_maker):
    out = write_bank(bank_maker(), tmp_path / "bank.h5")
    write_analysis(out, Analysis("assign.gaussian", {}, {}))
    done = mkfa("harvest", checkpoint, "--out", out, "--force", "--json")
    assert done.code == 0 and "are gone: assign.gaussian" in done.err
    assert "are gone: assign.gaussian" in json.loads(done.out)["banks"][0]["changes"][0]


def test_a_bank_that_is_open_elsewhere_is_in_use(mkfa, bank_maker, tmp_path, opened_elsewhere):
    path = write_bank(bank_maker(), tmp_path / "t.h5")
    with opened_elsewhere(path):
        done = mkfa("show", path)
        assert_refused(done, ["t.h5: is in use: another program has it open for writing", "close it there"])
        assert "damaged" not in done.err and "harvest" not in done.err
        done = mkfa("banks", "export", path, tmp_path / "copy.h5")
        assert_refused(done, "is in use")


def test_a_damaged_bank_in_the_library_does_not_hide_the_others(mkfa, checkpoint):
    mkfa("harvest", checkpoint)
    (library_folder() / "bad.h5").write_bytes(b"")
    done = mkfa("banks")
    assert done.code == 0
    assert "net" in done.out
    assert "bad.h5: is empty" in done.err


def test_a_bank_with_one_flipped_bit_is_refused_by_every_command(mkfa, bank_maker, tmp_path):
    path = write_bank(bank_maker(), tmp_path / "b.h5")
    data = bytearray(path.read_bytes())
    data[data.index(bank_maker().groups[5, 5].weight.tobytes()) + 100] ^= 1
    path.write_bytes(data)
    for verb in (("show",), ("assign",), ("atlas",), ("keys",), ("compare", "efficientnet_lite0")):
        said = [f"{path}: is damaged: the values of /filters/5x5/weight differ from those", "harvest the network again"]
        assert_refused(mkfa(*verb, path), said)
    assert path.read_bytes() == data


def test_requests_that_are_wrong(mkfa, checkpoint, tmp_path):
    bank = tmp_path / "bank.h5"
    bank.write_bytes(b"precious")
    assert_refused(mkfa("harvest", checkpoint, "--out", bank), ["bank.h5", "exists already", "--force"])
    assert bank.read_bytes() == b"precious"
    assert_refused(mkfa("harvest", checkpoint, "--out", tmp_path / "no" / "b.h5"), ["does not exist", "create it"])
    assert_refused(mkfa("harvest", tmp_path / "gone.safetensors"), ["gone.safetensors", "does not exist"])
    assert_refused(mkfa("harvest", checkpoint, checkpoint.with_name("*"), "--name", "x"), "name one bank")
    assert_refused(mkfa("show", "netx"), "netx")
    assert_refused(mkfa("show", "--bogus"), ["No such option", "mkfa show --help"])
    assert_refused(mkfa("shew"), "shew")


def test_no_depthwise_layer_says_what_there_is_instead(mkfa, tmp_path):
    save_file({"conv.weight": np.zeros((4, 3, 3, 3), np.float32)}, tmp_path / "dense.safetensors")
    done = mkfa("harvest", tmp_path / "dense.safetensors", "--out", tmp_path / "b.h5")
    assert_refused(done, ["dense.safetensors", "has no depthwise layer", "it has"])
    assert not (tmp_path / "b.h5").exists()


def test_nonfinite_weights_need_consent_and_stay_out_of_analyses(mkfa, tmp_path):
    weight = np.random.default_rng(0).standard_normal((4, 1, 3, 3)).astype(np.float32)
    weight[2, 0, 1, 1] = np.nan
    stem = np.ones((4, 3, 3, 3), np.float32)
    save_file({"stem.weight": stem, "a.conv_dw.weight": weight}, tmp_path / "nan.safetensors")
    assert_refused(mkfa("harvest", tmp_path / "nan.safetensors"), ["NaN or infinite", "--allow-nonfinite"])
    done = mkfa("harvest", tmp_path / "nan.safetensors", "--allow-nonfinite", "--json")
    assert done.code == 0, done.err
    facts = json.loads(mkfa("show", "nan", "--json").out)
    assert facts["kernels"][0]["nonfinite"] == 1


def test_several_sources_one_broken(mkfa, checkpoint, tmp_path):
    (tmp_path / "page.safetensors").write_bytes(b"<!DOCTYPE html><html></html>")
    done = mkfa("harvest", checkpoint, tmp_path / "page.safetensors")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "page.safetensors: is a web page" in done.err
    assert "1 of 2 networks: failed" in done.err
    assert (library_folder() / "net.h5").is_file()


def test_debug_shows_the_traceback(tmp_path):
    words = [*MKFA, "--debug", "harvest", str(tmp_path / "gone.safetensors")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_output_into_a_closed_pipe_is_no_error():
    done = subprocess.run(f"{' '.join(MKFA)} banks | head -1", shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(checkpoint, tmp_path):
    """A file-size limit stands in for the full disk: the write itself fails, as it does there."""
    limit = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); sys.argv = ['mkfa', *sys.argv[1:]]; "
        "from mkfa.cli.app import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limit, "harvest", str(checkpoint), "--out", str(tmp_path / "b.h5")],
        capture_output=True,
        text=True,
    )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert_refused(ended, ["b.h5", "could not be written"], code=1)
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.slow
def test_killed_at_random_moments_no_broken_bank(tmp_path):
    """`tests/benchmarks/soak.py` does it 500 times."""
    rng = np.random.default_rng(0)
    big = {f"blocks.{i}.conv_dw.weight": rng.standard_normal((4000, 1, 7, 7)).astype(np.float32) for i in range(12)}
    save_file(big, tmp_path / "big.safetensors")
    out = tmp_path / "out" / "big.h5"
    out.parent.mkdir()
    command = [*MKFA, "harvest", str(tmp_path / "big.safetensors"), "--out", str(out), "--force"]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    longest, moments, killed = time.monotonic() - started, random.Random(0), 0
    while killed < 15:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.02, longest))
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:
            longest *= 0.9  # it had ended: the machine has become quicker
        assert len(read_bank(out)) == 48000
    subprocess.run(command, check=True, capture_output=True)
    assert {p.name for p in out.parent.iterdir()} == {"big.h5", ".big.h5.lock"}  # what the killed ones left is swept up


def test_names_and_paths_that_no_bank_can_have_are_refused(mkfa, checkpoint, tmp_path):
    assert_refused(mkfa("harvest", checkpoint, "--out", tmp_path / "bank.txt"), ["bank.txt", "end the name in .h5"])
    assert_refused(mkfa("harvest", checkpoint, "--name", "..."), ["name '...'", "pass another --name"])
    assert_refused(mkfa("harvest", checkpoint, "--name", "x" * 300), "too long for a file name")
    assert_refused(mkfa("show", "x" * 300), "too long for a file name")
    loop = tmp_path / "loop.pth"
    loop.symlink_to(loop.name)
    assert_refused(mkfa("harvest", loop), "loop.pth: ")
    assert_refused(mkfa("show", "~nobody-of-that-name/x.h5"), "a user that this machine does not know")
    assert_refused(mkfa("show", ""), "is an empty name")
    assert not list(library_folder().glob("*")) and not (tmp_path / "bank.txt").exists()


def test_a_picture_of_no_format_is_refused_before_anything_is_printed(mkfa, checkpoint, tmp_path):
    mkfa("harvest", checkpoint, "--out", tmp_path / "bank.h5")
    done = mkfa("show", tmp_path / "bank.h5", "--layer", 1, "--figure", tmp_path / "a.gif")
    assert_refused(done, ["a.gif", ".png"])
    assert not done.out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convnext_base", "convnext_base: is a timm network that has not been harvested yet; run mkfa harvest"),
        (
            "food",
            "food: is a domain, and no bank of a network trained on it is in the library; train one, mkfa train food",
        ),
        ("qqqq", "'mkfa harvest qqqq' gets"),
    ],
)
def test_an_unknown_bank_names_the_command_that_gets_it(mkfa, name, words):
    assert_refused(mkfa("show", name), words)
