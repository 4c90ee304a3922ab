"""Who may speak to the studio: only its own page, opened with its key, on this computer.

Any page that a browser shows can send requests to 127.0.0.1, so being on this computer proves nothing:

- ``Host`` must be the studio's own address. A foreign name that points to 127.0.0.1 (DNS rebinding) is refused.
- ``Origin``, where a browser sends it, must be the studio's own; what changes anything must have one
  (requests forged by other pages).
- ``Sec-Fetch-Site``, where a browser sends it, must say that the request is the page's own or typed by the owner.
- Everything but the empty page itself needs the key in a header of its own. It is not a cookie: browsers give the
  cookies of 127.0.0.1 to every port, hence to whatever else runs on this computer.

The key stands in the link's fragment, which browsers never send. The link that is opened automatically has a ticket
instead, good once and for a minute, since other users of a computer can read the arguments of a starting browser.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shared_model.errors import EaselError

__all__ = ["HEADERS", "KEY_HEADER", "Gate", "RefusedError"]

KEY_HEADER = "x-easel-key"
HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_TICKET_S = 60.0
_SAFE = frozenset({"GET", "HEAD"})


class RefusedError(EaselError):
    """A request that the gate does not let in; ``status`` is the HTTP status."""

    def __init__(self, message: str, *, hint: str = "", status: int = 403) -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass
class Gate:
    """Checks of one running studio.

    Attributes
    ----------
    port
        Where it listens.
    key
        What its page proves itself with; 256 bits from the operating system.
    clock
        Seconds.
    """

    port: int
    key: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    clock: Callable[[], float] = time.monotonic
    _tickets: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @property
    def address(self) -> str:
        """The page's address without a key."""
        return f"http://127.0.0.1:{self.port}/"

    def link(self) -> str:
        """Return the address with the key in its fragment."""
        return f"{self.address}#key={self.key}"

    def ticket_link(self) -> str:
        """Return an address that lets in one visitor within a minute."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets[ticket] = self.clock() + _TICKET_S
        return f"{self.address}#ticket={ticket}"

    def redeem(self, ticket: str) -> str:
        """Return the key for a ticket.

        Raises
        ------
        RefusedError
            If it is unknown, used or too old.
        """
        now = self.clock()
        with self._lock:
            self._tickets = {known: until for known, until in self._tickets.items() if until >= now}
            match = next((known for known in self._tickets if _same(known, ticket)), None)
            if match is None:
                raise _closed()
            del self._tickets[match]
        return self.key

    def check(self, method: str, headers: Mapping[str, str], *, public: bool) -> None:
        """Let a request in or not.

        Parameters
        ----------
        method
            ``GET``, ``POST`` ...
        headers
            By lower-case name.
        public
            The request asks for a part of the empty page, which needs no key.

        Raises
        ------
        RefusedError
            If it is not let in.
        """
        hosts = {f"127.0.0.1:{self.port}", f"localhost:{self.port}"}
        host = headers.get("host", "").lower()
        if host not in hosts:
            raise RefusedError("this is not the address of the studio", hint=f"open {self.address}", status=421)
        origin = headers.get("origin")
        if origin is None and method not in _SAFE:
            raise RefusedError("a request without an origin may change nothing", hint="use the studio's own page")
        if origin is not None and origin.lower() != f"http://{host}":
            raise RefusedError("this request comes from another page", hint="use the studio's own page")
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            if not (public and headers.get("sec-fetch-mode") == "navigate" and method in _SAFE):
                raise RefusedError("this request comes from another page", hint="use the studio's own page")
        if not public and not _same(self.key, headers.get(KEY_HEADER, "")):
            raise _closed()


def _same(known: str, given: str) -> bool:
    return hmac.compare_digest(known.encode(), given.encode())


def _closed() -> RefusedError:
    return RefusedError(
        "the studio does not know this page",
        hint="open the address that easel studio printed; it changes with every start",
        status=401,
    )
