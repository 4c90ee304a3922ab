"""Flower's own runtimes: its simulation engine, and a SuperLink with SuperNodes as processes."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.ledger import Ledger
from server.bundle import run_config
from server.cli import main
from server.config import FederationConfig
from server.outputs import BACKBONE
from server.state import StateStore
from server.superlink import SuperLink, environment, program, stop, superlink
from shared_model.weights import load_backbone

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def finish(link: SuperLink, run: str) -> str:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        status = link.status(run)
        if status.startswith("finished"):
            return status
        time.sleep(2)
    return f"not finished: {link.run_log(run)[-3000:]}"


def test_flwr_run_on_the_simulation_engine(
    tmp_path: Path, config: FederationConfig, make_devices: Callable[[int], list[Path]], weights: Path, port: int
) -> None:
    """``flwr run .`` of the checkout itself; the SuperLink runs in an empty folder."""
    folders = make_devices(3)
    values = run_config(config, run_dir=tmp_path / "run", backbone=str(weights), devices_dir=str(tmp_path / "devices"))
    sizes = "num-supernodes=3 client-resources-num-cpus=1 init-args-num-cpus=2"
    with superlink(tmp_path / "link", port=port, simulation=True) as link:
        run = link.submit(values, app=ROOT, federation_config=sizes)
        status = finish(link, run)
        assert status == "finished:completed", link.run_log(run)[-3000:]
    assert link.process.poll() is not None
    state = StateStore(tmp_path / "run").load()
    assert [report.accepted for report in state.reports] == [3, 3]
    assert load_backbone(tmp_path / "run" / BACKBONE).config == state.model
    entries = [Ledger.open(folder / "ledger.json").entries() for folder in folders]
    assert [[entry.round for entry in device] for device in entries] == [[1, 2]] * 3


@contextlib.contextmanager
def supernodes(tmp_path: Path, folders: list[Path], port: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start one SuperNode per device folder, each with a home of its own, in an empty folder."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index, folder in enumerate(folders):
            home = tmp_path / f"node{index}"
            (home / "empty").mkdir(parents=True)
            with (home / "log").open("wb") as log:
                command = [
                    *(program("flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{port}"),
                    *("--host", "127.0.0.1", "--port", str(free_port())),
                    *("--node-config", f'device-dir="{folder}"'),
                ]
                processes.append(
                    subprocess.Popen(
                        command,
                        cwd=home / "empty",
                        env=environment(home),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        yield processes
    finally:
        for process in processes:
            stop(process)


def test_superlink_with_three_supernodes(
    tmp_path: Path, make_devices: Callable[[int], list[Path]], weights: Path, port: int
) -> None:
    """``easel-server run`` as a process, three SuperNodes, a real (small) fleet with its whole noise."""
    folders = make_devices(3)
    settings = tmp_path / "federation.toml"
    settings.write_text(
        "rounds = 2\npopulation = 3\ncohort = 3\nnoise_multiplier = 8.0\naccept_loud_noise = true\nclip = 0.5\n"
        "local_steps = 1\nbatch = 2\nmin_nodes = 3\nwait_s = 120.0\ndeadline_s = 120.0\nquorum = 1.0\n"
    )
    command = [
        *(sys.executable, "-m", "server.cli", "run", "--config", str(settings), "--run-dir", str(tmp_path / "run")),
        *("--backbone", str(weights), "--port", str(port)),
    ]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        with supernodes(tmp_path, folders, port):
            code = server.wait(LIMIT_S)
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait(30)
    said = (tmp_path / "server.log").read_text()
    assert code == 0, said
    assert "round 2/2: 3 of 3 accepted" in said
    state = StateStore(tmp_path / "run").load()
    assert [report.accepted for report in state.reports] == [3, 3]
    assert state.reports[1].epsilon == state.reports[1].run_epsilon
    for folder in folders:
        assert [entry.round for entry in Ledger.open(folder / "ledger.json").entries()] == [1, 2]
    assert main(["status", "--run-dir", str(tmp_path / "run")]) == 0
