"""What files, folders and checkpoints call things never reaches the terminal as control characters, nor as HTML."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small import refused
from typer.testing import CliRunner

import mkfa
from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.bank_file import write_bank
from mkfa.cli.verbs import app, report
from mkfa.storage.folders import data_file

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\x9b31m\u202eleft\u2066\u200b\u2028\r\nmkfa: forged\t$\\frac{[bold]<b>\x7f\U000e0041"
"""A title of the window, an erased screen, directional marks, a forged line, broken formulas, markup, tags."""


def shown(*words: object) -> str:
    """Return what a command prints on both streams; it must end well and show nothing that a terminal obeys."""
    done = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert_clean(done.output)
    return done.output


def assert_clean(text: str) -> None:
    assert not {c for c in text if not c.isprintable() and c != "\n"}
    assert not [line for line in text.splitlines() if line.startswith("mkfa: forged")]


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    """A bank whose every text is hostile."""
    rng = np.random.default_rng(0)
    layers = []
    for i, (channels, side) in enumerate(((40, 3), (40, 3), (24, 5))):
        layer = Layer(0, f"{HOSTILE}{i}", i, 0.0, channels, side, side, (1, 1), (1, 1), 1)
        layers.append((layer, rng.standard_normal((channels, side, side)).astype(np.float32), None))
    texts = dict.fromkeys(
        ("source", "architecture", "training_set", "task", "licence", "hub_commit", "created"), HOSTILE
    )
    provenance = Provenance(
        **texts,
        rule="graph",
        skipped={HOSTILE: 3},
        notes=(HOSTILE,),
        doubtful={HOSTILE: HOSTILE},
        stood_in={HOSTILE: 2},
    )
    path = tmp_path_factory.mktemp("banks") / "hostile.h5"
    write_bank(make_bank(HOSTILE, layers, provenance), path)
    return path


@pytest.mark.parametrize(
    "command",
    [
        "show {bank}",
        "show {bank} --layer 1",
        "show {bank} --json",
        "compare {bank} ppocrv4_det --kernel-size 3x3 --draws 19 --sample 32 --figure {out}/c.png",
        "assign {bank} --draws 99 --by-layer --no-store --figure {out}/a.png",
        "keys {bank} --kernel-size 3x3 --keys 4 --candidates 12 --figure {out}/k.svg",
        "figure filters {bank} --out {out}/f.pdf",
        "banks export {bank} {out}/b.npz",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_hostile_bank(bank, tmp_path, command):
    shown(*command.format(bank=bank, out=tmp_path).split())


def test_a_hostile_bank_of_the_library(bank, own_home):
    (own_home / "banks").mkdir()
    (own_home / "banks" / "hostile.h5").write_bytes(bank.read_bytes())
    assert "\ufffd" in shown("banks")


def test_a_hostile_bank_in_python(bank):
    read = mkfa.read_bank(bank)
    assert_clean(repr(read))
    assert "<b>" not in read._repr_html_().removeprefix("<div><b>")
    assert_clean(read._repr_html_())


def test_a_hostile_checkpoint(tmp_path):
    tensors = {
        f"{HOSTILE}.{i}.dw.weight": np.random.default_rng(i).standard_normal((16, 1, 3, 3)).astype(np.float32)
        for i in range(3)
    }
    head: dict[str, object] = {"__metadata__": {HOSTILE: HOSTILE}}
    data = b""
    for name, tensor in tensors.items():
        where = [len(data), len(data) + tensor.nbytes]
        head[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": where}
        data += tensor.tobytes()
    text = json.dumps(head).encode()
    path = tmp_path / "\x1b[2J\u202enetwork\r.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    shown("harvest", path, "--out", tmp_path / "bank.h5")
    shown("show", tmp_path / "bank.h5")
    path.write_bytes(path.read_bytes()[:-40])
    assert_clean(str(refused("harvest", path, "--out", tmp_path / "other.h5")))


@pytest.mark.filterwarnings("ignore")
def test_a_hostile_folder_of_images(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures\x1b[2J\u202e"
    for part in ("train", "test"):
        for name in (HOSTILE.replace("/", ""), "b\r\nmkfa: forged"):
            (folder / part / name).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{i}.png")
    (folder / "train" / "b\r\nmkfa: forged" / "\x1b[2Jbroken\n.png").write_bytes(b"no picture")
    packed = tmp_path / "packed.h5"
    sheet = ("--contact-sheet", tmp_path / "sheet.png")
    shown("domains", "pack", folder, "--size", 16, "--workers", 1, "--out", packed, *sheet)
    shown("domains", "show", packed)


def test_hostile_runs(tmp_path):
    packed = json.loads(gzip.decompress(data_file("experiments.json.gz").read_bytes()))

    def spoil(value: object) -> object:
        if isinstance(value, dict):
            spoiled = ("command", "host", "note", "error")
            return {key: HOSTILE if key in spoiled else spoil(v) for key, v in value.items()}
        return [spoil(v) for v in value] if isinstance(value, list) else value

    file = tmp_path / "runs.json.gz"
    file.write_bytes(gzip.compress(json.dumps(spoil(packed)).encode()))
    shown("runs", "--from", file)
    shown("runs", "--from", file, "--csv")


def test_errors_of_libraries_are_one_clean_line(capsys):
    assert report(RuntimeError(HOSTILE)) == 1
    said = capsys.readouterr()
    assert_clean(said.err + said.out)
    assert said.err.count("\n") == 1


def test_json_escapes_what_a_terminal_obeys(bank):
    told = shown("show", bank, "--json")
    assert json.loads(told)["name"] == mkfa.read_bank(bank).name


def test_the_log_file_is_clean_too(bank, tmp_path):
    shown("--log-file", tmp_path / "log", "show", bank)
    assert_clean((tmp_path / "log").read_text().replace("\t", " "))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: cannot be used (Permission denied); check"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), "/x: cannot be used (No space left on device); free"),
        (OSError(errno.EIO, "Input/output error"), "a file: cannot be used (Input/output error); check"),
    ],
)
def test_an_error_of_the_file_system_is_a_sentence(error, words, capsys):
    assert report(error) == 1
    said = capsys.readouterr().err
    assert words in said and "unexpected" not in said and said.count("\n") == 1
