"""What the daemon does when all goes well, through the Python client."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from client.daemon.place import Place
from client.jobs import Job
from client.ledger import Ledger
from client.orders import Order
from client.paths import witness_folder
from client.studio_client import CallError, Client, Progress
from client.warm_painter import WarmPainter
from protos import studio_pb2 as pb
from shared_model.errors import InputError, MissingError, PictureError
from shared_model.head import Head
from shared_model.images import load_picture
from shared_model.mechanism import Mechanism
from shared_model.stylize import Options


def test_a_painting_is_the_one_that_is_painted_without_a_daemon(
    launch: Any, atelier: WarmPainter, photo: bytes
) -> None:
    launch(atelier)
    news: list[Progress] = []
    with Client.connect() as painter:
        painting = painter.stylize(photo, head="tiny", strength=0.5, size_px=64, seed=3, progress=news.append)
    options = Options(strength=0.5, size_px=64, seed=3)
    expected = atelier.stylize(Job("", lambda job: None), photo, order=Order("tiny", options))
    assert np.array_equal(load_picture(painting.data).rgb, load_picture(expected.data).rgb)
    assert (painting.width, painting.height) == (90, 64)
    assert painting.settings["options"] == {
        "strength": 0.5, "keep_color": False, "detail": 0.5, "size_px": 64, "seed": 3
    }  # fmt: skip
    assert news and all(0 <= told.fraction <= 1 for told in news)


def test_a_large_result_comes_in_pieces_and_whole(launch: Any, atelier: WarmPainter, photo: bytes) -> None:
    launch(atelier, message_bytes=1 << 20)
    with Client.connect() as painter:
        painting = painter.stylize(photo, head="tiny", size_px=800, format="tiff")
    assert len(painting.data) > 1 << 20
    assert load_picture(painting.data).rgb.shape == (800, 1120, 3)


def test_a_head_is_made_renamed_used_and_deleted(
    launch: Any, atelier: WarmPainter, photo: bytes, tiny_fits: None
) -> None:
    launch(atelier)
    with Client.connect() as painter:
        made = painter.personalize("mine", [photo, photo], budget_s=0.0)
        assert (made.name, made.images, made.shipped, made.matches) == ("mine", 2, False, True)
        assert painter.rename_head("mine", "ours").name == "ours"
        assert [head.name for head in painter.heads()] == ["ours", "tiny"]
        assert painter.head("ours").damage == ""
        assert painter.stylize(photo, head="ours").width == 56
        painter.delete_head("ours")
        assert [head.name for head in painter.heads()] == ["tiny"]


def test_errors_are_easels_own_with_their_hints(launch: Any, atelier: WarmPainter, photo: bytes) -> None:
    launch(atelier)
    with Client.connect() as painter:
        with pytest.raises(MissingError, match=r"^no head called 'tinny'$") as missing:
            painter.stylize(photo, head="tinny")
        assert "did you mean tiny?" in missing.value.hint
        with pytest.raises(PictureError, match="not a picture"):
            painter.stylize(b"nonsense", head="tiny")
        with pytest.raises(InputError, match="strength must be between"):
            painter.stylize(photo, head="tiny", strength=float("nan"))
        with pytest.raises(InputError, match="shipped"):
            painter.delete_head("tiny")
        with pytest.raises(InputError, match="cannot be the name"):
            painter.personalize("../../etc/passwd", [photo], budget_s=0.0)
        assert painter.stylize(photo, head="tiny").width == 56


def test_a_mix_is_prepared_and_refused_as_not_implemented(launch: Any, atelier: WarmPainter) -> None:
    with launch(atelier).channel() as channel:
        start = pb.StylizeStart(mix={"tiny": 0.5, "other": 0.5})
        call = channel.stream_stream(
            "/easel.studio.v1.Painter/Stylize",
            request_serializer=pb.StylizeRequest.SerializeToString,
            response_deserializer=pb.StylizeReply.FromString,
        )(iter([pb.StylizeRequest(start=start)]))
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_ledger_is_told_and_its_place_is_not(launch: Any, atelier: WarmPainter, own_home: Path) -> None:
    launch(atelier)
    with Client.connect() as painter:
        assert painter.ledger() == {}
        path = own_home / "device" / "ledger.json"
        ledger = Ledger.open(path, max_epsilon=4.0, delta=1e-5, witness=witness_folder())
        ledger.sent(ledger.reserve("first", 1, mechanism=Mechanism(1.0, 0.01, "user")), bytes_sent=10)
        told = painter.ledger()
        assert told["participations"] == 1 and told["max_epsilon"] == 4.0
        assert str(own_home) not in str(told)


def test_version_health_and_reflection(launch: Any, atelier: WarmPainter) -> None:
    running = launch(atelier)
    with running.client() as painter:
        version = painter.version()
        assert version["backbone"] == atelier.backbone and version["device"] == "cpu" and version["calls"] == 0
    with running.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "easel.studio.v1.Painter"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == 1
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        (reply,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked)
        names = {service.name for service in reply.list_services_response.service}
        assert {"easel.studio.v1.Painter", "easel.studio.v1.Heads", "grpc.health.v1.Health"} <= names


def test_the_socket_is_the_owners_alone_and_gone_afterwards(launch: Any, atelier: WarmPainter, place: Place) -> None:
    running = launch(atelier)
    assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    running.stop()
    running.thread.join(20)
    assert not place.socket.exists()


@pytest.mark.parametrize("token", ["", "wrong", "a-toke", "a-token-"])
def test_on_tcp_nothing_is_answered_without_the_token(launch: Any, atelier: WarmPainter, token: str) -> None:
    running = launch(atelier, tcp=True)
    with running.client() as painter:
        assert painter.version()["device"] == "cpu"
    header = [("authorization", f"Bearer {token}")] if token else []
    with running.channel() as channel:
        methods = ["/easel.studio.v1.About/GetVersion", "/easel.studio.v1.Heads/List", "/grpc.health.v1.Health/Check"]
        for method in methods:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(method)(b"", metadata=header, timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        for method in (
            "/easel.studio.v1.Painter/Stylize",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ):
            with pytest.raises(grpc.RpcError) as caught:
                list(channel.stream_stream(method)(iter([b""]), metadata=header, timeout=10))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_without_a_daemon_the_client_says_so(own_home: Path) -> None:
    with pytest.raises(MissingError, match="no daemon is running") as caught:
        Client.connect()
    assert "easel serve" in caught.value.hint


def test_a_daemon_that_went_away_is_an_error_with_a_hint(launch: Any, atelier: WarmPainter, photo: bytes) -> None:
    running = launch(atelier)
    with running.client() as painter:
        running.stop()
        running.thread.join(20)
        with pytest.raises(CallError, match=r".") as caught:
            painter.stylize(photo, head="tiny", timeout_s=5)
        assert caught.value.code == "UNAVAILABLE"


def test_heads_of_the_daemon_are_those_of_the_home(launch: Any, atelier: WarmPainter, tiny_head: Head) -> None:
    launch(atelier)
    with Client.connect() as painter:
        atelier.home.save_head(tiny_head, name="beside")
        assert "beside" in [head.name for head in painter.heads()]
