"""Runs the studio: a socket of this computer only, the server, an orderly end."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
import webbrowser
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from client.atelier import Atelier
from client.studio.app import build_app
from client.studio.desk import Desk
from client.studio.fleet import Fleet
from client.studio.gate import Gate
from client.studio.jobs import Jobs
from shared_model.errors import InputError

__all__ = ["DEFAULT_PORT", "bind", "open_browser", "serve", "serve_app", "serving"]

DEFAULT_PORT = 8700
_ADDRESS = "127.0.0.1"
_CONNECTIONS = 64


def bind(port: int | None) -> socket.socket:
    """Return a listening socket on 127.0.0.1.

    Parameters
    ----------
    port
        ``None`` takes `DEFAULT_PORT`, or any free one if that is taken; 0 takes any free one.

    Raises
    ------
    InputError
        If the port cannot be had.
    """
    for wanted in (DEFAULT_PORT, 0) if port is None else (port,):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((_ADDRESS, wanted))
            listener.listen(_CONNECTIONS)
            return listener
        except (OSError, OverflowError) as error:
            listener.close()
            if wanted or port is not None:
                reason = error
                continue
            raise InputError(f"no port of this computer is free: {error}", hint="close other programs") from error
    raise InputError(f"port {port} cannot be used: {reason}", hint="leave --port out to take a free one") from reason


def serve(atelier: Atelier, listener: socket.socket, *, gate: Gate) -> None:
    """Serve the studio until Ctrl-C or a polite kill."""
    jobs = Jobs()
    desk = Desk(atelier, jobs=jobs)
    try:
        serve_app(build_app(desk, gate=gate), listener)
    finally:
        jobs.close()
        desk.fleet.close()


def serve_app(app: ASGIApp, listener: socket.socket) -> None:
    """Serve any guarded page until Ctrl-C or a polite kill, then close the socket."""
    try:
        _server(app).run(sockets=[listener])
    finally:
        listener.close()


@contextlib.contextmanager
def serving(atelier: Atelier, *, port: int = 0, fleet: Fleet | None = None) -> Iterator[Gate]:
    """Serve in a thread for as long as the context lasts; yields the gate, which knows the address."""
    listener = bind(port)
    gate = Gate(listener.getsockname()[1])
    jobs = Jobs()
    desk = Desk(atelier, jobs=jobs, fleet=fleet)
    server = _server(build_app(desk, gate=gate))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="studio")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield gate
    finally:
        server.should_exit = True
        jobs.close()
        desk.fleet.close()
        thread.join(10)
        listener.close()


def open_browser(gate: Gate) -> bool:
    """Open the page in the owner's browser, with a link that works once; returns whether there is a browser."""
    try:
        return webbrowser.open(gate.ticket_link())
    except webbrowser.Error:
        return False


class _Server(uvicorn.Server):
    """Ends quietly on Ctrl-C or a polite kill, which is how a studio is meant to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)


def _server(app: ASGIApp) -> uvicorn.Server:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        access_log=False,  # addresses hold names of pictures
        date_header=False,
        h11_max_incomplete_event_size=32 << 10,
        http="h11",
        lifespan="off",
        limit_concurrency=_CONNECTIONS,
        log_config=None,
        loop="asyncio",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=15,
        ws="none",
    )
    return _Server(config)
