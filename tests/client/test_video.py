"""Videos: steady paintings out, sound kept; killed runs go on; a full disk is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from client import film, footage, reel
from client.footage import TICKS
from client.marks import FIELD
from client.recipe import Recipe
from client.reel import read_comment
from shared_model.errors import InputError, StorageError
from tests.client.clips import RATE, make, pan, shots, sound_of, turned
from tests.client.conftest import Easel

av = pytest.importorskip("av", reason="videos need PyAV (the extra `video`)")

STEP = TICKS // 25


def test_a_video_is_painted_with_its_sound_times_and_settings(easel: Easel, tmp_path: Path) -> None:
    times = [0, 3600, 9000, 9100, 20000, 30000]
    source = make(tmp_path / "a.mp4", pan(6), times=times, sound="aac")
    code, out, err = easel("stylize", source, "--head", "tiny", "--seed", 3)
    assert (code, err) == (0, "") and "6 frames" in out
    target = tmp_path / "a-tiny.mp4"
    painted = shots(target)
    assert [shot.time for shot in painted] == times
    assert painted[0].rgb.shape == (48, 64, 3)
    assert sound_of(target) == sound_of(source)
    assert film.read_recipe(target).options.seed == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-tiny.mp4", "a.mp4"]
    assert str(tmp_path) not in json.dumps(read_comment(target))


def test_a_video_carries_the_mark_of_its_source_unless_nothing_may_be_kept(easel: Easel, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", pan(2))
    for policy, marked in (("safe", True), ("none", False)):
        assert easel("stylize", "a.mp4", "--head", "tiny", "-o", f"{policy}.mp4", "--metadata", policy)[0] == 0
        assert (FIELD in read_comment(Path(f"{policy}.mp4"))) == marked


def test_the_first_frame_is_the_painting_of_the_photo(easel: Easel, tmp_path: Path) -> None:
    from shared_model.images import load_picture, save_picture

    source = make(tmp_path / "a.mp4", pan(2))
    save_picture(tmp_path / "first.png", shots(source)[0].rgb)
    easel("stylize", "a.mp4", "first.png", "--head", "tiny")
    off = shots(Path("a-tiny.mp4"))[0].rgb.astype(float) - load_picture("first-tiny.png").rgb
    assert np.abs(off @ [0.2126, 0.7152, 0.0722]).mean() < 3  # of color H.264 keeps half the resolution
    assert np.abs(off.mean((0, 1))).max() < 1.5


def test_odd_sizes_turns_and_a_chosen_size(easel: Easel, tmp_path: Path) -> None:
    make(tmp_path / "odd.mkv", pan(2, height=47, width=63))
    turned(make(tmp_path / "t.mp4", pan(2)), tmp_path / "turned.mp4")
    code, out, _ = easel("stylize", "odd.mkv", "turned.mp4", "--head", "tiny", "-o", "out/")
    assert code == 0 and "63 x 47" in out and "48 x 64" in out and "2 painted" in out
    assert shots(Path("out/odd-tiny.mp4"))[0].rgb.shape == (48, 64, 3)  # filled up to even sides
    assert shots(Path("out/turned-tiny.mp4"))[0].rgb.shape == (64, 48, 3)
    easel("stylize", "odd.mkv", "--head", "tiny", "--size", 30, "-o", "small.mp4")
    assert shots(Path("small.mp4"))[0].rgb.shape == (30, 40, 3)


def test_sound_that_mp4_cannot_hold_goes_into_matroska(easel: Easel, tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", pan(2), sound="pcm_s16le")
    assert easel("stylize", "a.mkv", "--head", "tiny")[0] == 0
    assert sound_of(Path("a-tiny.mkv")) == sound_of(Path("a.mkv"))
    code, _, err = easel("stylize", "a.mkv", "--head", "tiny", "-o", "b.mp4")
    assert code == 2 and "cannot hold the sound" in err and "b.mkv" in err and not Path("b.mp4").exists()


def test_every_video_gets_the_file_that_its_own_sound_needs(easel: Easel, tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", pan(2), sound="pcm_s16le")
    make(tmp_path / "b.mp4", pan(2), sound="aac")
    assert easel("stylize", "a.mkv", "b.mp4", "--head", "tiny", "-o", "out/")[0] == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["a-tiny.mkv", "b-tiny.mp4"]
    with av.open("out/a-tiny.mkv") as container:  # Matroska knows no other word about the rate than its header's
        assert container.streams.video[0].average_rate == RATE


def test_a_clock_that_began_long_before_starts_anew(easel: Easel, tmp_path: Path) -> None:
    source = make(tmp_path / "late.mkv", pan(5), sound="aac", start_s=3600)
    assert shots(source)[0].time >= 3600 * TICKS
    assert easel("stylize", "late.mkv", "--head", "tiny")[0] == 0
    painted, filmed = shots(tmp_path / "late-tiny.mp4"), shots(source)
    assert [s.time - painted[0].time for s in painted] == [s.time - filmed[0].time for s in filmed]
    with av.open("late-tiny.mp4") as made, av.open("late.mkv") as given:
        assert made.start_time == 0 and painted[0].time < TICKS
        apart = [float(c.streams.video[0].start_time * c.streams.video[0].time_base) for c in (made, given)]
        heard = [float(c.streams.audio[0].start_time * c.streams.audio[0].time_base) for c in (made, given)]
        assert apart[0] - heard[0] == pytest.approx(apart[1] - heard[1], abs=1e-3)


@pytest.mark.parametrize("given", ["clips", "clips/*", "."])
def test_videos_in_folders_are_not_passed_over_in_silence(easel: Easel, tmp_path: Path, given: str) -> None:
    from shared_model.images import save_picture

    (tmp_path / "clips").mkdir()
    make(tmp_path / "clips" / "a.mp4", pan(2))
    save_picture(tmp_path / "a.png", pan(1)[0])
    code, _, err = easel("stylize", given, "--head", "tiny", "-o", "out/")
    assert "'clips/*.mp4'" in err and (code, "no pictures found" in err) == ((0, False) if given == "." else (2, True))
    easel("stylize", "clips/*.mp4", "--head", "tiny", "-o", "out/")
    assert "named" not in easel("stylize", "out", "--head", "tiny")[2]  # a painting is not missed


def test_a_killed_run_goes_on_and_ends_the_same(easel: Easel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "SEGMENT", 3)
    make(tmp_path / "a.mp4", pan(8, height=32, width=32), sound="aac")
    assert easel("stylize", "a.mp4", "--head", "tiny", "-o", "whole.mp4")[0] == 0
    painted = [0]
    paint = film._paint_shot

    def dying(*arguments: Any) -> Any:
        painted[0] += 1
        if painted[0] == 5:
            raise KeyboardInterrupt
        return paint(*arguments)

    monkeypatch.setattr(film, "_paint_shot", dying)
    code, _, err = easel("stylize", "a.mp4", "--head", "tiny", "-o", "again.mp4")
    assert code == 130 and "3 frames are finished" in err and not Path("again.mp4").exists()
    assert Path(".again.mp4.easel").stat().st_mode & 0o077 == 0, "frames of a private video"
    code, out, err = easel("stylize", "a.mp4", "--head", "tiny", "-o", "again.mp4", "--json")
    facts = json.loads(out)["pictures"][0]
    assert code == 0 and "going on after frame 3" in err and (facts["frames"], facts["resumed"]) == (8, 3)
    assert painted[0] == 5 + 5, "no frame of the finished segment was painted again"
    whole, again = shots(Path("whole.mp4")), shots(Path("again.mp4"))
    assert film.read_recipe("again.mp4").same_painting(film.read_recipe("whole.mp4"))
    assert all(np.array_equal(a.rgb, b.rgb) and a.time == b.time for a, b in zip(whole, again, strict=True))
    assert not list(tmp_path.glob(".*.easel"))


def test_a_run_killed_by_the_system_goes_on_and_ends_the_same(
    easel: Easel, weights_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(film, "SEGMENT", 3)
    make(tmp_path / "a.mp4", pan(8, height=32, width=32))
    assert easel("stylize", "a.mp4", "--head", "tiny", "-o", "whole.mp4")[0] == 0
    path = weights_folder / "backbone.safetensors"
    script = (
        "import os, pathlib, signal, shared_model.weights as weights\n"
        f"weights.default_backbone_path = lambda: pathlib.Path({str(path)!r})\n"
        "from client import cli, film\n"
        "film.SEGMENT, paint, painted = 3, film._paint_shot, []\n"
        "def dying(*arguments):\n"
        "    painted.append(1)\n"
        "    if len(painted) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return paint(*arguments)\n"
        "film._paint_shot = dying\n"
        "cli.main(['stylize', 'a.mp4', '--head', 'tiny', '-o', 'again.mp4'])\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(root)}, timeout=120)
    assert run.returncode == -signal.SIGKILL and not Path("again.mp4").exists()
    code, out, err = easel("stylize", "a.mp4", "--head", "tiny", "-o", "again.mp4", "--json")
    assert code == 0 and "going on after frame 3" in err and json.loads(out)["pictures"][0]["resumed"] == 3
    pairs = zip(shots(Path("whole.mp4")), shots(Path("again.mp4")), strict=True)
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in pairs)
    assert not list(tmp_path.glob(".*.easel"))


def test_other_settings_do_not_go_on_with_what_is_there(
    easel: Easel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a.mp4", pan(3))
    with monkeypatch.context() as patch:
        patch.setattr(film, "join", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        easel("stylize", "a.mp4", "--head", "tiny", "-o", "b.mp4")
    stranger = tmp_path / ".b.mp4.easel" / "mine.txt"
    stranger.write_text("not easel's")
    code, out, err = easel("stylize", "a.mp4", "--head", "tiny", "-o", "b.mp4", "--seed", 8, "--json")
    assert code == 0 and "going on" not in err and json.loads(out)["pictures"][0]["resumed"] == 0


def test_running_again_skips_and_other_settings_get_a_number(easel: Easel, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", pan(2))
    easel("stylize", "a.mp4", "--head", "tiny")
    before = Path("a-tiny.mp4").read_bytes()
    assert "is there already" in easel("stylize", "*.mp4", "--head", "tiny")[1]
    assert "a-tiny-2.mp4" in easel("stylize", "a.mp4", "--head", "tiny", "--seed", 1)[1]
    code, _, err = easel("stylize", "a.mp4", "--head", "tiny", "--seed", 1, "-o", "a-tiny.mp4")
    assert code == 2 and "--overwrite" in err
    assert Path("a-tiny.mp4").read_bytes() == before
    code, _, err = easel("stylize", "a.mp4", "--head", "tiny", "-o", "a.mp4")
    assert code == 2 and "--overwrite" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.mp4", "--explain"], 2, "cannot be explained"),
        (["a.mp4", "p.png", "-o", "x.mp4"], 2, "photos and videos"),
        (["a.mp4", "-o", "x.webm"], 2, ".webm"),
        (["a.mp4", "-o", "x.mpg"], 2, ".mpg"),
        (["a.mp4", "-o", "-"], 2, "video"),
        (["p.png", "-o", "x.mp4"], 2, "video"),
        (["gone.mp4"], 2, "gone.mp4"),
        (["*.avi"], 2, "no videos"),
        (["bad.mp4"], 2, "not a video"),
    ],
)
def test_mistakes(easel: Easel, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    from shared_model.images import save_picture

    make(tmp_path / "a.mp4", pan(2))
    save_picture(tmp_path / "p.png", pan(1)[0])
    Path("bad.mp4").write_bytes(b"x" * 99)
    before = sorted(tmp_path.iterdir())
    found, _, err = easel("stylize", *arguments, "--head", "tiny")
    assert found == code and words in err
    assert [line.split(":")[0] for line in err.strip().splitlines()] == ["error", "hint"]
    assert sorted(tmp_path.iterdir()) == before


def test_a_name_taken_while_painting_is_left_alone(
    easel: Easel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a.mp4", pan(2))
    monkeypatch.setattr(film, "check_space", lambda *_, **__: Path("a-tiny.mp4").write_bytes(b"somebody else's"))
    code, out, _ = easel("stylize", "a.mp4", "--head", "tiny")
    assert code == 0 and "a-tiny-2.mp4" in out and len(shots(tmp_path / "a-tiny-2.mp4")) == 2
    assert Path("a-tiny.mp4").read_bytes() == b"somebody else's"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-tiny-2.mp4", "a-tiny.mp4", "a.mp4"]


def test_one_bad_video_does_not_stop_the_others(easel: Easel, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", pan(2))
    Path("bad.mp4").write_bytes(b"x" * 99)
    code, out, err = easel("stylize", "bad.mp4", "a.mp4", "--head", "tiny")
    assert code == 2 and "1 painted, 1 failed" in out and "bad.mp4" in err


def test_a_full_disk_is_told_before_and_keeps_what_is_finished(
    easel: Easel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a.mp4", pan(2))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        code, _, err = easel("stylize", "a.mp4", "--head", "tiny")
    assert code == 5 and "the disk has" in err and not Path("a-tiny.mp4").exists()
    assert easel("stylize", "a.mp4", "--head", "tiny")[0] == 0


def test_two_runs_do_not_write_the_same_target(tmp_path: Path) -> None:
    with film._locked(tmp_path / "f"):
        with pytest.raises(StorageError, match="another easel"), film._locked(tmp_path / "f"):
            pass
    with film._locked(tmp_path / "f"):
        pass


def test_a_segment_that_fails_gets_no_name(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), reel.segment(tmp_path / "0.nut", size=(8, 8), rate=RATE) as write:
        write(np.zeros((8, 8, 3), np.uint8), 0)
        raise RuntimeError
    assert not (tmp_path / "0.nut").exists()


def test_a_recipe_is_found_only_in_what_easel_painted(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", pan(2))
    assert read_comment(path) == {} and read_comment(tmp_path / "gone.mp4") == {}
    with pytest.raises(InputError):
        film.read_recipe(path)
    assert Recipe.read is not film.read_recipe and footage.is_video("A.MP4") and not footage.is_video("a.png")
