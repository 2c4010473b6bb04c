"""A hub that refuses, fails, drops, stalls and lies: one sentence each, the right exit code, bounded time."""

from __future__ import annotations

import datetime as dt
import errno
from dataclasses import dataclass, replace
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import CONVNEXT_ATTO, Client, Fault, HubServer, Run, write_safetensors

from mkfa.errors import WorkError
from mkfa.readers.hub import cache as hub_cache
from mkfa.readers.hub import ranges as hub_ranges
from mkfa.readers.hub import requests as hub_http

REPO = "timm/convnext_atto.d2_in1k"
SHAPES = CONVNEXT_ATTO


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    write_safetensors(folder / REPO / "model.safetensors", SHAPES)
    return folder


FATAL = [
    (Fault("status", 401, method="HEAD"), 2, "is private"),
    (Fault("status", 403, method="HEAD"), 2, "HF_TOKEN"),
    (Fault("status", 403, method="HEAD", headers={"X-Error-Code": "GatedRepo"}), 2, "accept its licence on"),
    (Fault("status", 404, method="HEAD", headers={"X-Error-Code": "RepoNotFound"}), 2, "is not a repository"),
    (
        Fault("status", 401, method="HEAD", headers={"X-Error-Message": "Invalid credentials in Authorization header"}),
        2,
        "refuses your token",
    ),
    (Fault("status", 418, method="HEAD"), 2, "refused by the hub (418)"),
    (Fault("status", 429, method="HEAD"), 1, "slow down (429), 4 times in a row"),
    (Fault("status", 429), 1, "slow down (429), 4 times in a row"),
    (Fault("status", 429, headers={"Retry-After": "3600"}), 1, "wait 3600 s"),
    (Fault("status", 429, headers={"RateLimit": '"api";r=0;t=280'}), 1, "wait 280 s"),
    (Fault("status", 500), 1, "the hub fails (500)"),
    (Fault("status", 503, method="HEAD"), 1, "the hub fails (503)"),
    (Fault("drop", 1000), 1, "closed"),
    (Fault("drop", 1000, skip=3), 1, "closed"),
    (Fault("short", 100), 1, "instead of bytes 0-65535/"),
    (Fault("short", 100, skip=1), 1, "instead of bytes"),
    (Fault("unframed", 1000), 1, "sent 1,000 of 65,536 bytes"),
    (Fault("lie_range"), 1, "instead of bytes 0-65535/"),
    (Fault("truncate", 100_000), 1, "/100000' instead of"),
    (Fault("truncate", 100_000, skip=1), 1, "is shorter than the"),
    (Fault("shift", 8), 2, "header"),
    (Fault("huge_header", 1 << 62), 2, "claims a header of"),
    (Fault("huge_header", 20_000_000), 2, "its header ends at byte"),
    (Fault("corrupt", 100), 2, "JSON"),
    (Fault("version", skip=1), 1, "changed on the hub while it was read; try again"),
    *(
        (Fault("status", 302, method=method, skip=skip, headers={"Location": to}), 1, "which is not a web address")
        for to in (
            "ftp://elsewhere/x",
            "file:///etc/passwd",
            "http://[::1",
            "http://x:port/",
            "javascript:1",
            "https:///x",
        )
        for method, skip in (("HEAD", 0), ("GET", 1))
    ),
    (Fault("status", 302, headers={"Location": "model.safetensors"}), 1, "is redirected by the hub more than 5 times"),
    (Fault("status", 503, headers={"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}), 1, "fails (503) and to wait"),
]
PASSING = [
    Fault("drop", 1000, times=2),
    Fault("status", 500, times=2),
    Fault("status", 503, method="HEAD", times=2),
    Fault("status", 429, headers={"Retry-After": "1"}, times=1),
    Fault("short", 10, skip=2, times=2),
    Fault("lie_range", times=1),
    Fault("version", skip=2, times=1),
    Fault("unversioned", skip=2, times=1),
    Fault("status", 503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, times=1),
]


@dataclass(frozen=True)
class Outcomes:
    """What became of one harvest for each fault, and what the file holds."""

    fatal: list[Run]
    passing: list[Run]
    tensors: dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def outcomes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Give every fault a repository of its own, and harvest them all in one child process."""
    want = write_safetensors(root.parent / "again.safetensors", SHAPES)
    faults = [fault for fault, _, _ in FATAL] + PASSING
    for i, fault in enumerate(faults):
        fault.path = f"*me/fault-{i}/*model.safetensors"
        (root / f"me/fault-{i}").mkdir(parents=True)
        (root / f"me/fault-{i}/model.safetensors").hardlink_to(root / REPO / "model.safetensors")
    with HubServer(root) as hub:
        hub.faults = [replace(fault) for fault in faults]
        client = Client(hub, tmp_path_factory.mktemp("client"))
        runs = client.many([f"hf-hub:me/fault-{i}" for i in range(len(faults))])
    return Outcomes(runs[: len(FATAL)], runs[len(FATAL) :], want)


def _id(fault: Fault) -> str:
    return f"{fault.kind}-{fault.value}-{fault.method}-{fault.skip}"


@pytest.mark.parametrize("i", range(len(FATAL)), ids=[_id(fault) for fault, _, _ in FATAL])
def test_fault_is_one_sentence(outcomes: Outcomes, i: int) -> None:
    _, code, words = FATAL[i]
    run = outcomes.fatal[i]
    assert run.code == code and words in run.message and "\n" not in run.message, run.message
    assert run.seconds < 60  # no fault is waited for


@pytest.mark.parametrize("i", range(len(PASSING)), ids=[_id(fault) for fault in PASSING])
def test_passing_fault_is_survived(outcomes: Outcomes, i: int) -> None:
    run = outcomes.passing[i]
    assert run.code == 0 and run.bank is not None, run.message
    got: dict[str, np.ndarray[Any, Any]] = {layer.name: weight for layer, weight in run.bank.iter_layers()}
    assert len(got) == 12
    assert all(np.array_equal(weight, outcomes.tensors[key][:, 0]) for key, weight in got.items())


def test_failing_command_prints_one_line(harvest: Client, hub: HubServer) -> None:
    hub.faults = [Fault("drop", 1000)]
    run = harvest("convnext_atto")
    assert run.code == 1 and "closed" in run.message, run.message


@pytest.mark.slow
def test_stall_is_given_up_in_bounded_time(harvest: Client, hub: HubServer) -> None:
    hub.faults = [Fault("stall", 8)]
    run = harvest("convnext_atto", env={"HF_HUB_DOWNLOAD_TIMEOUT": "1"}, RETRIES=1)
    assert run.code == 1 and "fell silent, 2 times in a row" in run.message, run.message
    assert run.seconds < 15  # the server is silent for 8 s, twice


@pytest.mark.slow
def test_trickle_is_given_up_in_bounded_time(harvest: Client, hub: HubServer) -> None:
    hub.faults = [Fault("trickle", 1000)]  # never silent long enough for a time-out, and 65 s for the header probe
    run = harvest("convnext_atto", env={"HF_HUB_DOWNLOAD_TIMEOUT": "1"}, RETRIES=1, SLOWEST=1e6)
    assert run.code == 1 and "fell silent while sending" in run.message, run.message
    assert run.seconds < 30


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid", "nonsense://x", "x"])
def test_dead_hub_says_what_to_check(harvest: Client, endpoint: str) -> None:
    run = harvest("convnext_atto", env={"HF_ENDPOINT": endpoint})
    assert run.code == 1 and "could not be reached" in run.message and "HF_ENDPOINT" in run.message, run.message


def test_requests_stop_after_the_retries(harvest: Client, hub: HubServer) -> None:
    hub.faults = [Fault("status", 500, skip=1)]
    assert harvest("convnext_atto", RETRIES=2).code == 1
    assert len(hub.log) <= 2 + 8 * 3  # eight at a time, three times each, and no further ones


def test_whole_download_that_keeps_failing(harvest: Client, hub: HubServer) -> None:
    hub.faults = [Fault("ignore_range", times=1), Fault("status", 500)]
    run = harvest("convnext_atto", RETRIES=1)
    assert run.code == 1 and "could not be downloaded" in run.message, run.message


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "could not be written to the cache (Permission denied)"),
    ],
)
def test_disk_failure_is_not_retried(monkeypatch: pytest.MonkeyPatch, raised: OSError, words: str) -> None:
    import huggingface_hub

    calls = []

    def fail(*args: object, **kwargs: object) -> str:
        calls.append(args)
        raise raised

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WorkError, match="HF_HOME") as error:
        hub_cache.download("me/net", "model.safetensors", "main")
    assert words in str(error.value) and len(calls) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=3;t=55'}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({}, 0),
    ],
)
def test_waiting_time_that_a_server_asks_for(headers: dict[str, str], seconds: float) -> None:
    assert hub_http._retry_after(headers) == seconds


@pytest.mark.parametrize("zone", [dt.UTC, dt.timezone(dt.timedelta(hours=-5))])
def test_a_date_to_wait_for_is_a_waiting_time(zone: dt.tzinfo) -> None:
    start = dt.datetime.now(zone)
    until = format_datetime(start + dt.timedelta(seconds=20), usegmt=zone is dt.UTC)
    wait = hub_http._retry_after({"retry-after": until})
    assert 19 - (dt.datetime.now(zone) - start).total_seconds() <= wait <= 20


@pytest.mark.parametrize("size", ["\u00b2", "9" * 5000, "-1", "1e3", ""])
def test_a_size_that_is_no_number(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setattr(hub_ranges, "head", lambda *_, **__: hub_http.Reply(200, {"content-length": size}))
    with pytest.raises(WorkError, match="does not state its size"):
        hub_ranges.pin("some/one", "model.safetensors")


def test_a_token_does_not_follow_a_redirect_to_another_server(harvest: Client, hub: HubServer) -> None:
    hub.faults = [Fault("status", 307, headers={"Location": f"{hub.store_url}/elsewhere"}, path="*/model.safetensors")]
    harvest("convnext_atto", env={"HF_TOKEN": "hf_secret"})
    elsewhere = [r for r in hub.log if r.origin == "store"]
    assert elsewhere and not any(r.token for r in elsewhere)
    assert all(r.token for r in hub.log if r.origin == "hub")
