"""``easel join`` and ``easel leave``: what is refused before the code is used, and what is left behind."""

import io
import json
import stat
from pathlib import Path

import pytest

from client.cli import main
from client.commands import join as join_command
from client.data import load_device
from client.enrolment import Enrolled
from client.ledger import Ledger
from client.membership import Membership, forget
from client.node_key import NodeKey
from client.paths import witness_folder
from shared_model.errors import FederationError, MissingError, StorageError
from shared_model.invitation import Invitation

CODE = Invitation(bytes(16), bytes(20)).code()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASEL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EASEL_STATE", raising=False)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    import numpy as np

    from shared_model.images import save_picture

    for kind in ("photos", "art"):
        save_picture(tmp_path / kind / "our-dog.png", np.zeros((64, 64, 3), np.uint8))
    return ["--photos", str(tmp_path / "photos"), "--art", str(tmp_path / "art")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A fleet that takes everybody, and notes who came and went."""
    import client.enrolment as enrolment

    seen: list[str] = []

    def enrol(server: str, *, invitation: Invitation, key: NodeKey) -> Enrolled:
        seen.append(f"enrolled {server} {key.public[:10]}")
        return Enrolled("anna", "-----CA-----", "-----KEY-----")

    def farewell(server: str, **_: object) -> None:
        seen.append(f"left {server}")

    monkeypatch.setattr(enrolment, "enrol", enrol)
    monkeypatch.setattr(enrolment, "say_farewell", farewell)
    return seen


def join(pictures: list[str], *more: str) -> int:
    return main(["join", "--server", "fleet.example.org:39300", "--code", CODE, *pictures, "--enroll-only", *more])


def test_the_code_may_come_in_through_a_pipe(
    pictures: list[str], server: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f" {CODE}\nmore"))
    assert main(["join", "--server", "fleet.example.org:39300", "--code", "-", *pictures, "--enroll-only"]) == 0
    assert len(server) == 1


def test_joining_makes_a_private_device_folder(
    pictures: list[str], server: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert join(pictures, "--max-epsilon", "3", "--json") == 0
    folder = tmp_path / "home" / "device"
    assert json.loads(capsys.readouterr().out) == {
        "server": "fleet.example.org:39300",
        "name": "anna",
        "folder": str(folder),
    }
    assert server == ["enrolled fleet.example.org:39300 ecdsa-sha2"]
    device = load_device(folder)
    assert (device.photos, device.max_epsilon) == (tmp_path / "photos", 3.0)
    assert Membership.load(folder) == Membership("fleet.example.org:39300", "anna")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert set(modes) >= {"node.key", "ca.pem", "signing.pub", "device.toml", "membership.json", "ledger.json"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    ledger = Ledger.open(folder / "ledger.json", witness=witness_folder())
    assert ledger.summary()["max_epsilon"] == 3.0


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--code": "AAAA"}, 2, "mistyped"),
        ({"--server": "nowhere"}, 2, "HOST:PORT"),
        ({"--photos": "/nothing/here"}, 2, "/nothing/here"),
        ({"--max-epsilon": "-1"}, 2, "max_epsilon"),
        ({"--code": None, "--art": None}, 2, "give --code, --art"),
    ],
)
def test_mistakes_cost_no_code(
    change: dict[str, str | None],
    code: int,
    words: str,
    pictures: list[str],
    server: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = dict(zip(pictures[::2], pictures[1::2], strict=True))
    given = {"--server": "fleet.example.org:39300", "--code": CODE, **options, **change}
    arguments = [part for key, value in given.items() if value is not None for part in (key, value)]
    assert main(["join", *arguments, "--enroll-only"]) == code
    captured = capsys.readouterr()
    assert words in captured.err and "Traceback" not in captured.err
    assert server == []


def test_a_device_joins_one_fleet_and_may_change_its_folders(
    pictures: list[str], server: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert join(pictures) == 0
    assert join(pictures) == 2
    assert "has joined fleet.example.org:39300 as 'anna' already" in capsys.readouterr().err
    (tmp_path / "photos").rename(tmp_path / "pictures")
    assert main(["join", "--photos", str(tmp_path / "pictures"), "--max-epsilon", "2", "--enroll-only"]) == 0
    device = load_device(tmp_path / "home" / "device")
    assert (device.photos, device.art, device.max_epsilon) == (tmp_path / "pictures", tmp_path / "art", 2.0)
    assert main(["join", "--max-epsilon", "4", "--enroll-only"]) == 6, "a budget can only be lowered"
    assert len(server) == 1


def test_training_may_move_to_another_device(
    pictures: list[str],
    server: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("client.placement.available_devices", lambda: ("cpu",))
    assert join(pictures, "--device", "cuda") == 3
    assert "there is no cuda device" in capsys.readouterr().err
    assert server == [], "the code is not used up"
    assert join(pictures) == 0
    folder = tmp_path / "home" / "device"
    assert load_device(folder).device == "cpu"
    monkeypatch.setattr("client.placement.available_devices", lambda: ("mps", "cpu"))
    assert main(["join", "--device", "mps", "--enroll-only"]) == 0
    assert load_device(folder).device == "mps"
    monkeypatch.setattr("client.placement.available_devices", lambda: ("cpu",))
    assert main(["join"]) == 3, "said at once, not once in every round"


def test_a_refused_device_can_try_again_with_the_same_key(
    pictures: list[str], server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import client.enrolment as enrolment

    works = enrolment.enrol

    def refuse(*_: object, **__: object) -> Enrolled:
        raise FederationError("the server cannot be reached")

    monkeypatch.setattr(enrolment, "enrol", refuse)
    assert join(pictures) == 7
    folder = tmp_path / "home" / "device"
    key = (folder / "node.key").read_bytes()
    with pytest.raises(MissingError, match="has joined no fleet"):
        Membership.load(folder)
    monkeypatch.setattr(enrolment, "enrol", works)
    assert join(pictures) == 0
    assert (folder / "node.key").read_bytes() == key


def test_a_join_that_was_refused_decides_no_budget(
    pictures: list[str], server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import client.enrolment as enrolment

    works = enrolment.enrol

    def refuse(*_: object, **__: object) -> Enrolled:
        assert Ledger.open(ledger, witness=witness_folder()).book().max_epsilon <= 3, "made before the code is used"
        raise FederationError("the server cannot be reached")

    ledger = tmp_path / "home" / "device" / "ledger.json"
    monkeypatch.setattr(enrolment, "enrol", refuse)
    assert join(pictures, "--max-epsilon", "3") == 7
    assert not ledger.exists() and not list(witness_folder().glob("*.json"))
    assert main(["privacy"]) == 0
    monkeypatch.setattr(enrolment, "enrol", works)
    assert join(pictures, "--max-epsilon", "20") == 0
    assert main(["leave"]) == 0
    monkeypatch.setattr(enrolment, "enrol", refuse)  # a ledger that was there stays, and its limit goes down for good
    assert join(pictures, "--max-epsilon", "3") == 7
    assert Ledger.open(ledger, witness=witness_folder()).book().max_epsilon == 3


def test_leaving_removes_all_but_the_ledger_and_the_pictures(
    pictures: list[str], server: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert join(pictures, "--max-epsilon", "3") == 0
    folder = tmp_path / "home" / "device"
    (folder / "node" / "flwr").mkdir(parents=True)
    (folder / "holiday.jpg").write_bytes(b"mine")
    capsys.readouterr()
    assert main(["leave"]) == 0
    out = capsys.readouterr().out
    assert "node.key" in out and "kept" in out and "ledger.json" in out
    assert sorted(path.name for path in folder.iterdir()) == ["holiday.jpg", "ledger.json", "ledger.json.seal"]
    assert (tmp_path / "photos" / "our-dog.png").exists()
    assert server[-1] == "left fleet.example.org:39300"
    # The record of what was given away goes on in another fleet, and its limit cannot be raised by leaving.
    assert join(pictures, "--max-epsilon", "8") == 6
    assert join(pictures, "--max-epsilon", "3") == 0


def test_the_ledger_is_forgotten_only_when_asked(pictures: list[str], server: list[str], tmp_path: Path) -> None:
    assert join(pictures, "--max-epsilon", "3") == 0
    other = tmp_path / "other" / "ledger.json"
    Ledger.open(other, max_epsilon=1.0, delta=1e-6, witness=witness_folder())
    assert len(list(witness_folder().glob("*.json"))) == 2
    assert main(["leave", "--forget-ledger", "--json"]) == 0
    assert not (tmp_path / "home" / "device").exists()
    assert len(list(witness_folder().glob("*.json"))) == 1, "another ledger's second memory stays"
    assert join(pictures, "--max-epsilon", "8") == 0


def test_leaving_works_without_the_server(
    pictures: list[str],
    server: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import client.enrolment as enrolment

    assert join(pictures) == 0

    def away(*_: object, **__: object) -> None:
        raise FederationError("fleet.example.org:39300 cannot be reached")

    monkeypatch.setattr(enrolment, "say_farewell", away)
    capsys.readouterr()
    assert main(["leave", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["server_told"] is False
    assert "could not be told" in captured.err and "'anna'" in captured.err
    assert not (tmp_path / "home" / "device" / "node.key").exists()


def test_leaving_what_was_never_joined(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leave", "--folder", str(tmp_path / "nothing")]) == 3
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").touch()
    assert main(["leave", "--folder", str(tmp_path / "mine")]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["note.txt"]


def test_forgetting_touches_only_what_is_easels(tmp_path: Path) -> None:
    for name in ("photo.png", "node.key", "ledger.json", "policy.toml"):
        (tmp_path / name).touch()
    (tmp_path / "photos").mkdir()
    assert forget(tmp_path, ledger=False) == ["policy.toml", "node.key"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.json", "photo.png", "photos"]


@pytest.mark.parametrize("content", ["", "[]", '{"server": 1}', '{"server": "a:1", "name": "b", "more": 1}'])
def test_a_damaged_membership_is_a_plain_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "membership.json").write_text(content)
    with pytest.raises(StorageError, match="damaged"):
        Membership.load(tmp_path)


def test_a_damaged_key_is_a_plain_error(tmp_path: Path) -> None:
    key = NodeKey.open(tmp_path / "node.key")
    assert NodeKey.open(tmp_path / "node.key").public == key.public
    (tmp_path / "node.key").write_text("nonsense")
    with pytest.raises(StorageError, match="damaged"):
        NodeKey.open(tmp_path / "node.key")


def test_the_loop_follows_the_policy_and_stops_its_node(
    pictures: list[str], server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``easel join`` as it runs: on battery nothing starts; a policy that is changed meanwhile counts."""
    import client.conditions as conditions
    import client.supernode as supernode

    assert join(pictures) == 0
    folder, starts, stops = tmp_path / "home" / "device", list[object](), list[object]()

    class Node:
        def __init__(self, *_: object, **__: object) -> None:
            starts.append(self)

        def running(self) -> bool:
            return True

        def stop(self) -> None:
            stops.append(self)

    looks = iter(range(10))

    def sleep(_: float) -> None:
        look = next(looks)
        if look == 2:
            assert starts == []
            (folder / "policy.toml").write_text("[when]\ncharging = false\n")
        if look == 4:
            assert (len(starts), len(stops)) == (1, 0)
            (folder / "policy.toml").write_text("[when]\nchargin = false\n")
        if look == 6:
            assert (len(starts), len(stops)) == (1, 1), "a policy that cannot be read allows nothing"
            raise KeyboardInterrupt

    monkeypatch.setattr(conditions, "on_mains", lambda: False)
    monkeypatch.setattr(supernode, "SuperNode", Node)
    monkeypatch.setattr(join_command.time, "sleep", sleep)
    assert main(["join"]) == 130
    assert len(stops) == 1


def test_help_names_the_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leave", "--help"]) == 0
    assert "privacy ledger" in " ".join(capsys.readouterr().out.split())
