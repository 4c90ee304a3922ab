"""What the daemon does when all goes well, through the Python client."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from client.commissions import Commission
from client.daemon.place import Place
from client.jobs import Job
from client.ledger import Ledger
from client.paths import witness_folder
from client.studio_client import CallError, Client, Manner, Progress
from client.warm_painter import WarmPainter
from shared_model.config import STROKES
from shared_model.errors import InputError, MissingError, PictureError
from shared_model.head import Head
from shared_model.images import load_picture
from shared_model.mechanism import Mechanism


def test_a_painting_is_the_one_that_is_painted_without_a_daemon(
    launch: Any, atelier: WarmPainter, photo: bytes
) -> None:
    launch(atelier)
    news: list[Progress] = []
    with Client.connect() as painter:
        painting = painter.stylize(photo, head="tiny", strength=0.5, size_px=64, seed=3, progress=news.append)
    commission = Commission((("tiny", 1.0),), {"strength": 0.5, "size_px": 64, "seed": 3})
    expected = atelier.stylize(Job("", lambda job: None), photo, commission=commission)
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
        assert painter.personalize("broad", [photo], budget_s=0.0, strokes="broad").name == "broad"
        free, close = (atelier.home.load_head(name).config.abstraction for name in ("broad", "mine"))
        assert free == STROKES["broad"].abstraction < close == STROKES["fine"].abstraction
        painter.delete_head("broad")
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
        with pytest.raises(InputError, match="strokes must be fine, broad, flat or wash, not 'thick'"):
            painter.personalize("mine", [photo], budget_s=0.0, strokes="thick")
        assert painter.stylize(photo, head="tiny").width == 56


def test_heads_are_mixed(launch: Any, atelier: WarmPainter, photo: bytes, tiny_head: Head) -> None:
    launch(atelier)
    other = dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1)
    atelier.home.save_head(other, name="other")
    with Client.connect() as painter:
        mixed = painter.stylize(photo, mix={"tiny": 3, "other": 1})
        assert sorted(mixed.settings["mix"]) == [["other", 0.25], ["tiny", 0.75]]
        with pytest.raises(InputError, match="which head"):
            painter.stylize(photo, head="tiny", mix={"other": 1})
        with pytest.raises(MissingError):
            painter.stylize(photo, mix={"tiny": 1, "nobody": 1})
        infinite = float("inf")
        for wrong in (
            *({"tiny": value, "other": 1} for value in (-1, float("nan"), infinite, -infinite)),
            *({"tiny": 0}, {"tiny": 0, "other": 0}, {"": 1}, {str(n): 1 for n in range(1000)}),
        ):
            with pytest.raises(InputError):
                painter.stylize(photo, mix=wrong)
        for option in ({"strength": float("nan")}, {"brush": 9}, {"detail": -1}):
            with pytest.raises(InputError):
                painter.stylize(photo, mix={"tiny": 1, "other": 1}, **option)


def test_preferences_are_learned_applied_and_forgotten(launch: Any, atelier: WarmPainter, photo: bytes) -> None:
    launch(atelier)
    with Client.connect() as painter:
        plain = painter.stylize(photo, head="tiny")
        with pytest.raises(InputError, match="knows nothing"):
            painter.apply("tiny")
        taste = painter.candidates("tiny", count=3, seed=1)
        assert len(taste.candidates) == 3 and taste.choices == 0 and taste.best is None and taste.applied is None
        paintings = [painter.candidate(photo, "tiny", manner=manner).data for manner in taste.candidates]
        assert len(set(paintings)) == 3
        for _ in range(3):
            known = painter.choose(taste, [1, 0])
            assert not known.candidates and known.best is not None
            taste = painter.candidates("tiny", count=3)
        assert taste.choices == 3 and 0.5 <= taste.confidence <= 1
        applied = painter.apply("tiny").applied
        assert applied is not None and applied == taste.best == painter.suggest("tiny").best
        told = painter.stylize(photo, head="tiny")
        assert told.settings["options"]["strength"] == applied.strength
        assert painter.stylize(photo, head="tiny", strength=0.25).settings["options"]["strength"] == 0.25
        assert painter.stylize(photo, head="tiny", plain=True).settings == plain.settings
        assert painter.reset("tiny").choices == painter.suggest("tiny").choices == 0
        assert painter.stylize(photo, head="tiny").settings == plain.settings


def test_a_partner_head_is_one_of_the_knobs(launch: Any, atelier: WarmPainter, photo: bytes, tiny_head: Head) -> None:
    launch(atelier)
    atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name="other")
    with Client.connect() as painter:
        with pytest.raises(InputError, match="itself"):
            painter.candidates("tiny", partner="tiny")
        with pytest.raises(MissingError):
            painter.candidates("tiny", partner="nobody")
        taste = painter.candidates("tiny", count=8, partner="other")
        assert taste.partner == "other" and any(one.share for one in taste.candidates)
        mixed = max(taste.candidates, key=lambda one: one.share)
        painting = painter.candidate(photo, "tiny", manner=mixed, partner="other")
        assert dict(painting.settings["mix"])["other"] == pytest.approx(mixed.share, abs=1e-6)
        painter.choose(taste, [taste.candidates.index(mixed)])
        assert painter.candidates("tiny").partner == "other"
        with pytest.raises(InputError, match="already"):
            painter.candidates("tiny", partner="")


def test_a_choice_between_shares_of_another_head_is_refused(launch: Any, atelier: WarmPainter, tiny_head: Head) -> None:
    launch(atelier)
    for name in ("other", "third"):
        atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name=name)
    with Client.connect() as first, Client.connect() as second:
        shown = first.candidates("tiny", partner="other")
        assert any(one.share for one in shown.candidates)
        newer = second.candidates("tiny", partner="third")
        for wrong in (shown, dataclasses.replace(shown, partner="")):
            with pytest.raises(InputError, match="by now"):
                first.choose(wrong, [0])
        assert second.suggest("tiny").choices == 0, "nothing was learned"
        assert second.choose(newer, [0]).choices == 1


def test_preferences_refuse_what_makes_no_sense_and_learn_nothing_from_it(launch: Any, atelier: WarmPainter) -> None:
    launch(atelier)
    with Client.connect() as painter:
        taste = painter.candidates("tiny", count=3)
        shown = taste.candidates
        for count in (1, 13, 1 << 31):
            with pytest.raises(InputError):
                painter.candidates("tiny", count=count)
        wrong: list[tuple[Sequence[Manner], list[int]]] = [
            (shown, []),
            (shown, [7]),
            (shown, [0, 0]),
            (shown, list(range(1000))),
            (shown[:1], [0]),
            ((), [0]),
            (shown * 400, [0]),
            *(([shown[0], dataclasses.replace(shown[1], strength=value)], [0]) for value in (float("nan"), -1, 1e300)),
            ([shown[0], dataclasses.replace(shown[1], brush=float("inf"))], [0]),
        ]
        for candidates, order in wrong:
            with pytest.raises(InputError):
                painter.choose(dataclasses.replace(taste, candidates=tuple(candidates)), order)
        for head in ("nobody", "", "../tiny", "style:0", "a\0b", "x" * 5000):
            for ask in (painter.suggest, painter.candidates, painter.apply, painter.reset):
                with pytest.raises((InputError, MissingError)):
                    ask(head)
            with pytest.raises((InputError, MissingError)):
                painter.choose(dataclasses.replace(taste, head=head), [0])
        assert painter.suggest("tiny").choices == 0
    assert not list(atelier.home.folder.glob("preferences/*"))


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
