"""Downloads that break off, are killed, are wrong or too long."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest

from server.release_service import PIECE, ReleaseService
from shared_model.errors import ReleaseError
from tests.integration.releases.conftest import (
    Fleet,
    Launch,
    big,
)


class Breaking(ReleaseService):
    """Breaks every stream after three pieces."""

    sent = 0

    async def GetWeights(self, request: Any, context: Any) -> Any:
        count = 0
        async for piece in super().GetWeights(request, context):
            if count == 3:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
            count += 1
            type(self).sent += len(piece.data)
            yield piece


def test_a_broken_download_goes_on_where_it_broke(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 7.5)
    Breaking.sent = 0
    launch(Breaking)
    into = tmp_path / "part"
    with fleet.client() as server:
        server.download(sha256, size=size, into=into)
        assert server.received == size  # three streams, and not a byte twice
    assert Breaking.sent == size
    assert hashlib.sha256(into.read_bytes()).hexdigest() == sha256


def test_a_killed_download_goes_on_in_the_next_process(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 6)
    launch()
    into = tmp_path / "part"

    def interrupt(share: float, word: str) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    with fleet.client() as server, pytest.raises(KeyboardInterrupt):
        server.download(sha256, size=size, into=into, progress=interrupt)
    assert 0 < into.stat().st_size < size
    have = into.stat().st_size
    with fleet.client() as server:
        server.download(sha256, size=size, into=into)
        assert server.received == size - have


def test_a_partial_file_that_is_wrong_is_thrown_away(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 2)
    launch()
    into = tmp_path / "part"
    into.write_bytes(b"x" * PIECE)
    with fleet.client() as server, pytest.raises(ReleaseError) as caught:
        server.download(sha256, size=size, into=into)
    assert caught.value.reason == "mismatch"
    assert not into.exists()


class Generous(ReleaseService):
    """Sends more than there is."""

    async def GetWeights(self, request: Any, context: Any) -> Any:
        async for piece in super().GetWeights(request, context):
            piece.data += b"more"
            yield piece


def test_more_than_the_manifest_states_is_refused(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 0.5)
    launch(Generous)
    with fleet.client() as server, pytest.raises(ReleaseError) as caught:
        server.download(sha256, size=size, into=tmp_path / "part")
    assert caught.value.reason == "oversize"
    assert (tmp_path / "part").stat().st_size == 0
