"""The studio as a process: where it listens, what it survives, how it ends."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")

from client.atelier import open_atelier
from client.cli import main
from client.studio import service
from client.studio.gate import KEY_HEADER, Gate
from shared_model.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def gate(easel_home: Path) -> Iterator[Gate]:
    with service.serving(open_atelier(device="cpu")) as opened:
        yield opened


def _status(gate: Gate, path: str = "api/state") -> int:
    request = urllib.request.Request(gate.address + path, headers={KEY_HEADER: gate.key})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return int(answer.status)


def test_it_listens_on_this_computer_alone(gate: Gate) -> None:
    assert _status(gate) == 200
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", gate.port), timeout=5)


def test_garbage_on_the_wire_does_not_end_it(gate: Gate) -> None:
    chance = random.Random(0)
    head = f"POST /api/photos HTTP/1.1\r\nHost: 127.0.0.1:{gate.port}\r\n".encode()
    sent = [chance.randbytes(chance.randrange(1, 3000)) for _ in range(12)]
    sent += [b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"a" * 100_000, b"\x16\x03\x01" + b"\0" * 200]
    sent += [head + b"Content-Length: -1\r\n\r\n", head + b"Content-Length: 99999999999999999999\r\n\r\n"]
    sent += [
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ]
    for data in sent:
        with socket.create_connection(("127.0.0.1", gate.port), timeout=10) as line:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := line.recv(65536):
                answer += chunk
            assert not answer.startswith(b"HTTP/1.1 2"), data[:80]
    assert _status(gate) == 200


def test_a_forwarded_address_is_not_believed(gate: Gate) -> None:
    request = urllib.request.Request(
        gate.address + "api/state", headers={"X-Forwarded-Host": "127.0.0.1", "Host": "evil"}
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=20)
    assert caught.value.code == 421
    caught.value.close()


def test_a_taken_port_is_refused_or_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    with service.bind(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"):
            service.bind(port)
        monkeypatch.setattr(service, "DEFAULT_PORT", port)
        with service.bind(None) as other:
            assert other.getsockname()[0] == "127.0.0.1"
            assert other.getsockname()[1] != port


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_ports_that_are_none_are_refused(port: int) -> None:
    with pytest.raises(InputError):
        service.bind(port)


def test_senseless_space_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", "--no-browser", "--space", "0"]) == 2
    assert "--space" in capsys.readouterr().err


def test_without_its_packages_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("client.studio.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["studio", "--no-browser"]) == 3
    assert "easel[studio]" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_ends_when_asked(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "client.cli", "studio", "--no-browser", "--port", "0", "--device", "cpu"]
    environment = os.environ | {"EASEL_HOME": str(tmp_path / "home")}
    started = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        link = started.stdout.readline().strip().removeprefix("studio: ")
        address, _, key = link.partition("#key=")
        assert address.startswith("http://127.0.0.1:") and len(key) >= 43
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert b"easel studio" in answer.read()
        started.send_signal(number)
        out, err = started.communicate(timeout=30)
    finally:
        started.kill()
        started.wait()
    assert started.returncode == 0, err
    assert "closed" in err and "Traceback" not in err and out == ""
    assert (tmp_path / "home" / "studio").stat().st_mode & 0o777 == 0o700
