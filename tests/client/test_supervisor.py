"""Supervision: starts, stops and waits as it says; processes end with their supervisor."""

import itertools
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from client.membership import Membership
from client.supernode import SuperNode, command, end_orphan
from client.supervisor import LAPSE_S, Supervisor, only_one, supervising
from shared_model.errors import FederationError, StorageError


class FakeNode:
    def __init__(self) -> None:
        self.alive, self.turned_away, self.stops = True, False, 0

    def running(self) -> bool:
        return self.alive

    def refused(self) -> bool:
        return self.turned_away

    def stop(self) -> None:
        self.alive, self.stops = False, self.stops + 1


class World:
    """A clock, conditions and nodes to play with."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reasons: list[str] = []
        self.nodes: list[FakeNode] = []
        self.said: list[str] = []
        self.supervisor = Supervisor(
            self.start, objections=lambda _: self.reasons, clock=lambda: self.now, say=self.said.append
        )

    def start(self) -> FakeNode:
        assert not any(node.alive for node in self.nodes), "two at once"
        self.nodes.append(FakeNode())
        return self.nodes[-1]

    def pass_time(self, seconds: float, *, look_s: float = 5.0) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += look_s
            self.supervisor.step()


@pytest.fixture
def world() -> World:
    return World()


def test_it_starts_once_and_stops_when_a_condition_fails(world: World) -> None:
    world.pass_time(100)
    assert len(world.nodes) == 1 and world.supervisor.taking_part
    world.reasons = ["on battery"]
    world.pass_time(5)
    assert not world.supervisor.taking_part and world.nodes[0].stops == 1
    world.pass_time(1000)
    assert len(world.nodes) == 1
    world.reasons = []
    world.pass_time(5)
    assert len(world.nodes) == 2, "it signed off, so it may come back at once"
    assert world.said == ["taking part", "waiting: on battery", "taking part"]


def test_nothing_starts_while_a_condition_fails(world: World) -> None:
    world.reasons = ["outside 22:00-07:00"]
    world.pass_time(10_000, look_s=60.0)
    assert world.nodes == []


def test_after_a_crash_it_waits_for_the_lapse(world: World) -> None:
    world.pass_time(700)
    world.nodes[0].alive = False
    world.pass_time(LAPSE_S - 5)
    assert len(world.nodes) == 1
    world.pass_time(10)
    assert len(world.nodes) == 2
    assert "ended unexpectedly; next try in 65 s" in world.said[1]


def test_a_device_that_is_turned_away_asks_ever_more_rarely(world: World) -> None:
    starts = []
    for _ in range(12):
        count = len(world.nodes)
        while len(world.nodes) == count:
            world.pass_time(5)
        starts.append(world.now)
        world.nodes[-1].turned_away, world.nodes[-1].alive = True, False
    waits = [after - before for before, after in itertools.pairwise(starts)]
    assert waits[0] >= LAPSE_S
    assert all(later >= earlier for earlier, later in itertools.pairwise(waits))
    assert 3600 <= waits[-1] <= 3700
    assert any("revoked" in text for text in world.said)


def test_a_steady_time_forgives(world: World) -> None:
    for _ in range(3):
        count = len(world.nodes)
        while len(world.nodes) == count:
            world.pass_time(5)
        world.nodes[-1].alive = False
    while not world.supervisor.taking_part:
        world.pass_time(5)
    world.pass_time(700)
    world.nodes[-1].alive = False
    count = len(world.nodes)
    world.pass_time(LAPSE_S + 10)
    assert len(world.nodes) == count + 1


def test_closing_stops_it(world: World) -> None:
    world.pass_time(5)
    world.supervisor.close()
    assert world.nodes[0].stops == 1
    world.supervisor.close()


def test_a_device_is_supervised_once(tmp_path: Path) -> None:
    assert supervising(tmp_path) is None
    with only_one(tmp_path):
        assert supervising(tmp_path) == os.getpid()
        with pytest.raises(FederationError, match=f"process {os.getpid()}"), only_one(tmp_path):
            pass
    assert supervising(tmp_path) is None


SLEEPER = [sys.executable, "-c", "import sys, time; print('Failed to activate', flush=True); time.sleep(600)"]


def test_a_real_process_is_started_seen_and_stopped(tmp_path: Path) -> None:
    node = SuperNode(SLEEPER, home=tmp_path / "node", environ=os.environ)
    try:
        assert node.running()
        end = time.monotonic() + 60
        while not node.refused() and time.monotonic() < end:
            time.sleep(0.05)
        assert node.refused()
    finally:
        node.stop()
    assert not node.running() and not end_orphan(tmp_path / "node")
    again = SuperNode([sys.executable, "-c", ""], home=tmp_path / "node", environ=os.environ)
    again.stop()
    assert not again.refused(), "what an earlier one was told does not count"


def test_an_orphan_is_ended_and_a_stranger_is_not(tmp_path: Path) -> None:
    node = SuperNode(SLEEPER, home=tmp_path, environ=os.environ)
    try:
        pid, born = (tmp_path / "supernode.pid").read_text().split()
        (tmp_path / "supernode.pid").write_text(f"{pid} {int(born) + 1}\n")
        assert not end_orphan(tmp_path) and node.running(), "the number belongs to another process by now"
        (tmp_path / "supernode.pid").write_text(f"{pid} {born}\n")
        assert end_orphan(tmp_path)
        assert not node.running()
    finally:
        node.stop()


def test_a_program_that_cannot_start_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot start"):
        SuperNode([str(tmp_path / "nothing")], home=tmp_path / "node", environ=os.environ)


def test_the_command_shows_its_key_to_its_own_server_only(tmp_path: Path) -> None:
    folder = tmp_path / 'a "device"'
    found = command(folder, Membership("fleet.example.org:39300", "anna"), port=1234)
    options = dict(zip(found[1::2], found[2::2], strict=True))
    assert options["--superlink"] == "fleet.example.org:39300"
    assert options["--root-certificates"] == str(folder / "ca.pem")
    assert options["--auth-supernode-private-key"] == str(folder / "node.key")
    assert options["--host"] == "127.0.0.1" and "--insecure" not in found
    assert tomllib.loads(Path(options["--node-config"]).read_text()) == {"device-dir": str(folder)}


def test_nothing_here_loads_flower() -> None:
    code = "import sys, client.supervisor, client.supernode, client.conditions; print('flwr' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
