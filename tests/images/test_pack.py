"""Packing decodes each image once, goes on after a kill, and names what it cannot decode."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import mkfa
from mkfa.errors import MkfaError, WorkError
from mkfa.images import pack as packing
from mkfa.images import rows
from mkfa.images.domain_file import DomainError, domain_digest, read_domain
from mkfa.images.listing import ImageSet, Side, list_folder
from mkfa.images.load import describe_domain
from mkfa.images.pack import pack
from mkfa.images.rows import scaled
from mkfa.storage.result_files import map_arrays


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 8)):
        for name in ("a", "b"):
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (12, 12 + i % 3, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / name / f"{i:02d}.png")
    return tmp_path / "set"


def expected(folder, size, without=()):
    sides = []
    for part in ("train", "test"):
        files = [f for name in ("a", "b") for f in sorted((folder / part / name).glob("*.png")) if f not in without]
        sides.append((np.stack([scaled(f, size) for f in files]), np.array([f.parent.name == "b" for f in files], int)))
    return sides


def test_a_packed_folder_is_its_images_in_order(folder, tmp_path):
    told = []
    done = pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=2, advance=told.append)
    assert (done.train, done.test, done.skipped, done.resumed, sum(told)) == (60, 16, (), 0, 76)
    domain = read_domain(done.path)
    (x, y), (x_test, y_test) = expected(folder, 8)
    assert np.array_equal(domain.x_train, x) and np.array_equal(domain.y_train, y)
    assert np.array_equal(domain.x_test, x_test) and np.array_equal(domain.y_test, y_test)
    assert domain.digest == domain_digest(("a", "b"), (x, y), (x_test, y_test))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".p.h5.lock", "p.h5", "set"]


def test_scaling_keeps_the_centre(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    assert (scaled(wide, 8) == 200).all()
    half = scaled(np.kron(wide, np.ones((2, 2, 1), np.uint8)), 8)
    assert (half[:, 2:6] == 200).all()
    Image.fromarray(wide[..., 0]).save(tmp_path / "gray.png")
    assert scaled(tmp_path / "gray.png", 8).shape == (8, 8, 3)


def test_a_corrupt_image_is_named_and_left_out_or_refused(folder, tmp_path):
    bad = [folder / "train/a/03.png", folder / "train/b/29.png"]
    bad[0].write_bytes(bad[0].read_bytes()[:60])
    bad[1].write_bytes(b"")
    with pytest.raises(DomainError, match=r"0?3\.png|29\.png"):
        pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=1, strict=True)
    assert not (tmp_path / "p.h5").exists()
    done = pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=1)
    assert (done.train, done.skipped) == (58, tuple(str(b) for b in bad))
    domain = read_domain(done.path)
    (x, y), test = expected(folder, 8, bad)
    assert (len(domain.x_train), len(domain.y_train)) == (58, 58)
    order = [(p.tobytes(), int(label)) for p, label in zip(domain.x_train, domain.y_train, strict=True)]
    assert sorted(order) == sorted((p.tobytes(), int(label)) for p, label in zip(x, y, strict=True))
    assert np.array_equal(domain.x_test, test[0])
    assert domain.digest == domain_digest(
        domain.classes, (domain.x_train, domain.y_train), (domain.x_test, domain.y_test)
    )


def test_a_run_that_was_killed_goes_on_where_it_was(folder, tmp_path):
    whole = read_domain(pack(list_folder(folder), tmp_path / "whole.h5", size=200, workers=1).path).digest
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom mkfa.images import pack as p, rows\n"
        "from mkfa.images.listing import list_folder\np._SAVE_SECONDS = 0\nrows._BATCH = 4\n"
        "if __name__ == '__main__':\n"
        "    advance = lambda n: (n and (print(n, flush=True), time.sleep(.05)))\n"
        "    p.pack(list_folder(Path(sys.argv[1])), Path(sys.argv[2]), size=200, workers=1, advance=advance)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    out = tmp_path / "p.h5"
    child = subprocess.Popen([sys.executable, str(script), str(folder), str(out)], stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert not out.exists()
    done = pack(list_folder(folder), out, size=200, workers=1)
    assert 12 <= done.resumed < 76
    assert read_domain(out).digest == whole


def test_ctrl_c_at_any_moment_is_quiet_and_what_was_decoded_is_kept(folder, tmp_path):
    script, out = tmp_path / "run.py", tmp_path / "p.h5"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom mkfa.images import pack as p, rows\n"
        "from mkfa.images.listing import list_folder\nrows._BATCH = 1\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        p.pack(list_folder(Path(sys.argv[1])), Path(sys.argv[2]), size=400, workers=2,\n"
        "               advance=lambda n: print(n, flush=True))\n"
        "    except KeyboardInterrupt:\n"
        "        sys.exit(130)\n"
    )
    for wait in (0, 1, 3):  # lines: while workers start, and at work
        child = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for _ in range(wait + 1):
            child.stdout.readline()
        os.killpg(child.pid, signal.SIGINT)
        _, told = child.communicate(timeout=60)
        assert (child.returncode, told) == (130, "")
        assert not out.exists()
    assert pack(list_folder(folder), out, size=400, workers=1).resumed >= 2


def test_an_unfinished_file_of_other_images_or_size_is_begun_anew(folder, tmp_path, monkeypatch):
    out = tmp_path / "p.h5"
    partial = tmp_path / ".p.h5.partial"
    monkeypatch.setattr(packing, "_finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack(list_folder(folder), out, size=8, workers=1)
    arrays, _ = map_arrays(partial, kind="domain")
    assert (arrays["state_train"] == packing.DECODED).all() and not arrays["rows"].any()
    with pytest.raises(DomainError, match="is unfinished"):
        read_domain(partial)
    monkeypatch.undo()
    Image.new("RGB", (12, 12)).save(folder / "train/a/99.png")
    assert pack(list_folder(folder), out, size=8, workers=1).resumed == 0
    assert not partial.exists()


@pytest.mark.parametrize("killed", [False, True])
def test_a_start_that_was_cut_short_leaves_nothing_that_is_gone_on_with(folder, tmp_path, monkeypatch, killed):
    """A signal comes while the arrays of the file are made: some are there, others not."""
    out, reserve = tmp_path / "p.h5", packing.reserve_arrays

    def cut_short(path, *, shapes, **more):
        reserve(path, shapes={name: shapes[name] for name in list(shapes)[:-4]}, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "reserve_arrays", cut_short)
    if killed:  # then nothing is cleared up
        monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        pack(list_folder(folder), out, size=8)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.glob(".p.h5.partial*")] == [".p.h5.partial.new"] * killed
    done = pack(list_folder(folder), out, size=8)
    assert (done.train, done.test, done.resumed) == (60, 16, 0)
    assert not list(tmp_path.glob(".p.h5.partial*"))


def test_two_at_once_are_refused(folder, tmp_path):
    with packing._only_one(tmp_path / "p.h5"), pytest.raises(WorkError, match="by another process"):
        pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=1)


def test_what_cannot_be_packed_is_refused_before_any_work(folder, tmp_path, monkeypatch):
    images = list_folder(folder)
    (tmp_path / "p.h5").write_text("mine")
    with pytest.raises(MkfaError, match="exists already"):
        pack(images, tmp_path / "p.h5", size=8)
    with pytest.raises(MkfaError, match="--size"):
        pack(images, tmp_path / "q.h5", size=0)

    (tmp_path / ".r.h5.lock").mkdir()
    with pytest.raises(WorkError, match=r"\.r\.h5\.lock: cannot be opened \(Is a directory\); choose another --out"):
        pack(images, tmp_path / "r.h5", size=8)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(WorkError, match=r"the disk is full; free \d+ MiB"):
        pack(images, tmp_path / "q.h5", size=8)
    assert not (tmp_path / ".q.h5.partial").exists()


def test_a_few_images_are_decoded_here_with_equal_results(folder, tmp_path, monkeypatch):
    (folder / "train" / "a" / "broken.png").write_bytes(b"no image")
    images, started = list_folder(folder), []

    class Counted(rows.ProcessPoolExecutor):
        def __init__(self, *words, **more):
            started.append(words)
            super().__init__(*words, **more)

    monkeypatch.setattr(rows, "ProcessPoolExecutor", Counted)
    here = pack(images, tmp_path / "here.h5", size=8)
    assert not started and [name.endswith("a/broken.png") for name in here.skipped] == [True]
    there = pack(images, tmp_path / "there.h5", size=8, workers=1)
    assert len(started) == 1 and replace(here, path=there.path) == there
    assert read_domain(here.path).digest == read_domain(there.path).digest
    monkeypatch.setattr(rows, "FEW_IMAGES", 3)
    pack(images, tmp_path / "many.h5", size=8)
    monkeypatch.setattr(rows, "FEW_IMAGES", 1000)
    monkeypatch.setattr(rows, "FEW_BYTES", 100)
    pack(images, tmp_path / "large.h5", size=8)
    assert len(started) == 3


def test_a_process_that_was_ended_is_said_and_packing_goes_on(folder, tmp_path, monkeypatch):
    class Ended(rows.ProcessPoolExecutor):
        def submit(self, *words, **more):
            future = super().submit(os._exit, 1) if 16 in more.get("rows", ()) else super().submit(*words, **more)
            return future

    monkeypatch.setattr(rows, "_BATCH", 8)
    with monkeypatch.context() as patch:
        patch.setattr(rows, "ProcessPoolExecutor", Ended)
        with pytest.raises(WorkError, match=r"memory was short; pack with fewer --workers; what is decoded is kept"):
            pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=1)
    done = pack(list_folder(folder), tmp_path / "p.h5", size=8, workers=1)
    assert (done.train, done.test) == (60, 16)
    assert np.array_equal(read_domain(done.path).x_train, expected(folder, 8)[0][0])


def test_damage_in_a_packed_file_is_noticed_where_it_is(tmp_path):
    images = ImageSet(
        "d",
        ("a", "b"),
        Side(np.arange(6) % 2, pixels=np.arange(6 * 300, dtype=np.uint16).astype(np.uint8).reshape(6, 10, 10, 3)),
        Side(np.arange(2), pixels=np.ones((2, 10, 10, 3), np.uint8)),
    )
    path = pack(images, tmp_path / "d.h5", size=10, workers=1).path
    sound = path.read_bytes()
    with h5py.File(path) as f:
        pixels, labels = f["x_train"].id.get_offset(), f["y_train"].id.get_offset()
    path.write_bytes(sound[: pixels + 700] + bytes([sound[pixels + 700] ^ 4]) + sound[pixels + 701 :])
    domain = read_domain(path)  # the image is not read yet
    assert domain.x_train[:2].shape == (2, 10, 10, 3)
    for read in (lambda: domain.x_train[2], lambda: domain.x_train[:], lambda: np.asarray(domain.x_train)):
        with pytest.raises(WorkError, match=r"d\.h5: is damaged: image 2 differs from what was packed; .*pack"):
            read()
    path.write_bytes(sound[:labels] + b"\1" + sound[labels + 1 :])
    with pytest.raises(MkfaError, match=r"d\.h5: is damaged: its labels or checksums differ"):
        read_domain(path)


def test_a_file_packed_before_checksums_is_read_and_said_to_be_unchecked(tmp_path):
    side = Side(np.arange(2), pixels=np.ones((2, 10, 10, 3), np.uint8))
    path = pack(ImageSet("d", ("a", "b"), side, side), tmp_path / "d.h5", size=10, workers=1).path
    assert not describe_domain(path).notes
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        for name in ("check", "crc_train", "crc_test"):
            del f[name]
    assert (np.asarray(read_domain(path).x_train) == 1).all()
    assert "without checksums" in describe_domain(path).notes[0]


def test_a_script_without_a_main_guard_packs_once(folder, tmp_path):
    script, out = tmp_path / "script.py", tmp_path / "packed.h5"
    script.write_text(f"import mkfa\nprint(mkfa.pack_domain({str(folder)!r}, size=16, out={str(out)!r}, workers=2))\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("<Packed: ") == 1 and "Traceback" not in done.stderr
    assert len(read_domain(out).x_train) > 0


def test_what_was_packed_is_a_result(folder, tmp_path):
    made = mkfa.pack_domain(folder, size=16, out=tmp_path / "packed.h5", workers=1)
    assert repr(made) == f"<Packed: {tmp_path / 'packed.h5'}, {made.train} train and {made.test} test images>"
    assert made.rows() == [{"path": tmp_path / "packed.h5", "train": made.train, "test": made.test}]
    written = json.loads(made.save(tmp_path / "p.json").read_text())
    assert (written["format"], written["train"]) == ("mkfa.packed_domain", made.train)
    assert pickle.loads(pickle.dumps(made)) == made
