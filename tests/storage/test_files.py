"""Only regular files are read: a pipe, a socket, a device or a folder is named and never waited for."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from mkfa.banks.bank_file import read_analyses, read_bank
from mkfa.errors import BankError, MkfaError, SourceError
from mkfa.images.domain_file import read_domain
from mkfa.readers.folders import _best_of_trainer, _pointed
from mkfa.readers.graphs.graph_file import map_file
from mkfa.readers.harvesting import harvest
from mkfa.results.archive import read_experiments
from mkfa.storage.atomic import check_target
from mkfa.storage.files import open_file, read_head, read_regular
from mkfa.training.folder import load_tensors, read_json, read_metrics
from mkfa.training.recipe import load_recipe


@pytest.fixture(params=["pipe", "socket", "device", "folder"])
def special(request, tmp_path):
    """A path that is not a regular file; a test that waits for it fails after ten seconds."""
    path = tmp_path / "x"
    opened = None
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(str(path))
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    signal.alarm(10)
    yield path
    signal.alarm(0)
    if opened:
        opened.close()


READERS = (
    *(read_bank, read_analyses, read_domain, open_file, map_file, load_tensors, read_json, read_metrics),
    *(read_experiments, lambda path: load_recipe(str(path)), lambda path: harvest(str(path))),
)


@pytest.mark.parametrize("reader", range(len(READERS)))
def test_a_reader_names_what_is_not_a_regular_file(special, reader):
    with pytest.raises(MkfaError) as caught:
        READERS[reader](special)
    assert "unexpected" not in str(caught.value) and "\n" not in str(caught.value)
    assert "x" in caught.value.thing


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.onnx", "x.h5", "x.json.gz", "x.toml"])
def test_a_pipe_is_refused_by_the_ending_of_its_name_too(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    signal.alarm(10)
    read = {".gz": read_experiments, ".toml": lambda p: load_recipe(str(p))}.get(path.suffix, lambda p: harvest(str(p)))
    with pytest.raises(MkfaError, match=r"regular|does not exist"):
        read(path)
    signal.alarm(0)


def test_notes_beside_checkpoints_that_are_pipes_are_not_waited_for(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("last_checkpoint", "latest", "a/trainer_state.json"):
        os.mkfifo(tmp_path / name)
    signal.alarm(10)
    assert _pointed(tmp_path, ["a"]) == _best_of_trainer(tmp_path, ["a"]) == ""
    signal.alarm(0)


def test_what_is_not_a_regular_file_is_not_replaced(special):
    with pytest.raises(MkfaError, match=r"was not replaced|is a folder"):
        check_target(special, overwrite=True)


def test_a_zero_byte_in_a_name_is_named(tmp_path):
    path = tmp_path / "a\0b"
    for act in (lambda: open_file(path), lambda: check_target(path), lambda: read_bank(path), lambda: read_json(path)):
        with pytest.raises(MkfaError, match="zero byte"):
            act()
    with pytest.raises(BankError, match="zero byte"):
        read_head(path, error=BankError, kind="a bank", give="give one")


def test_a_file_longer_than_allowed_is_refused(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes(11))
    assert read_regular(path, most_bytes=11) == bytes(11)
    with pytest.raises(OSError, match="more than"):
        read_regular(path, most_bytes=10)
    with pytest.raises(SourceError, match="No such file"):
        open_file(tmp_path / "none")
