"""A stand-in for the command line that joins and leaves a fleet without a network."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# Stands in for `easel`: joins and leaves without a network, and notes how it was asked.
EASEL = textwrap.dedent(
    """
    import json, signal, sys, time
    from pathlib import Path
    from client.membership import Membership, forget
    from shared_model.lone import alone
    command, *given = sys.argv[1:]
    named = dict(one.removeprefix("--").split("=", 1) for one in given if "=" in one)
    folder = Path(named["folder"])
    if command == "leave":
        print("warning: the server could not be told (it sleeps)", file=sys.stderr)
        print(json.dumps({"removed": forget(folder, ledger=False), "server_told": False, "ledger_kept": False}))
    elif "--enroll-only" in given:
        code = sys.stdin.readline().strip()
        if code != "right code":
            print("error: the server refuses: this code is used up\\nhint: ask the operator for a new one",
                  file=sys.stderr)
            raise SystemExit(7)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "asked.json").write_text(json.dumps([command, *given]))
        Membership(named["server"], "anna").save(folder, ca="ca", signing_key="key")
        print(json.dumps({"server": named["server"], "name": "anna"}))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with alone(folder / ".easel-join.lock"):
            print("waiting: not on mains power", file=sys.stderr, flush=True)
            time.sleep(60)
    """
)


@pytest.fixture
def command(tmp_path: Path) -> Callable[[Sequence[str]], list[str]]:
    (tmp_path / "easel.py").write_text(EASEL, encoding="utf-8")
    return lambda arguments: [sys.executable, str(tmp_path / "easel.py"), *arguments]
