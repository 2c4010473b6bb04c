"""Images on the device or streamed to it: the same numbers, whatever happens to the file, and no thread left behind."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.images.domain_file import domain_digest, read_domain, write_domain
from mkfa.storage import file_rows as row_module
from mkfa.storage.file_rows import ReadError, Rows
from mkfa.storage.result_files import write_arrays
from mkfa.training import batches as resident
from mkfa.training import evaluation
from mkfa.training import memory as room
from mkfa.training import read_ahead as ahead
from mkfa.training import run as engine
from mkfa.training.batches import Resident, Streamed, place
from mkfa.training.device import Execution
from mkfa.training.evaluation import evaluate
from mkfa.training.folder import CHECKPOINT, METRICS, RunFolder, load_tensors
from mkfa.training.read_ahead import DEPTH, ReadAhead
from mkfa.training.recipe import Recipe, load_recipe
from mkfa.training.run import compute_alone, train_run
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop, Stopped

CPU = torch.device("cpu")
HOW = {kind: Execution(device="cpu", threads=1, data=kind) for kind in ("resident", "stream", "auto")}
EVERYTHING = {"mixup": 0.8, "cutmix": 1.0, "erasing": 0.5, "drop_path": 0.2, "ema": 0.9}


def made(channels: int = 3, count: int = 60, side: int = 12) -> Domain:
    rng = np.random.default_rng(channels)
    y = np.arange(count) % 3
    x = (rng.integers(0, 150, (count, side, side, channels)) + 50 * y[:, None, None, None]).astype(np.uint8)
    train, test = (x[:43], y[:43]), (x[43:], y[43:])
    return Domain("made", ("a", "b", "c"), *train, *test, domain_digest(("a", "b", "c"), train, test))


@pytest.fixture(params=["plain", "pieces"])
def packed(request, tmp_path) -> Path:
    return write(made(), tmp_path / "made.h5", request.param)


def write(domain: Domain, path: Path, layout: str = "plain") -> Path:
    if layout == "pieces":
        return write_domain(domain, path, facts={})
    arrays = {key: getattr(domain, key) for key in ("x_train", "y_train", "x_test", "y_test")}
    return write_arrays(
        path,
        kind="domain",
        arrays=arrays,
        attributes={"name": domain.name, "classes": domain.classes, "digest": domain.digest},
    )


def recipe(**changes: object) -> Recipe:
    return load_recipe("smoke", {"equal_steps": 13, "batch": 8, **changes})


def spec_of(domain: Domain, used: Recipe) -> RunSpec:
    return RunSpec("convmixer_8_2", domain.name, domain.digest, used.name, used.identity, 0)


def run(domain: Domain, used: Recipe, root: Path, *, execution: Execution, **more: object) -> dict:
    return compute_alone(
        train_run(spec_of(domain, used), domain, source=None, root=root, execution=execution, **more)
    ).record


def what_counts(domain: Domain, used: Recipe, root: Path) -> tuple[bytes, dict]:
    """Return the metrics and the result but for times, dates and the number of resumptions."""
    folder = RunFolder(root, spec_of(domain, used))
    result = dict(folder.result().record)
    for key in ("seconds", "images_per_second", "created", "resumed"):
        result.pop(key)
    assert result["execution"].pop("data") in ("resident", "streamed")
    return (folder.path / METRICS).read_bytes(), result


def no_thread_is_left() -> bool:
    return not [t for t in threading.enumerate() if t.name == "mkfa-read-ahead"]


@pytest.mark.parametrize(
    "changes",
    [{}, EVERYTHING, {"size": 16}, {"normalise": "imagenet"}, {"batch": 100, "equal_steps": 3}],
    ids=["plain", "everything", "scaled", "imagenet", "one batch"],
)
def test_streamed_and_resident_are_the_same_run_bit_for_bit(packed, tmp_path, changes, monkeypatch):
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 5)
    monkeypatch.setattr(resident, "_SLAB", 1000)
    used, found = recipe(**changes), {}
    for kind in ("resident", "stream"):
        domain = read_domain(packed)
        result = run(domain, used, tmp_path / kind, execution=HOW[kind])
        assert result["execution"]["data"] == {"stream": "streamed"}.get(kind, kind)
        found[kind] = what_counts(domain, used, tmp_path / kind)
        assert no_thread_is_left()
    run(made(), used, tmp_path / "memory", execution=HOW["auto"])
    assert found["stream"] == found["resident"] == what_counts(made(), used, tmp_path / "memory")
    assert found["stream"][1]["weights_sha256"]


def test_gray_images_and_arrays_in_memory_stream_too(tmp_path):
    domain, used = made(channels=1), recipe()
    for kind in ("resident", "stream"):
        run(domain, used, tmp_path / kind, execution=HOW[kind])
    assert what_counts(domain, used, tmp_path / "resident") == what_counts(domain, used, tmp_path / "stream")


class Killed(BaseException):
    """As a kill: nothing of the run's own gets to run."""


