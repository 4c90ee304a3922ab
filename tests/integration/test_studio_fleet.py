# ruff: noqa: E402
"""A fleet, from the studio's page: join with an invitation, take part in real rounds, see the charge, leave."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="the studio's extra is not installed")

from client.conditions import on_mains
from client.data import load_device, write_device
from client.ledger import Ledger
from client.studio.gate import KEY_HEADER
from server.cli import main as operator
from server.state import StateStore
from shared_model.config import HeadConfig
from shared_model.processes import end_marked

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 400.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# More rounds than will be trained: the fleet still runs when its one device leaves.
FEDERATION = """\
rounds = 40
population = 1
cohort = 1
noise_multiplier = 30.0
accept_loud_noise = true
clip = 0.5
local_steps = 1
batch = 2
min_nodes = 1
wait_s = 900.0
deadline_s = 300.0
quorum = 1.0
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a command of easel with its output in a file; it ends with the test, politely if it can."""
    monkeypatch.setenv("EASEL_HOME", str(tmp_path / "easel"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started: list[subprocess.Popen[bytes]] = []

    def begin(package: str, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"{package}.cli", *arguments]
        with log.open("ab") as stream:
            started.append(
                subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                )
            )
        return started[-1]

    yield begin
    for process in reversed(started):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
    for left in (*tmp_path.rglob("superlink.pid"), *tmp_path.rglob("supernode.pid")):
        end_marked(left)  # of a test that failed in between


class Page:
    """Asks the studio what its page asks."""

    def __init__(self, port: int, key: str) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._headers = {"origin": self._base, KEY_HEADER: key}

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask; work that was queued is followed to its end and its job returned."""
        answer = self._call(method, path, body)
        assert answer.is_success, answer.text
        told: dict[str, Any] = answer.json()
        while answer.status_code == 202 and told["state"] not in ("done", "failed", "stopped"):
            told = self._call("GET", f"/api/jobs/{told['id']}?since={told['version']}").json()
        return told

    def privacy(self) -> dict[str, Any]:
        """Ask for the ledger and the fleet."""
        return self.ask("GET", "/api/privacy")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return httpx.request(method, self._base + path, json=body, headers=self._headers, timeout=60.0, trust_env=False)


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def until(what: str, check: Callable[[], bool], *logs: Path) -> None:
    end = time.monotonic() + LIMIT_S
    while not check():
        texts = "\n".join(f"== {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())
        assert time.monotonic() < end, f"never: {what}\n{texts}"
        time.sleep(1.0)


@pytest.mark.skipif(not on_mains(), reason="the default policy waits for mains power")
def test_from_an_invitation_to_rounds_and_out_again(
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[bytes]],
    make_devices: Callable[[int], list[Path]],
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def operate(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        assert operator([*words, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    fleet, log, said = tmp_path / "fleet", tmp_path / "server.log", tmp_path / "studio.log"
    ports = ("--listen", "127.0.0.1", "--port", str(free_port()), "--control-port", str(free_port()))
    assert operator(["init", str(fleet), "--host", "127.0.0.1", *ports]) == 0
    (fleet / "federation.toml").write_text(FEDERATION)
    server = start("server", "run", str(fleet), "--backbone", str(weights), log=log)
    studio = start("client", "studio", "--no-browser", "--port", "0", "--device", "cpu", "--json", log=said)
    until("the gate listens", lambda: "devices come to port" in log.read_text(), log)
    until("the studio is open", lambda: "#key=" in said.read_text(), said)
    at = json.loads("{" + said.read_text().split("{", 1)[1].split("}", 1)[0] + "}")
    page = Page(at["port"], at["address"].split("#key=")[1])
    assert "nothing has left it" in page.privacy()["sentences"][0]

    invited = operate("device", "add", "anna", "--folder", str(fleet))
    own = make_devices(1)[0]
    asked = {"server": invited["server"], "photos": str(own / "photos"), "art": str(own / "art"), "max_epsilon": 6}
    typo = page.ask("POST", "/api/fleet", {**asked, "code": invited["code"][:-1]})
    assert typo["state"] == "failed" and typo["error"]["hint"] and not page.privacy()["fleet"]["joined"]
    joined = page.ask("POST", "/api/fleet", {**asked, "code": invited["code"]})
    assert joined["state"] == "done", joined["error"]
    told = page.privacy()
    assert told["fleet"]["joined"] and told["fleet"]["name"] == "anna" and told["fleet"]["server"] == invited["server"]
    assert not told["fleet"]["taking_part"] and told["participations"] == 0
    device = tmp_path / "easel" / "device"
    small = HeadConfig(canvas_px=64, atoms=64, candidates=200)
    write_device(
        device, type(load_device(device))(**{**vars(load_device(device)), "records": 4, "size_px": 64, "head": small})
    )

    part = page.ask("POST", "/api/fleet/part", {"on": True})
    assert part["state"] == "done", part["error"]
    assert page.privacy()["fleet"]["taking_part"]

    def accepted() -> int:
        state = StateStore(fleet / "run").load()
        return 0 if state is None else sum(report.accepted for report in state.reports)

    until("a round is accepted", lambda: accepted() >= 1, log, said)
    during = page.privacy()
    assert during["fleet"]["taking_part"] and during["fleet"]["note"].startswith("taking part"), during["fleet"]
    rested = page.ask("POST", "/api/fleet/part", {"on": False})
    assert rested["state"] == "done" and not page.privacy()["fleet"]["taking_part"]

    told = page.privacy()
    entries = Ledger.open(device / "ledger.json").entries()
    assert told["problem"] is None and told["complete"]
    assert accepted() <= told["participations"] == len(entries) and told["rounds"][0]["round"] == entries[-1].round
    assert 0 < told["epsilon"] <= told["max_epsilon"] == 6 and told["bytes_sent"] > 0
    assert "nothing has left" not in " ".join(told["sentences"])

    left = page.ask("DELETE", "/api/fleet")
    assert left["state"] == "done", left["error"]
    assert left["result"]["server_told"] and left["result"]["ledger_kept"] and left["result"]["warnings"] == []
    after = page.privacy()
    assert not after["fleet"]["joined"] and after["participations"] == len(entries), "the ledger stays"
    devices = operate("device", "list", "--folder", str(fleet))["devices"]
    assert [(one["name"], one["state"]) for one in devices] == [("anna", "revoked")]
    assert len(list((own / "photos").iterdir())) == 2

    studio.terminate()
    assert studio.wait(60) == 0
    assert operator(["stop", str(fleet)]) == 0 and server.wait(60) == 130
