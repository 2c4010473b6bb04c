"""A hub on the loopback interface, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Client, HubServer


@pytest.fixture
def hub(root: Path) -> Iterator[HubServer]:
    """A hub on the loopback interface with the repositories in `root`, a fixture of the test's own."""
    with HubServer(root) as server:
        yield server


@pytest.fixture
def harvest(hub: HubServer, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)
