"""Keeping freed memory: told to glibc once, and harmless elsewhere."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mkfa.training import memory

STEPS = """
import resource
import torch
from mkfa.training.memory import keep_freed_memory
torch.set_num_threads(1)
assert keep_freed_memory()
def step():
    kept = [torch.ones(3_000_000) for _ in range(12)]
    return sum(float(t[0]) for t in kept)
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults() -> int:
    done = subprocess.run([sys.executable, "-c", STEPS], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not memory.keep_freed_memory(), reason="the C library is not glibc")
def test_memory_of_a_step_serves_the_next_one() -> None:
    assert _faults() < 10_000  # without, 150,000 in most processes


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed_memory.__wrapped__() is False


def test_memory_of_training_is_counted_without_data():
    """A convolution keeps its input, a ReLU its output; gradients and AdamW's moments are three times the weights."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten())
    model[0].bias.requires_grad_(False)
    batch, weights, activations = 4 * 2 * 3 * 16 * 16, 4 * 8 * 3 * 9, 4 * 2 * 8 * 16 * 16
    expected = 3 * weights + (batch + activations) + 8 * batch
    assert memory.training_bytes(model, (2, 3, 16, 16), amp=False) == expected
    assert memory.training_bytes(model, (2, 3, 16, 16), amp=True) == expected - (batch + activations) // 2
    assert model[0].weight.device.type == "cpu"
    assert model[0].weight.grad is None


def test_a_network_that_needs_data_is_counted_as_far_as_it_runs():
    class Looks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if float(x.mean()) > 0 else -x

    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), Looks())
    assert memory.training_bytes(model, (2, 3, 4, 4), amp=False) >= 3 * 4 * 16 + 8 * 4 * 96
