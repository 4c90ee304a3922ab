"""A fleet's releases for real: gRPC with TLS on loopback, and a device that fetches, breaks off and goes on."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.cli import main
from client.fetch import ReleaseClient, Source
from client.models import Models
from server import candidate
from server.allowance import Limits
from server.registry import Releases
from server.release_service import PIECE, Place, ReleaseService, serve
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import FederationError, ReleaseError
from shared_model.introduction import Introducer, recognize
from shared_model.release_manifest import KeyChange, canonical
from shared_model.release_rules import Trust, accept
from shared_model.signatures import Signed, Signer
from shared_model.weights import architecture_hash, backbone_id, save_backbone

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


def test_a_device_fetches_verifies_and_uses_a_release(
    fleet: Fleet, launch: Launch, member: Path, own_home: Path, real_time: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.promote(fleet.release(1))
    launch()
    code, facts, _ = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert (code, facts["version"], facts["in_use"]) == (0, 1, False)
    assert facts["bytes_received"] == fleet.releases.release(1).manifest.size
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["bytes_received"] == 0
    assert easel("verify", capsys=capsys)[1] == {"default": "ok", "1": "ok"}
    code, facts, _ = easel("use", "1", capsys=capsys)
    assert (code, facts["backbone"]) == (0, backbone_id(Backbone(CONFIG, seed=1)))
    code, facts, _ = easel("list", capsys=capsys)
    assert [item["in_use"] for item in facts["releases"]] == [True]
    release = Models(own_home / "models").in_use()
    assert release is not None
    release.weights.write_bytes(release.weights.read_bytes()[:-1] + b"\0")
    code, _, err = easel("verify", "1", capsys=capsys)
    assert code == 5 and "damaged" in err
    assert easel("use", "1", capsys=capsys)[0] == 5
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["bytes_received"] > 0  # mended
    assert easel("verify", "1", capsys=capsys)[0] == 0
    assert easel("use", "default", capsys=capsys)[1]["in_use"] == "default"


def test_rollback_and_replay(
    fleet: Fleet, launch: Launch, member: Path, real_time: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.promote(fleet.release(1))
    first = (fleet.folder / "releases" / "log.jsonl").read_bytes()
    fleet.promote(fleet.release(2))
    launch()
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["version"] == 2
    candidate.rollback(fleet.releases, 1, signer=fleet.signer, reason="faces look wrong")
    code, facts, _ = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert (code, facts["version"], facts["action"], facts["sequence"]) == (0, 1, "rollback", 3)
    assert facts["reason"] == "faces look wrong"
    (fleet.folder / "releases" / "log.jsonl").write_bytes(first)  # a server that puts an old order forward
    code, facts, err = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert code == 7 and facts is None and "order 1 is older than order 3" in err


def test_a_changed_signing_key_is_followed(
    fleet: Fleet, launch: Launch, member: Path, real_time: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.promote(fleet.release(1))
    launch()
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[0] == 0
    fleet.rotate()  # nothing is signed with the new key yet: devices stay with the old one
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[0] == 0
    assert fleet.releases.resign(fleet.signer)
    assert not fleet.releases.resign(fleet.signer)
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["bytes_received"] == 0
    fleet.rotate()
    fleet.promote(fleet.release(2))
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["version"] == 2
    assert easel("verify", capsys=capsys)[0] == 0  # the older release still verifies with the key of its time
    fleet.signer = Signer.new()  # somebody else's key, without a signed change
    fleet.releases.resign(fleet.signer)
    code, _, err = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert code == 7 and "is trusted" in err


class Breaking(ReleaseService):
    """Breaks every stream after three pieces."""

    sent = 0

    async def GetWeights(self, request: Any, context: Any) -> Any:
        count = 0
        async for piece in super().GetWeights(request, context):
            if count == 3:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
            count += 1
            type(self).sent += len(piece.data)
            yield piece


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


def test_a_broken_download_goes_on_where_it_broke(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 7.5)
    Breaking.sent = 0
    launch(Breaking)
    into = tmp_path / "part"
    with fleet.client() as server:
        server.download(sha256, size=size, into=into)
        assert server.received == size  # three streams, and not a byte twice
    assert Breaking.sent == size
    assert hashlib.sha256(into.read_bytes()).hexdigest() == sha256


def test_a_killed_download_goes_on_in_the_next_process(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 6)
    launch()
    into = tmp_path / "part"

    def interrupt(share: float, word: str) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    with fleet.client() as server, pytest.raises(KeyboardInterrupt):
        server.download(sha256, size=size, into=into, progress=interrupt)
    assert 0 < into.stat().st_size < size
    have = into.stat().st_size
    with fleet.client() as server:
        server.download(sha256, size=size, into=into)
        assert server.received == size - have


def test_a_partial_file_that_is_wrong_is_thrown_away(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 2)
    launch()
    into = tmp_path / "part"
    into.write_bytes(b"x" * PIECE)
    with fleet.client() as server, pytest.raises(ReleaseError) as caught:
        server.download(sha256, size=size, into=into)
    assert caught.value.reason == "mismatch"
    assert not into.exists()


class Generous(ReleaseService):
    """Sends more than there is."""

    async def GetWeights(self, request: Any, context: Any) -> Any:
        async for piece in super().GetWeights(request, context):
            piece.data += b"more"
            yield piece


def test_more_than_the_manifest_states_is_refused(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 0.5)
    launch(Generous)
    with fleet.client() as server, pytest.raises(ReleaseError) as caught:
        server.download(sha256, size=size, into=tmp_path / "part")
    assert caught.value.reason == "oversize"
    assert (tmp_path / "part").stat().st_size == 0


def test_strangers_and_revoked_devices_get_nothing(fleet: Fleet, launch: Launch) -> None:
    fleet.promote(fleet.release(1))
    launch()
    with fleet.client(key=STRANGER) as server, pytest.raises(FederationError, match="does not belong to the fleet"):
        server.offer()
    with fleet.client() as server:
        assert server.offer()
        path = fleet.folder / "devices.json"
        path.write_text(path.read_text().replace("enrolled", "revoked"))
        with pytest.raises(FederationError, match="does not belong"):
            server.offer()
        with pytest.raises(FederationError, match="does not belong"):
            server.download("0" * 64, size=10, into=fleet.folder / "part")
    late = ReleaseClient(fleet.source(), clock=lambda: NOW + timedelta(minutes=6))
    with late as server, pytest.raises(FederationError, match="not from now"):
        server.offer()


def test_a_call_without_a_signature_is_refused_but_health_is_answered(fleet: Fleet, launch: Launch) -> None:
    fleet.promote(fleet.release(1))
    launch()
    from protos import fleet_pb2, fleet_pb2_grpc

    credentials = grpc.ssl_channel_credentials(pem(AUTHORITY[0]))
    with grpc.secure_channel(fleet.address, credentials) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="easel.fleet.v1.Releases"), timeout=30
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            fleet_pb2_grpc.ReleasesStub(channel).GetCurrent(fleet_pb2.GetCurrentRequest(), timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("server", ["expired", "other"])
def test_certificates_that_are_not_the_fleets_are_refused(server: str, fleet: Fleet, launch: Launch) -> None:
    fleet.promote(fleet.release(1))
    expired = server == "expired"
    made = certificate("server", issuer=AUTHORITY if expired else OTHER_AUTHORITY, days=-1.0 if expired else 30.0)
    (fleet.folder / "server.pem").write_bytes(pem(made[0]))
    (fleet.folder / "server.key").write_bytes(pem(made[1]))
    launch()
    with fleet.client() as client, pytest.raises(FederationError, match="does not show a certificate of this fleet"):
        client.offer()


def test_each_device_has_its_own_allowance(fleet: Fleet, launch: Launch, tmp_path: Path) -> None:
    fleet.promote(fleet.release(1))
    sha256, size = big(fleet, 4)
    time = [0.0]
    launch(limits=Limits(calls=5, calls_per_s=1, bytes=1.5 * PIECE, bytes_per_s=PIECE / 200), ticks=lambda: time[0])
    with fleet.client() as server:
        with pytest.raises(FederationError, match="fetched too much for now"):
            server.download(sha256, size=size, into=tmp_path / "part")
        assert server.received == 2 * PIECE
        time[0] += 1000.0
        server.download(sha256, size=size, into=tmp_path / "part")
        assert server.received == size
        for _ in range(4):
            server.offer()
        with pytest.raises(FederationError, match="calls too often"):
            server.offer()
        time[0] += 1.0
        assert server.offer()


def test_what_is_signed_for_one_method_is_worth_nothing_for_another() -> None:
    introducer = Introducer(pem(NODE))
    metadata = dict(introducer.introduce("/a", now=NOW))
    assert recognize(metadata, "/a", now=NOW + timedelta(minutes=4)) == public_line(NODE)
    for change, method, now in (
        ({}, "/b", NOW),
        ({"easel-time": "2026-11-24T12:01:00+00:00"}, "/a", NOW),
        ({"easel-device-key": public_line(STRANGER)}, "/a", NOW),
        ({"easel-device-key": "ssh-rsa AAAA"}, "/a", NOW),
        ({"easel-proof-bin": b""}, "/a", NOW),
        ({}, "/a", NOW - timedelta(minutes=6)),
    ):
        with pytest.raises(FederationError):
            recognize({**metadata, **change}, method, now=now)
    with pytest.raises(FederationError, match="not signed by a device"):
        recognize({}, "/a", now=NOW)


def test_nothing_is_released_before_a_promotion(fleet: Fleet, launch: Launch) -> None:
    fleet.release(1)
    launch()
    with fleet.client() as server, pytest.raises(Exception, match="no release was promoted yet"):
        server.offer()


def test_a_killed_rotation_does_not_lock_devices_out(fleet: Fleet, launch: Launch) -> None:
    fleet.promote(fleet.release(1))
    body = canonical(KeyChange(fleet.signer.key, Signer.new().public.hex(), NOW.isoformat()))
    unfinished = fleet.signer.sign(body, kind="key")
    (fleet.folder / "signing-rotations.json").write_text(json.dumps([unfinished.to_dict()]))
    launch()
    with fleet.client() as server:
        offer = server.offer()
    assert offer.rotations == ()
    assert accept(offer, Trust(fleet.signer.public.hex()), architecture=architecture_hash(CONFIG)).trust.version == 1
    shutil.rmtree(fleet.folder / "releases")
    assert isinstance(offer.order, Signed)
