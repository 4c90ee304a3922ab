"""The fences around every test hold."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest


def test_another_machine_is_out_of_reach() -> None:
    with socket.socket() as line, pytest.raises(AssertionError, match=r"tried to reach 192\.0\.2\.1"):
        line.connect(("192.0.2.1", 9))


def test_this_machine_is_in_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as line:
        line.connect(server.getsockname())
        assert line.getpeername() == server.getsockname()


def test_home_is_new_and_empty(own_home: Path) -> None:
    assert os.environ["EASEL_HOME"] == str(own_home)
    assert not list(own_home.iterdir())
