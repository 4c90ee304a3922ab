"""Daemons in a thread of the test's process: with the tiny backbone, or with a painter that a test steers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from client.commissions import Commission, Painted
from client.daemon.place import Place, Record
from client.daemon.server import Daemon
from client.daemon.uploads import Settings
from client.jobs import Job
from client.store import Home
from client.studio_client import Client
from client.warm_painter import WarmPainter
from shared_model.backbone import Backbone
from shared_model.images import encode_picture

Launch = Callable[..., "Running"]


@dataclass
class Running:
    """A daemon under test."""

    daemon: Daemon
    address: str
    token: str
    stop: Callable[[], None]
    thread: threading.Thread

    def client(self, name: str = "") -> Client:
        return Client(self.address, token=self.token, name=name)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def idle(self) -> bool:
        """Wait until no call holds a place any more."""
        return wait_for(lambda: self.daemon.painting.calls == 0 and self.daemon.learning.calls == 0)


@dataclass
class Gated:
    """Stands in for an atelier: each picture is begun when asked for, and finished when the test lets it."""

    home: Any
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    failure: Exception | None = None
    backbone: str = "gated"
    max_pixels: int = 1
    tasting: Any = None

    @property
    def engine(self) -> Any:
        raise RuntimeError("a gate has no engine in /srv/secret/place")

    def stylize(self, job: Job, photo: bytes, *, commission: Commission) -> Painted:
        name = photo.decode()
        self.begun.append(name)
        job.report("painting", 0.5)
        while not self.gate.acquire(timeout=0.01):
            job.check()
        try:
            job.check()
        except BaseException:
            self.gate.release()  # whoever is stopped leaves the gate to the next
            raise
        if self.failure is not None:
            raise self.failure
        self.ended.append(name)
        return Painted(photo, 1, 1, "png", "{}", 0.0)


def wait_for(true: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def place(own_home: Path) -> Place:
    return Place(own_home / "daemon")


@pytest.fixture
def launch(place: Place) -> Iterator[Launch]:
    """Start daemons: ``launch(atelier, tcp=False, **settings)``; all are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(atelier: Any, *, tcp: bool = False, **settings: Any) -> Running:
            stack.enter_context(place.claim())
            token = "a-token" if tcp else ""
            daemon = Daemon(atelier, settings=Settings(**{"grace_s": 5.0, **settings}), token=token)
            bound: list[str] = []
            ready = threading.Event()
            stopping: list[Callable[[], None]] = []

            def told(address: str) -> None:
                bound.append(address)
                place.announce(Record(address, 0, "test", token))
                ready.set()

            async def serve() -> None:
                stop = asyncio.Event()
                loop = asyncio.get_running_loop()
                stopping.append(lambda: loop.call_soon_threadsafe(stop.set))
                await daemon.run("127.0.0.1:0" if tcp else place.address, stop=stop, ready=told)

            thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
            thread.start()
            assert ready.wait(20)

            def stop() -> None:
                with contextlib.suppress(RuntimeError):  # stopped already
                    stopping[0]()

            def end() -> None:
                stop()
                thread.join(20)
                assert not thread.is_alive()

            stack.callback(end)
            return Running(daemon, bound[0], token, stop, thread)

        yield start


@pytest.fixture
def atelier(easel_home: Path, backbone: Backbone) -> WarmPainter:
    return WarmPainter(Home.default(), backbone=backbone, device="cpu", max_pixels=1_000_000)


@pytest.fixture
def gated(easel_home: Path) -> Gated:
    return Gated(Home.default())


@pytest.fixture
def photo(smooth: Callable[..., np.ndarray]) -> bytes:
    return encode_picture(smooth(11), suffix=".png")