def test_killed_while_streaming_it_ends_as_if_it_never_was(packed, tmp_path):
    domain, used = read_domain(packed), recipe(equal_steps=15)
    run(domain, used, tmp_path / "calm", execution=HOW["resident"])
    rng, kills = np.random.default_rng(0), 0
    for _ in range(100):
        left = int(rng.integers(1, 6))

        def tell(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed

        often = replace(HOW["stream"], checkpoint_seconds=0.0 if rng.random() < 0.7 else 30.0)
        try:
            run(domain, used, tmp_path / "killed", execution=often, tell=tell)
            break
        except Killed:
            kills += 1
            assert no_thread_is_left()
    assert kills >= 3
    assert what_counts(domain, used, tmp_path / "killed") == what_counts(domain, used, tmp_path / "calm")


@pytest.mark.parametrize("fault", ["gone", "cut", "replaced"])
def test_a_file_that_fails_is_named_and_nothing_is_lost(packed, tmp_path, fault):
    domain, used = read_domain(packed), recipe(equal_steps=30, batch=2)  # 21 steps an epoch
    run(domain, used, tmp_path / "calm", execution=HOW["resident"])
    data, stat = packed.read_bytes(), packed.stat()

    def tell(report: engine.Report) -> None:
        if report.step == 7:
            if fault == "gone":
                packed.unlink()
            elif fault == "cut":
                os.truncate(packed, len(data) // 2)
            else:
                packed.write_bytes(data + b"0")

    with pytest.raises(ReadError, match=r"gone|ends before|changed") as caught:
        run(domain, used, tmp_path / "hit", execution=HOW["stream"], tell=tell)
    assert str(packed) in str(caught.value) and caught.value.exit_code == 1
    assert no_thread_is_left()
    folder = RunFolder(tmp_path / "hit", spec_of(domain, used)).path
    assert str(packed) in json.loads((folder / "failure.json").read_text())["error"]
    assert 7 <= load_tensors(folder / CHECKPOINT)["step"] <= 7 + DEPTH + 1  # of the step that could not be made
    packed.write_bytes(data)
    os.utime(packed, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(domain, used, tmp_path / "hit", execution=HOW["stream"])["resumed"] == 1
    assert what_counts(domain, used, tmp_path / "hit") == what_counts(domain, used, tmp_path / "calm")


def test_a_file_that_fails_while_it_is_evaluated_costs_no_epoch(packed, tmp_path, monkeypatch):
    domain, used = read_domain(packed), recipe()
    run(domain, used, tmp_path / "calm", execution=HOW["resident"])
    real = engine.evaluate

    def fails(*words: object, **more: object) -> object:
        with monkeypatch.context() as patched:
            patched.setattr(row_module.os, "preadv", lambda *_: 0)
            return real(*words, **more)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "evaluate", fails)
        with pytest.raises(ReadError, match="ends before its images do"):
            run(domain, used, tmp_path / "hit", execution=replace(HOW["stream"], checkpoint_seconds=0.0))
    assert no_thread_is_left()
    run(domain, used, tmp_path / "hit", execution=HOW["stream"])
    assert what_counts(domain, used, tmp_path / "hit") == what_counts(domain, used, tmp_path / "calm")


def test_no_thread_outlives_a_stop_or_a_divergence(packed, tmp_path, monkeypatch):
    domain, used, stop = read_domain(packed), recipe(), Stop()

    def tell(report: engine.Report) -> None:
        assert not no_thread_is_left()
        stop.requested = report.step == 3

    with pytest.raises(Stopped):
        run(domain, used, tmp_path, execution=HOW["stream"], stop=stop, tell=tell)
    assert no_thread_is_left()
    wild = recipe(lr=10.0, clip=0.0, weight_decay=10.0, warmup=0.0, equal_steps=200)
    assert run(domain, wild, tmp_path, execution=HOW["stream"])["state"] == "diverged"
    assert no_thread_is_left()
    monkeypatch.setattr(engine.Run, "_end_epoch", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(domain, used, tmp_path / "c", execution=HOW["stream"])
    assert no_thread_is_left()


def test_the_thread_runs_ahead_by_so_many_batches_and_no_more(monkeypatch):
    images = np.arange(40, dtype=np.uint8).reshape(20, 1, 1, 2)
    batches = [np.array([i, 19 - i]) for i in range(10)]
    seen: list[int] = []
    real = ahead.read_rows
    monkeypatch.setattr(ahead, "read_rows", lambda x, rows, out: (seen.append(int(rows[0])), real(x, rows, out)))
    reader = ReadAhead(images, batches, largest=2, device=CPU)
    for i in range(10):
        waited = time.monotonic() + 10
        while len(seen) < min(10, i + DEPTH) and time.monotonic() < waited:
            time.sleep(0.001)
        time.sleep(0.01)
        assert seen == list(range(min(10, i + DEPTH)))
        assert np.array_equal(reader.take(batches[i]).numpy(), images[batches[i]])
    with pytest.raises(RuntimeError, match="more batches"):
        reader.take(batches[0])
    reader.close()
    reader = ReadAhead(images, batches, largest=2, device=CPU)
    with pytest.raises(RuntimeError, match="different batch"):
        reader.take(np.array([1, 2]))
    reader.close()  # while it waits for room
    assert no_thread_is_left()


class Event:
    """As a CUDA event of a copy that takes until somebody waits for it, or until so many questions were asked."""

    log: ClassVar[list[str]] = []

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def record(self, _: object) -> None:
        self.log.append("copy")

    def query(self) -> bool:
        self.patience -= 1
        return self.patience < 0

    def synchronize(self) -> None:
        self.log.append("wait")


class Stream:
    def wait_event(self, event: Event) -> None:
        event.log.append("use")


@pytest.mark.parametrize("patience", [0, 1, 3, 1000])
def test_pinned_memory_is_read_into_again_only_after_its_copy(monkeypatch, patience):
    """The GPU's side of `ReadAhead` with streams and events that keep a log, as far as that goes without a GPU."""
    log = Event.log = []
    pinned: list[int] = []
    real, reading = torch.empty, ahead.read_rows

    def empty(shape: object, *, pin_memory: bool = False, device: object = None, **more: object) -> torch.Tensor:
        made = real(shape, **more)
        pinned.extend([made.data_ptr()] if pin_memory else [])
        return made

    def read(images: object, rows: np.ndarray, out: np.ndarray) -> None:
        slot = pinned.index(out.__array_interface__["data"][0])
        flying = {pinned.index(m.data_ptr()) for m, _ in list(reader.flying)} if "reader" in names else set()
        assert slot not in flying
        reading(images, rows, out)

    names: dict[str, object] = {}
    monkeypatch.setattr(ahead, "read_rows", read)
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: log.append("kept"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "Event", lambda: Event(patience))
    monkeypatch.setattr(torch.cuda, "stream", lambda side: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    images = np.random.default_rng(0).integers(0, 256, (60, 2, 2, 3), dtype=np.uint8)
    batches = [np.arange(i, min(60, i + 7)) for i in range(0, 60, 7)] * 3
    reader = ReadAhead(images, iter(batches), largest=7, device=SimpleNamespace(type="cuda"))
    names["reader"] = reader
    for rows in batches:
        assert np.array_equal(reader.take(rows).numpy(), images[rows])
    assert len(pinned) == DEPTH
    assert log.count("copy") == log.count("use") == log.count("kept") == len(batches)
    assert ("wait" in log) or patience < 1000  # memory runs out: the host waits for copies, and goes on
    with pytest.raises(RuntimeError, match="more batches"):
        reader.take(batches[0])
    reader.close()
    assert no_thread_is_left()


def test_an_error_of_the_thread_is_raised_again_and_again():
    def batches():
        yield np.array([0])
        raise MemoryError("no room")

    reader = ReadAhead(np.zeros((2, 1, 1, 1), np.uint8), batches(), largest=1, device=CPU)
    assert reader.take(np.array([0])).shape == (1, 1, 1, 1)
    for _ in range(2):
        with pytest.raises(MemoryError, match="no room"):
            reader.take(np.array([1]))
    reader.close()


def test_what_was_not_announced_is_read_when_it_is_asked_for(packed):
    domain = read_domain(packed)
    (train, test), (there, _) = (
        place(domain, recipe(), device=CPU, channels_last=True, data=kind) for kind in ("stream", "resident")
    )
    assert (train.kind, there.kind) == ("streamed", "resident")
    index = train.index(np.array([5, 0, 5, 42]))
    assert torch.equal(train.take(index), there.take(index))
    assert torch.equal(train.labels_of(index), there.labels_of(index))
    assert torch.equal(test.first(3).take(torch.arange(3)), test.take(torch.arange(3)))
    assert len(test.first(3)) == 3
    assert torch.equal(train.mean, there.mean) and torch.equal(train.scale, there.scale)


def test_evaluation_streams_every_image_once_and_in_order(packed, monkeypatch):
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", 5)
    asked: list[int] = []
    real = Rows.read
    monkeypatch.setattr(
        Rows, "read", lambda self, rows, out=None: (asked.extend(rows.tolist()), real(self, rows, out))[1]
    )
    _, test = place(read_domain(packed), recipe(normalise="imagenet"), device=CPU, channels_last=True, data="stream")
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    streamed = evaluate(model, test, amp=False)
    assert asked == list(range(17))
    assert streamed == evaluate(
        model,
        place(read_domain(packed), recipe(normalise="imagenet"), device=CPU, channels_last=True, data="resident")[1],
        amp=False,
    )


def test_images_stay_where_there_is_room_and_are_streamed_where_there_is_not(packed, monkeypatch):
    domain = read_domain(packed)
    need = 60 * 12 * 12 * 3
    for free, kind in ((2 * need, Resident), (2 * need - 2, Streamed)):
        monkeypatch.setattr(room, "free_host_bytes", lambda free=free: free)
        sides = place(domain, recipe(), device=CPU, channels_last=True)
        assert [type(s) for s in sides] == [kind, kind]
    monkeypatch.setattr(room, "free_host_bytes", lambda: 2 * need)  # of two runs at a time, each has half the room
    assert isinstance(place(domain, recipe(), device=CPU, channels_last=True, share=0.5)[0], Streamed)
    monkeypatch.setattr(room, "free_host_bytes", lambda: 4 * need)  # and training needs the rest
    for reserve, kind in ((3 * need, Resident), (3 * need + 1, Streamed)):
        train, _ = place(domain, recipe(), device=CPU, channels_last=True, reserve=reserve)
        assert isinstance(train, kind)
    monkeypatch.setattr(room, "free_host_bytes", lambda: need - 1)
    assert isinstance(place(made(), recipe(), device=CPU, channels_last=True)[0], Resident)  # it is in memory already
    with pytest.raises(MkfaError, match=r"--data resident: needs 0\.0 GB for made, and .* leave it out"):
        place(domain, recipe(), device=CPU, channels_last=True, data="resident")
    with pytest.raises(MkfaError, match="take one of auto, resident, stream"):
        Execution(data="disk").resolved()


def test_nothing_is_held_twice(packed):
    domain = made()
    train, _ = place(domain, recipe(), device=CPU, channels_last=True)
    assert np.shares_memory(train.images.numpy(), domain.x_train)
    domain.x_train.flags.writeable = False
    train, _ = place(domain, recipe(), device=CPU, channels_last=True)
    assert np.array_equal(train.images.numpy(), domain.x_train)
    whole: list[int] = []

    class Watched(Rows):
        def __array__(self, *words, **more):
            whole.append(1)
            return super().__array__(*words, **more)

    held = read_domain(packed)
    watched = Watched(**{f: getattr(held.x_train, f) for f in Rows.__dataclass_fields__})
    train, _ = place(replace(held, x_train=watched), recipe(), device=CPU, channels_last=True)
    assert not whole and np.array_equal(train.images.numpy(), made().x_train)


def test_opening_a_domain_reads_no_image(packed, monkeypatch):
    monkeypatch.setattr(row_module.os, "preadv", lambda *_: pytest.fail("images were read"))
    domain = read_domain(packed)
    assert (domain.size, domain.channels, len(domain.x_train), len(domain.y_test)) == (12, 3, 43, 17)


def test_a_streamed_file_is_counted_once(packed, monkeypatch):
    domain, used = read_domain(packed), recipe()
    place(domain, used, device=CPU, channels_last=True, data="stream")
    monkeypatch.setattr(row_module.os, "preadv", lambda *_: pytest.fail("images were read again"))
    place(read_domain(packed), used, device=CPU, channels_last=True, data="stream")


def test_free_memory_is_the_machines_or_the_containers(tmp_path):
    info, group = tmp_path / "meminfo", tmp_path / "group"
    info.write_text("MemTotal: 900 kB\nMemAvailable:    700 kB\n")
    group.mkdir()
    assert room.free_host_bytes(info, group) == 700 * 1024
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("3000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 1000\n")
    assert room.free_host_bytes(info, group) == 700 * 1024
    (group / "memory.max").write_text("10000\n")
    assert room.free_host_bytes(info, group) == 8000
    assert 0 < room.free_host_bytes(tmp_path / "none", tmp_path) < 1 << 50
    assert room.memory_for_images(CPU) == pytest.approx(room.free_host_bytes() / 2, rel=0.5)
