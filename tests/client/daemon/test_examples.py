"""The examples for other programs, run against a daemon that paints."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from client.warm_painter import WarmPainter
from shared_model.head import Head
from shared_model.images import load_picture, read_settings

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "daemon"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def node() -> str:
    """The program `node`, where it and the two packages are there; nothing is installed for a test."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    looks = "require.resolve('@grpc/grpc-js'); require.resolve('@grpc/proto-loader')"
    if run(found, "-e", looks).returncode:
        pytest.skip("@grpc/grpc-js and @grpc/proto-loader are not installed: npm install in examples/daemon")
    return found


def test_python_paints(launch: Any, atelier: WarmPainter, photo: bytes, tmp_path: Path, monkeypatch: Any) -> None:
    launch(atelier)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "photo.png").write_bytes(photo)
    out = tmp_path / "painted.webp"
    done = run(sys.executable, "paint.py", str(tmp_path / "photo.png"), "tiny", str(out))
    assert done.returncode == 0, done.stderr
    assert load_picture(out).rgb.shape == (40, 56, 3)
    assert "painting" in done.stderr


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "token"])
def test_node_paints_with_a_stub_made_from_the_proto(
    launch: Any, atelier: WarmPainter, photo: bytes, tmp_path: Path, node: str, tcp: bool, tiny_head: Head
) -> None:
    launch(atelier, tcp=tcp)
    atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name="other")
    (tmp_path / "photo.png").write_bytes(photo)
    out = tmp_path / "painted.png"
    done = run(node, "paint.js", str(tmp_path / "photo.png"), "tiny", str(out))
    assert done.returncode == 0, done.stderr
    assert load_picture(out).rgb.shape == (40, 56, 3)
    assert "painting 10%" in done.stderr
    mixed = run(node, "paint.js", str(tmp_path / "photo.png"), "tiny=0.7,other=0.3", str(out))
    assert mixed.returncode == 0, mixed.stderr
    assert dict(read_settings(out)["mix"]) == {"tiny": 0.7, "other": 0.3}
    wrong = run(node, "paint.js", str(tmp_path / "photo.png"), "tiny=much", str(out))
    assert wrong.returncode == 1 and "weight" in wrong.stderr
    missing = run(node, "paint.js", str(tmp_path / "photo.png"), "nobody", str(out))
    assert missing.returncode == 1 and "no head called 'nobody'" in missing.stderr
    assert os.environ["EASEL_HOME"] not in missing.stderr
