"""What all verbs have in common: help, short options, errors as JSON, former spellings, quiet and log files."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from safetensors.numpy import save_file

import mkfa as package
from mkfa.cli.app import VARIABLES, VERBS
from mkfa.cli.shared.glossary import GLOSSARY
from mkfa.cli.verbs import load_verb

VERBS_OF = {
    "banks": ("rm", "rename", "export"),
    "domains": ("pack", "show"),
    "runs": ("show", "compare", "pack", "draw"),
}
ALL = [(verb, *inner) for verb in VERBS for inner in [(), *((i,) for i in VERBS_OF.get(verb, ()))]]
NETWORK = "--arch convmixer_8_2 --recipe smoke"
WRONG = (
    "harvest nosuch.pt",
    "banks --nosuch",
    "banks rm nosuch",
    "banks rename efficientnet_lite0 mine",
    "banks export efficientnet_lite0 x.txt",
    "show nosuch",
    "show efficientnet_lite0 --layer 0",
    "compare efficientnet_lite0",
    "assign nosuch",
    "atlas nosuch",
    "keys efficientnet_lite0 --kernel-size 11x11",
    "figure nosuch",
    "domains pack nosuch",
    "train nosuch",
    f"transfer --source letters --target nosuch --arms transfer --layers 1 {NETWORK}",
    f"transfer-curve --source letters --target digits --layers 99 {NETWORK}",
    f"transfer-matrix --target nosuch {NETWORK}",
    "runs --from nosuch",
    "runs show 0123 --from bundled",
    "runs compare --from bundled",
    "runs pack x.txt",
    "runs draw nosuch",
    "demo --nosuch",
    "explain nosuch",
    "doctor --nosuch",
)
FORMER = {
    "compare": "--bank a --bank b --permutations 99 --null blurred --kernel 5x5",
    "assign": "efficientnet_lite0 --layers",
    "atlas": "a --kernel 5x5",
    "keys": "a --kernel=5x5",
    "figure": "filters --banks a,b",
    "show": "a --out x.png",
    "transfer": "--source a --target b --layers 1 --arm random",
    "transfer-matrix": "--domains a,b --sources c --arm transfer",
    "runs": "--out x",
    "runs show": "0123 --out x",
    "runs compare": "0 1 --out x",
    "runs pack": "x.json.gz --out x --experiment y.json",
}
NOW = {
    "compare": "a b --draws 99 --nulls blurred --kernel-size 5x5",
    "assign": "efficientnet_lite0 --by-layer",
    "atlas": "a --kernel-size 5x5",
    "keys": "a --kernel-size 5x5",
    "figure": "filters a b",
    "show": "a --figure x.png",
    "transfer": "--source a --target b --layers 1 --arms random",
    "transfer-matrix": "--target a,b --source c --arms transfer",
    "runs": "--from x",
    "runs show": "0123 --from x",
    "runs compare": "0 1 --from x",
    "runs pack": "x.json.gz --from x --result y.json",
}
PAPER_WORDS = [
    "arm",
    "selffer",
    "base run",
    "domain",
    "floor",
    "ceiling",
    "modulo sign",
    "null",
    "measure",
    "kind",
    "usable",
    "harvest",
    "atlas",
    "key filter",
    "source",
    "target",
]


def command(words):
    """Return the parser of a verb."""
    found = typer.main.get_group(load_verb(words[0]))
    for word in words:
        found = found.commands[word]
    return found


def parsed(verb, text):
    return command(verb.split()).make_context(verb, text.split(), resilient_parsing=False).params


def every_command(command, name=""):
    """Yield a command and those below it, with their names."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from every_command(below, f"{name} {word}")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_wraps_to_the_terminal(verb):
    """A line that ends within a paragraph would stay where the source has it."""
    for name, command in every_command(typer.main.get_command(load_verb(verb)), verb):
        assert not [part for part in (command.help or "").split("\n\n") if "\n" in part.strip()], name


def test_alone_it_is_the_help_with_every_verb_and_variable(mkfa):
    code, out, err = mkfa()
    assert (code, err) == (0, "")
    assert out == mkfa("-h")[1] == mkfa("--help")[1]
    for name in (*VERBS, *(word for names in VARIABLES for word in names.split(", "))):
        assert name in out


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_verb_has_short_options_and_words_for_values(mkfa, words):
    code, out, _ = mkfa(*words, "-h")
    assert code == 0
    assert "bool" not in out
    assert "list[" not in out
    options = {name for p in command(words).params for name in p.opts}
    assert ("--out" in options) == ("-o" in options)
    assert {"-q", "-v"} <= options


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_request_is_one_sentence_and_with_json_an_object(mkfa, text):
    code, out, err = mkfa(*text.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    code, out, err = mkfa(*text.split(), "--json")
    shown = json.loads(out)
    assert (code, shown["format"], shown["error"]["exit_code"]) == (2, "mkfa.error", 2)
    assert all(shown["error"][key] for key in ("thing", "problem", "remedy"))


@pytest.mark.parametrize("verb", FORMER)
def test_former_spellings_mean_what_the_present_ones_do(capsys, verb):
    assert parsed(verb, FORMER[verb]) == parsed(verb, NOW[verb])
    former = command(verb.split()).former
    said = capsys.readouterr().err
    assert said.count("this version only") >= len(former)
    assert not any(name in p.opts for name in former for p in command(verb.split()).params if former[name] == "BANK")


def test_every_former_spelling_is_tested():
    assert {" ".join(words) for words in ALL if command(words).former} == set(FORMER)


OTHERS = {"--help", "--debug", "--log-file", "--head", "--rdzv-endpoint", "--nproc-per-node", "--me"}
"""Options of mkfa itself, and of ray, torchrun and squeue, which errors name."""


def named_options(file):
    """The options that a module's errors name."""
    for call in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "").endswith("Error"):
            for part in ast.walk(call):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from re.findall(r"(?<!\\S)--[a-z][a-z-]+", part.value)


