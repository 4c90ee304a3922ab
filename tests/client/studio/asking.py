"""Asking the studio over HTTP without a browser."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from client.studio.desk import Desk
    from client.studio.gate import Gate

BASE = "http://127.0.0.1:8700"
Pictures = Callable[..., np.ndarray]


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def asking(desk: Desk, gate: Gate, headers: dict[str, str]) -> TestClient:
    from starlette.testclient import TestClient

    from client.studio.app import build_app

    return TestClient(build_app(desk, gate=gate), base_url=BASE, headers=headers, raise_server_exceptions=False)


def finished(page: TestClient, started: Any) -> dict[str, Any]:
    assert started.status_code == 202, started.text
    job: dict[str, Any] = started.json()
    deadline = time.monotonic() + 60
    while job["state"] not in ("done", "failed", "stopped"):
        assert time.monotonic() < deadline
        job = page.get(f"/api/jobs/{job['id']}?since={job['version']}").json()
    return job


def error(answer: Any, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    told: dict[str, str] = answer.json()["error"]
    assert told["message"] and set(told) == {"message", "hint", "kind"}
    assert "Traceback" not in answer.text
    return told
