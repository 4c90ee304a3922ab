"""easel at work without a network: in a network namespace that has no routes, and with sockets forbidden."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Any use of a socket ends the process, also where a library would swallow the error.
SCRIPT = """
import json, os, sys
from pathlib import Path
def forbid(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        os.write(2, f"a socket was used: {event} {arguments}\\n".encode())
        os._exit(99)
sys.addaudithook(forbid)
import shared_model.weights
weights, folder = Path(sys.argv[1]), Path(sys.argv[2])
shared_model.weights.default_backbone_path = lambda: weights
from client.cli import main
route = Path("/proc/net/route")
codes = {"routes": len(route.read_text().splitlines()) - 1 if route.exists() else -1}
for name, *call in json.loads(sys.argv[3]):
    print("==", name, flush=True)
    codes[name] = main(call)
print(json.dumps(codes))
"""


def _namespace() -> list[str]:
    """What starts a command without a network, or nothing where that is not permitted."""
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run(["unshare", "-rn", "true"], capture_output=True, timeout=20, check=False)
    return ["unshare", "-rn"] if tried.returncode == 0 else []


@pytest.fixture(scope="module")
def prefix() -> list[str]:
    return _namespace()


@pytest.fixture(scope="module")
def codes(
    prefix: list[str], weights_folder: Path, tmp_path_factory: pytest.TempPathFactory, smooth: Any
) -> dict[str, int]:
    from shared_model.images import save_picture

    folder = tmp_path_factory.mktemp("offline")
    photo, painting = (str(save_picture(folder / f"{i}.png", smooth(i))) for i in (11, 12))
    calls = [
        ["stylize", "stylize", photo, "--head", "tiny", "-o", str(folder / "out.png")],
        ["style", "stylize", photo, "--style", painting, "-o", str(folder / "styled.png")],
        ["personalize", "personalize", "mine", painting, "--budget", "0"],
        ["heads", "heads", "list"],
        ["mix", "stylize", photo, "--mix", "tiny=0.7,mine=0.3", "-o", str(folder / "mixed.png")],
        ["prefer", "prefer", "mine", photo, "--size", "64", "-o", str(folder / "sheet.png"), "--json"],
        ["choose", "prefer", "mine", "--choose", "2", "--apply"],
        ["export", "heads", "export", "mine", str(folder / "mine.head")],
        ["import", "heads", "import", str(folder / "mine.head"), "--name", "again"],
        ["privacy", "privacy"],
        ["doctor", "doctor", "--json"],
        ["replay", "stylize", photo, "--replay", str(folder / "out.png"), "-o", str(folder / "again.png")],
    ]
    weights = str(weights_folder / "backbone.safetensors")
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SCRIPT, weights, str(folder), json.dumps(calls)],
        cwd=ROOT,
        env=os.environ | {"EASEL_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    "name",
    "stylize style personalize heads mix prefer choose export import privacy doctor replay".split(),
)
def test_it_works_without_opening_a_socket(codes: dict[str, int], name: str) -> None:
    assert codes[name] == 0


def test_it_works_where_there_is_no_network(codes: dict[str, int], prefix: list[str]) -> None:
    if not prefix:
        pytest.skip("this system does not let a user make a network namespace (unshare -rn)")
    assert codes["routes"] <= 0


# The daemon paints for a client, and the studio answers its page, with the loopback interface alone.
SHELLS = """
import asyncio, fcntl, socket, struct, sys, threading
from pathlib import Path
with socket.socket() as line:  # up, as on every computer
    fcntl.ioctl(line, 0x8914, struct.pack("16sH14s", b"lo", 0x49, bytes(14)))
import shared_model.weights
weights = Path(sys.argv[1])
shared_model.weights.default_backbone_path = lambda: weights
import httpx
from client.atelier import open_atelier
from client.daemon.place import Place, Record
from client.daemon.server import Daemon
from client.store import Home
from client.studio.gate import KEY_HEADER
from client.studio.service import serving
from client.studio_client import Client
from client.warm_painter import WarmPainter
photo = Path(sys.argv[2]).read_bytes()
painter = WarmPainter(Home.default(), backbone=shared_model.weights.default_backbone(), device="cpu")
loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
run = Daemon(painter).run("unix:" + sys.argv[3], stop=stop, ready=lambda address: ready.set())
thread = threading.Thread(target=lambda: loop.run_until_complete(run))
thread.start()
assert ready.wait(60)
with Client("unix:" + sys.argv[3]) as client:
    print("daemon", client.stylize(photo, head="tiny").width)
loop.call_soon_threadsafe(stop.set)
thread.join()
with serving(open_atelier(device="cpu")) as gate, httpx.Client(base_url=gate.address, trust_env=False) as page:
    headers = {"origin": gate.address.rstrip("/"), KEY_HEADER: gate.key}
    print("studio", page.post("/api/photos", content=photo, headers=headers).json()["width"])
"""


def test_daemon_and_studio_need_this_computer_alone(
    prefix: list[str], weights_folder: Path, own_home: Path, tmp_path: Path, smooth: Any
) -> None:
    pytest.importorskip("starlette", reason="the studio's extra is not installed")
    pytest.importorskip("httpx", reason="asks the studio")
    pytest.importorskip("grpc_reflection", reason="the daemon's extra is not installed")
    if not prefix:
        pytest.skip("this system does not let a user make a network namespace (unshare -rn)")
    from shared_model.images import save_picture

    photo = save_picture(tmp_path / "photo.png", smooth(11))
    given = [weights_folder / "backbone.safetensors", photo, tmp_path / "s.sock"]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", SHELLS, *map(str, given)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["daemon", "56", "studio", "56"]


def test_the_guard_notices_a_socket() -> None:
    code = SCRIPT.split("import shared_model", maxsplit=1)[0] + "import socket\nsocket.socket()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 99 and "a socket was used" in done.stderr
