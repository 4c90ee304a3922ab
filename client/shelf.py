"""What a device keeps of one fleet: whom it trusts, releases, and downloads that are not finished yet.

Installing is the last step of a fetch: it takes a file whose hash has been checked, loads it as a backbone, and
renames it into place with the signed manifest. Nothing here reaches the network.
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
from collections.abc import Iterator
from pathlib import Path

from client.models import MANIFEST, PUBLIC, SIGNATURE, WEIGHTS, Installed
from shared_model.config import parse
from shared_model.errors import ConfigError, EaselError, InputError, ReleaseError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.release_manifest import MAX_WEIGHTS
from shared_model.release_rules import Accepted, Offer, Trust
from shared_model.signatures import key_id

__all__ = ["Shelf"]


class Shelf:
    """One fleet's folder in ``$EASEL_HOME/models``.

    Parameters
    ----------
    models
        ``$EASEL_HOME/models``.
    root
        The public key ``(32 bytes)`` that the device got when it joined; another one is another fleet.
    """

    def __init__(self, models: Path, *, root: bytes) -> None:
        self.fleet = key_id(root)
        self.folder = models / self.fleet
        self._root = root

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Let one fetch run at a time.

        Raises
        ------
        InputError
            If another one runs.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"cannot use {self.folder}: {error.strerror}", hint="check its permissions") from error
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError("another easel models fetch is running", hint="wait for it") from error
            for leftover in self.folder.glob(".new-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            yield
        finally:
            os.close(handle)

    def trust(self) -> Trust:
        """Return what is remembered of this fleet; the first key alone before the first fetch.

        Raises
        ------
        StorageError
            If it is damaged: then an old order could pass for a new one.
        """
        path = self.folder / "trust.json"
        if not path.exists():
            return Trust(self._root.hex())
        try:
            trust = parse(json.loads(read_bytes(path, limit=4096)), Trust, source=str(path))
            if re.fullmatch("[0-9a-f]{64}", trust.key) is None or trust.sequence < 0:
                raise ValueError
        except (ConfigError, TypeError, ValueError, AttributeError) as error:
            raise StorageError(f"{path} is damaged", hint="join the fleet again, or put a backup back") from error
        return trust

    def remember(self, trust: Trust) -> None:
        """Write what is trusted and known from now on, atomically."""
        write_atomic(self.folder / "trust.json", (json.dumps(dataclasses.asdict(trust)) + "\n").encode(), mode=0o600)

    def partial(self, sha256: str) -> Path:
        """Return where a download of this file goes; unfinished ones of other files are removed."""
        folder = self.folder / "partial"
        path = folder / f"{sha256}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for other in folder.iterdir():
                if other != path:
                    other.unlink()
        except OSError as error:
            raise StorageError(f"cannot use {folder}: {error.strerror}", hint="check its permissions") from error
        return path

    def release(self, accepted: Accepted, offer: Offer) -> Installed | None:
        """Return the accepted release if it is here already, whole and the very same."""
        found = Installed(self.fleet, accepted.manifest.version, self._place(accepted))
        if not found.folder.is_dir():
            return None
        try:
            found.check()
            return found if found.signed().digest == offer.manifest.digest else None
        except EaselError:
            return None  # damaged: fetched again

    def install(self, partial: Path, accepted: Accepted, offer: Offer) -> Installed:
        """Check a finished download once more, as a backbone, and put it in place.

        Raises
        ------
        ReleaseError
            If it is not what the manifest says; the download is then removed.
        StorageError
            If it cannot be written.
        """
        try:
            _check(partial, accepted)
        except EaselError:
            partial.unlink(missing_ok=True)
            raise
        place = self._place(accepted)
        try:
            made = Path(tempfile.mkdtemp(dir=self.folder, prefix=".new-"))
            os.replace(partial, made / WEIGHTS)
            write_atomic(made / MANIFEST, offer.manifest.body, mode=0o600)
            write_atomic(made / SIGNATURE, offer.manifest.to_bytes(), mode=0o600)
            write_atomic(made / PUBLIC, accepted.trust.key.encode() + b"\n", mode=0o600)
            if place.exists():
                place.rename(made.with_name(f"{made.name}-old"))  # swept by the next fetch
            made.rename(place)
        except OSError as error:
            raise StorageError(f"cannot install into {place}: {error.strerror}", hint="free some space") from error
        return Installed(self.fleet, accepted.manifest.version, place)

    def forget(self, *, keep: Installed | None) -> list[int]:
        """Remove this fleet's releases, downloads and keys; returns the versions that are gone.

        Parameters
        ----------
        keep
            The release that paints: it stays, with the keys that verify it. ``None``: nothing stays.

        Raises
        ------
        StorageError
            If something cannot be removed.
        """
        if not self.folder.is_dir():
            return []
        kept = keep.folder.name if keep is not None and keep.fleet == self.fleet else ""
        with self.lock():
            versions = [path.name for path in self.folder.iterdir() if re.fullmatch(r"\d{4,9}", path.name)]
            gone = sorted(int(name) for name in versions if name != kept)
            try:
                for name in versions:
                    if name != kept:  # renamed first: half a release is never seen
                        shutil.rmtree((self.folder / name).rename(self.folder / f".new-{name}-old"))
                shutil.rmtree(self.folder / "partial", ignore_errors=True)
                if not kept:
                    shutil.rmtree(self.folder)
            except OSError as error:
                raise StorageError(
                    f"cannot remove {error.filename}: {error.strerror}", hint="check the permissions"
                ) from error
        return gone

    def _place(self, accepted: Accepted) -> Path:
        return self.folder / f"{accepted.manifest.version:04d}"


def _check(partial: Path, accepted: Accepted) -> None:
    from shared_model.weights import backbone_id, load_backbone

    manifest = accepted.manifest
    data = read_bytes(partial, limit=MAX_WEIGHTS)
    if len(data) != manifest.size or hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ReleaseError(
            f"what was fetched is not release {manifest.version}: size or SHA-256 differ",
            hint="it was removed; fetch it again",
            reason="mismatch",
        )
    if backbone_id(load_backbone(partial)) != manifest.backbone:
        raise ReleaseError(f"release {manifest.version} holds another backbone than it says", reason="mismatch")
