"""A file of options: the same as on the command line, which wins; what is wrong in it is one sentence."""

from __future__ import annotations

import json
import shlex
import sys

import pytest
import typer

from mkfa.cli import app as command_line
from mkfa.cli.shared.settings import SETTINGS
from mkfa.cli.verbs import VERBS, load_verb
from mkfa.errors import MkfaError
from mkfa.results.archive import bundled_file, read_experiments


@pytest.fixture
def mkfa(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder; return its exit code, what it printed, and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["mkfa", *words])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        shown = capsys.readouterr()
        return stopped.value.code or 0, shown.out, shown.err

    return run


@pytest.fixture
def lab(tmp_path):
    def write(text, name="lab.toml"):
        (tmp_path / name).write_text(text)

    return write


def answer(run, *words):
    code, out, err = run(*words)
    assert code == 0, err
    found = json.loads(out)
    del found["created"]
    return found


EXPERIMENT = read_experiments(bundled_file())[0].name
ASSIGN = '[assign]\nbasis = "eight"\ndraws = 99\nkernel_size = ["3x3"]\nstore = false\njson = true\n'


def test_options_of_a_file_are_those_of_the_command_line(mkfa, lab):
    lab(ASSIGN + '[compare]\ndraws = 19\nnulls = "nosuch"')
    same = "assign --basis eight --draws 99 --kernel-size 3x3 --no-store --json ppocrv4_rec"
    expected = answer(mkfa, *same.split())
    for words in ("--config lab.toml assign ppocrv4_rec", "assign ppocrv4_rec --config=lab.toml"):
        found = answer(mkfa, *words.split())
        assert {**found, "command": ""} == {**expected, "command": ""}


def test_the_command_line_wins(mkfa, lab):
    lab(ASSIGN)
    found = answer(mkfa, "--config", "lab.toml", "assign", "ppocrv4_rec", "--draws", "120", "--basis", "families")
    [one] = found["assignments"]
    assert (one["draws"], one["basis"], list(one["skipped"])) == (120, "families", ["5x5"])


def test_results_record_the_command_that_needs_no_file(mkfa, lab, tmp_path):
    lab(ASSIGN)
    found = answer(mkfa, "--quiet", "--config", "lab.toml", "assign", "ppocrv4_rec", "--seed", "3", "--draws", "100")
    taken = "--basis eight --kernel-size 3x3 --no-store --json"
    assert sorted(shlex.split(found["command"])) == sorted(
        f"mkfa --quiet assign {taken} ppocrv4_rec --seed 3 --draws 100".split()
    )
    (tmp_path / "lab.toml").unlink()
    assert answer(mkfa, *shlex.split(found["command"])[1:]) == found


def test_a_verb_of_a_verb_has_its_own_table(mkfa, lab):
    lab(f'[runs]\nfrom = "bundled"\nexperiment = "{EXPERIMENT}"\n[runs.compare]\nby = ["arm", "layers"]')
    listed = answer(mkfa, "--config", "lab.toml", "runs", "--json")
    assert {run["experiment"] for run in listed["runs"]} == {EXPERIMENT}
    assert listed["command"] == f"mkfa runs --from bundled --experiment {EXPERIMENT} --json"
    place = ("--from", "bundled", "--experiment", EXPERIMENT, "--json")
    compared = answer(mkfa, "--config", "lab.toml", "runs", "compare", *place)
    assert compared["tables"] == answer(mkfa, "runs", "compare", "--by", "arm,layers", *place)["tables"]


def test_a_path_in_place_of_a_verb_has_that_verbs_table(mkfa, lab, tmp_path):
    lab("[domains.show]\nsize = 16\njson = true")
    from PIL import Image

    for part in ("train", "test"):
        for name in "ab":
            path = tmp_path / "mine" / part / name / "0.png"
            path.parent.mkdir(parents=True)
            Image.new("L", (32, 32), 90).save(path)
    found = answer(mkfa, "--config", "lab.toml", "domains", "mine")
    assert (found["size"], found["command"]) == (16, "mkfa domains show --size 16 --json mine")
    assert answer(mkfa, *found["command"].split()[1:])["size"] == 16


def test_a_table_stands_for_a_repeated_option(mkfa, lab):
    lab("[train]\ndry-run = true\nseeds = 1\n[train.set]\nlr = 0.25\nbatch = 4\nflip = 0.5")
    found = answer(mkfa, "--config", "lab.toml", "train", "digits", "--json")
    words = "--set lr=0.25 --set batch=4 --set flip=0.5"
    same = answer(mkfa, *f"train digits --dry-run --seeds 1 {words} --json".split())
    assert found["runs"] == same["runs"] and words in found["command"]
    plain = answer(mkfa, *"train digits --dry-run --seeds 1 --json".split())
    assert plain["runs"][0]["hash"] != found["runs"][0]["hash"]


