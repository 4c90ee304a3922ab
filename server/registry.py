"""The releases of a fleet: a folder, and a log that only grows.

::

    releases/
      log.jsonl                       what happened, one JSON line each; every line names the SHA-256 of the one before
      0001/backbone.safetensors       one folder per release, complete or not there
      0001/manifest.json              canonical JSON, and
      0001/manifest.sig               its signature
      releases.toml                   limits of the gate (optional)

The last ``order`` in the log says which release is in use. A release's folder is renamed into place when it is whole,
and a log line counts when its newline is on the disk, so a crash at any moment leaves the state before or after.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shared_model.errors import MissingError, ReleaseError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.release_manifest import MAX_WEIGHTS, KeyChange, Manifest, Order, canonical, decode
from shared_model.release_rules import Offer
from shared_model.signatures import Signed, Signer, key_id

__all__ = ["LOG", "WEIGHTS", "Release", "Releases", "facts", "usable_rotations"]

LOG, WEIGHTS, MANIFEST, SIGNATURE = "log.jsonl", "backbone.safetensors", "manifest.json", "manifest.sig"
_START = "0" * 64


@dataclass(frozen=True)
class Release:
    """A release in the folder: its manifest, signed, and where its weights lie."""

    manifest: Manifest
    signed: Signed
    weights: Path


class Releases:
    """The folder.

    Parameters
    ----------
    folder
        Made on the first change; only its owner can read it.
    clock
        Returns the time, with a zone.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], datetime]) -> None:
        self.folder = folder
        self._clock = clock

    def versions(self) -> list[int]:
        """Return all versions there are, promoted or not."""
        found = self.folder.iterdir() if self.folder.is_dir() else iter(())
        return sorted(int(path.name) for path in found if re.fullmatch(r"\d{4,9}", path.name))

    def release(self, version: int) -> Release:
        """Return one release; its signature is not verified here, devices do that.

        Raises
        ------
        MissingError
            If there is none of that version.
        """
        folder = self.folder / f"{version:04d}"
        if not folder.is_dir():
            there = ", ".join(map(str, self.versions())) or "none"
            raise MissingError(f"there is no release {version}", hint=f"releases: {there}")
        signed = Signed.of_files(folder / MANIFEST, folder / SIGNATURE)
        return Release(decode(signed.body, Manifest), signed, folder / WEIGHTS)

    def log(self) -> list[dict[str, Any]]:
        """Return all entries, oldest first.

        Raises
        ------
        StorageError
            If the log is damaged or was edited.
        """
        lines, _ = _lines(self._log_bytes())
        entries, before = [], _START
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                whole = entry["n"] == number and entry["before"] == before
            except (KeyError, TypeError, ValueError):
                whole = False
            if not whole:
                raise StorageError(
                    f"{self.folder / LOG}: line {number} is damaged or was edited", hint="put the latest backup back"
                )
            entries.append(entry)
            before = hashlib.sha256(line).hexdigest()
        return entries

    def order(self) -> tuple[Signed, Order] | None:
        """Return the order that holds now; ``None`` before the first promotion."""
        held = self._held()
        return None if held is None else (held[0], decode(held[0].body, Order))

    def _held(self) -> tuple[Signed, Signed] | None:
        """Return the order that holds and its manifest; one log line has both, so they are of one key."""
        for entry in reversed(self.log()):
            if entry.get("order") is not None:
                return Signed.from_dict(entry["order"]), Signed.from_dict(entry["manifest"])
        return None

    @property
    def in_use(self) -> int:
        """The version that devices are told to use; 0: none yet."""
        held = self.order()
        return held[1].version if held else 0

    def offer(self, rotations: Sequence[Signed] = ()) -> tuple[Offer, Path]:
        """Return what devices are sent, and the weights it is about.

        Parameters
        ----------
        rotations
            All changes of the signing key; those are sent that lead to the key of the order. A key that is newer has
            signed nothing yet, and a device that went on to it would be lost.

        Raises
        ------
        MissingError
            If nothing was promoted yet.
        """
        held = self._held()
        if held is None:
            raise MissingError("no release was promoted yet", hint="easel-server release promote VERSION")
        weights = self.folder / f"{decode(held[0].body, Order).version:04d}" / WEIGHTS
        return Offer(*held, usable_rotations(rotations, key=held[0].key)), weights

    def add(self, weights: bytes, describe: Callable[[int], Manifest], *, signer: Signer) -> Release:
        """Put a new release into the folder; it is not in use yet.

        Parameters
        ----------
        weights
            The safetensors file.
        describe
            Makes the manifest for the version it is given.
        signer
            Signs it.
        """
        with self._changing():
            version = 1 + max(self.versions(), default=0)
            manifest = describe(version)
            signed = signer.sign(canonical(manifest), kind="manifest")
            if (manifest.version, manifest.sha256) != (version, hashlib.sha256(weights).hexdigest()):
                raise ValueError("the manifest describes something else")
            made = Path(tempfile.mkdtemp(dir=self.folder, prefix=".new-"))
            for name, data in ((WEIGHTS, weights), (MANIFEST, signed.body), (SIGNATURE, signed.to_bytes())):
                write_atomic(made / name, data, mode=0o600)
            made.rename(self.folder / f"{version:04d}")
            self._append("created", version=version, sha256=manifest.sha256)
        return self.release(version)

    def command(
        self, action: str, version: int, *, signer: Signer, reason: str = "", check: Callable[[], None] = lambda: None
    ) -> Order:
        """Sign and log an order, with the next sequence number.

        Parameters
        ----------
        action
            ``promote`` or ``rollback``.
        version
            The release to use from now on.
        signer
            Signs the order; must be the one that signed the manifest.
        reason
            For people.
        check
            Called under the lock, right before; what it raises ends it, and a gate's refusal is logged.

        Raises
        ------
        ReleaseError
            If the weights on disk are not those of the manifest, or ``check`` objects.
        """
        with self._changing():
            self._resign(signer)
            release, held = self.release(version), self.order()
            if hashlib.sha256(read_bytes(release.weights, limit=MAX_WEIGHTS)).hexdigest() != release.manifest.sha256:
                raise ReleaseError(f"the weights of release {version} are damaged", reason="mismatch")
            try:
                check()
            except ReleaseError as error:
                self._append("refused", version=version, action=action, why=error.message)
                raise
            sequence = held[1].sequence + 1 if held else 1
            previous = held[1].version if held else 0
            order = Order(sequence, action, version, release.signed.digest, previous, self._now(), reason)
            both = {"order": signer.sign(canonical(order), kind="order"), "manifest": release.signed}
            signed = {name: document.to_dict() for name, document in both.items()}
            self._append("ordered", version=version, action=action, reason=reason, **signed)
        return order

    def resign(self, signer: Signer) -> bool:
        """After a change of the signing key: sign all manifests and the order that holds anew; their text stays."""
        with self._changing():
            return self._resign(signer)

    def _resign(self, signer: Signer) -> bool:
        changed = False
        for version in self.versions():
            release = self.release(version)
            if release.signed.key != signer.key:
                again = signer.sign(release.signed.body, kind="manifest")
                write_atomic(self.folder / f"{version:04d}" / SIGNATURE, again.to_bytes(), mode=0o600)
                changed = True
        held = self._held()
        if held is not None and held[0].key != signer.key:
            order, manifest = (signer.sign(held[i].body, kind=kind) for i, kind in ((0, "order"), (1, "manifest")))
            self._append("resigned", order=order.to_dict(), manifest=manifest.to_dict())
            changed = True
        return changed

    def _now(self) -> str:
        return self._clock().isoformat(timespec="seconds")

    def _log_bytes(self) -> bytes:
        path = self.folder / LOG
        return read_bytes(path) if path.exists() else b""

    def _append(self, event: str, **facts: Any) -> None:
        """Add one line; what a crash left of an unfinished one is cut off first."""
        lines, whole = _lines(self._log_bytes())
        before = hashlib.sha256(lines[-1]).hexdigest() if lines else _START
        entry = {"n": len(lines) + 1, "before": before, "time": self._now(), "event": event, **facts}
        try:
            with open(self.folder / LOG, "ab") as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.truncate(whole)
                stream.write(json.dumps(entry, sort_keys=True).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self.folder / LOG}: {error.strerror}", hint="free some space") from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other processes from changing the folder; sweep what a crash left."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot use {self.folder}: {error.strerror}", hint="check the folder") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            for leftover in self.folder.glob(".new-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield
        finally:
            os.close(handle)


def _lines(data: bytes) -> tuple[list[bytes], int]:
    """Return the finished lines, and how many bytes they take."""
    whole = data.rfind(b"\n") + 1
    return data[:whole].splitlines(), whole


def usable_rotations(rotations: Sequence[Signed], *, key: str) -> tuple[Signed, ...]:
    """Return the changes of the key up to the one that names ``key`` (its id)."""
    for index in reversed(range(len(rotations))):
        if key_id(bytes.fromhex(decode(rotations[index].body, KeyChange).key)) == key:
            return tuple(rotations[: index + 1])
    return ()


def facts(release: Release) -> dict[str, Any]:
    """Return what ``release show --json`` says."""
    return dataclasses.asdict(release.manifest) | {"key": release.signed.key, "weights": str(release.weights)}
