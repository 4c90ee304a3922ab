"""A TCP relay on loopback that keeps what passes: shows what a SuperNode really sends to its SuperLink."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Request", "Wiretap", "requests", "wiretap"]


@dataclass(eq=False)
class Wiretap:
    """What passed through the relay.

    Attributes
    ----------
    port
        Where it listens, on 127.0.0.1.
    sent
        Bytes from client to server, one stream per connection.
    """

    port: int
    sent: list[bytearray] = field(default_factory=list)

    def bytes_sent(self) -> bytes:
        """Return all that clients sent, connection after connection."""
        return b"\n".join(bytes(stream) for stream in self.sent)


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes
    ----------
    path
        Its path.
    body
        Its body, chunks joined.
    """

    path: str
    body: bytes


@contextlib.contextmanager
def wiretap(target: int) -> Iterator[Wiretap]:
    """Relay connections to ``127.0.0.1:target`` as long as the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        tap = Wiretap(int(server.getsockname()[1]))
        ending = threading.Event()
        server.settimeout(0.2)
        acceptor = threading.Thread(target=_accept, args=(server, target, tap, ending), daemon=True)
        acceptor.start()
        try:
            yield tap
        finally:
            ending.set()
            acceptor.join(5.0)


def requests(stream: bytes) -> Iterator[Request]:
    """Split one connection's bytes into HTTP/1.1 requests; an unfinished last one is left out."""
    position = 0
    while (end := stream.find(b"\r\n\r\n", position)) >= 0:
        lines = stream[position:end].decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        position = end + 4
        if headers.get("transfer-encoding") == "chunked":
            body, position = _chunked(stream, position)
        else:
            length = int(headers.get("content-length", "0"))
            body, position = stream[position : position + length], position + length
        yield Request(lines[0].split(" ")[1], body)


def _chunked(stream: bytes, position: int) -> tuple[bytes, int]:
    body = b""
    while (end := stream.find(b"\r\n", position)) >= 0:
        length = int(stream[position:end].split(b";")[0], 16)
        body += stream[end + 2 : end + 2 + length]
        position = end + 4 + length
        if length == 0:
            break
    return body, position


def _accept(server: socket.socket, target: int, tap: Wiretap, ending: threading.Event) -> None:
    while not ending.is_set():
        try:
            client, _ = server.accept()
        except TimeoutError:
            continue
        except OSError:
            return
        kept = bytearray()
        tap.sent.append(kept)
        threading.Thread(target=_relay, args=(client, target, kept), daemon=True).start()


def _relay(client: socket.socket, target: int, kept: bytearray) -> None:
    """Relay one connection in both directions until either side ends it."""
    client.settimeout(None)
    with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", target)) as upstream:
        answers = threading.Thread(target=_pump, args=(upstream, client, None), daemon=True)
        answers.start()
        _pump(client, upstream, kept)
        answers.join()


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if kept is not None:
                kept += data
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
