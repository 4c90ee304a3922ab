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


@pytest.mark.parametrize("name", ["stylize", "style", "personalize", "heads", "privacy", "doctor", "replay"])
def test_it_works_without_opening_a_socket(codes: dict[str, int], name: str) -> None:
    assert codes[name] == 0


def test_it_works_where_there_is_no_network(codes: dict[str, int], prefix: list[str]) -> None:
    if not prefix:
        pytest.skip("this system does not let a user make a network namespace (unshare -rn)")
    assert codes["routes"] <= 0


def test_the_guard_notices_a_socket() -> None:
    code = SCRIPT.split("import shared_model", maxsplit=1)[0] + "import socket\nsocket.socket()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 99 and "a socket was used" in done.stderr
