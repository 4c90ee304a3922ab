"""What every test gets: a home of its own, no telemetry, no display, no way out to the network."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ENVIRONMENT = {
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "MPLBACKEND": "Agg",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
LOOPBACK = ("127.", "::1", "localhost")


def pytest_configure(config: pytest.Config) -> None:
    """Set what must stand before the first import of flwr, ray or matplotlib; processes inherit it."""
    os.environ.update(ENVIRONMENT)
    hypothesis.settings.register_profile("easel", deadline=None, max_examples=50, derandomize=True)
    hypothesis.settings.load_profile("easel")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test an empty ``$EASEL_HOME``, so that it never sees or touches the user's own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("EASEL_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail any attempt to connect to another machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        streams = self.type == socket.SOCK_STREAM and self.family in (socket.AF_INET, socket.AF_INET6)
        if streams and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address[0]}: tests must not leave this machine")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
