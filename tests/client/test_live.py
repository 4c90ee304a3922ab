"""Live: the newest frame, at a size that this machine keeps up with, on a page that only its owner can open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from client import live_view
from client.batch import Painter
from client.cli import main
from client.engine import Engine
from client.footage import TICKS
from client.live_show import LARGEST_PX, SMALLEST_PX, Pace, Show
from client.live_view import Newest, opened
from client.recipe import Recipe
from shared_model.backbone import Backbone
from shared_model.errors import InputError, MissingError
from shared_model.head import Head
from shared_model.stylize import Options


def gray(level: int) -> np.ndarray:
    return np.full((48, 64, 3), level, np.uint8)


@pytest.mark.parametrize("cost", [2e-6, 2e-5, 4e-4])
def test_the_size_settles_where_the_wanted_rate_is_kept(cost: float) -> None:
    pace = Pace(fps=8.0)
    sizes = []
    for _ in range(60):
        sizes.append(pace.px)
        pace.note(0.01 + cost * pace.px**2 / 8)
    assert len(set(sizes[-20:])) == 1, "it settles"
    seconds = 0.01 + cost * pace.px**2 / 8
    assert seconds <= 1.1 / 8 or pace.px == SMALLEST_PX
    larger = 0.01 + cost * (pace.px + 32) ** 2 / 8
    assert larger > 0.8 / 8 * 0.8 or pace.px >= 512 - 32, "and is not much smaller than need be"


def test_one_slow_frame_changes_nothing() -> None:
    pace = Pace(fps=8.0)
    for seconds in (0.11, 0.5, 0.11, 0.11, 0.6, 0.11):
        assert not pace.note(seconds)


@pytest.mark.parametrize("change", [{"fps": 0.0}, {"fps": float("nan")}, {"largest_px": 64}, {"largest_px": 9000}])
def test_what_cannot_be_aimed_at_is_refused(change: dict[str, Any]) -> None:
    assert SMALLEST_PX < LARGEST_PX
    with pytest.raises(InputError):
        Pace(**{"fps": 8.0, **change})


def test_only_the_newest_frame_is_kept() -> None:
    go = threading.Event()

    def frames() -> Iterator[np.ndarray]:
        for level in range(5):
            yield gray(level)
        go.set()
        time.sleep(0.05)
        yield gray(99)
        time.sleep(10)

    newest = Newest(frames())
    assert go.wait(5)
    first = newest.take(wait_s=1)
    assert first is not None and first[0, 0, 0] == 4
    second = newest.take(wait_s=5)
    assert second is not None and second[0, 0, 0] == 99
    assert newest.take(wait_s=0.05) is None


@pytest.mark.parametrize("error", [InputError("the camera gives no more pictures"), ValueError("broken")])
def test_a_source_that_ends_says_so_instead_of_waiting(error: Exception) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield gray(1)
        raise error

    newest = Newest(frames())
    with pytest.raises(InputError, match=str(error)):
        for _ in range(100):
            newest.take(wait_s=5)


@pytest.mark.parametrize(
    ("source", "platform", "wanted"),
    [
        ("camera", "linux", ("/dev/video0", "v4l2")),
        ("camera:2", "linux", ("/dev/video2", "v4l2")),
        ("camera:1", "darwin", ("1:none", "avfoundation")),
        ("camera:Front", "win32", ("video=Front", "dshow")),
        ("screen", "darwin", ("Capture screen 0:none", "avfoundation")),
        ("screen", "win32", ("desktop", "gdigrab")),
    ],
)
def test_a_camera_and_the_screen_are_opened_as_the_system_names_them(
    source: str, platform: str, wanted: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    class Failed(OSError):
        strerror = "busy"

    def refuse(name: str, *, format: str, options: dict[str, str]) -> None:
        asked.append((name, format))
        raise Failed

    fake = SimpleNamespace(open=refuse, error=SimpleNamespace(FFmpegError=Failed))
    monkeypatch.setattr(live_view, "load_av", lambda: fake)
    with pytest.raises(MissingError, match="cannot be opened: busy"), opened(source, platform=platform):
        pass
    assert asked == [wanted]


@pytest.mark.parametrize("source", ["camera:../../etc/passwd", "camera:-1", "http://example.org/a.mp4", "nothing"])
def test_other_sources_are_refused(source: str) -> None:
    with pytest.raises(InputError), opened(source, platform="linux"):
        pass


@pytest.fixture
def painter(backbone: Backbone, tiny_head: Head) -> Painter:
    recipe = Recipe.of(tiny_head, name="tiny", options=Options())
    return Painter(engine=Engine(backbone, device="cpu"), head=tiny_head, recipe=recipe)


def moving() -> Iterator[np.ndarray]:
    picture = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(picture, scale_factor=16, mode="bicubic").clamp(0, 1)
    rgb = (large[0].permute(1, 2, 0) * 255).byte().numpy()
    for number in range(10**6):
        yield np.ascontiguousarray(np.roll(rgb, number, 1))
        time.sleep(0.01)


def test_frames_are_painted_until_it_is_closed(painter: Painter) -> None:
    show = Show(Newest(moving()), painter=painter, pace=Pace(fps=100.0, px=128))
    try:
        first = show.after(0, wait_s=60)
        assert first is not None and first.size == (128, 213) and first.jpeg[:2] == b"\xff\xd8"
        later = show.after(first.number, wait_s=60)
        assert later is not None and later.number > first.number and later.jpeg != first.jpeg
        show.pause(True)
        time.sleep(0.3)
        still = show.after(0, wait_s=60)
        assert still is not None and show.after(still.number + 1, wait_s=0.3) is None
    finally:
        show.close()


def test_the_page_shows_paintings_to_its_owner_only(painter: Painter) -> None:
    pytest.importorskip("starlette", reason="the studio's extra is not installed")
    pytest.importorskip("httpx", reason="starlette's test client needs httpx")
    from starlette.testclient import TestClient

    from client.studio.gate import KEY_HEADER, Gate
    from client.studio.live_page import live_app

    base, gate = "http://127.0.0.1:8700", Gate(8700)
    show = Show(Newest(moving()), painter=painter, pace=Pace(fps=100.0, px=128))
    try:
        app = live_app(show, gate=gate)
        owner = TestClient(app, base_url=base, headers={"origin": base, KEY_HEADER: gate.key})
        stranger = TestClient(app, base_url=base)
        page = stranger.get("/")
        assert page.status_code == 200 and "easel live" in page.text and "frame-ancestors 'none'" in str(page.headers)
        assert stranger.get("/live.js").status_code == stranger.get("/api.js").status_code == 200
        assert stranger.get("/api/frame").status_code == 401
        assert TestClient(app, base_url="http://evil.example").get("/").status_code == 421
        frame = owner.get("/api/frame?after=0")
        assert frame.headers["content-type"] == "image/jpeg" and int(frame.headers["x-easel-number"]) >= 1
        assert frame.headers["cache-control"] == "no-store" and frame.headers["x-easel-size"] == "213 x 128"
        assert owner.get("/api/frame?after=x").status_code == 400
        assert owner.post("/api/pause", json={"paused": True}).json() == {"paused": True}
        assert owner.post("/api/pause", json={"paused": "yes"}).status_code == 400
    finally:
        show.close()


def test_a_video_is_played_at_its_own_speed_again_and_again(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV (the extra `video`)")
    from client.reel import join, segment

    part, clip = tmp_path / "clip.nut", tmp_path / "clip.mkv"
    with segment(part, size=(48, 64), rate=Fraction(25)) as write:
        for number in range(3):
            write(gray(60 * (number + 1)), number * TICKS // 25)
    join([part], clip, source=None, scratch=tmp_path / "clip.part", settings={})
    slept: list[float] = []
    frames = live_view.playing(clip, clock=lambda: 0.0, sleep=slept.append)
    levels = [int(next(frames)[20, 20, 0]) for _ in range(6)]
    assert levels == pytest.approx([60, 120, 180] * 2, abs=4)
    assert slept == pytest.approx([0.0, 0.04, 0.08] * 2, abs=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [["nothing", "--head", "tiny"], ["camera", "--head", "tiny", "--fps", "0"], ["x.mp4", "--head", "tiny"]],
)
def test_mistakes_are_one_line(arguments: list[str], easel_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("starlette", reason="the studio's extra is not installed")
    assert main(["live", *arguments, "--head", "tiny"]) in (2, 3)
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "hint: " in told and "Traceback" not in told
