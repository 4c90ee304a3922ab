"""A fleet from nothing: init, enrolment by code, supervised devices through the gate, rounds, revocation, leaving."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.cli import main as owner
from client.conditions import on_mains
from client.data import load_device, write_device
from client.ledger import Ledger
from client.node_key import NodeKey
from server.cli import main as operator
from server.state import StateStore
from server.superlink import environment, program, stop
from shared_model.config import HeadConfig
from shared_model.processes import end_marked

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 400.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FEDERATION = """\
rounds = 1
population = 2
cohort = 2
noise_multiplier = 8.0
accept_loud_noise = true
clip = 0.5
local_steps = 1
batch = 2
min_nodes = 2
wait_s = 900.0
deadline_s = 300.0
quorum = 1.0
"""


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in reversed(started):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    for left in (*tmp_path.rglob("superlink.pid"), *tmp_path.rglob("supernode.pid")):
        end_marked(left)  # of a test that failed between a kill and the start after it


class Commands:
    """Calls the commands in this process: each would import torch anew in one of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, command: Callable[[list[str]], int], *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        found = command(list(arguments))
        captured = self._capsys.readouterr()
        assert found == code, captured.out + captured.err
        return captured.out if code == 0 else captured.err

    def connections(self, fleet: Path) -> dict[str, str]:
        found: dict[str, Any] = json.loads(self(operator, "device", "list", "--folder", str(fleet), "--json"))
        return {item["name"]: f"{item['state']} {item['connection']}".strip() for item in found["devices"]}


def init(fleet: Path, call: Commands, *, port: int, control: int) -> None:
    ports = ("--listen", "127.0.0.1", "--port", str(port), "--control-port", str(control))
    call(operator, "init", str(fleet), "--host", "127.0.0.1", *ports)
    (fleet / "federation.toml").write_text(FEDERATION)


def join(name: str, own: Path, folder: Path, fleet: Path, call: Commands, *, port: int) -> tuple[str, ...]:
    """Invite and enrol a device with a few small records; returns the options of its join, --folder last."""
    code = json.loads(call(operator, "device", "add", name, "--folder", str(fleet), "--json"))["code"]
    assert code not in (fleet / "devices.json").read_text()
    options = ("--server", f"127.0.0.1:{port}", "--code", code, "--photos", str(own / "photos"))
    options += ("--art", str(own / "art"), "--max-epsilon", "3", "--folder", str(folder))
    call(owner, "join", *options, "--enroll-only")
    small = HeadConfig(canvas_px=64, atoms=64, candidates=200)
    config = load_device(folder)
    write_device(folder, type(config)(**{**vars(config), "records": 4, "size_px": 64, "head": small}))
    return options


def free_ports(count: int) -> list[int]:
    import socket

    lines = [socket.socket() for _ in range(count)]
    for line in lines:
        line.bind(("127.0.0.1", 0))
    ports = [int(line.getsockname()[1]) for line in lines]
    for line in lines:
        line.close()
    return ports


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setenv("EASEL_HOME", str(tmp_path / "easel"))
    return Commands(capsys)


