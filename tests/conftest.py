"""Makers shared by the tests, and an environment without network, library or home of the user's."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank

settings.register_profile("mkfa", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mkfa")  # a busy machine is no fault of an example that takes 200 ms


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test its own empty library and keep it off the hub."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("MKFA_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "100")
    return home


@contextlib.contextmanager
def _opened_elsewhere(path: Path, mode: str = "r+", **options: object) -> Iterator[None]:
    code = f"import h5py, time; f = h5py.File({str(path)!r}, {mode!r}, **{options!r}); print(1, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{code}; time.sleep(600)"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            yield
        finally:
            process.kill()


@pytest.fixture
def opened_elsewhere() -> Callable[..., contextlib.AbstractContextManager[None]]:
    """Return `open(path, mode, **options)`: keeps an HDF5 file open in another process, which is killed at the end."""
    return _opened_elsewhere


@pytest.fixture
def bank_maker() -> Callable[..., FilterBank]:
    """Return `make(sizes, seed, name)`: a bank of random filters, one layer per (channels, kh, kw)."""

    def make(
        sizes: Sequence[tuple[int, int, int]] = ((8, 3, 3), (12, 5, 5), (4, 3, 3)), seed: int = 0, name: str = "made"
    ) -> FilterBank:
        rng = np.random.default_rng(seed)
        layers = []
        for i, (n, kh, kw) in enumerate(sizes):
            weight = rng.standard_normal((n, kh, kw)).astype(np.float32)
            bias = rng.standard_normal(n).astype(np.float32) if i % 2 else None
            layer = Layer(0, f"blocks.{i}.conv.weight", i, 0.0, n, kh, kw, (1, 1), (1, 1), 1)
            layers.append((layer, weight, bias))
        return make_bank(name, layers, Provenance(source=f"made-{seed}", rule="graph", notes=("made for a test",)))

    return make
