"""The folder of a run: a marker that says it is ours, what is done so far, and one owner at a time.

``run.json`` is both the marker and the memory of a run. It is replaced atomically after every
phase, so a run that is killed at any moment finds every completed phase again.

Guarantees
----------
- A folder that is not empty and does not carry the marker is never written to nor emptied.
- A finished run is removed only as a whole and only inside a folder with the marker; files that the
  run did not make stay.
- Two processes never work on one run at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared_model.errors import InputError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["MARKER", "RunFolder", "open_run", "read_run"]

MARKER = "run.json"
FORMAT = 1
LOCK = ".lock"
OURS = ("devices", "federation", "heads", "held_out", "stylized", "privacy.json", "report.html", "rounds.csv", MARKER)
HARMLESS = {LOCK, ".DS_Store"}


@dataclass(frozen=True)
class RunFolder:
    """One state of a run; every change is saved and gives a new value.

    Parameters
    ----------
    path
        The folder.
    values
        Content of ``run.json``: ``easel`` (kind), ``format``, ``digest``, ``config``, ``created``,
        ``finished``, ``phases`` (name to facts), in the order in which they were completed.
    """

    path: Path
    values: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether every phase is done."""
        return bool(self.values["finished"])

    def done(self, phase: str) -> bool:
        """Whether ``phase`` was completed."""
        return phase in self.values["phases"]

    def facts(self, phase: str) -> dict[str, Any]:
        """Return what a completed phase wrote down.

        Raises
        ------
        MissingError
            If the phase was not completed.
        """
        if not self.done(phase):
            raise MissingError(f"{self.path}: the phase {phase!r} is not done yet", hint="run the same command again")
        return dict(self.values["phases"][phase])

    def with_phase(self, phase: str, facts: Mapping[str, Any]) -> RunFolder:
        """Save a phase as completed."""
        return self._saved(phases={**self.values["phases"], phase: dict(facts)})

    def finish(self, when: str) -> RunFolder:
        """Save the run as finished at the time ``when`` (ISO 8601)."""
        return self._saved(finished=when)

    def _saved(self, **changes: Any) -> RunFolder:
        values = {**self.values, **changes}
        write_atomic(self.path / MARKER, json.dumps(values, indent=1).encode() + b"\n")
        return replace(self, values=values)


def read_run(path: Path | str) -> RunFolder:
    """Read the run in a folder.

    Raises
    ------
    MissingError
        If the folder holds no run.
    StorageError
        If its ``run.json`` is damaged or of another format.
    """
    folder = Path(path)
    if not (folder / MARKER).is_file():
        raise MissingError(f"{folder} holds no run", hint="name the folder of a run, for example runs/demo")
    try:
        values = json.loads(read_bytes(folder / MARKER, limit=1 << 26))
        fits = values["easel"] == "demo" and values["format"] == FORMAT
        fits = fits and {"config", "created", "digest", "finished", "phases"} <= set(values)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{folder / MARKER} is damaged or not ours", hint="choose another folder with --out"
        ) from error
    if not fits:
        raise StorageError(f"{folder / MARKER} is not a run of this version", hint="choose another folder with --out")
    return RunFolder(folder, values)


@contextlib.contextmanager
def open_run(
    path: Path | str, *, digest: str, config: Mapping[str, Any], created: str, fresh: bool = False
) -> Iterator[RunFolder]:
    """Start a run in a new folder, or take up the interrupted one that is there; hold its lock.

    A finished run is replaced by a new one. An unfinished run goes on, unless ``fresh``.

    Parameters
    ----------
    path
        The folder; made if missing.
    digest, config
        Identity and content of the settings; an interrupted run goes on only with the same ones.
    created
        Time of a new run, ISO 8601.
    fresh
        Throw an unfinished run away.

    Raises
    ------
    InputError
        If the folder is not empty and not ours, another process works on it, or an unfinished run
        there has other settings.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", hint="choose another folder with --out")
    names = {item.name for item in folder.iterdir()} - HARMLESS if folder.exists() else set()
    if names and MARKER not in names:
        raise InputError(
            f"{folder} is not empty and not a run of easel; nothing in it was touched",
            hint="choose another folder with --out",
        )
    with _locked(folder):
        if names:
            old = read_run(folder)
            if not (fresh or old.finished):
                if old.values["digest"] != digest:
                    raise InputError(
                        f"{folder} holds an unfinished run with other settings",
                        hint="repeat its settings to resume it, add --fresh to start anew, or choose another --out",
                    )
                yield old
                return
            _clear(folder)
        values = {"easel": "demo", "format": FORMAT, "created": created, "digest": digest, "config": dict(config)}
        run = RunFolder(folder, {**values, "finished": "", "phases": {}})
        yield run._saved()


def _clear(folder: Path) -> None:
    """Remove what a run wrote, the marker last, so that a crash half-way leaves it recognisable."""
    for name in OURS:
        target = folder / name
        try:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {target}: {error.strerror}", hint="check its permissions") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error.strerror}", hint="choose another folder with --out"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another easel-sim is working in {folder}", hint="wait for it, stop it, or choose another --out"
            ) from error
        yield
    finally:
        os.close(handle)
