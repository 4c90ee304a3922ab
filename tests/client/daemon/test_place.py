from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from client.daemon.place import Place, Record, loopback
from shared_model.errors import InputError, StorageError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "new" / "daemon")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_and_what_is_in_it_are_the_owners_alone(place: Place) -> None:
    with place.claim():
        place.announce(Record("unix:x", 1, "0", token="secret"))
        assert mode(place.folder) == 0o700
        assert {mode(path) for path in place.folder.iterdir()} == {0o600}


def test_a_folder_that_was_open_to_others_is_closed(place: Place) -> None:
    place.folder.mkdir(parents=True)
    place.folder.chmod(0o777)
    with place.claim():
        assert mode(place.folder) == 0o700


def test_a_second_daemon_is_refused_while_the_first_one_lives(place: Place) -> None:
    with place.claim():
        place.announce(Record("unix:x", 77, "0"))
        with pytest.raises(InputError, match=r"running already \(process 77\)") as caught, place.claim():
            pass
        assert "easel serve --stop" in caught.value.hint
    with place.claim():
        pass


def test_what_a_killed_daemon_left_is_cleared(place: Place) -> None:
    place.folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(place.socket))
    place.announce(Record("unix:x", 77, "0"))
    assert place.running() is None, "nobody holds the lock"
    with place.claim():
        assert not place.socket.exists()
        assert place.running() is None


def test_a_lock_ends_with_its_process_even_when_that_is_killed(place: Place) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from client.daemon.place import Place, Record\n"
        "place = Place(Path(sys.argv[1]))\n"
        "with place.claim():\n"
        "    place.announce(Record('unix:x', os.getpid(), '0'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code, str(place.folder)], cwd=root, check=False, timeout=60)
    assert done.returncode == -9
    assert (place.folder / "daemon.json").exists()
    assert place.running() is None
    with place.claim():
        assert not (place.folder / "daemon.json").exists()


def test_clients_find_the_running_daemon_and_do_not_print_its_token(place: Place) -> None:
    assert place.running() is None
    record = Record("127.0.0.1:1", os.getpid(), "0", token="secret")
    with place.claim():
        place.announce(record)
        assert place.running() == record
        assert "secret" not in repr(record)
    assert place.running() is None


@pytest.mark.parametrize("junk", [b"", b"{}", b"[1]", b'{"address": 1, "what": 2}', b"\xff"])
def test_a_damaged_record_is_none(place: Place, junk: bytes) -> None:
    with place.claim():
        (place.folder / "daemon.json").write_bytes(junk)
        assert place.running() is None


def test_a_link_in_place_of_the_folder_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    place.folder.parent.mkdir()
    place.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="somebody else"), place.claim():
        pass


def test_a_home_whose_path_is_too_long_for_a_socket_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too long") as caught:
        _ = Place(tmp_path / ("x" * 120)).address
    assert "--tcp" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "address"),
    [("127.0.0.1:0", "127.0.0.1:0"), ("localhost:7171", "127.0.0.1:7171"), ("[::1]:80", "[::1]:80")],
)
def test_loopback_addresses(given: str, address: str) -> None:
    assert loopback(given) == address


@pytest.mark.parametrize(
    "given",
    ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.org:1", "127.0.0.1", ":1", "127.0.0.1:x", "127.0.0.1:65536", ""],
)
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"is not an address|other computers"):
        loopback(given)
