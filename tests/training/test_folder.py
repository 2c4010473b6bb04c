"""Files of a run folder that were damaged, or that another version wrote, are told of in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mkfa.errors import MkfaError, WorkError
from mkfa.results.runs import list_runs, load_run
from mkfa.storage.json_text import without_checksum
from mkfa.training.folder import CHECKPOINT, METRICS, RESULT, SPEC, WEIGHTS, RunFolder, read_spec
from mkfa.training.spec import RunSpec

DONE = {"state": "done", "top1_last": 0.5, "top1_best": 0.5, "chance": 0.1, "weights_sha256": "0"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path, RunSpec("convmixer_8_2", "made", "digest", "smoke", {"lr": 0.1}, 0))
    found.prepare()
    found.write_json(RESULT, DONE)
    return found


def test_what_is_whole_is_read(folder):
    assert read_spec(folder.path) == folder.spec
    assert folder.result().record == DONE
    folder.write_json(RESULT, {"state": "diverged", "step": 3})
    assert folder.result().record == {"state": "diverged", "step": 3}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"state": 3}',
        '{"state": "over"}',
        '{"state": "done", "top1_last": "x"}',
        '{"state": "diverged", "step": null}',
        '{"state": "done", "test_images": null}',
        '{"state": "done", "test_images": 8, "test_right": 3}',
    ],
)
def test_a_damaged_result_is_a_failed_run_and_is_not_taken_over(folder, text):
    (folder.path / RESULT).write_text(text)
    with pytest.raises(WorkError, match=r"result\.json: .*remove the run's folder"):
        folder.result()
    [entry] = list_runs(folder.path.parent)
    assert (entry.state, entry.hash) == ("failed", folder.spec.hash)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "it lacks arch, domain, domain_digest"),
        ({"seed": "x"}, "wrong type"),
        ({"recipe": 3}, "wrong type"),
        ({"arch": None}, "wrong type"),
        ({"colour": 1}, r"does not know \(colour\); use the version that trained it, or remove the folder"),
    ],
)
def test_a_specification_that_is_damaged_or_of_another_version(folder, text, told):
    path = folder.path / SPEC
    written = without_checksum(json.loads(path.read_text()))
    path.write_text(text if isinstance(text, str) else json.dumps(written | text))
    with pytest.raises(WorkError, match=told) as caught:
        read_spec(folder.path)
    assert "RunSpec" not in str(caught.value)
    [entry] = list_runs(folder.path.parent)
    assert entry.state == "failed"


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"epoch": 1}'])
def test_metrics_that_are_none_are_named(folder, text):
    (folder.path / METRICS).write_text(text + "\n")
    with pytest.raises(WorkError, match=r"metrics\.jsonl: has a line without the fields of an epoch"):
        _ = load_run(folder.path.parent, folder.spec.hash).metrics


@pytest.mark.parametrize("text", ["[]", "3", "{"])
def test_a_damaged_note_of_a_failure_hides_no_other_run(folder, text):
    (folder.path / RESULT).unlink()
    (folder.path / "failure.json").write_text(text)
    [entry] = list_runs(folder.path.parent)
    assert entry.state == "failed"


@pytest.mark.parametrize(("name", "remedy"), [(CHECKPOINT, "starts over"), (WEIGHTS, "trained again")])
def test_tensors_that_are_none_are_named_with_what_helps(folder, name, remedy):
    torch.save([1], folder.path / name)
    with pytest.raises(WorkError, match=rf"is damaged \(not a dictionary of tensors\).*{remedy}"):
        folder.load(name)
    (folder.path / name).write_bytes(b"junk")
    with pytest.raises(WorkError, match=rf"is damaged.*{remedy}"):
        folder.load(name)


def test_a_folder_that_cannot_be_locked_is_one_sentence(folder):
    (folder.path / "lock").mkdir()
    with pytest.raises(MkfaError, match=r"lock: cannot be opened \(Is a directory\)"), folder.lock():
        pass