def start(package: str, *arguments: str, home: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", f"{package}.cli", *arguments],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(ROOT), "EASEL_HOME": str(home / "easel")},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )


def until(what: str, check: Callable[[], bool], *logs: Path) -> None:
    end = time.monotonic() + LIMIT_S
    while not check():
        texts = "\n".join(f"== {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())
        assert time.monotonic() < end, f"never: {what}\n{texts}"
        time.sleep(1.0)


@pytest.mark.skipif(not on_mains(), reason="the default policy waits for mains power")
def test_a_fleet_from_nothing(
    tmp_path: Path,
    processes: list[subprocess.Popen[bytes]],
    make_devices: Callable[[int], list[Path]],
    weights: Path,
    call: Commands,
) -> None:
    """Two enrolled devices train; a revoked, an unknown and an unenrolled one are refused; nobody reaches control."""
    fleet, (port, control, spare) = tmp_path / "fleet", free_ports(3)
    init(fleet, call, port=port, control=control)
    log = tmp_path / "server.log"
    server = start("server", "run", str(fleet), "--backbone", str(weights), home=tmp_path, log=log)
    processes.append(server)
    until("the gate listens", lambda: "devices come to port" in log.read_text(), log)

    pictures = make_devices(3)
    folders, joined = {}, {}
    for name, own in zip(("anna", "ben", "mallory"), pictures, strict=True):
        folder = folders[name] = tmp_path / "joined" / name
        options = join(name, own, folder, fleet, call, port=port)
        # A code is good once: another device cannot use it.
        elsewhere = (*options[:-1], str(tmp_path / "thief"))
        assert "not good" in call(owner, "join", *elsewhere, "--enroll-only", code=7)
    assert call.connections(fleet) == dict.fromkeys(folders, "enrolled registered")

    def take_part(name: str) -> None:
        joined[name] = tmp_path / f"{name}.log"
        processes.append(start("client", "join", "--folder", str(folders[name]), home=tmp_path, log=joined[name]))

    take_part("anna")
    until("anna is online", lambda: call.connections(fleet)["anna"] == "enrolled online", joined["anna"], log)

    # Flower's control interface is not behind the gate, with or without a known key.
    trust = ssl.create_default_context(cafile=str(fleet / "ca.pem"))
    for path in ("/v1/control/list-nodes", "/v1/runtime/pull", "/docs", "/v1/fleet/../control/list-nodes"):
        assert httpx.post(f"https://127.0.0.1:{port}{path}", verify=trust, content=b"").status_code in (401, 404)
    assert httpx.post(f"https://127.0.0.1:{port}/v1/fleet/pull-messages", verify=trust).status_code == 401

    # A key that nobody enrolled, at the gate and even at Flower's own port.
    NodeKey.open(tmp_path / "unknown.key")
    for at in (port, control):
        home = tmp_path / f"unknown{at}"
        (home / "empty").mkdir(parents=True)
        command = [program("flower-supernode"), "--root-certificates", str(fleet / "ca.pem")]
        command += ["--superlink", f"127.0.0.1:{at}", "--host", "127.0.0.1", "--port", str(spare)]
        command += ["--auth-supernode-private-key", str(tmp_path / "unknown.key"), "--max-retries", "1"]
        with (home / "log").open("wb") as stream:
            node = subprocess.Popen(
                command, cwd=home / "empty", env=environment(home), stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            assert node.wait(LIMIT_S) is not None
        finally:
            stop(node)
        # The gate's 401 makes Flower end in peace; the SuperLink itself knows no such node.
        said = (home / "log").read_text()
        assert ("terminated gracefully" if at == port else "Failed to activate") in said, said
    assert list(call.connections(fleet)) == ["anna", "ben", "mallory"]

    # Stopped and started again: nobody enrols again, and the SuperNode that was online comes back by itself.
    assert "stopped" in call(operator, "stop", str(fleet))
    assert server.wait(60) == 130 and call.connections(fleet)["anna"] == "enrolled unknown"
    log = tmp_path / "server2.log"
    server = start("server", "run", str(fleet), "--backbone", str(weights), home=tmp_path, log=log)
    processes.append(server)
    until("the gate listens again", lambda: "devices come to port" in log.read_text(), log)
    until("anna is back", lambda: call.connections(fleet)["anna"] == "enrolled online", joined["anna"], log)
    assert joined["anna"].read_text().count("taking part") == 1

    call(operator, "device", "revoke", "mallory", "--folder", str(fleet))
    take_part("mallory")
    until("mallory is refused", lambda: "turned it away" in joined["mallory"].read_text(), joined["mallory"])
    assert call.connections(fleet)["mallory"] == "revoked"

    take_part("ben")
    assert server.wait(LIMIT_S) == 0, log.read_text() + joined["ben"].read_text()
    state = StateStore(fleet / "run").load()
    assert state is not None and [report.accepted for report in state.reports] == [2]
    spent = {name: len(Ledger.open(folder / "ledger.json").entries()) for name, folder in folders.items()}
    assert spent == {"anna": 1, "ben": 1, "mallory": 0}
    events = (fleet / "run" / "events.jsonl").read_text()
    assert not [word for word in (*folders, "127.0.0.1", str(tmp_path)) if word in events]

    facts = json.loads(call(operator, "status", str(fleet), "--json"))
    assert facts["fleet"]["devices"] == {"invited": 0, "enrolled": 2, "revoked": 1}
    assert facts["fleet"]["process"] is None and facts["run"]["finished"]
    metrics = call(operator, "status", str(fleet), "--metrics")
    assert "easel_replies_accepted_total 2" in metrics

    told = json.loads(call(owner, "leave", "--folder", str(folders["anna"]), "--json"))
    assert told["ledger_kept"] and told["server_told"] is False  # the server has ended
    assert sorted(path.name for path in folders["anna"].iterdir()) == ["ledger.json", "ledger.json.seal"]
    assert len(list((pictures[0] / "photos").iterdir())) == 2


@pytest.mark.skipif(not on_mains(), reason="the default policy waits for mains power")
def test_everything_is_killed_once(
    tmp_path: Path,
    processes: list[subprocess.Popen[bytes]],
    make_devices: Callable[[int], list[Path]],
    weights: Path,
    call: Commands,
) -> None:
    """kill -9 of the SuperNode, of the server, of the supervisor: each start after it works; then the device leaves."""
    fleet, folder, (port, control) = tmp_path / "fleet", tmp_path / "anna", free_ports(2)
    init(fleet, call, port=port, control=control)
    log, said = tmp_path / "server.log", tmp_path / "anna.log"

    def serve() -> subprocess.Popen[bytes]:
        before = log.read_text().count("devices come to port") if log.exists() else 0
        processes.append(start("server", "run", str(fleet), "--backbone", str(weights), home=tmp_path, log=log))
        until("the gate listens", lambda: log.read_text().count("devices come to port") > before, log)
        return processes[-1]

    def online() -> bool:
        return call.connections(fleet).get("anna") == "enrolled online"

    def node() -> int:
        mark = folder / "node" / "supernode.pid"
        return int(mark.read_text().split()[0]) if mark.exists() else 0

    server = serve()
    join("anna", make_devices(1)[0], folder, fleet, call, port=port)
    processes.append(start("client", "join", "--folder", str(folder), home=tmp_path, log=said))
    until("anna is online", online, said, log)

    killed = time.monotonic()
    os.kill(node(), signal.SIGKILL)
    until("the crash is seen", lambda: "ended unexpectedly; next try in 65 s" in said.read_text(), said)
    until("anna is started again", lambda: said.read_text().count("taking part") == 2, said)
    assert time.monotonic() - killed > 60.0
    until("anna is online after the lapse", online, said, log)
    assert "turned it away" not in said.read_text()

    superlink = int((fleet / "run" / "flower" / "superlink.pid").read_text().split()[0])
    server.kill()
    server.wait(30)
    os.kill(superlink, 0)  # it outlived its launcher
    server = serve()
    with pytest.raises(ProcessLookupError):
        os.kill(superlink, 0)
    until("anna is back", online, said, log)

    orphan = node()
    processes[1].kill()
    processes[1].wait(30)
    os.kill(orphan, 0)
    processes.append(start("client", "join", "--folder", str(folder), home=tmp_path, log=said))
    until("the orphan is ended", lambda: "ended the SuperNode of an earlier start" in said.read_text(), said)
    until("another takes part", lambda: node() not in (0, orphan) and online(), said, log)

    told = json.loads(call(owner, "leave", "--folder", str(folder), "--json"))
    assert told["server_told"] is True and processes[-1].wait(30) == 130
    assert call.connections(fleet) == {"anna": "revoked"}
    assert "stopped" in call(operator, "stop", str(fleet)) and server.wait(60) == 130
    events = [json.loads(line)["event"] for line in (fleet / "run" / "events.jsonl").read_text().splitlines()]
    assert events.count("started") == 2 and events[-1] == "stopped"
