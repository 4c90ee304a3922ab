"""A fleet with releases behind a real service on loopback, and a device that has joined it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client.cli import main
from client.fetch import ReleaseClient, Source
from server import candidate
from server.registry import Releases
from server.release_service import PIECE, Place, ReleaseService, serve
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.introduction import Introducer
from shared_model.release_manifest import KeyChange, canonical
from shared_model.signatures import Signer
from shared_model.weights import save_backbone

CONFIG = ModelConfig(width=8, blocks=1, code_dim=4, encoder_width=3, critic_width=4)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def clock() -> datetime:
    return NOW


class Painted:
    """Stands in for the trial: fixed figures, so that no test paints."""

    def measure(self, backbone: Backbone) -> dict[str, float]:
        return {"quality": 0.8, "content": 0.8, "style": 0.8, "checker_db": 1.0, "finite": 1.0}


def certificate(
    name: str, *, issuer: tuple[x509.Certificate, Any] | None = None, days: float = 30.0
) -> tuple[x509.Certificate, Any]:
    """Make an authority, or a server certificate for 127.0.0.1; a negative number of days: it has expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(thing: Any) -> bytes:
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    if thing.curve.name == "secp256r1":
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return bytes(thing.private_bytes(*form))


def public_line(key: ec.EllipticCurvePrivateKey) -> str:
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return key.public_key().public_bytes(*form).decode()


AUTHORITY, OTHER_AUTHORITY = certificate("fleet"), certificate("other")
SERVER = certificate("server", issuer=AUTHORITY)
NODE = ec.generate_private_key(ec.SECP384R1())
STRANGER = ec.generate_private_key(ec.SECP384R1())


@dataclass
class Fleet:
    """A fleet's folder and its running service."""

    folder: Path
    signer: Signer
    port: int = 0
    fetched: int = 0

    @property
    def releases(self) -> Releases:
        return Releases(self.folder / "releases", clock=clock)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def release(self, seed: int) -> int:
        made = candidate.Candidate(Backbone(CONFIG, seed=seed), "c" * 12, seed, "user", 1.0 + seed / 10, 1e-7)
        trial: Any = Painted()
        return candidate.create(made, self.releases, signer=self.signer, now=NOW, trial=trial).manifest.version

    def promote(self, version: int) -> None:
        candidate.promote(self.releases, version, signer=self.signer)

    def source(self, *, key: Any = NODE, ca: Any = AUTHORITY[0]) -> Source:
        return Source(self.address, pem(ca), Introducer(pem(key)))

    def client(self, **changes: Any) -> ReleaseClient:
        return ReleaseClient(self.source(**changes), clock=clock, sleep=lambda seconds: None)

    def rotate(self) -> None:
        """Change the signing key as `easel-server init --rotate-signing-key` does."""
        old, self.signer = self.signer, Signer.new()
        body = canonical(KeyChange(old.key, self.signer.public.hex(), NOW.isoformat()))
        path = self.folder / "signing-rotations.json"
        chain = json.loads(path.read_text()) if path.exists() else []
        path.write_text(json.dumps([*chain, old.sign(body, kind="key").to_dict()]))
        self.signer.save(self.folder / "signing.key")
        (self.folder / "signing.pub").write_text(self.signer.public.hex())


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = save_backbone(tmp_path / "shipped" / "backbone.safetensors", Backbone(CONFIG, seed=0))
    (path.parent / "heads").mkdir()
    monkeypatch.setattr("shared_model.weights.default_backbone_path", lambda: path)
    return path


@pytest.fixture
def fleet(tmp_path: Path, shipped: Path) -> Fleet:
    folder, signer = tmp_path / "fleet", Signer.new()
    folder.mkdir()
    signer.save(folder / "signing.key")
    (folder / "signing.pub").write_text(signer.public.hex())
    for name, data in (("ca.pem", AUTHORITY[0]), ("server.pem", SERVER[0]), ("server.key", SERVER[1])):
        (folder / name).write_bytes(pem(data))
    devices = {"anna": {"state": "enrolled", "public_key": public_line(NODE)}}
    (folder / "devices.json").write_text(json.dumps({"format": "easel-devices-1", "devices": devices}))
    return Fleet(folder, signer)


Launch = Callable[..., None]


@pytest.fixture
def launch(fleet: Fleet) -> Iterator[Launch]:
    """Start the service of the fleet in a thread; the one before is stopped."""
    ends: list[Callable[[], None]] = []

    def start(service: type[ReleaseService] = ReleaseService, **options: Any) -> None:
        for end in ends:
            end()
        ends.clear()
        ready = threading.Event()
        stops: list[Callable[[], None]] = []

        def told(port: int) -> None:
            fleet.port = port
            ready.set()

        async def run() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            stops.append(lambda: loop.call_soon_threadsafe(stop.set))
            place = Place(fleet.folder)
            made = service(place, **({"clock": clock} | options))
            await serve(made, "127.0.0.1:0", credentials=place.credentials(), stop=stop, ready=told, grace_s=0.1)

        thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
        thread.start()
        assert ready.wait(60)

        def end() -> None:
            stops[0]()
            thread.join(60)
            assert not thread.is_alive()

        ends.append(end)

    yield start
    for end in ends:
        end()


@pytest.fixture
def member(fleet: Fleet, own_home: Path) -> Path:
    """A device folder as joining leaves it."""
    folder = own_home / "device"
    folder.mkdir()
    (folder / "membership.json").write_text(json.dumps({"server": "127.0.0.1:39300", "name": "anna"}))
    (folder / "ca.pem").write_bytes(pem(AUTHORITY[0]))
    (folder / "node.key").write_bytes(pem(NODE))
    (folder / "signing.pub").write_text(fleet.signer.public.hex())
    return folder


def easel(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any, str]:
    code = main(["models", *words, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if captured.out else None, captured.err


@pytest.fixture
def real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line's calls be signed with the time of these tests."""
    whole = ReleaseClient.__init__
    monkeypatch.setattr(ReleaseClient, "__init__", lambda self, source: whole(self, source, clock=clock))


def big(fleet: Fleet, pieces: float) -> tuple[str, int]:
    """Put a file of so many pieces behind the release in use; returns its SHA-256 and size."""
    version = fleet.releases.in_use
    release = fleet.releases.release(version)
    data = torch.randint(0, 256, (int(pieces * PIECE),), dtype=torch.uint8).numpy().tobytes()
    release.weights.write_bytes(data)
    manifest = replace(release.manifest, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    signed = fleet.signer.sign(canonical(manifest), kind="manifest")
    (release.weights.parent / "manifest.json").write_bytes(signed.body)
    (release.weights.parent / "manifest.sig").write_bytes(signed.to_bytes())
    return manifest.sha256, manifest.size
