"""Every verb's result, in every format that it can be written in, is as mkfa/storage/result_schema.json says."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import h5py
import jsonschema
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from mkfa.cli import app as command_line

OLD = Path(__file__).parents[1] / "old_files"
SCHEMA = json.loads(files("mkfa.storage").joinpath("result_schema.json").read_text("utf-8"))
SWEEP = "--seeds 2 --out sweep --arch convmixer_8_3 --recipe smoke --equal-steps 24 --set batch=8 --set lr=0.01"
SWEEP += " --device cpu --threads 1 --jobs 1"
SMALL = "--arch resmixer_4_2 --equal-steps 2 --set batch=4 --seeds 2 --device cpu --threads 1 --jobs 1"
BANK = "bank.h5 --kernel-size 5x5"
NETWORK = "lcnet_035 --weights lcnet.safetensors --images many --size 32 --count 4 --sizes 2 --draws 1"
NETWORK += " --device cpu --threads 1 --kernel-size 5x5"
COMMANDS = {
    "banks": "bank_list",
    "banks export bank.h5 x.npz": "bank_change",
    "harvest net.safetensors": "harvest",
    "show bank.h5": "bank_facts",
    "show bank.h5 --layer 2": "layer_facts",
    "compare bank.h5 efficientnet_lite0 --draws 19 --sample 16 --kernel-size 5x5": "comparison",
    "compare bank.h5 efficientnet_lite0 ppocrv4_rec --draws 19 --sample 16 --kernel-size 5x5": "comparison",
    "compare --group a=bank.h5,ppocrv4_det --group b=ppocrv4_rec,efficientnet_lite0 --draws 19": "group_comparison",
    "assign bank.h5 --draws 99 --no-store": "assignment",
    f"atlas {BANK} --clusters 3": "atlas",
    f"keys {BANK} --keys 3 --candidates 8": "keys",
    f"graft {NETWORK} --vocabulary bank.h5": "graft",
    "figure --list": "figure_list",
    "figure filters bank.h5 --out x.png": "figure",
    "report bank.h5 sweep bundled --no-compute --out r.html": "report",
    "domains": "domain_list",
    "domains pack mine --out y.h5": "packed_domain",
    "domains show shapes.h5": "domain_overview",
    f"train shapes.h5 {SWEEP}": "base_runs",
    f"transfer-curve --source shapes.h5 --target strokes.h5 --arms transfer,selffer --layers 1,3 {SWEEP}": "curve",
    f"transfer --source shapes.h5 --target strokes.h5 --arms transfer,selffer --layers 3 {SWEEP}": "table",
    f"transfer-matrix --target shapes.h5,strokes.h5 --layers 2 {SWEEP.replace('--seeds 2', '--seeds 1')}": "matrix",
    f"transfer-sweep --steps 12,24 --source shapes.h5 --target strokes.h5 --arms transfer,random --layers 3 "
    f"{SWEEP.replace('--equal-steps 24 ', '')}": "sweep",
    f"transfer --source shapes.h5 --target strokes.h5 --arms transfer --layers 3 --dry-run {SWEEP}": "plan",
    f"transfer --source shapes.h5 --target strokes.h5 --arms transfer --layers 3 --estimate {SWEEP}": "plan",
    "runs --from sweep": "run_list",
    "runs show --from sweep 034170d7": "run_details",
    "runs compare --from sweep 034170d7 08aa165a": "run_comparison",
    "runs compare --from sweep --by arm": "run_groups",
    "runs pack z.json.gz --from sweep --result sweep/curve.json": "packed_experiment",
    "runs draw sweep/curve.json": "curve",
    "runs draw sweep/table.json": "table",
    "runs draw sweep/matrix.json": "matrix",
    "claims": "claims",
    "claims list C6": "claims",
    "claims check C1,C12,C16 --from sweep": "claims",
    f"claims run C15 --out verdicts {SMALL}": "claims",
    f"claims run C15 --dry-run {SMALL}": "plan",
    f"reproduce table1 --out again {SMALL}": "reproduction",
    "reproduce": "programme",
    "reproduce table6": "data_sets",
    "plan paper": "costs",
    "explain": "glossary",
    "doctor": "doctor",
}
"""Command, less --json -> format of what it prints."""
WITH_OUT = ("compare", "assign", "atlas", "keys", "graft")
PRINTED = {c: ".h5" for c in COMMANDS if c.split()[0] in WITH_OUT}
PRINTED |= {c: ".json" for c in ("claims", "claims check C1,C12,C16 --from sweep", "plan paper")}
"""Command -> ending of the file that it writes while it prints, so that it does the work once for both."""
FILES = [(c, end) for c in PRINTED for end in (".json", ".csv") if end != PRINTED[c]]
SWEEPS = [c for c, kind in COMMANDS.items() if kind in ("curve", "table", "matrix", "sweep") and "--out sweep" in c]


@pytest.fixture
def mkfa(monkeypatch, capsys, tmp_path):
    """Run a command in a folder with small recorded files; return what it printed."""
    monkeypatch.chdir(tmp_path)
    for path in OLD.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    for i, (part, name) in enumerate(itertools.product(("train", "test"), "ab")):
        path = tmp_path / "mine" / part / name / "0.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (16, 16), 60 * i).save(path)
        (tmp_path / "many").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "many" / f"{i}.png")
    shutil.copy(str(files("mkfa.data").joinpath("ppocr_cls.safetensors")), tmp_path / "net.safetensors")

    def run(text):
        if text.startswith("graft"):
            save_file(timm.create_model("lcnet_035").state_dict(), tmp_path / "lcnet.safetensors")
        monkeypatch.setattr(sys, "argv", ["mkfa", *text.split()])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        shown = capsys.readouterr()
        assert not stopped.value.code, shown.err
        return shown.out

    return run


def check(found, kind, command):
    assert found["format"] == f"mkfa.{kind}"
    jsonschema.validate(found, SCHEMA)
    jsonschema.validate(found, {"$defs": SCHEMA["$defs"], "$ref": f"#/$defs/{kind}"})
    assert found["command"] == f"mkfa {command}"


def test_the_schema_is_one_and_lists_every_format():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    formats = {name for name, entry in SCHEMA["$defs"].items() if "const" in entry["properties"].get("format", {})}
    assert formats == {*COMMANDS.values(), "error", "report_data", "layer_quality"}
    assert {entry["$ref"].rsplit("/")[-1] for entry in SCHEMA["anyOf"]} == formats
    assert all(SCHEMA["$defs"][name]["properties"]["format"] == {"const": f"mkfa.{name}"} for name in formats)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_printed_as_json_and_written_beside_it(mkfa, tmp_path, command):
    kind, ending = COMMANDS[command], PRINTED.get(command, "")
    asked = f"{command} --out result{ending} --json" if ending else f"{command} --json"
    check(json.loads(mkfa(asked)), kind, asked)
    if ending:
        check_file(tmp_path / f"result{ending}", kind, asked)
    if command in SWEEPS:
        for ending in (".json", ".csv"):
            check_file(tmp_path / "sweep" / f"{kind}{ending}", kind, asked)


@pytest.mark.parametrize(("command", "ending"), FILES)
def test_what_is_written(mkfa, tmp_path, command, ending):
    written = f"{command} --out result{ending}"
    mkfa(written)
    check_file(tmp_path / f"result{ending}", COMMANDS[command], written)


def test_the_list_of_runs_as_csv(mkfa, tmp_path):
    (tmp_path / "list.csv").write_text(mkfa("runs --from sweep --csv"))
    check_file(tmp_path / "list.csv", "run_list", "runs --from sweep --csv")


def test_what_a_report_writes_beside_its_page(mkfa, tmp_path):
    command = "report bank.h5 sweep comparison.json --no-compute --out r.html"
    mkfa(command)
    written = {path.name for path in (tmp_path / "r_data").iterdir()}
    assert written == {"report.json", "filters.h5", "layers.csv", "measures.csv", "layer_pairs.csv", "points.csv"}
    for name in written:
        check_file(tmp_path / "r_data" / name, "report_data", command)


def check_file(path, kind, command):
    entry = SCHEMA["$defs"][kind]
    if path.suffix == ".json":
        check(json.loads(path.read_text()), kind, command)
    elif path.suffix == ".csv":
        first, *lines = path.read_text().splitlines()
        check_heading(json.loads(first.removeprefix("# ")), kind, command)
        rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
        assert rows
        assert set(entry["x-csv"]) <= set(rows[0])
    else:
        with h5py.File(path) as f:
            attributes = {k: v.decode() if isinstance(v, bytes) else v.item() for k, v in f.attrs.items()}
            names = []
            f.visit(names.append)
        check_heading(attributes, kind, command)
        assert json.loads(attributes["parameters"])
        assert all(any(name.endswith(array) for name in names) for array in entry["x-hdf5"])


def check_heading(found, kind, command):
    jsonschema.validate(found, {"$defs": SCHEMA["$defs"], "$ref": "#/$defs/heading"})
    assert (found["format"], found["command"]) == (f"mkfa.{kind}", f"mkfa {command}")
