"""A device enrols at a real gate over TLS on loopback; what else knocks is turned away."""

import base64
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.enrolment import enrol, free_port, parse_server, say_farewell
from client.node_key import NodeKey
from server.deployment import Fleet, create
from server.devices import Registry
from server.enrolment import Enrolment
from server.gate import Gate, serve
from server.registrar import pem_of
from shared_model.errors import FederationError, InputError
from shared_model.invitation import Invitation


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Upstream:
    """Stands for the SuperLink: remembers what reaches it, and answers with it."""

    seen: list[str] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("lifespan.startup.complete", "lifespan.shutdown.complete"):
                await receive()
                await send({"type": answer})
            return
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        self.seen.append(scope["path"])
        self.bodies.append(size)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-flower", b"yes")]})
        await send({"type": "http.response.body", "body": b"x" * size})


@dataclass
class House:
    """A fleet's gate that is open, with the SuperLink behind it."""

    fleet: Fleet
    registry: Registry
    port: int
    upstream: Upstream
    changes: list[int]

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def invite(self, name: str) -> Invitation:
        return self.registry.invite(name, authority=self.fleet.authority_print(), hours=1)

    def post(self, path: str, *, content: bytes = b"", headers: dict[str, str] | None = None) -> httpx.Response:
        trust = ssl.create_default_context(cafile=str(self.fleet.ca))
        return httpx.post(f"https://{self.server}{path}", content=content, headers=headers, verify=trust)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[House]:
    fleet = create(folder, hosts=["127.0.0.1"], now=now())
    registry, upstream, changes = Registry(fleet.devices, clock=now), Upstream(), list[int]()
    inner, outer = free_port(), free_port()
    gate = Gate(
        Enrolment(fleet, registry, changed=lambda: changes.append(1)),
        registry,
        upstream=f"https://127.0.0.1:{inner}",
        ca=fleet.ca,
    )
    with (
        serve(upstream, host="127.0.0.1", port=inner, certificate=fleet.certificate, key=fleet.key),  # type: ignore[arg-type]
        serve(gate, host="127.0.0.1", port=outer, certificate=fleet.certificate, key=fleet.key),
    ):
        yield House(fleet, registry, outer, upstream, changes)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("house") / "fleet") as house:
        yield house


def test_a_device_enrols_and_leaves(house: House, tmp_path: Path) -> None:
    invitation, key = house.invite("anna"), NodeKey.open(tmp_path / "node.key")
    answer = enrol(house.server, invitation=invitation, key=key)
    assert answer.name == "anna" and answer.ca.encode() == house.fleet.ca.read_bytes()
    assert answer.signing_key.encode() == house.fleet.signing_public.read_bytes()
    assert house.registry.keys()[key.public] == "anna" and house.changes
    assert enrol(house.server, invitation=invitation, key=key).name == "anna"
    with pytest.raises(FederationError, match="refuses: this code is not good"):
        enrol(house.server, invitation=invitation, key=NodeKey.open(tmp_path / "other.key"))
    say_farewell(house.server, ca=answer.ca, key=key, now=now())
    assert house.registry.devices()["anna"].state == "revoked"
    with pytest.raises(FederationError, match="no such device"):
        say_farewell(house.server, ca=answer.ca, key=key, now=now())


def test_a_server_that_the_code_does_not_name_learns_nothing(house: House, tmp_path: Path) -> None:
    """An impostor with its own authority: the secret is not sent."""
    key, good = NodeKey.open(tmp_path / "node.key"), house.invite("ben")
    with opened(tmp_path / "impostor") as impostor:
        asked: list[bytes] = []
        impostor.changes.clear()
        with pytest.raises(FederationError, match="is not the server that this code is from: nothing was sent"):
            enrol(impostor.server, invitation=good, key=key)
        assert not asked and impostor.registry.devices() == {} and not impostor.changes
    assert house.registry.devices()["ben"].state == "invited"
    assert enrol(house.server, invitation=good, key=key).name == "ben"


def test_a_certificate_of_another_name_is_refused(house: House, tmp_path: Path) -> None:
    """The right authority, but a machine that it did not certify under that address."""
    other = Fleet(tmp_path / "elsewhere")
    other.folder.mkdir()
    from server.authority import Pair, issue

    pair = issue(Pair(house.fleet.ca.read_bytes(), house.fleet.ca_key.read_bytes()), ["x.example.org"], now=now())
    other.certificate.write_bytes(pair.certificate.replace(b"", b""))
    other.key.write_bytes(pair.key)
    port = free_port()
    gate = Gate(
        Enrolment(house.fleet, house.registry, changed=lambda: None),
        house.registry,
        upstream="https://127.0.0.1:1",
        ca=house.fleet.ca,
    )
    with serve(gate, host="127.0.0.1", port=port, certificate=other.certificate, key=other.key):
        host = "127.0.0.2"  # loopback too, but in no certificate
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            pass
        key = NodeKey.open(tmp_path / "node.key")
        with pytest.raises(FederationError, match=r"no certificate of this fleet|cannot be reached"):
            enrol(f"{host}:{port}", invitation=house.invite("carl"), key=key)
    assert house.registry.devices()["carl"].state == "invited"