def test_errors_name_options_that_there_are():
    present = {name for words in ALL for p in command(words).params for name in p.opts if not p.hidden}
    present |= {f"--no-{name[2:]}" for name in present}
    files = [
        path
        for folder in {*package.__path__, *package.cli.__path__, *package.figures.__path__}
        for path in Path(folder).rglob("*.py")
        if "bundling" not in path.parts
    ]
    named = {(file.name, option) for file in files for option in named_options(file)}
    assert len(named) > 100
    assert {one for one in named if one[1] not in present | OTHERS} == set()


@pytest.mark.parametrize("word", PAPER_WORDS)
def test_words_of_the_field_are_explained(mkfa, word):
    code, out, _ = mkfa("explain", *word.split())
    assert code == 0
    assert ": " in out


def test_explain_lists_its_words(mkfa):
    code, out, _ = mkfa("explain", "--json")
    assert code == 0
    assert json.loads(out)["words"] == GLOSSARY
    assert {"strictest", "lineage", "Holm"} <= set(GLOSSARY)  # words that tables print


def test_quiet_prints_nothing_and_the_log_file_has_it_all(mkfa, tmp_path):
    assert mkfa("--quiet", "banks") == (0, "", "")
    assert mkfa("banks", "-q") == (0, "", "")
    code, out, _ = mkfa("-q", "--log-file", tmp_path / "log", "banks")
    assert (code, out) == (0, "")
    log = (tmp_path / "log").read_text()
    assert "efficientnet_lite0" in log
    assert "exit code 0" in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_log_file_on_a_full_disk_is_said_to_be_incomplete_once(mkfa, tmp_path):
    code, out, said = mkfa("--log-file", "/dev/full", "banks")
    assert code == 0 and "efficientnet_lite0" in out
    assert said == "mkfa: /dev/full: is incomplete, as it cannot be written (No space left on device).\n"
    os.mkfifo(tmp_path / "pipe")
    code, _, said = mkfa("--log-file", tmp_path / "pipe", "banks")
    assert code == 2 and "it is a pipe or socket" in said


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("mkfa ha", ["harvest"]), ("mkfa compare --kern", ["--kernel-size"]), ("mkfa banks r", ["rm", "rename"])],
)
def test_the_shell_completes_verbs_and_options(mkfa, monkeypatch, typed, completed):
    assert "--install-completion" in mkfa("--help")[1]
    monkeypatch.setenv("_MKFA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    assert mkfa()[1].split() == completed


@pytest.mark.parametrize(
    "text",
    [
        "harvest x.safetensors --out there.h5",
        "compare efficientnet_lite0 ppocrv4_rec -o there.json",
        "assign efficientnet_lite0 -o there.csv",
        "atlas efficientnet_lite0 -o there.h5",
        "keys efficientnet_lite0 --figure there.png",
        "figure filters efficientnet_lite0 -o there.png",
        "banks export efficientnet_lite0 there.npz",
        "runs draw bundled -o there.png",
    ],
)
def test_outputs_are_checked_before_the_work(mkfa, monkeypatch, tmp_path, text):
    monkeypatch.setattr("mkfa.banks.bank_file.get_bank", lambda f: pytest.fail("a bank was read"))
    name = next(word for word in text.split() if word.startswith("there"))
    (tmp_path / name).write_text("mine")
    code, _, err = mkfa(*text.split())
    assert (code, "exists" in err) == (2, True), err
    (tmp_path / name).unlink()
    code, _, err = mkfa(*text.replace("there", "no/there").split())
    assert (code, "does not exist" in err) == (2, True), err
    code, _, err = mkfa(*text.replace(name, "there.txt").split())
    assert (code, "ending" in err) == (2, True), err


def test_doctor_finds_what_is_needed(mkfa):
    code, out, _ = mkfa("doctor", "--json")
    shown = json.loads(out)
    assert (code, shown["good"]) == (0, True)
    assert {"mkfa", "torch", "devices", "home folder", "locks", "free space"} <= {c["check"] for c in shown["checks"]}


def test_doctor_tells_what_a_device_does(mkfa, monkeypatch):
    from mkfa.engines import device_checks
    from mkfa.engines.device_checks import Check

    checks = [
        Check("training", "works", "a second time as the plain path"),
        Check("graph", "does not apply", "needs CUDA"),
    ]
    monkeypatch.setattr(device_checks, "check_device", lambda device: checks if device == "cpu" else None)
    code, out, _ = mkfa("doctor", "--device", "cpu", "--json")
    shown = json.loads(out)
    assert (code, shown["good"]) == (0, True)
    assert shown["checks"][-1] == {"check": "graph", "state": "does not apply", "found": "needs CUDA"}
    checks.append(Check("stream", "fails", "RuntimeError: planted"))
    code, out, _ = mkfa("doctor", "--device", "cpu")
    assert code == 1
    assert "RuntimeError: planted" in out


def test_doctor_refuses_a_device_that_is_not_there(mkfa):
    code, _, said = mkfa("doctor", "--device", "mps")
    assert code == 2
    assert "--device mps: is not available on this machine; take one of auto, cpu" in said


def test_banks_are_exported_renamed_and_removed(mkfa, tmp_path):
    import numpy as np

    from mkfa.banks.library import library_folder, load_bank

    bundled = load_bank("ppocrv4_det")
    assert mkfa("banks", "export", "ppocrv4_det", "x.npz")[0] == 0
    arrays = np.load("x.npz")
    assert sum(len(arrays[name]) for name in arrays if name.startswith("weight_")) == len(bundled)
    library_folder(create=True)
    assert mkfa("banks", "export", "ppocrv4_det", library_folder() / "one.h5")[0] == 0
    assert mkfa("banks", "rename", "one", "a/b")[0] == 0
    assert load_bank("a/b").name == "a/b"
    assert load_bank("a/b").groups == bundled.groups
    assert mkfa("banks", "rm", "a/b")[0] == 0
    assert not list(library_folder().glob("*.h5"))
    assert "is not a bank of the library" in mkfa("banks", "rm", "ppocrv4_det")[2]


def test_a_dry_run_opens_no_engine(mkfa, monkeypatch):
    monkeypatch.setattr("mkfa.engines.processes.open_engine", lambda *a, **k: pytest.fail("an engine was opened"))
    words = f"transfer-curve --source letters --target digits --layers 1 --seeds 1 --dry-run {NETWORK}"
    code, out, _ = mkfa(*words.split())
    assert code == 0
    assert "Nothing was trained" in out
    assert json.loads(mkfa(*words.split(), "--json")[1])["estimate"]["seconds"] is None


@pytest.mark.parametrize(
    "words",
    [
        "train digits",
        "transfer-curve --arch convnext_atto --source digits --target digits --layers 1..12",
        "transfer-curve",
        "transfer --source digits --target digits --arms keys-8,box3 --arch resmixer_16_2",
        "transfer-matrix --target digits,letters",
        "transfer-sweep --source digits --target digits",
        "transfer --source digits --target letters --what conv --arch resnet18 --arms transfer,shuffle",
        "transfer --source digits --target letters --what pointwise --arch convnext_atto",
        "transfer --source digits --target letters --arch mobilenetv2_100 --source-arch convnext_atto,hornet_tiny "
        "--arms stack --fit-kernel crop --layers 3",
        "transfer --source mobilenet_v2 --target letters --arch mobilenetv2_100",
        "reproduce table3 --scale paper",
        "reproduce table5 --scale paper",
    ],
)
def test_a_dry_run_builds_no_network_whose_name_says_enough(words, tmp_path):
    code = """if True:
        import sys
        from mkfa.cli.app import main
        try:
            main()
        except SystemExit as end:
            assert not end.code
        print("IMPORTED", sorted({"torch", "timm"} & sys.modules.keys()))
    """
    command = [sys.executable, "-c", code, *words.split(), "--dry-run", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert "Nothing was trained." in run.stdout, run.stderr
    assert run.stdout.endswith("IMPORTED []\n")
    assert not (tmp_path / "out").exists()


def test_a_harvest_into_a_pipe_imports_nothing_that_it_does_not_need(tmp_path):
    weight = np.ones((8, 1, 3, 3), np.float32) + np.arange(8, dtype=np.float32)[:, None, None, None]
    save_file({"block.conv_dw.weight": weight}, tmp_path / "net.safetensors")
    code = """if True:
        import sys
        from mkfa.cli.app import main
        try:
            main()
        except SystemExit as end:
            assert not end.code
        slow = {"rich.console", "numpy.ma", "email.parser", "torch", "timm", "scipy", "PIL"} & sys.modules.keys()
        print("IMPORTED", sorted(slow))
    """
    command = [sys.executable, "-c", code, "harvest", "net.safetensors", "--out", "net.h5"]
    plain = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=plain)
    assert "8 depthwise filters in 1 layer" in run.stdout, run.stderr
    assert run.stdout.endswith("IMPORTED []\n")
