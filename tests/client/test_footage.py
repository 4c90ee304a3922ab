"""Videos are read upright, with their colors and times; hostile files stay harmless."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from client.footage import TICKS, Limits, open_footage
from shared_model.errors import InputError, MissingError
from tests.client.clips import make, pan, shots, turned

av = pytest.importorskip("av", reason="videos need PyAV (the extra `video`)")

STEP = TICKS // 25


def test_frames_come_with_their_colors_and_times(tmp_path: Path) -> None:
    frames = pan(5)
    times = [900, 4500, 12000, 12100, 50000]  # a variable rate
    found = shots(make(tmp_path / "a.mp4", frames, times=times))
    assert [shot.time for shot in found] == times
    assert all(np.abs(s.rgb.astype(int) - f).mean() < 4 for s, f in zip(found, frames, strict=True))


def test_a_turned_video_is_read_upright(tmp_path: Path) -> None:
    frames = pan(3)
    path = turned(make(tmp_path / "a.mp4", frames), tmp_path / "b.mp4")
    with open_footage(path) as opened:
        assert (opened.facts.height, opened.facts.width, opened.facts.frames) == (64, 48, 3)
        first = next(opened.shots())
        assert np.abs(first.rgb.astype(int) - np.rot90(frames[0], -1)).mean() < 4


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mjpeg"), ("a.mkv", "libx264"), ("a.mov", "mpeg4"), ("a.3gp", "mpeg4")],
)
def test_other_containers_and_codecs(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codec.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    frames = pan(4)
    path = tmp_path / name
    if codec.startswith("mpeg"):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for rgb in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")))
            container.mux(stream.encode())
    else:
        make(path, frames, codec=codec)
    found = shots(path)
    assert len(found) == 4 and np.abs(found[0].rgb.astype(int) - frames[0]).mean() < 12


def test_a_kind_of_file_that_is_not_opened_comes_with_the_way_out(tmp_path: Path) -> None:
    source = make(tmp_path / "my cam.MTS", pan(2))
    with pytest.raises(InputError, match="does not read") as raised, open_footage(source):
        pass
    assert f"ffmpeg -i '{source}' -c copy 'my cam.mkv'" in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("limits", "words"), [({"pixels": 3000}, "pixels"), ({"frames": 3}, "longer"), ({"seconds": 0}, "longer")]
)
def test_limits(tmp_path: Path, limits: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        shots(make(tmp_path / "a.mp4", pan(6)), **limits)


def test_a_header_that_lies_about_the_length_does_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.mp4", pan(6))
    with open_footage(path, limits=Limits(frames=6)) as opened:
        opened.limits = Limits(frames=4)  # as if the header had said so
        with pytest.raises(InputError, match="longer"):
            list(opened.shots())


@pytest.mark.parametrize("kind", ["empty", "text", "playlist", "picture", "folder", "gone", "fifo", "cut", "unknown"])
def test_what_is_no_video_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no video " * 100)
    elif kind == "playlist":  # would make FFmpeg open other files and addresses
        make(tmp_path / "secret.mp4", pan(3))
        path.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.mp4\n#EXT-X-ENDLIST\n")
    elif kind == "picture":
        from shared_model.images import save_picture

        save_picture(tmp_path / "x.png", pan(1)[0]).rename(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "cut":
        data = make(tmp_path / "y.mp4", pan(6)).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif kind == "unknown":  # a code that no decoder knows
        data = make(tmp_path / "y.mp4", pan(6)).read_bytes()
        assert b"avc1" in data
        path.write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError) as caught:
        shots(path)
    assert caught.value.hint


def test_damaged_pieces_are_skipped_or_refused_and_never_crash(tmp_path: Path) -> None:
    data = make(tmp_path / "a.mkv", pan(8)).read_bytes()
    read = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        broken = bytearray(data)
        for position in generator.integers(0, len(data), 1 + seed):
            broken[position] = generator.integers(0, 256)
        path = tmp_path / f"{seed}.mkv"
        path.write_bytes(broken)
        try:
            read += len(shots(path, frames=100, seconds=60)) > 0
        except InputError as error:
            assert error.hint
    assert read > 5


def test_without_pyav_one_hint_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingError) as caught:
        shots(tmp_path / "a.mp4")
    assert "easel[video]" in caught.value.hint
