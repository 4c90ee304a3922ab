"""The relay passes on what it keeps, and the requests come out whole."""

import socket
import threading

from simulations.wiretap import Request, requests, wiretap


def test_what_a_client_sends_arrives_and_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []

        def serve() -> None:
            line, _ = server.accept()
            with line:
                heard.append(line.recv(100))
                line.sendall(b"answer")

        thread = threading.Thread(target=serve)
        thread.start()
        with wiretap(server.getsockname()[1]) as tap:
            with socket.create_connection(("127.0.0.1", tap.port)) as client:
                client.sendall(b"question")
                assert client.recv(100) == b"answer"
            thread.join(5)
            assert heard == [b"question"]
            assert tap.bytes_sent() == b"question"


def test_requests_are_split_by_length_and_by_chunks() -> None:
    stream = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
        b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n"
        b"POST /d HTTP/1.1\r\nContent-"
    )
    assert list(requests(stream)) == [Request("/a", b"hello"), Request("/b", b""), Request("/c", b"abcde")]
