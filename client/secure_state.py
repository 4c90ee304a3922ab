"""A device's memory between the stages of a securely aggregated round: one private file.

A Flower client lives for one message. What it must not forget until the round is over lies in
``secure.json``, readable by its owner only, and its secrets are wiped when the round is opened.

Guarantees
    A stage is noted before its answer leaves, and stages only go forward, so no kill and no repeated
    message makes a device answer one stage of an attempt twice. Two processes take turns.
Assumes
    Losing the file is safe: the device then drops out of the round that is under way. That it never
    masks two updates for one round is held by the ledger, not by this file.
Edge cases
    A damaged or foreign file counts as none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared_model.config import parse
from shared_model.errors import ConfigError, FederationError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["FILE", "Memory", "SecureState"]

FILE = "secure.json"
_LIMIT = 1 << 26
_SECRETS = ("mask_private", "seal_private", "self_seed", "own_shares", "sealed")


@dataclass(frozen=True)
class SecureState:
    """Where this device is in one attempt; bytes as hexadecimal text.

    Attributes
    ----------
    run, round, attempt
        Which attempt this is.
    stage
        The last stage that was answered.
    digest
        Of the round's settings and terms: later stages must say the same.
    needed
        Fewest masked updates that may be opened.
    mask_private, seal_private
        The private halves of the two keys.
    index, holders
        This device's number in the round, and all that hold shares of its secrets, itself included.
    mask_keys, seal_keys
        The holders' public keys, in their order.
    threshold
        Shares that restore a secret.
    self_seed
        Seed of the own mask.
    own_shares
        This device's own share of its two secrets: mask seed, mask key.
    sources, sealed
        Who sent shares, and the shares, sealed.
    """

    run: str
    round: int
    attempt: str
    stage: str
    digest: str
    needed: int
    mask_private: str
    seal_private: str
    index: int = -1
    holders: tuple[int, ...] = ()
    mask_keys: tuple[str, ...] = ()
    seal_keys: tuple[str, ...] = ()
    threshold: int = 0
    self_seed: str = ""
    own_shares: tuple[str, ...] = ()
    sources: tuple[int, ...] = ()
    sealed: tuple[str, ...] = ()

    def without_secrets(self) -> SecureState:
        """Return what may stay on the disk once the round is over."""
        empty = {name: "" if isinstance(getattr(self, name), str) else () for name in _SECRETS}
        return dataclasses.replace(self, **empty)  # type: ignore[arg-type]


class Memory:
    """The file, and the lock beside it.

    Parameters
    ----------
    folder
        The device folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this device out; the lock dies with the process."""
        try:
            handle = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"cannot use {self.path.parent}: {error.strerror}", hint="check the path") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def load(self) -> SecureState | None:
        """Return what was noted last, or ``None``."""
        if not self.path.is_file():
            return None
        with contextlib.suppress(ValueError, ConfigError):
            values = json.loads(read_bytes(self.path, limit=_LIMIT))
            return parse(values, SecureState, source=FILE) if isinstance(values, dict) else None
        return None

    def expect(self, stage: str, *, attempt: str) -> SecureState:
        """Return the state if ``stage`` was the last one answered in ``attempt``.

        Raises
        ------
        FederationError
            If it was not: the message is late, repeated, or of an attempt that this device is not in.
        """
        state = self.load()
        if state is None or state.attempt != attempt or state.stage != stage:
            raise FederationError("this device is not at that stage of the round")
        return state

    def save(self, state: SecureState) -> None:
        """Note a stage, readable by the owner only."""
        write_atomic(self.path, json.dumps(dataclasses.asdict(state)).encode(), mode=0o600)
