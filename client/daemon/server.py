"""The daemon itself: bind, serve, stop cleanly.

``grpc.aio`` and not a pool of threads: a call that uploads, waits for its turn or downloads costs no thread, so idle
and slow clients cannot use them up, and health is answered while a picture is painted. All painting happens in one
thread of its own, all learning in another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from client.daemon.catalog import AboutService, HeadsService, PrivacyService
from client.daemon.choices import PreferencesService
from client.daemon.guards import GarbageGuard, TokenGuard
from client.daemon.painter import PainterService
from client.daemon.uploads import Settings
from client.job_queue import JobQueue
from client.warm_painter import WarmPainter
from protos import studio_pb2, studio_pb2_grpc
from shared_model.errors import InputError

__all__ = ["Daemon"]

SERVICES = tuple(service.full_name for service in studio_pb2.DESCRIPTOR.services_by_name.values())


class Daemon:
    """One painter at the service of this computer's programs.

    Parameters
    ----------
    atelier
        Does the work.
    settings
        What is allowed.
    token
        What every call must show; empty: nothing, the socket's permissions protect it.
    """

    def __init__(self, atelier: WarmPainter, *, settings: Settings | None = None, token: str = "") -> None:
        self.settings = settings or Settings()
        self._atelier = atelier
        self._token = token
        self.painting = JobQueue(self.settings.painting)
        self.learning = JobQueue(self.settings.learning)

    async def run(
        self, address: str, *, stop: asyncio.Event, ready: Callable[[str], None] = lambda address: None
    ) -> None:
        """Serve until ``stop`` is set; set a second time while stopping, it stops at once.

        Parameters
        ----------
        address
            ``unix:...`` or ``HOST:PORT``; port 0 takes a free one.
        ready
            Called with the address as soon as calls are answered.

        Raises
        ------
        InputError
            If the address cannot be used.
        """
        server, doctor = self._server()
        bound = _bind(server, address)
        workers = [threading.Thread(target=queue.work, daemon=True) for queue in (self.painting, self.learning)]
        for worker in workers:
            worker.start()
        await server.start()
        for name in ("", *SERVICES):
            await doctor.set(name, health_pb2.HealthCheckResponse.SERVING)
        ready(bound)
        try:
            await stop.wait()
        finally:
            stop.clear()
            await doctor.enter_graceful_shutdown()
            self.painting.close()
            self.learning.close(running=True)
            await _stop(server, grace_s=self.settings.grace_s, hurry=stop)
            self.painting.close(running=True)
            for worker in workers:
                await asyncio.to_thread(worker.join, self.settings.grace_s)

    def _server(self) -> tuple[grpc.aio.Server, Any]:
        guards = [*([TokenGuard(self._token)] if self._token else []), GarbageGuard()]
        server = grpc.aio.server(interceptors=guards, options=_options(self.settings), maximum_concurrent_rpcs=1024)
        queues = {"painting": self.painting, "learning": self.learning}
        painter = PainterService(self._atelier, settings=self.settings, **queues)
        studio_pb2_grpc.add_PainterServicer_to_server(painter, server)
        studio_pb2_grpc.add_HeadsServicer_to_server(HeadsService(self._atelier), server)
        studio_pb2_grpc.add_PreferencesServicer_to_server(PreferencesService(self._atelier.tasting), server)
        studio_pb2_grpc.add_PrivacyServicer_to_server(PrivacyService(self._atelier), server)
        about = AboutService(self._atelier, painting=self.painting, settings=self.settings)
        studio_pb2_grpc.add_AboutServicer_to_server(about, server)
        doctor = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(doctor, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server, doctor


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.message_bytes),
        ("grpc.max_send_message_length", settings.message_bytes),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.max_concurrent_streams", 256),
        ("grpc.so_reuseport", 0),  # nobody else may listen on the same port
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: a small message stays small
    ]


def _bind(server: grpc.aio.Server, address: str) -> str:
    """Listen; a Unix socket is never open to anybody else, not even for a moment."""
    before = os.umask(0o177)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise InputError(f"cannot listen on {address}", hint="is the port taken? choose another one") from None
    finally:
        os.umask(before)
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


async def _stop(server: grpc.aio.Server, *, grace_s: float, hurry: asyncio.Event) -> None:
    """Let calls end for a while; at once when hurried."""
    ending = asyncio.ensure_future(server.stop(grace_s))
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if not ending.done():
        await server.stop(0)
        await ending
    hurried.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hurried
