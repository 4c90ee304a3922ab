from __future__ import annotations

import os
import signal
import sys
import types
from pathlib import Path

import pytest

from client.startup import import_torch


@pytest.fixture
def fake_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a torch in the way of the next import that only notes how it was imported."""
    (tmp_path / "torch.py").write_text(
        "import os, signal\npolicy = os.environ.get('OMP_WAIT_POLICY')\nhandler = signal.getsignal(signal.SIGINT)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def test_ctrl_c_ends_the_process_while_torch_starts_and_is_python_s_again_after(fake_torch: None) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        import_torch()
        assert sys.modules["torch"].handler is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_ctrl_c_stays_ignored(fake_torch: None) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import_torch()
        assert sys.modules["torch"].handler is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_threads_wait_politely(fake_torch: None) -> None:
    import_torch()
    assert sys.modules["torch"].policy == "passive"


@pytest.mark.parametrize("polite", [True, False])
def test_a_policy_of_the_user_stays(fake_torch: None, monkeypatch: pytest.MonkeyPatch, polite: bool) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    import_torch(polite=polite)
    assert sys.modules["torch"].policy == "active"


def test_training_keeps_spinning(fake_torch: None) -> None:
    import_torch(polite=False)
    assert sys.modules["torch"].policy is None


def test_torch_that_runs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    import_torch()
    assert "OMP_WAIT_POLICY" not in os.environ
