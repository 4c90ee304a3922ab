"""What a running fleet says: plain lines for people, or JSON lines for machines; the same in a file.

A JSON line has ``time``, ``event``, ``text`` where there is one, and plain values. Counts, ports and
results that are private already: no name, no address, no key of any device, and nothing of its data.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

__all__ = ["FORMATS", "EventLog", "Say", "Speaker"]

FORMATS = ("text", "json")

Facts = Mapping[str, Any]


class Say(Protocol):
    """Tells whoever runs the fleet something."""

    def __call__(self, text: str, *, event: str = "note", facts: Facts | None = None) -> None:
        """Say ``text``; ``event`` and ``facts`` are what a machine reads."""


class Speaker:
    """Says it on a stream, one line each.

    Parameters
    ----------
    stream
        Where to.
    format
        One of :data:`FORMATS`.
    clock
        The time.
    """

    def __init__(self, stream: TextIO, *, format: str, clock: Callable[[], datetime]) -> None:
        self._stream = stream
        self._json = format == "json"
        self._clock = clock

    def __call__(self, text: str, *, event: str = "note", facts: Facts | None = None) -> None:
        """Say it; a stream whose reader has gone is not worth a fleet."""
        line = _line(self._clock(), event, {"text": text, **(facts or {})}) if self._json else text
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._stream, flush=True)


class EventLog:
    """Appends events to a file (0600), one JSON object a line; a full disk loses lines and nothing else.

    Parameters
    ----------
    path
        The file.
    clock
        The time.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()

    def rounds_told(self, run: str) -> int | None:
        """Return the highest round of this run in the file, None if there is none; damaged lines are skipped."""
        found = None
        with contextlib.suppress(OSError), self._path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    entry = json.loads(line)
                    if entry["event"] == "round" and entry["run"] == run:
                        found = max(int(entry["round"]), found or 0)
                except (KeyError, TypeError, ValueError):
                    continue
        return found

    def write(self, event: str, facts: Facts | None = None) -> None:
        """Append one event."""
        line = _line(self._clock(), event, facts or {})
        with self._lock, contextlib.suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "a", encoding="utf-8") as stream:
                stream.write(line + "\n")


def _line(now: datetime, event: str, facts: Facts) -> str:
    return json.dumps({"time": now.isoformat(timespec="seconds"), "event": event, **facts})
