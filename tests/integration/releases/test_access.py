"""Who gets a release, and how much of it: keys, certificates, signatures, allowances."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.fetch import ReleaseClient
from server.allowance import Limits
from server.release_service import PIECE
from shared_model.errors import FederationError
from shared_model.introduction import Introducer, recognize
from tests.integration.releases.conftest import (
    AUTHORITY,
    NODE,
    NOW,
    OTHER_AUTHORITY,
    STRANGER,
    Fleet,
    Launch,
    big,
    certificate,
    pem,
    public_line,
)


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
