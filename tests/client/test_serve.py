"""`easel serve` as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from client.cli import main
from client.daemon.place import Place
from client.studio_client import Client
from shared_model.images import encode_picture, load_picture

ROOT = Path(__file__).resolve().parents[2]
# The tiny weights in place of the shipped ones, as the fixture `easel_home` does it in this process.
START = (
    "import sys, pathlib, shared_model.weights as weights, client.cli\n"
    "weights.default_backbone_path = lambda: pathlib.Path(sys.argv[1])\n"
    "sys.exit(client.cli.main(sys.argv[2:]))"
)


@pytest.fixture
def serve(easel_home: Path, weights_folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `easel serve` with the tiny backbone and wait until it answers."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", START, str(weights_folder / "backbone.safetensors"), "serve", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        started.append(process)
        until = time.monotonic() + 60
        while Place.default().running() is None and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.02)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)
        if process.stderr is not None:
            process.stderr.close()


def test_it_paints_refuses_a_second_one_and_stops_cleanly(
    serve: Callable[..., subprocess.Popen[str]],
    smooth: Callable[..., np.ndarray],
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = serve()
    with Client.connect() as painter:
        painting = painter.stylize(encode_picture(smooth(11), suffix=".png"), head="tiny")
    assert load_picture(painting.data).rgb.shape == (40, 56, 3)
    assert main(["serve", "--status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == process.pid
    assert main(["serve"]) == 2
    assert f"running already (process {process.pid})" in capsys.readouterr().err
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0
    assert not Place.default().socket.exists()
    assert process.stderr is not None and "Traceback" not in process.stderr.read()
    assert main(["serve", "--status"]) == 3


@pytest.mark.slow
def test_on_tcp_the_token_is_in_a_file_of_the_owners(
    serve: Callable[..., subprocess.Popen[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    process = serve("--tcp", "127.0.0.1:0")
    record = Place.default().running()
    assert record is not None and record.address.startswith("127.0.0.1:") and len(record.token) >= 32
    with Client.connect() as painter:
        assert painter.version()["device"]
    assert main(["serve", "--stop"]) == 0
    assert process.wait(30) == 0
    out = capsys.readouterr()
    assert process.stderr is not None and record.token not in process.stderr.read() + out.out + out.err
    assert main(["serve", "--stop"]) == 3


@pytest.mark.parametrize(
    "arguments",
    [("--tcp", "0.0.0.0:1"), ("--tcp", "x"), ("--queue", "0"), ("--max-megapixels", "nan"), ("--stop", "--status")],
)
def test_mistakes_are_two_lines(
    easel_home: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error:") and "hint:" in err and "Traceback" not in err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    assert "easel serve --tcp 127.0.0.1:7171" in out and "--max-megapixels" in out


def test_without_the_packages_it_says_what_to_install(
    easel_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "grpc_reflection.v1alpha", None)
    monkeypatch.delitem(sys.modules, "client.daemon.server", raising=False)
    assert main(["serve"]) == 3
    assert "pip install 'easel[daemon]'" in capsys.readouterr().err
