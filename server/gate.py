"""The one door of a fleet: TLS, and behind it only what devices need.

Flower's SuperLink serves its fleet interface and its control interface, which starts code and asks
nobody who they are, on ONE port. That port stays on the loopback interface. The gate listens outside
and lets through, to the fleet interface, requests that name the key of an enrolled device (the
SuperLink checks the signature); enrolment (:mod:`server.enrolment`) has its three paths here too, so
a device needs one address. Why HTTPS and not gRPC: a device must fetch the authority's certificate
over a connection that it cannot check yet, which gRPC has no way to do, and two small requests need no
generated code.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.devices import Registry
from server.enrolment import LARGEST_REQUEST, Enrolment
from server.registrar import pem_of
from shared_model.errors import EaselError, FederationError

if TYPE_CHECKING:
    import httpx

__all__ = ["Gate", "serve"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LARGEST_PART = 32 << 20  # Flower cuts what it sends into parts of 5 MiB
_FLEET = re.compile(r"/v1/fleet/[a-z-]{1,40}")
_KEY = b"flwr-public-key"
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade host".split()
)
_BODY_S = 60.0
_START_S = 20.0
_ENROLMENTS = 8  # at the same time


class Gate:
    """The gate as an ASGI application.

    Guarantees
    ----------
    No request reaches the SuperLink but a POST to its fleet interface that names an enrolled key.
    Bodies are bounded. Nothing about a request is logged: no address, no name.

    Parameters
    ----------
    enrolment
        Answers devices that join or leave.
    registry
        Who is enrolled; read again when its file changes.
    upstream
        Address of the SuperLink, ``https://127.0.0.1:39310``.
    ca
        Authority that it must show.
    """

    def __init__(self, enrolment: Enrolment, registry: Registry, *, upstream: str, ca: Path) -> None:
        self._enrolment = enrolment
        self._registry = registry
        self._upstream = upstream
        self._ca = ca
        self._client: httpx.AsyncClient | None = None
        self._known: tuple[int, frozenset[bytes]] = (-1, frozenset())
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if (method, path) == ("GET", "/v1/ca"):
            await _answer(send, 200, self._enrolment.authority(), kind=b"application/x-pem-file")
        elif (method, path) == ("POST", "/v1/enrol"):
            await self._enrol(self._enrolment.enrol, receive, send)
        elif (method, path) == ("POST", "/v1/leave"):
            await self._enrol(self._enrolment.leave, receive, send)
        elif method == "POST" and _FLEET.fullmatch(path) and not scope["query_string"]:
            await self._fleet(scope, receive, send)
        else:
            await _refuse(send, 404, "there is nothing here")

    async def _enrol(self, act: Callable[[bytes], tuple[int, dict[str, Any]]], receive: Receive, send: Send) -> None:
        if self._busy >= _ENROLMENTS:
            await _refuse(send, 503, "too many at once: try again")
            return
        self._busy += 1
        try:
            body = b"".join([part async for part in _body(receive, limit=LARGEST_REQUEST)])
            status, answer = await asyncio.to_thread(act, body)
        except (EaselError, TimeoutError):
            status, answer = 400, {"error": "this request cannot be answered"}
        finally:
            self._busy -= 1
        await _answer(send, status, json.dumps(answer).encode())

    async def _fleet(self, scope: Scope, receive: Receive, send: Send) -> None:
        import httpx

        key = next((value for name, value in scope["headers"] if name == _KEY), b"")
        if key not in await asyncio.to_thread(self._keys):
            await _refuse(send, 401, "this device is not enrolled")
            return
        assert self._client is not None
        started = False
        try:
            request = self._client.build_request(
                "POST",
                scope["path"],
                headers=[(name, value) for name, value in scope["headers"] if name not in _HOP],
                content=_body(receive, limit=LARGEST_PART),
            )
            response = await self._client.send(request, stream=True)
            try:
                headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _HOP]
                await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
                started = True
                async for part in response.aiter_raw():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                await response.aclose()
        except (httpx.HTTPError, FederationError, TimeoutError):
            if started:
                raise  # the answer is cut off, and the device must see that it is
            await _refuse(send, 503, "Flower does not answer: try again")

    def _keys(self) -> frozenset[bytes]:
        """Return the header values of enrolled devices; damage of the file shuts everybody out."""
        try:
            stamp = self._registry.path.stat().st_mtime_ns if self._registry.path.exists() else 0
            if stamp != self._known[0]:
                self._known = (stamp, frozenset(base64.b64encode(pem_of(key)) for key in self._registry.keys()))
        except (EaselError, OSError, ValueError):
            return frozenset()
        return self._known[1]

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        import httpx

        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                trust = ssl.create_default_context(cafile=str(self._ca))
                self._client = httpx.AsyncClient(
                    base_url=self._upstream, verify=trust, timeout=60.0, trust_env=False, follow_redirects=False
                )
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._client is not None:
                    await self._client.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return


@contextlib.contextmanager
def serve(gate: Gate, *, host: str, port: int, certificate: Path, key: Path) -> Iterator[None]:
    """Let the gate listen, in a thread of its own, as long as the block lasts.

    Raises
    ------
    FederationError
        If it cannot listen there.
    """
    import uvicorn

    config = uvicorn.Config(
        gate,
        host=host,
        port=port,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        lifespan="on",
        ws="none",
        log_config=None,
        log_level="critical",  # it would say without a format what it ends
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        limit_concurrency=10_000,
    )
    config.load()
    if isinstance(config.ssl, ssl.SSLContext):
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = uvicorn.Server(config)
    thread = threading.Thread(target=_run, args=(server,), name="gate", daemon=True)
    thread.start()
    end = time.monotonic() + _START_S
    while not server.started and thread.is_alive() and time.monotonic() < end:
        time.sleep(0.05)
    if not server.started:
        server.should_exit = True
        raise FederationError(f"cannot listen on {host}:{port}", hint="is the port free? server.toml names it")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(15.0)


def _run(server: Any) -> None:
    """Run a uvicorn server; it exits the thread when the port is taken."""
    with contextlib.suppress(SystemExit):
        server.run()


async def _body(receive: Receive, *, limit: int) -> AsyncIterator[bytes]:
    """Yield the parts of a request's body.

    Raises
    ------
    FederationError
        If it is longer than ``limit`` bytes, or the device went away.
    """
    total, more = 0, True
    while more:
        message = await asyncio.wait_for(receive(), _BODY_S)
        if message["type"] != "http.request":
            raise FederationError("the device went away")
        total += len(message.get("body", b""))
        if total > limit:
            raise FederationError("this request is too large")
        more = bool(message.get("more_body", False))
        yield message.get("body", b"")


async def _refuse(send: Send, status: int, why: str) -> None:
    await _answer(send, status, json.dumps({"error": why}).encode())


async def _answer(send: Send, status: int, body: bytes, *, kind: bytes = b"application/json") -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
