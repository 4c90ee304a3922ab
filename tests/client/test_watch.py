"""A watched folder: what arrives is painted once it is whole, and nothing else."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.batch import Painter
from client.cli import main
from client.console import Console
from client.engine import Engine
from client.recipe import Recipe
from client.watch import Watch
from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import load_picture, save_picture
from shared_model.stylize import Options

ROOT = Path(__file__).resolve().parents[2]
Smooth = Callable[..., np.ndarray]


@pytest.fixture
def painter(backbone: Backbone, tiny_head: Head) -> Painter:
    recipe = Recipe.of(tiny_head, name="tiny", options=Options())
    return Painter(engine=Engine(backbone, device="cpu"), head=tiny_head, recipe=recipe)


@pytest.fixture
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def watch(tmp_path: Path, painter: Painter, told: io.StringIO) -> Callable[..., Watch]:
    (tmp_path / "in").mkdir()

    def make(out: Path | None = None) -> Watch:
        return Watch(folder=tmp_path / "in", out=out, painter=painter, console=Console(out=told, err=told))

    return make


def paintings(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*-tiny*"))


def test_pictures_are_painted_as_they_arrive(watch: Callable[..., Watch], tmp_path: Path, smooth: Smooth) -> None:
    folder = tmp_path / "in"
    watched = watch()
    assert watched.look() == 0
    save_picture(folder / "a.png", smooth(1))
    save_picture(folder / "trip" / "b.jpg", smooth(2))
    assert watched.look() == 0, "seen once, perhaps still being written"
    assert watched.look() == 2
    assert paintings(folder) == ["a-tiny.png", "trip/b-tiny.png"]
    assert [watched.look() for _ in range(3)] == [0, 0, 0], "its own paintings are no photos"
    save_picture(folder / "c.png", smooth(3))
    assert [watched.look(), watched.look()] == [0, 1]
    assert watched.painted == 3 and watched.exit_code == 0


def test_a_file_still_being_written_waits(watch: Callable[..., Watch], tmp_path: Path, smooth: Smooth) -> None:
    data = save_picture(tmp_path / "whole.png", smooth(1)).read_bytes()
    watched, path = watch(), tmp_path / "in" / "a.png"
    for share in (0.0, 0.3, 0.6, 1.0):
        path.write_bytes(data[: int(len(data) * share)])
        assert watched.look() == 0
    assert watched.look() == 1 and load_picture(tmp_path / "in" / "a-tiny.png").rgb.shape == (40, 56, 3)


def test_bad_files_are_told_once_and_again_when_they_change(
    watch: Callable[..., Watch], tmp_path: Path, smooth: Smooth, told: io.StringIO
) -> None:
    watched, path = watch(), tmp_path / "in" / "bad.png"
    path.write_bytes(b"no picture")
    (tmp_path / "in" / "empty.png").touch()
    save_picture(tmp_path / "in" / "good.png", smooth(1))
    assert sum(watched.look() for _ in range(4)) == 1
    assert told.getvalue().count("error:") == 1 and "bad.png" in told.getvalue() and watched.exit_code == 2
    save_picture(path, smooth(2))
    assert sum(watched.look() for _ in range(3)) == 1


def test_out_inside_the_folder_and_a_second_start(watch: Callable[..., Watch], tmp_path: Path, smooth: Smooth) -> None:
    out = tmp_path / "in" / "painted"
    save_picture(tmp_path / "in" / "trip" / "a.png", smooth(1))
    watched = watch(out)
    assert sum(watched.look() for _ in range(4)) == 1
    assert paintings(out) == ["trip/a-tiny.png"]
    before = (out / "trip" / "a-tiny.png").stat().st_mtime_ns
    again = watch(out)
    assert sum(again.look() for _ in range(4)) == 0
    assert (out / "trip" / "a-tiny.png").stat().st_mtime_ns == before and paintings(out) == ["trip/a-tiny.png"]


def test_files_that_go_leave_no_trace_and_a_folder_that_goes_ends_it(
    watch: Callable[..., Watch], tmp_path: Path, smooth: Smooth
) -> None:
    watched = watch(tmp_path / "out")
    save_picture(tmp_path / "in" / "a.png", smooth(1))
    watched.look()
    watched.look()
    (tmp_path / "in" / "a.png").unlink()
    watched.look()
    assert not watched._seen and not watched._done
    (tmp_path / "in").rmdir()
    with pytest.raises(InputError, match="no folder any more"):
        watched.look()


def test_a_folder_that_is_closed_to_the_user_ends_it(
    watch: Callable[..., Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(tmp_path / "out")
    monkeypatch.setattr("client.watch.os.access", lambda path, mode: path != watched.folder)  # tests may run as root
    with pytest.raises(InputError, match="cannot be read"):
        watched.look()


@pytest.mark.parametrize(
    "arguments", [["nowhere"], ["in", "--every", "0"], ["in", "-o", "file"], ["in", "--every", "nan"]]
)
def test_mistakes(
    easel_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "file").touch()
    assert main(["watch", *arguments, "--head", "tiny"]) == 2
    err = capsys.readouterr().err
    assert [line.split(":")[0] for line in err.strip().splitlines()] == ["error", "hint"]


def test_ctrl_c_ends_a_process_of_its_own_cleanly(tmp_path: Path, weights_folder: Path, smooth: Smooth) -> None:
    (tmp_path / "in").mkdir()
    save_picture(tmp_path / "in" / "a.png", smooth(1))
    weights = weights_folder / "backbone.safetensors"
    code = (
        "import pathlib, signal, sys\nimport client.cli\nimport shared_model.weights\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        f"shared_model.weights.default_backbone_path = lambda: pathlib.Path({str(weights)!r})\n"
        f"sys.exit(client.cli.main(['watch', {str(tmp_path / 'in')!r}, '--head', 'tiny', '--every', '0.1']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL, env=os.environ | {"EASEL_HOME": str(tmp_path)})  # fmt: skip
    try:
        for _ in range(1200):
            if (tmp_path / "in" / "a-tiny.png").exists():
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "watching" in err and err.strip().endswith("stopped: 1 painted") and "Traceback" not in err
