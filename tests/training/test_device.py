"""Each way to be quick has one switch, and the device decides where none is given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import torch

from mkfa.errors import MkfaError
from mkfa.training.device import Execution, seed_generators

SWITCHES = ("amp", "channels_last", "compile")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Pretend that there are GPUs with bfloat16; returns what happens to them, in order."""
    seen: list[object] = []

    @contextlib.contextmanager
    def current(device: object) -> Iterator[None]:
        seen.append(f"enter {device}")
        yield
        seen.append(f"leave {device}")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seen.append(f"seed {seed}"))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: seen.append("seed all"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(1, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: seen.append(f"restore {device}"))
    return seen


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
        ({"device": "cpu:a"}, "--device cpu:a: is not available on this machine"),
        ({"data": "both"}, "--data both: is not a known image storage mode"),
    ],
)
def test_what_is_not_there_is_refused(monkeypatch, given, told):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MkfaError, match=told):
        Execution(**given).resolved()


@pytest.mark.parametrize("name", ["cuda:2", "cuda:-1", "cuda:0,cuda:1", "cuda:"])
def test_a_gpu_that_is_not_there_is_refused(cuda, name):
    assert Execution(device="cuda:1").resolved().device.index == 1
    with pytest.raises(
        MkfaError, match=f"--device {name}: is not available on this machine; take one of auto, cpu, cuda"
    ):
        Execution(device=name).resolved()


def test_bfloat16_is_chosen_only_where_the_gpu_computes_in_it(cuda, monkeypatch):
    """Older GPUs answer that they support it, since they emulate it; that is slower than float32."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not Execution(device="cuda:1").resolved().amp
    assert Execution(device="cuda:1", amp=True).resolved().amp
    assert "enter cuda:1" in cuda  # asked of this GPU, not of the current one


def test_a_run_uses_its_gpu_and_the_fastest_kernels_and_leaves_everything_as_it_was(cuda):
    before = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(), torch.get_rng_state()
    how = Execution(device="cuda:1", amp=False).resolved()
    cuda.clear()
    with how.in_force():
        assert torch.backends.cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "high"
        seed_generators(how.device, 5)
    assert cuda == ["enter cuda:1", "seed 5", "leave cuda:1", "restore cuda:1"]
    after = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision(), torch.get_rng_state()
    assert after[:2] == before[:2]
    assert torch.equal(after[2], before[2])


def test_on_a_cpu_no_gpu_is_touched(cuda):
    how = Execution(device="cpu").resolved()
    with how.in_force():
        assert torch.get_float32_matmul_precision() == "highest"
        seed_generators(how.device, 5)
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))
    assert cuda == []
