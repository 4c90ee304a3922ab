"""Flower's own runtimes: its simulation engine, and a SuperLink with SuperNodes as processes."""

import contextlib
import datetime
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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


def make_certificates(folder: Path) -> dict[str, Path]:
    """Make an authority and a server certificate for 127.0.0.1, good for an hour."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    server = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])

    def sign(subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        return builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    private = server_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    contents = {
        "ca": sign(authority, authority_key, x509.BasicConstraints(ca=True, path_length=0)),
        "cert": sign(server, server_key, address),
        "key": private,
    }
    for name, content in contents.items():
        (folder / f"{name}.pem").write_bytes(content)
    return {name: folder / f"{name}.pem" for name in contents}


@contextlib.contextmanager
def supernodes(tmp_path: Path, folders: list[Path], port: int, ca: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start one SuperNode per device folder, each with a home of its own, in an empty folder."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for index, folder in enumerate(folders):
            home = tmp_path / f"node{index}"
            (home / "empty").mkdir(parents=True)
            with (home / "log").open("wb") as log:
                command = [
                    *(program("flower-supernode"), "--root-certificates", str(ca), "--superlink", f"127.0.0.1:{port}"),
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


@pytest.mark.parametrize("protection", ["", "adaptive_clip = true\n", 'mechanism = "factorized"\n'])
def test_superlink_with_three_supernodes(
    protection: str, tmp_path: Path, make_devices: Callable[[int], list[Path]], weights: Path, port: int
) -> None:
    """``easel-server run`` and three SuperNodes over TLS: a real (small) fleet with its whole noise."""
    folders, pem = make_devices(3), make_certificates(tmp_path)
    settings = tmp_path / "federation.toml"
    settings.write_text(
        "rounds = 2\npopulation = 3\ncohort = 3\nnoise_multiplier = 8.0\naccept_loud_noise = true\nclip = 0.5\n"
        "local_steps = 1\nbatch = 2\nmin_nodes = 3\nwait_s = 120.0\ndeadline_s = 120.0\nquorum = 1.0\n" + protection
    )
    command = [
        *(sys.executable, "-m", "server.cli", "run", "--config", str(settings), "--run-dir", str(tmp_path / "run")),
        *("--backbone", str(weights), "--port", str(port)),
        *("--ca", str(pem["ca"]), "--cert", str(pem["cert"]), "--key", str(pem["key"])),
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
        with supernodes(tmp_path, folders, port, pem["ca"]):
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
