"""The handle of a SuperLink: what Flower's programs do wrong becomes one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from server import superlink
from server.superlink import SuperLink
from shared_model.errors import FederationError


@pytest.fixture
def link(tmp_path: Path) -> SuperLink:
    (tmp_path / "empty").mkdir()
    return SuperLink(subprocess.Popen([sys.executable, "-c", ""]), "127.0.0.1:1", tmp_path)


def _program(folder: Path, text: str) -> str:
    path = folder / "flwr"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_silent_program_is_an_error_not_a_traceback(
    link: SuperLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superlink, "program", lambda _: _program(tmp_path, "exec sleep 20"))
    monkeypatch.setattr(superlink, "_ANSWER_S", 0.3)
    with pytest.raises(FederationError, match="no answer within"):
        link.status("1")
    link.process.wait()


def test_garbage_is_an_error_with_its_last_words(
    link: SuperLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superlink, "program", lambda _: _program(tmp_path, "echo out of cheese >&2"))
    with pytest.raises(FederationError, match="out of cheese"):
        link.status("1")
    link.process.wait()
