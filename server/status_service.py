"""Shows a running fleet's status on this machine: a page, JSON and Prometheus metrics, on the loopback interface only.

Read-only: it answers GET and HEAD for four paths and reads no body. Everybody who can log in here
can read it, which is why nothing in it is about a single device.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from server.metrics import exposition
from server.status_page import page
from shared_model.errors import EaselError, FederationError

__all__ = ["serve_status"]

_LOCAL = frozenset(("127.0.0.1", "localhost"))
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PATIENCE_S = 10.0


@contextlib.contextmanager
def serve_status(facts: Callable[[], dict[str, Any]], *, port: int) -> Iterator[int]:
    """Serve as long as the block lasts; yields the port.

    Parameters
    ----------
    facts
        As :meth:`server.standing.Standing.facts`.
    port
        On 127.0.0.1; 0: any.

    Raises
    ------
    FederationError
        If the port is taken.
    """
    try:
        server = _Server(("127.0.0.1", port), partial(_Handler, facts))
    except OSError as error:
        raise FederationError(
            f"cannot show the status on port {port}: {error.strerror}", hint="status_port in server.toml; 0: none"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="status", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(_PATIENCE_S)


class _Server(ThreadingHTTPServer):
    """Keeps silent about readers that go away in the middle of an answer."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say what is wrong with easel, and nothing about a connection."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection; logs nothing."""

    timeout = _PATIENCE_S
    server_version, sys_version = "easel", ""

    def __init__(self, facts: Callable[[], dict[str, Any]], *arguments: Any) -> None:
        self._facts = facts
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer(*self._find())

    def do_HEAD(self) -> None:
        """Answer a HEAD."""
        self._answer(*self._find(), body=False)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep silent."""

    def _find(self) -> tuple[int, str, str]:
        # A foreign page whose name leads to 127.0.0.1 would come with that name.
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _LOCAL:
            return 403, "text/plain", "this page is for this machine only\n"
        if self.path == "/health":
            return 200, "text/plain", "ok\n"
        if self.path not in ("/", "/status.json", "/metrics"):
            return 404, "text/plain", "there is nothing here\n"
        try:
            found = self._facts()
        except EaselError as error:
            return 503, "text/plain", f"{error.message}\n"
        if self.path == "/metrics":
            text = exposition(found["run"], found["fleet"], found["releases"])
            return 200, "text/plain; version=0.0.4", text
        if self.path == "/status.json":
            return 200, "application/json", json.dumps(found, indent=2) + "\n"
        return 200, "text/html", page(found, live=True)

    def _answer(self, status: int, kind: str, text: str, *, body: bool = True) -> None:
        data = text.encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)
