"""How a fleet stands, all in one: the fleet, its run, its releases. For the status command, the page and metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from server.deployment import Fleet
from server.ledger import FILE as LEDGER
from server.presence import connected, fleet_facts
from server.registry import LOG, Releases
from server.state import FILE as STATE
from server.status import facts

__all__ = ["Standing", "release_facts"]


def release_facts(folder: Path, *, clock: Callable[[], datetime]) -> dict[str, Any] | None:
    """Return what is known of a fleet's releases, JSON-ready; None before the first one.

    Parameters
    ----------
    folder
        ``releases`` of the fleet.
    clock
        The time; nothing is written.
    """
    releases = Releases(folder, clock=clock)
    versions = releases.versions()
    if not versions:
        return None
    latest = releases.release(versions[-1]).manifest
    refused = [entry for entry in releases.log() if entry["event"] == "refused" and entry["version"] == versions[-1]]
    return {
        "count": len(versions),
        "in_use": releases.in_use,
        "latest": {
            "version": latest.version,
            "round": latest.round,
            "created": latest.created,
            "epsilon": latest.total_epsilon,
            "quality": latest.evaluation.get("quality"),
            "parent_quality": latest.evaluation.get("parent_quality"),
            "refused": refused[-1]["why"] if refused else None,
        },
    }


class Standing:
    """The facts of a fleet, worked out again only where its files have changed.

    An accountant may take seconds for a long run; a page that refreshes itself must not cost that each time.

    Parameters
    ----------
    fleet
        The fleet.
    clock
        The time.
    states
        Flower's word for each enrolled device; by default the SuperLink is asked.
    """

    def __init__(
        self, fleet: Fleet, *, clock: Callable[[], datetime], states: Callable[[], Mapping[str, str]] | None = None
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._states = states or (lambda: connected(fleet))
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[object, dict[str, Any] | None]] = {}

    def facts(self) -> dict[str, Any]:
        """Return ``fleet``, ``run`` and ``releases``, JSON-ready; the latter two None where there is nothing yet."""
        run, releases = self._fleet.run, self._fleet.folder / "releases"
        with self._lock:
            return {
                "time": self._clock().isoformat(timespec="seconds"),
                "fleet": fleet_facts(self._fleet, now=self._clock(), states=self._states()),
                "run": self._recall(
                    "run", (run / STATE, run / LEDGER), lambda: facts(run) if (run / STATE).exists() else None
                ),
                "releases": self._recall(
                    "releases", (releases, releases / LOG), lambda: release_facts(releases, clock=self._clock)
                ),
            }

    def _recall(
        self, name: str, files: tuple[Path, ...], work_out: Callable[[], dict[str, Any] | None]
    ) -> dict[str, Any] | None:
        stamp = [(path.stat().st_mtime_ns, path.stat().st_ino) if path.exists() else None for path in files]
        if name not in self._kept or self._kept[name][0] != stamp:
            self._kept[name] = (stamp, work_out())
        return self._kept[name][1]