def test_only_enrolled_keys_reach_flower_and_only_its_fleet_interface(house: House, tmp_path: Path) -> None:
    key = NodeKey.open(tmp_path / "node.key")
    header = {"flwr-public-key": base64.b64encode(pem_of(key.public)).decode(), "flwr-signature": "c2ln"}
    assert house.post("/v1/fleet/pull-messages", headers=header).status_code == 401
    enrol(house.server, invitation=house.invite("dora"), key=key)
    answer = house.post("/v1/fleet/pull-messages", content=b"z" * 3_000_000, headers=header)
    assert (answer.status_code, len(answer.content), answer.headers["x-flower"]) == (200, 3_000_000, "yes")
    assert house.upstream.seen == ["/v1/fleet/pull-messages"] and house.upstream.bodies == [3_000_000]
    for path in (
        "/v1/control/start-run",
        "/v1/control/list-nodes",
        "/v1/runtime/pull",
        "/docs",
        "/health",
        "/",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/pull-messages/../../control/start-run",
        "/v1/fleet/pull-messages?x=1",
        "//v1/fleet/pull-messages",
    ):
        assert house.post(path, headers=header).status_code == 404, path
    house.registry.revoke("dora")
    assert house.post("/v1/fleet/pull-messages", headers=header).status_code == 401
    assert len(house.upstream.seen) == 1


def test_garbage_is_a_short_answer(house: House) -> None:
    for body in (b"", b"null", b"[]", b'{"secret": 1}', b"[" * 4000, b"\xff\xfe", b'{"secret": "!", "public_key": ""}'):
        answer = house.post("/v1/enrol", content=body)
        assert answer.status_code in (400, 403) and set(answer.json()) <= {"error", "hint"}, body
    assert house.post("/v1/enrol", content=b"x" * 5000).status_code == 400
    assert house.post("/v1/leave", content=json.dumps({"public_key": "x"}).encode()).status_code == 400


def test_a_superlink_that_is_away_is_try_again(tmp_path: Path) -> None:
    fleet = create(tmp_path / "fleet", hosts=[], now=now())
    registry, port, key = Registry(fleet.devices, clock=now), free_port(), NodeKey.open(tmp_path / "node.key")
    gate = Gate(
        Enrolment(fleet, registry, changed=lambda: None),
        registry,
        upstream=f"https://127.0.0.1:{free_port()}",
        ca=fleet.ca,
    )
    with serve(gate, host="127.0.0.1", port=port, certificate=fleet.certificate, key=fleet.key):
        house = House(fleet, registry, port, Upstream(), [])
        enrol(house.server, invitation=house.invite("anna"), key=key)
        header = {"flwr-public-key": base64.b64encode(pem_of(key.public)).decode()}
        assert house.post("/v1/fleet/pull-messages", headers=header).status_code == 503
        with pytest.raises(FederationError, match="cannot listen"):
            with serve(gate, host="127.0.0.1", port=port, certificate=fleet.certificate, key=fleet.key):
                pass


def test_nobody_there(tmp_path: Path) -> None:
    key, invitation = NodeKey.open(tmp_path / "node.key"), Invitation(bytes(16), bytes(20))
    with pytest.raises(FederationError, match="cannot be reached"):
        enrol(f"127.0.0.1:{free_port()}", invitation=invitation, key=key)


@pytest.mark.parametrize("text", ["", "host", "host:", ":39300", "host:0", "host:70000", "host:x"])
def test_addresses_are_checked(text: str) -> None:
    with pytest.raises(InputError, match="HOST:PORT"):
        parse_server(text)


def test_addresses_are_read() -> None:
    assert parse_server("fleet.example.org:39300") == ("fleet.example.org", 39300)
    assert parse_server("[::1]:1") == ("::1", 1)


@pytest.mark.slow
def test_the_studio_joins_and_leaves_through_easel_itself(house: House, own_home: Path, tmp_path: Path) -> None:
    import numpy as np

    from client.studio.fleet import Application, Fleet
    from shared_model.images import save_picture

    for kind in ("photos", "art"):
        save_picture(tmp_path / kind / "our-dog.png", np.zeros((64, 64, 3), np.uint8))
    studio = Fleet(own_home / "device")
    code = house.invite("clara").code()
    asked = (house.server, code, str(tmp_path / "photos"), str(tmp_path / "art"), 3.0)
    assert studio.join(Application(*asked))["name"] == "clara"
    facts = studio.facts()
    assert facts["joined"] and facts["server"] == house.server and not facts["taking_part"]
    assert house.registry.devices()["clara"].state == "enrolled"
    with pytest.raises(InputError, match="joined"):
        studio.join(Application(*asked))
    told = studio.leave()
    assert told["server_told"] and told["ledger_kept"] and not told["warnings"]
    assert not studio.facts()["joined"]
    with pytest.raises(FederationError):
        studio.join(Application(*asked))
