"""Makers shared by the tests, and an environment without network, library or home of the user's."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: the threads of two workers wait for each other's cores

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank

settings.register_profile("mkfa", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mkfa")  # a busy machine is no fault of an example that takes 200 ms


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every worker of pytest-xdist begin with files that have slow tests: at the end it would run them alone.

    `--dist worksteal` gives each worker one part of the list, from the end of which others take what it has not begun.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = [path for path, tests in files.items() if any(test.get_closest_marker("slow") for test in tests)]
    quick = [path for path in files if path not in slow]
    parts = [slow[number::workers] + quick[number::workers] for number in range(workers)]
    items[:] = [test for path in itertools.chain(*parts) for test in files[path]]


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return paths of new folders, without a look at all that are there."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test its own empty library and keep it off the hub."""
    home = next(homes)
    home.mkdir()
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
