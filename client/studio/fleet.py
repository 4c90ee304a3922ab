"""Joining, leaving and taking part in a fleet, for the studio's page.

The process that serves the page holds pictures and heads and speaks to no network beyond this computer. So all of this
is done by ``easel join`` and ``easel leave`` in processes of their own, and told from what they say and from the files
that they leave. The one-time code goes in through a pipe: other users of a computer can read command lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from client.membership import Membership
from client.supervisor import supervising
from easel import root
from shared_model.errors import (
    EaselError,
    FederationError,
    InputError,
    MissingError,
    PrivacyError,
    StorageError,
)

__all__ = ["Application", "Fleet"]

_KINDS: dict[int, type[EaselError]] = {
    kind.exit_code: kind for kind in (InputError, MissingError, StorageError, PrivacyError, FederationError)
}
_PATIENCE_S = 180.0
_START_S, _END_S = 60.0, 30.0
Command = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class Application:
    """What is asked for to join a fleet, as the owner typed it; ``easel join`` checks it."""

    server: str
    code: str = field(repr=False)
    photos: str
    art: str
    max_epsilon: float

    def arguments(self) -> list[str]:
        """Return the arguments of ``easel join``; the code is read from standard input.

        Raises
        ------
        InputError
            If something is missing.
        """
        given = {
            "the fleet's address": self.server,
            "the one-time code": self.code,
            "the folder of photos": self.photos,
            "the folder of pictures you like": self.art,
        }
        for name, value in given.items():
            if not value.strip() or not value.isprintable():
                raise InputError(f"{name} is missing", hint="the operator of the fleet gives you address and code")
        values = {"server": self.server, "photos": self.photos, "art": self.art, "max-epsilon": f"{self.max_epsilon:g}"}
        return [*(f"--{name}={value.strip()}" for name, value in values.items()), "--code=-", "--enroll-only"]


class Fleet:
    """What the page may do about the fleet of this device.

    Parameters
    ----------
    folder
        The device folder.
    command
        Makes the command line of ``easel`` with some arguments.
    """

    def __init__(self, folder: Path, *, command: Command | None = None) -> None:
        self.folder = folder
        self._command = command or _easel
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._notes: IO[bytes] | None = None

    def facts(self) -> dict[str, Any]:
        """Return whether this device has joined, what it trains on, and whether it takes part now; reads files only."""
        told: dict[str, Any] = {"joined": False, "folder": str(self.folder), "taking_part": self._taking_part()}
        with contextlib.suppress(OSError, ValueError):
            device = tomllib.loads((self.folder / "device.toml").read_text(encoding="utf-8"))
            told["set_up"] = True
            told |= {key: str(device[key]) for key in ("photos", "art") if key in device}
        try:
            known = Membership.load(self.folder)
        except MissingError:
            return told
        except EaselError as error:
            return {**told, "joined": True, "problem": {"message": error.message, "hint": error.hint}}
        note = self._last_note() if told["taking_part"] else ""
        return {**told, "joined": True, "server": known.server, "name": known.name, "note": note}

    def join(self, application: Application) -> dict[str, Any]:
        """Join, without taking part yet.

        Raises
        ------
        EaselError
            What ``easel join`` met.
        """
        return self._ask(["join", *application.arguments()], given=application.code.strip())

    def leave(self) -> dict[str, Any]:
        """End taking part and leave; the ledger stays. The result's ``warnings`` say what did not work.

        Raises
        ------
        EaselError
            What ``easel leave`` met.
        """
        self.rest()
        return self._ask(["leave"])

    def take_part(self) -> None:
        """Start ``easel join``, until :meth:`rest` or :meth:`close`.

        Raises
        ------
        EaselError
            If it ends at once.
        """
        with self._lock:
            if self._taking_part():
                return
            self._notes = tempfile.TemporaryFile()
            self._running = subprocess.Popen(
                self._command(["join", f"--folder={self.folder}"]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._notes,
                env=_environment(),
                start_new_session=True,
            )
            until = time.monotonic() + _START_S
            while not self._taking_part():
                code = self._running.poll()
                if code is not None or time.monotonic() > until:
                    said = self._said()
                    self._end()
                    raise _error(code or 1, said)
                time.sleep(0.05)

    def rest(self) -> None:
        """End taking part, whoever started it, and wait for the end.

        Raises
        ------
        FederationError
            If it does not end.
        """
        with self._lock:
            pid = supervising(self.folder)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + _END_S
            while supervising(self.folder) is not None:
                if time.monotonic() > until:
                    raise FederationError("the training process does not end", hint="try again in a minute")
                time.sleep(0.05)
            self._end()

    def close(self) -> None:
        """End what :meth:`take_part` started here."""
        with self._lock:
            self._end()

    def _taking_part(self) -> bool:
        return self.folder.is_dir() and supervising(self.folder) is not None

    def _end(self) -> None:
        if self._running is not None:
            self._running.terminate()
            try:
                self._running.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait()
        if self._notes is not None:
            self._notes.close()
        self._running = self._notes = None

    def _said(self) -> str:
        """Return the end of what the running process has said."""
        if self._notes is None:
            return ""
        end = os.fstat(self._notes.fileno()).st_size
        return os.pread(self._notes.fileno(), 4096, max(0, end - 4096)).decode(errors="replace")

    def _last_note(self) -> str:
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            return next((line.strip() for line in reversed(self._said().splitlines()) if line.strip()), "")
        return ""

    def _ask(self, arguments: Sequence[str], *, given: str = "") -> dict[str, Any]:
        """Run one command to its end and return the facts that it printed."""
        command = self._command([*arguments, f"--folder={self.folder}", "--json"])
        try:
            done = subprocess.run(
                command,
                input=given + "\n",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_S,
                env=_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise FederationError("this takes too long", hint="try again, or ask the operator of the fleet") from error
        if done.returncode:
            raise _error(done.returncode, done.stderr)
        try:
            facts = json.loads(done.stdout)
        except ValueError as error:
            raise FederationError("easel's answer cannot be understood", hint="try it in a terminal") from error
        return {**facts, "warnings": _lines(done.stderr, "warning")}


def _easel(arguments: Sequence[str]) -> list[str]:
    start = "import sys; from client.cli import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", start, *arguments]


def _environment() -> dict[str, str]:
    paths = [str(root()), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "NO_COLOR": "1"}


def _error(code: int, said: str) -> EaselError:
    """Return the error that a process ended with."""
    messages, hints = _lines(said, "error"), _lines(said, "hint")
    kind = _KINDS.get(code, FederationError)
    if not messages:
        return FederationError("the process for the fleet ended unexpectedly", hint="try easel join in a terminal")
    return kind(messages[-1], hint=hints[-1] if hints else "")


def _lines(said: str, label: str) -> list[str]:
    return [line.removeprefix(f"{label}: ").strip() for line in said.splitlines() if line.startswith(f"{label}: ")]
