"""The registry: codes good once and not for ever, keys and names one to one, two processes, damaged files."""

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.node_key import NodeKey
from server.devices import Registry
from shared_model.errors import FederationError, InputError, MissingError, StorageError
from shared_model.invitation import Invitation, enrol_message, leave_message

PRINT = bytes(range(20))


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(tmp_path: Path, clock: Clock) -> Registry:
    return Registry(tmp_path / "devices.json", clock=clock)


@pytest.fixture
def key(tmp_path: Path) -> NodeKey:
    return NodeKey.open(tmp_path / "node.key")


def proof(key: NodeKey, invitation: Invitation) -> bytes:
    return key.sign(enrol_message(invitation.secret, key.public))


def enrol(registry: Registry, invitation: Invitation, key: NodeKey) -> str:
    return registry.enrol(invitation.secret, public_key=key.public, proof=proof(key, invitation)).name


def test_a_code_works_once(registry: Registry, key: NodeKey, tmp_path: Path) -> None:
    invitation = registry.invite("anna", authority=PRINT, hours=1)
    assert Invitation.parse(invitation.code()).authority == PRINT
    assert enrol(registry, invitation, key) == "anna"
    assert registry.keys() == {key.public: "anna"}
    assert enrol(registry, invitation, key) == "anna", "the first answer may have been lost"
    with pytest.raises(FederationError, match="not good"):
        enrol(registry, invitation, NodeKey.open(tmp_path / "other.key"))


def test_the_file_holds_no_secret_and_is_private(registry: Registry, key: NodeKey) -> None:
    invitation = registry.invite("anna", authority=PRINT, hours=1)
    text = registry.path.read_text()
    assert invitation.code() not in text and invitation.secret.hex() not in text
    assert invitation.digest() in text and "code" not in registry.devices()["anna"].facts()
    assert stat.S_IMODE(registry.path.stat().st_mode) == 0o600


def test_a_code_expires_and_is_renewed(registry: Registry, key: NodeKey, clock: Clock) -> None:
    old = registry.invite("anna", authority=PRINT, hours=1)
    clock.now += timedelta(hours=1)
    with pytest.raises(FederationError, match="not good"):
        enrol(registry, old, key)
    new = registry.invite("anna", authority=PRINT, hours=1)
    with pytest.raises(FederationError, match="not good"):
        enrol(registry, old, key)
    assert enrol(registry, new, key) == "anna"


def test_a_foreign_or_unproved_key_is_refused(registry: Registry, key: NodeKey, tmp_path: Path) -> None:
    invitation, other = registry.invite("anna", authority=PRINT, hours=1), NodeKey.open(tmp_path / "other.key")
    for public, signature in (
        (key.public, proof(other, invitation)),
        (key.public + " comment", proof(key, invitation)),
        ("ssh-ed25519 AAAA", b""),
        ("", b""),
    ):
        with pytest.raises(FederationError, match="not usable"):
            registry.enrol(invitation.secret, public_key=public, proof=signature)
    assert registry.devices()["anna"].state == "invited"


def test_a_key_has_one_name_for_ever(registry: Registry, key: NodeKey) -> None:
    enrol(registry, registry.invite("anna", authority=PRINT, hours=1), key)
    registry.revoke("anna")
    with pytest.raises(FederationError, match="known already"):
        enrol(registry, registry.invite("anna2", authority=PRINT, hours=1), key)
    with pytest.raises(InputError, match="already"):
        registry.invite("anna", authority=PRINT, hours=1)


def test_revoking(registry: Registry, key: NodeKey) -> None:
    invitation = registry.invite("anna", authority=PRINT, hours=1)
    registry.revoke("anna")
    with pytest.raises(FederationError, match="not good"):
        enrol(registry, invitation, key)
    first = registry.revoke("anna")
    assert first.state == "revoked" and registry.revoke("anna") == first and registry.keys() == {}
    with pytest.raises(MissingError, match="no device 'ben'"):
        registry.revoke("ben")


def test_leaving_is_signed_and_of_now(registry: Registry, key: NodeKey, clock: Clock) -> None:
    enrol(registry, registry.invite("anna", authority=PRINT, hours=1), key)
    now = clock.now.isoformat()
    late = (clock.now - timedelta(minutes=6)).isoformat()
    for when, signed in ((now, late), (late, late), ("noon", "noon"), ("2026-11-01T12:00:00", "2026-11-01T12:00:00")):
        with pytest.raises(FederationError):
            registry.leave(key.public, when=when, proof=key.sign(leave_message(key.public, signed)))
    assert registry.leave(key.public, when=now, proof=key.sign(leave_message(key.public, now))).state == "revoked"


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "../x", "x" * 65, "naïve", "x\n"])
def test_names_are_plain(registry: Registry, name: str) -> None:
    with pytest.raises(InputError, match="cannot name a device"):
        registry.invite(name, authority=PRINT, hours=1)


@pytest.mark.parametrize("hours", [0.0, -1.0, 1e9, float("nan")])
def test_hours_are_bounded(registry: Registry, hours: float) -> None:
    with pytest.raises(InputError, match="hours"):
        registry.invite("anna", authority=PRINT, hours=hours)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "easel-devices-2", "devices": {}}', "nonsense"])
def test_a_damaged_file_is_refused_and_kept(registry: Registry, content: str) -> None:
    registry.path.write_text(content)
    with pytest.raises(StorageError, match="damaged"):
        registry.invite("anna", authority=PRINT, hours=1)
    assert registry.path.read_text() == content


def test_two_processes_lose_nothing(registry: Registry) -> None:
    script = (
        "import sys; from datetime import UTC, datetime; from pathlib import Path\n"
        "from server.devices import Registry\n"
        "known = Registry(Path(sys.argv[1]), clock=lambda: datetime.now(UTC))\n"
        "[known.invite(f'{sys.argv[2]}{number}', authority=bytes(20), hours=1) for number in range(15)]"
    )
    root = Path(__file__).resolve().parents[2]
    both = [subprocess.Popen([sys.executable, "-c", script, str(registry.path), name], cwd=root) for name in ("a", "b")]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(json.loads(registry.path.read_text())["devices"]) == 30
