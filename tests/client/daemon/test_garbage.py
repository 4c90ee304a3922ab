"""Whatever is thrown at the daemon, afterwards it still paints."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from client.daemon.place import Place
from client.studio_client import CallError, Client
from client.warm_painter import WarmPainter
from protos import studio_pb2 as pb
from shared_model.errors import EaselError, InputError, PictureError

STYLIZE, PERSONALIZE = "/easel.studio.v1.Painter/Stylize", "/easel.studio.v1.Painter/Personalize"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
UNARY = (
    "Heads/List",
    "Heads/Show",
    "Heads/Rename",
    "Heads/Delete",
    "Privacy/GetLedger",
    "About/GetVersion",
    "Preferences/Candidates",
    "Preferences/Choose",
    "Preferences/Suggest",
    "Preferences/Apply",
    "Preferences/Reset",
)
START = pb.StylizeRequest(start=pb.StylizeStart(head="tiny"))
CHUNK = pb.StylizeRequest(chunk=b"abc")


@pytest.fixture
def running(launch: Any, atelier: WarmPainter, photo: bytes, capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """A daemon that must paint, hold no place and have printed no traceback after the test."""
    running = launch(atelier, idle_s=5.0, max_upload_bytes=1 << 20)
    yield running
    with running.client() as client:
        assert client.stylize(photo, head="tiny", timeout_s=30).width == 56
    assert running.idle()
    assert [head.name for head in atelier.heads()] == ["tiny"]
    assert "Traceback" not in capfd.readouterr().err


def refusal(call: Any) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert "Traceback" not in caught.value.details() and "/site-packages" not in caught.value.details()
    return caught.value.code()


def test_random_bytes_as_messages_of_a_stream(running: Any) -> None:
    draw = random.Random(7)
    with running.channel() as channel:
        for method in (STYLIZE, PERSONALIZE, REFLECTION):
            for _ in range(15):
                messages = [b"\xff" + draw.randbytes(draw.randrange(200)) for _ in range(draw.randrange(1, 4))]
                code = refusal(channel.stream_stream(method)(iter(messages), timeout=20))
                assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_random_bytes_as_a_request(running: Any) -> None:
    draw = random.Random(8)
    with running.channel() as channel:
        for method in (*(f"/easel.studio.v1.{name}" for name in UNARY), "/grpc.health.v1.Health/Check"):
            for _ in range(5):
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(method)(b"\xff" + draw.randbytes(draw.randrange(100)), timeout=20)
                assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_valid_fields_with_random_values(running: Any) -> None:
    draw = random.Random(9)
    with running.channel() as channel:
        for _ in range(20):
            text = "".join(draw.choice("a/.\\\x00é\n ") for _ in range(draw.randrange(1, 40)))
            options = pb.Options(strength=draw.uniform(-9, 9), size_px=draw.randrange(1 << 32))
            start = pb.StylizeStart(head=text, format=text, options=options, size_bytes=draw.randrange(1 << 64))
            code = refusal(channel.stream_stream(STYLIZE)(iter([pb.StylizeRequest(start=start).SerializeToString()])))
            assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            wrong = pb.PersonalizeRequest(start=pb.PersonalizeStart(name="." + text, budget_seconds=0))
            code = refusal(channel.stream_stream(PERSONALIZE)(iter([wrong.SerializeToString()])))
            assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_messages_out_of_order(running: Any) -> None:
    message = {"s": START, "c": CHUNK, "e": pb.StylizeRequest()}
    with running.channel() as channel:
        for kinds in ("", "c", "cs", "s", "ss", "scs", "e", "sce"):
            call = channel.stream_stream(STYLIZE)(iter([message[kind].SerializeToString() for kind in kinds]))
            assert refusal(call) is grpc.StatusCode.INVALID_ARGUMENT, kinds


def test_lessons_out_of_order(running: Any) -> None:
    message = {
        "s": pb.PersonalizeRequest(start=pb.PersonalizeStart(name="mine", budget_seconds=0)),
        "p": pb.PersonalizeRequest(picture=pb.PersonalizePicture()),
        "c": pb.PersonalizeRequest(chunk=b"abc"),
    }
    with running.channel() as channel:
        for kinds in ("", "c", "p", "s", "sc", "spcs", "ss", "spc" + "p" * 65):
            call = channel.stream_stream(PERSONALIZE)(iter([message[kind].SerializeToString() for kind in kinds]))
            assert refusal(call) is grpc.StatusCode.INVALID_ARGUMENT, kinds


def test_truncated_and_flipped_pictures(running: Any, photo: bytes) -> None:
    draw = random.Random(10)
    with running.client() as client:
        for cut in (0, 1, 8, 40, len(photo) // 2):
            with pytest.raises(PictureError):
                client.stylize(photo[:cut], head="tiny")
        for _ in range(10):
            broken = bytearray(photo)
            broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
            with contextlib.suppress(PictureError):
                assert client.stylize(bytes(broken), head="tiny").width


def test_a_decompression_bomb_is_refused_from_its_header(running: Any) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    with running.client() as client, pytest.raises(PictureError, match="more than 1,000,000 pixels"):
        client.stylize(bomb, head="tiny")


def test_too_much_is_refused_whether_announced_or_not(running: Any) -> None:
    with running.client() as client, pytest.raises(InputError, match="too large an upload"):
        client.stylize(bytes((1 << 20) + 1), head="tiny")
    chunks = [START] + [pb.StylizeRequest(chunk=bytes(1 << 18))] * 5
    with running.channel() as channel:
        call = channel.stream_stream(STYLIZE)(iter([message.SerializeToString() for message in chunks]))
        assert refusal(call) is grpc.StatusCode.INVALID_ARGUMENT
        huge = pb.StylizeRequest(chunk=bytes(5 << 20)).SerializeToString()
        assert refusal(channel.stream_stream(STYLIZE)(iter([huge]))) is grpc.StatusCode.RESOURCE_EXHAUSTED
        packed = channel.unary_unary("/easel.studio.v1.Heads/Show")
        with pytest.raises(grpc.RpcError) as caught:
            packed(bytes(1000), compression=grpc.Compression.Gzip)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, "compressed messages could be bombs too"


def test_too_large_a_result_is_refused(running: Any, photo: bytes) -> None:
    with running.client() as client, pytest.raises(InputError, match="too large"):
        client.stylize(photo, head="tiny", size_px=16384)


def test_connections_that_break_anywhere(running: Any, place: Place, photo: bytes) -> None:
    draw = random.Random(11)
    for first in (b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", draw.randbytes(300)):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as raw:
            raw.connect(str(place.socket))
            with contextlib.suppress(OSError):
                raw.sendall(first + draw.randbytes(100))
    for sent in range(4):
        channel = running.channel()

        def messages(count: int = sent, channel: Any = channel) -> Iterator[bytes]:
            yield from [START.SerializeToString(), CHUNK.SerializeToString(), CHUNK.SerializeToString()][:count]
            channel.close()

        with contextlib.suppress(grpc.RpcError, ValueError):
            list(channel.stream_stream(STYLIZE)(messages()))
    client = Client(running.address)

    def hang_up(news: object) -> None:
        client.close()

    with contextlib.suppress(EaselError, CallError, grpc.RpcError, ValueError):
        client.stylize(photo, head="tiny", progress=hang_up)
