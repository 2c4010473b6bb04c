"""Several processes of one run: which rows each gets, what they say where something is wrong, and joint decisions."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from mkfa.errors import MkfaError
from mkfa.training import ranks as module
from mkfa.training.device import Execution
from mkfa.training.ranks import ALONE, Ranks, ranks_of

SET = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


@pytest.mark.parametrize(("count", "world"), [(24, 2), (25, 2), (26, 4), (7, 4), (1024, 8), (6, 3)])
def test_ranks_share_a_batch_in_pairs_that_are_mixed(count, world):
    shares = [Ranks(rank, world).rows(count) for rank in range(world)]
    assert sorted(np.concatenate(shares)) == list(range(count))
    for rows in shares:
        assert (rows + rows[::-1] == count - 1).all()  # the counterpart of row i of B is row B - 1 - i
    sizes = [len(rows) for rows in shares]
    assert max(sizes) - min(sizes) <= 2


def test_more_ranks_than_pairs_are_refused():
    Ranks(0, 4).check(8)
    with pytest.raises(MkfaError, match=r"shares a batch of 8 images among 5 processes.*start at most 4"):
        Ranks(0, 5).check(8)
    ALONE.check(1)


def test_ranks_come_from_the_environment_that_torchrun_makes():
    assert ranks_of({"RANK": "3", "WORLD_SIZE": "8"}) == ALONE  # of another launcher, for programs of its own
    assert ranks_of(SET) == Ranks(1, 4, 1, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RANK": None}, "LOCAL_RANK: is set, and RANK is not"),
        ({"MASTER_ADDR": None, "MASTER_PORT": None}, "MASTER_ADDR, MASTER_PORT is not"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: is 'two', which is not a number"),
        ({"RANK": "4"}, "RANK: is 4, and WORLD_SIZE is 4"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK: is 2, and LOCAL_WORLD_SIZE is 2"),
    ],
)
def test_a_wrong_environment_is_one_sentence(changes, words):
    environment = {name: value for name, value in (SET | changes).items() if value is not None}
    with pytest.raises(MkfaError, match=words) as refused:
        ranks_of(environment)
    assert "torchrun --nproc-per-node" in str(refused.value)


def test_what_processes_cannot_share_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MkfaError, match=r"starts 2 processes on .*, which has 1 GPUs; pass --nproc-per-node 1"):
        Ranks(0, 2, 0, 2)._resolved(Execution(device="cuda"))
    with pytest.raises(MkfaError, match="--compile: is not possible where processes share a run"):
        Ranks(0, 2, 0, 2)._resolved(Execution(device="cpu", compile=True))
    with pytest.raises(MkfaError, match="cannot be shared"):
        Ranks(0, 2, 0, 2)._resolved(Execution(device="mps"))


def test_a_process_alone_asks_nobody():
    assert ALONE.in_any(True, False) == (True, False)
    assert ALONE.lead(lambda: 3) == ALONE.together(lambda: 3) == 3
    assert ALONE.earliest(-1) == -1 and ALONE.record == {}
    assert not ALONE.is_loss(RuntimeError("Connection closed by peer"))


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def processes(code: str, *words: str, world: int = 2) -> list[tuple[int, str, str]]:
    """Run a program in processes as torchrun starts them; return exit code, output and errors of each."""
    shared = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=os.environ
            | {"OMP_NUM_THREADS": "1"}
            | {name: str(value) for name, value in (shared | {"RANK": rank, "LOCAL_RANK": rank}).items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    said = [process.communicate(timeout=500) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


ASK = """
import json, torch
from dataclasses import replace
from mkfa.errors import MkfaError
from mkfa.training import device, ranks as module
from mkfa.training.device import Execution

def refuse(ranks, when):
    if ranks.rank == when:
        raise MkfaError("a thing", f"is wrong in {when}", "mend it")
    return ranks.rank

def caught(make):
    try:
        return make()
    except MkfaError as error:
        return [str(error), module.is_told_elsewhere(error)]

with module.joined() as ranks:
    found = {"any": ranks.in_any(ranks.rank == 1, False), "earliest": ranks.earliest((7, 5)[ranks.rank])}
    found["none"] = ranks.earliest(-1)
    found["one"] = ranks.earliest((-1, 4)[ranks.rank])
    found["total"] = ranks.total(torch.ones(2) * (ranks.rank + 1)).tolist()
    found["lead"] = ranks.lead(lambda: ["of", ranks.rank])
    found["refused"] = caught(lambda: ranks.lead(lambda: refuse(ranks, 0)))
    found["together"] = caught(lambda: ranks.together(lambda: refuse(ranks, 1)))
    found["made"] = ranks.together(lambda: ranks.rank)
    placed, how = ranks.placed(Execution(device="cpu", threads=7, share=0.8))
    found["places"] = [place["device"] for place in placed.places]
    found["how"] = [how.threads, how.share]
    real = device.Execution.resolved
    if ranks.rank:
        device.Execution.resolved = lambda self: replace(real(self), device=torch.device("meta"))
    found["kinds"] = caught(lambda: ranks.placed(Execution(device="cpu")))
    print(json.dumps(found))
"""


def test_what_one_rank_decides_or_cannot_do_all_ranks_know():
    ends = processes(ASK)
    assert [code for code, _, _ in ends] == [0, 0], ends
    first, second = (json.loads(out) for _, out, _ in ends)
    for found in (first, second):
        assert (found["any"], found["earliest"], found["none"], found["one"]) == ([True, False], 5, -1, 4)
        assert (found["total"], found["lead"]) == ([3.0, 3.0], ["of", 0])
        assert found["places"] == ["cpu", "cpu"] and found["how"] == [1, 0.4]
    assert [first["made"], second["made"]] == [0, 1]
    assert first["refused"] == ["a thing: is wrong in 0; mend it.", False]
    assert second["refused"] == ["a thing: is wrong in 0; mend it.", True]  # the user is told once
    assert [found["together"][1] for found in (first, second)] == [False, True]  # by rank 0, whoever has the error
    assert first["kinds"][0] == second["kinds"][0]
    assert first["kinds"][0].startswith("torchrun: needs devices of one kind, and finds cpu, meta; name the device")


def test_an_address_where_nobody_waits_is_a_sentence(monkeypatch):
    import torch.distributed as dist

    for name, value in SET.items():
        monkeypatch.setenv(name, value)

    def refused(*_: object) -> None:
        raise dist.DistNetworkError("The client socket has timed out")

    monkeypatch.setattr(dist, "init_process_group", refused)
    said = r"does not bring 4 processes together at 127\.0\.0\.1:1 .*--rdzv-endpoint"
    with pytest.raises(MkfaError, match=said), module.joined():
        pass