def test_a_list_stands_for_a_repeated_option_and_for_commas(mkfa, lab):
    text = '[compare]\njson = true\ndraws = 19\nkernel-size = ["3x3"]\nmeasures = ["frobenius", "angles"]\n'
    lab(text + '[compare.group]\ntext = ["ppocrv4_det", "ppocrv4_rec"]\nobjects = "mobilenet_v2,efficientnet_lite0"')
    found = answer(mkfa, "--config", "lab.toml", "compare")
    lab(text + 'group = ["text=ppocrv4_det,ppocrv4_rec", "objects=mobilenet_v2,efficientnet_lite0"]')
    assert answer(mkfa, "--config", "lab.toml", "compare") == found
    groups = "--group text=ppocrv4_det,ppocrv4_rec --group objects=mobilenet_v2,efficientnet_lite0"
    same = f"compare --json --draws 19 --kernel-size 3x3 --measures frobenius,angles {groups}".split()
    assert {**answer(mkfa, *same), "command": ""} == {**found, "command": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[asign]", "lab.toml: has a table [asign], which is not a verb; did you mean assign"),
        ("[zzz]", "lab.toml: has a table [zzz], which is not a verb; 'mkfa --help' lists the verbs."),
        ("draws = 3", "lab.toml: sets 'draws' outside of a table; put it into the table of a verb, such as [harvest]."),
        ("[assign", "lab.toml: is not valid TOML ("),
        ("[assign]\ndrwas = 99", "lab.toml: [assign] has an unknown option 'drwas'; did you mean draws?"),
        ("[assign]\nzzz = 1", "[assign] has an unknown option 'zzz'; 'mkfa assign --help' lists the options."),
        ("[assign]\nhelp = true", "[assign] has an unknown option 'help'; "),
        ("[assign]\nbank = 'ppocrv4_rec'", "[assign] has an unknown option 'bank'; "),
        ("[assign]\ndraws = 'many'", "lab.toml: [assign] sets 'draws' to a wrong value: "),
        ("[assign]\ndraws = 0", "lab.toml: [assign] sets 'draws' to a wrong value: "),
        ("[assign]\ndraws = true", "[assign] sets 'draws' to true, but it is not a switch; give a text or a number."),
        ("[assign]\nstore = 'no'", "[assign] sets 'store' to no, but it is a switch; give true or false."),
        ("[assign]\nnull = {a = 1}", "[assign] sets 'null' to {'a': 1}, but it takes one value; give a text or a"),
        ("[assign]\nnull = 2020-01-01", "[assign] sets 'null' to 2020-01-01, which no option takes; give a text, a "),
        ("[assign]\nkernel-size = ''\nkernel_size = ''", "[assign] sets 'kernel-size' twice; leave one of them out."),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(mkfa, lab, text, says):
    lab(text)
    for words in (("--config", "lab.toml", "assign", "ppocrv4_rec"), ("assign", "ppocrv4_rec", "--config", "lab.toml")):
        code, out, err = mkfa(*words)
        assert (code, out) == (2, "")
        assert err.startswith("mkfa: lab.toml: ") and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "says"), [("none.toml", "cannot be read (No such"), (".", "cannot be read (Is a dir")]
)
def test_a_file_that_cannot_be_read_is_one_sentence(mkfa, name, says):
    assert mkfa("--config", name, "banks") == (2, "", mkfa("banks", "--config", name)[2])
    assert says in mkfa("--config", name, "banks")[2]


def test_errors_are_json_where_the_file_asks_for_it(mkfa, lab):
    lab("[keys]\njson = true")
    code, out, _ = mkfa("--config", "lab.toml", "keys", "nosuch")
    assert code == 2 and json.loads(out)["error"]["thing"] == "nosuch"


def test_no_file_is_read_unasked_and_none_is_remembered(mkfa, lab):
    lab("[banks]\nzzz = true")
    assert mkfa("--config", "lab.toml", "banks")[0] == 2
    for name in ("mkfa.toml", "pyproject.toml", ".mkfa.toml"):
        lab("[banks]\nzzz = true", name)
    found = answer(mkfa, "banks", "--json")
    assert found["command"] == "mkfa banks --json"


def commands(verb):
    """Return the contexts of a verb and of its own verbs."""
    root = typer.main.get_group(load_verb(verb))
    top = root.context_class(root, info_name="mkfa")
    found = [root.commands[verb].context_class(root.commands[verb], info_name=verb, parent=top)]
    for name, inner in getattr(root.commands[verb], "commands", {}).items():
        found.append(inner.context_class(inner, info_name=name, parent=found[0]))
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_can_stand_in_a_file(verb, tmp_path):
    for context in commands(verb):
        options = [p for p in context.command.get_params(context) if p.param_type_name == "option"]
        known = {p.opts[0].removeprefix("--"): p for p in options if p.opts[0] not in ("--help", "--config")}
        values = {key: "true" if p.is_flag else '["x", "y"]' if p.multiple else '"x"' for key, p in known.items()}
        table = f"{verb}.{context.info_name}" if context.info_name != verb else verb
        path = tmp_path / "all.toml"
        path.write_text(f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
        SETTINGS.start([])
        SETTINGS.read(path, VERBS)
        expected = {p.name: True if p.is_flag else ["x", "y"] if p.multiple else "x" for p in known.values()}
        assert SETTINGS.defaults(context) == expected
        path.write_text(f"[{table}]\nnosuch = 1")
        SETTINGS.read(path, VERBS)
        with pytest.raises(MkfaError, match="unknown option 'nosuch'"):
            SETTINGS.defaults(context)
    SETTINGS.start([])
