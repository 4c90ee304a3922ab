"""One flow over TLS on loopback: a code, joining, fetching the fleet's release, painting with it, leaving."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.cli import main as easel
from client.models import Models, backbone_in_use
from server import candidate
from server.cli import main as operator
from server.deployment import Fleet
from server.enrolment import Enrolment
from server.gate import Gate, serve
from server.presence import registry
from server.registry import Releases
from server.release_service import Place, ReleaseService
from server.release_service import serve as serve_releases
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.signatures import Signer
from shared_model.weights import backbone_id, save_backbone

CONFIG = ModelConfig(width=8, blocks=1, code_dim=4, encoder_width=3, critic_width=4)


class Painted:
    """Stands in for the trial, so that no test paints."""

    def measure(self, backbone: Backbone) -> dict[str, float]:
        return {"quality": 0.8, "content": 0.8, "style": 0.8, "checker_db": 1.0, "finite": 1.0}


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Fleet]:
    """What `easel-server init` makes, with its gate and its release service running; one release is promoted."""
    shipped = save_backbone(tmp_path / "shipped" / "backbone.safetensors", Backbone(CONFIG, seed=0))
    (shipped.parent / "heads").mkdir()
    monkeypatch.setattr("shared_model.weights.default_backbone_path", lambda: shipped)
    port, folder = free_port(), tmp_path / "fleet"
    ports = ("--listen", "127.0.0.1", "--port", str(port))
    assert operator(["init", str(folder), "--host", "127.0.0.1", *ports]) == 0
    fleet = Fleet.open(folder)
    release(fleet, seed=1)
    known = registry(fleet)
    gate = Gate(Enrolment(fleet, known, changed=lambda: None), known, upstream="https://127.0.0.1:1", ca=fleet.ca)
    with serve(gate, host="127.0.0.1", port=port, certificate=fleet.certificate, key=fleet.key), releasing(fleet):
        capsys.readouterr()
        yield fleet


def release(fleet: Fleet, *, seed: int) -> str:
    """Make a release and promote it; returns its backbone's id."""
    clock = lambda: datetime.now(UTC)  # noqa: E731
    releases, signer = Releases(fleet.folder / "releases", clock=clock), Signer.load(fleet.signing_key)
    made = candidate.Candidate(Backbone(CONFIG, seed=seed), "c" * 12, seed, "user", 1.0, 1e-7)
    trial: Any = Painted()
    version = candidate.create(made, releases, signer=signer, now=clock(), trial=trial).manifest.version
    candidate.promote(releases, version, signer=signer)
    return backbone_id(made.backbone)


class releasing:
    """Serve a fleet's releases in a thread."""

    port = 0

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __enter__(self) -> None:
        ready = threading.Event()

        def told(port: int) -> None:
            type(self).port = port
            ready.set()

        async def run() -> None:
            self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
            place = Place(self._fleet.folder)
            await serve_releases(
                ReleaseService(place),
                "127.0.0.1:0",
                credentials=place.credentials(),
                stop=self._stop,
                ready=told,
                grace_s=0.1,
            )

        self._thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        self._thread.start()
        assert ready.wait(60)

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)


def test_from_a_code_to_a_painting_backbone_and_out_again(
    fleet: Fleet,
    tmp_path: Path,
    make_devices: Callable[[int], list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("EASEL_HOME", str(home))

    def call(command: Callable[[list[str]], int], *words: str, code: int = 0) -> dict[str, Any]:
        found = command([*words, "--json"])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return json.loads(captured.out) if captured.out else {"error": captured.err}

    server = f"127.0.0.1:{releasing.port}"
    refused = call(easel, "models", "fetch", "--server", server, code=3)
    assert "has joined no fleet" in refused["error"]

    invited = call(operator, "device", "add", "anna", "--folder", str(fleet.folder))
    own = make_devices(1)[0]
    pictures = ("--photos", str(own / "photos"), "--art", str(own / "art"))
    call(easel, "join", "--server", invited["server"], "--code", invited["code"], *pictures, "--enroll-only")
    fetched = call(easel, "models", "fetch", "--server", server)
    assert (fetched["version"], fetched["action"], fetched["in_use"]) == (1, "promote", False)
    wanted = release(fleet, seed=2)
    assert call(easel, "models", "fetch", "--server", server)["version"] == 2
    assert call(easel, "models", "use", "2")["backbone"] == wanted
    assert backbone_id(backbone_in_use()) == wanted

    told = call(easel, "leave")
    assert (told["server_told"], told["releases_removed"], told["release_kept"]) == (True, [1], 2)
    assert [item.version for item in Models(home / "models").installed()] == [2]
    assert backbone_id(backbone_in_use()) == wanted, "pictures are painted as before"
    assert "has joined no fleet" in call(easel, "models", "fetch", "--server", server, code=3)["error"]
    assert registry(fleet).devices()["anna"].state == "revoked"
    call(easel, "models", "use", "default")
    assert call(easel, "models", "remove", "2")["removed"] == 2
    assert Models(home / "models").installed() == []
