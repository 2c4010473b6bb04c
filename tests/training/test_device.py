"""Each way to be quick has one switch, and the device decides where none is given."""

from __future__ import annotations

import pytest
import torch

from mkfa.errors import MkfaError
from mkfa.training.device import Execution

SWITCHES = ("amp", "channels_last", "compile")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def switches(**given: object) -> tuple[bool, ...]:
    found = Execution(**given).resolved()
    return tuple(getattr(found, name) for name in SWITCHES)


def test_all_are_on_for_cuda_and_channels_last_alone_on_a_cpu(cuda):
    assert switches() == (True, True, True)
    assert switches(device="cpu") == (False, True, False)


@pytest.mark.parametrize("name", SWITCHES)
def test_each_is_turned_off_alone(cuda, name):
    assert switches(**{name: False}) == tuple(other != name for other in SWITCHES)


def test_compilation_may_be_asked_for_on_a_cpu_and_bfloat16_may_not():
    assert switches(device="cpu", compile=True, channels_last=False) == (False, False, True)
    with pytest.raises(MkfaError, match="--amp: requires CUDA, and the device is cpu"):
        switches(device="cpu", amp=True)


def test_the_quick_gradient_is_for_cpus_without_compilation(cuda):
    assert not Execution().resolved().quick
    assert Execution(device="cpu").resolved().quick
    assert not Execution(device="cpu", compile=True).resolved().quick
    assert not Execution(device="cpu", quick=False).resolved().quick
    for other in (Execution(quick=True), Execution(device="cpu", compile=True, quick=True)):
        with pytest.raises(MkfaError, match="--quick: requires a CPU"):
            other.resolved()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"device": "cuda"}, "--device cuda: is not available on this machine"),
        ({"device": "tpu"}, "take one of auto, cpu"),
        ({"data": "both"}, "--data both: is not a known image storage mode"),
    ],
)
def test_what_is_not_there_is_refused(monkeypatch, given, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MkfaError, match=told):
        Execution(**given).resolved()
