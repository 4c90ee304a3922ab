"""A real SuperLink and real SuperNodes in a network namespace whose links are slow and lose packets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from server.bundle import run_config
from server.config import FederationConfig
from server.state import StateStore
from server.superlink import environment, program, stop, superlink

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIMIT_S = 1200.0
INSIDE = "EASEL_TEST_SLOW_LINK"
#: Long and lossy where the kernel can, else narrow with a short queue, which loses packets too.
LINKS = ("netem delay 120ms 40ms loss 2%", "tbf rate 4mbit burst 16kb latency 50ms")


def namespace(*command: str, link: str) -> list[str]:
    """Return the command as it runs in a namespace of its own, where loopback is ``link``."""
    script = f'ip link set lo mtu 1500 up && tc qdisc add dev lo root {link} && exec "$@"'
    return ["unshare", "--map-root-user", "--net", "sh", "-c", script, "sh", *command]


def usable_link() -> str:
    """Return the first kind of slow link that works here, empty if none does."""
    if not all(shutil.which(name) for name in ("unshare", "ip", "tc")):
        return ""
    for link in LINKS:
        try:
            tried = subprocess.run(namespace("true", link=link), capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        if tried.returncode == 0:
            return link
    return ""


def test_rounds_over_slow_links() -> None:
    link = usable_link()
    if not link:
        pytest.skip("no network namespaces, or no tc with netem or tbf, for an ordinary user here")
    inside = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::test_inside"]
    done = subprocess.run(
        namespace(*inside, link=link),
        env={**os.environ, INSIDE: link, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 300.0,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "1 passed" in done.stdout


@pytest.mark.skipif(INSIDE not in os.environ, reason="runs inside the namespace that the test above makes")
def test_inside(
    tmp_path: Path, config: FederationConfig, make_devices: Callable[[int], list[Path]], weights: Path
) -> None:
    """Two rounds, one device more than planned is asked; every round has what it needs, late ones do no harm."""
    shown = subprocess.run(["tc", "qdisc", "show", "dev", "lo"], capture_output=True, text=True, check=True).stdout
    assert os.environ[INSIDE].split()[0] in shown
    folders = make_devices(3)
    for folder in folders:
        (folder / "policy.toml").write_text("simulation = true\nmin_noise_multiplier = 0.0\n")
    asked = FederationConfig(
        **{
            **vars(config),
            "simulated_cohort": 2,
            "over_selection": 1.5,
            "close_early": True,
            "close_looks": 60,
            "deadline_s": 600.0,
            "wait_s": 300.0,
        }
    )
    port = free_port()
    with ExitStack() as held:
        link = held.enter_context(superlink(tmp_path / "link", port=port))
        for index, folder in enumerate(folders):
            process = supernode(tmp_path / f"node{index}", folder, port)
            held.callback(stop, process)
        run = link.submit(run_config(asked, run_dir=tmp_path / "run", backbone=str(weights)))
        end, status = time.monotonic() + LIMIT_S, ""
        while time.monotonic() < end and not status.startswith("finished"):
            time.sleep(2)
            status = link.status(run)
        assert status == "finished:completed", link.run_log(run)[-3000:]
    state = StateStore(tmp_path / "run").load()
    assert state is not None and state.round == 2
    for report in state.reports:
        assert report.asked == 3 and report.released and report.accepted >= 2
        assert set(report.reasons) <= {"not needed"}


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def supernode(home: Path, folder: Path, port: int) -> subprocess.Popen[bytes]:
    (home / "empty").mkdir(parents=True)
    command = [
        *(program("flower-supernode"), "--insecure", "--superlink", f"127.0.0.1:{port}"),
        *("--host", "127.0.0.1", "--port", str(free_port())),
        *("--node-config", f'device-dir="{folder}"'),
    ]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=home / "empty",
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
