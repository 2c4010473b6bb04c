"""Let the tests of this folder import the makers that lie beside them; a hub and a client for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hub_server import Client, HubServer


@pytest.fixture
def hub(root: Path) -> Iterator[HubServer]:
    """A hub on the loopback interface with the repositories in `root`, a fixture of the test's own."""
    with HubServer(root) as server:
        yield server


@pytest.fixture
def harvest(hub: HubServer, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)
