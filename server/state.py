"""The state of a federation between two rounds, and the one file that holds it.

Flower forgets a ServerApp that dies, so everything that a run needs to go on is here: the backbone,
the optimiser's moments, the privacy charged, the clip, the log of the rounds. Draws of a simulation
and public draws are derived from the configured seed and the round, and noise comes from the
operating system, so there is no generator to save. Only where noise is correlated over the rounds
must later rounds draw it again: 32 random bytes per round are kept for that, as secret as the
updates themselves, and forgotten with the last round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from server.config import FederationConfig
from server.report import RoundReport
from shared_model.config import ModelConfig, parse, to_dict
from shared_model.errors import CompatibilityError, ConfigError, FederationError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["FORMAT", "RoundState", "StateStore"]

FORMAT = "easel-round-state-3"
FILE = "state.safetensors"


@dataclass(frozen=True, eq=False)
class RoundState:
    """Everything between two rounds.

    Parameters
    ----------
    run
        Name of the run, 12 hex digits, drawn once.
    round
        Rounds completed (released or skipped).
    reserved
        Rounds whose privacy is charged: ``round``, or ``round + 1`` while one is under way.
    config
        The configuration as plain values; its hash guards a resume.
    model, architecture
        The backbone's sizes and their hash.
    noise_multiplier
        Solved once, at the start of the run.
    backbone
        (P,) float32.
    moments
        The server optimiser's state, (P,) float32 each.
    clip
        L2 bound of the next round's updates.
    reports
        The log, one entry per completed round.
    noise_keys
        Correlated noise only: the key of each completed round's noise
        (:mod:`shared_model.correlated`), oldest first; none once the last round is done.
    asked
        Correlated noise only: the round in which each device was last asked, as far as that keeps
        it out of the next one.
    attempt
        Rounds begun, those included that a crash interrupted; devices refuse one they know.
    extra
        Rounds that were charged beyond ``reserved``: an older state was put back after them
        (:meth:`server.ledger.ServerLedger.reconcile`).
    """

    run: str
    round: int
    reserved: int
    config: Mapping[str, Any]
    model: ModelConfig
    architecture: str
    noise_multiplier: float
    backbone: Tensor
    moments: Mapping[str, Tensor]
    clip: float
    reports: tuple[RoundReport, ...] = ()
    noise_keys: tuple[bytes, ...] = field(default=(), repr=False)
    asked: Mapping[int, int] = field(default_factory=dict)
    attempt: int = 0
    extra: int = 0

    @property
    def charged(self) -> int:
        """Rounds whose privacy is spent, whatever this state remembers of them."""
        return self.reserved + self.extra

    def reserve(self) -> RoundState:
        """Charge the next round and begin an attempt at it; charging it twice costs nothing more."""
        return dataclasses.replace(self, reserved=self.round + 1, attempt=self.attempt + 1)

    def check_config(self, config: FederationConfig) -> None:
        """Refuse to go on under another configuration.

        Raises
        ------
        ConfigError
            Naming the keys that differ.
        """
        different = config.differences(self.config)
        if different:
            pairs = ", ".join(
                f"{key} was {self.config.get(key)!r}, now {getattr(config, key, None)!r}" for key in different
            )
            raise ConfigError(
                f"the run was started with other settings: {pairs}",
                hint="use the old settings, or another run-dir for a new run",
            )


def new_run_name() -> str:
    """Draw the name of a run: 12 hex digits from the operating system."""
    return secrets.token_hex(6)


class StateStore:
    """Keeps a :class:`RoundState` in one file of a folder.

    A save is atomic: after a crash the folder holds the state before or after, never half. What is
    read is checked against its SHA-256, so a damaged file is refused instead of used.

    Parameters
    ----------
    folder
        Made when missing; only its owner may read the state.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE

    @contextlib.contextmanager
    def lock(self, *, wait_s: float = 0.0) -> Iterator[None]:
        """Keep a second server out of this folder; the lock dies with the process.

        Parameters
        ----------
        wait_s
            How long to wait for a server that is just ending.

        Raises
        ------
        FederationError
            If another process holds it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"cannot use {self.folder}: {error.strerror}", hint="check the path") from error
        try:
            self._acquire(handle, wait_s)
            for leftover in self.folder.glob(f".{FILE}.*.tmp"):
                leftover.unlink(missing_ok=True)
            yield
        finally:
            os.close(handle)

    def _acquire(self, handle: int, wait_s: float) -> None:
        end = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    raise FederationError(
                        f"another server runs in {self.folder}", hint="stop it first, or choose another run-dir"
                    ) from error
            time.sleep(0.1)

    def save(self, state: RoundState) -> None:
        """Write the state, mode 0600.

        Raises
        ------
        StorageError
            If the disk is full or the folder not writable; the old state is then still there.
        """
        tensors = {"backbone": state.backbone.contiguous()}
        tensors |= {f"moment.{name}": value.contiguous() for name, value in state.moments.items()}
        header = json.dumps(
            {
                "format": FORMAT,
                "run": state.run,
                "round": state.round,
                "reserved": state.reserved,
                "config": dict(state.config),
                "config_hash": _hash(state.config),
                "model": to_dict(state.model),
                "architecture": state.architecture,
                "noise_multiplier": state.noise_multiplier,
                "clip": state.clip,
                "noise_keys": [key.hex() for key in state.noise_keys],
                "asked": {str(node): number for node, number in state.asked.items()},
                "attempt": state.attempt,
                "extra": state.extra,
                "reports": [report.to_dict() for report in state.reports],
            },
            sort_keys=True,
        )
        metadata = {"easel": header, "sha256": _checksum(tensors, header)}
        write_atomic(self.path, save_tensors(tensors, metadata=metadata), mode=0o600)

    def load(self) -> RoundState | None:
        """Read the state; ``None`` when the folder holds none.

        Raises
        ------
        StorageError
            If the file is damaged.
        CompatibilityError
            If it is not a round state, or one of another version.
        """
        if not self.path.exists():
            return None
        data = read_bytes(self.path)
        try:
            tensors = load_tensors(data)
            metadata = _metadata(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise self._damaged() from error
        header = metadata.get("easel")
        if header is None:
            raise CompatibilityError(f"{self.path} is not a round state", hint="is this the right run-dir?")
        if metadata.get("sha256") != _checksum(tensors, header):
            raise self._damaged()
        values = json.loads(header)
        if values.get("format") != FORMAT:
            raise CompatibilityError(
                f"{self.path} has format {values.get('format')!r}, this version reads {FORMAT!r}",
                hint="use the easel version that wrote it",
            )
        return _state(values, tensors)

    def _damaged(self) -> StorageError:
        return StorageError(f"{self.path} is damaged", hint="restore it from a backup; never go on without it")


def _state(values: Mapping[str, Any], tensors: dict[str, Tensor]) -> RoundState:
    return RoundState(
        run=values["run"],
        round=values["round"],
        reserved=values["reserved"],
        config=values["config"],
        model=parse(values["model"], ModelConfig, source="round state"),
        architecture=values["architecture"],
        noise_multiplier=values["noise_multiplier"],
        backbone=tensors.pop("backbone"),
        moments={name.removeprefix("moment."): value for name, value in tensors.items()},
        clip=values["clip"],
        noise_keys=tuple(bytes.fromhex(key) for key in values["noise_keys"]),
        asked={int(node): number for node, number in values["asked"].items()},
        reports=tuple(RoundReport.from_dict(entry) for entry in values["reports"]),
        attempt=values.get("attempt", values["reserved"]),
        extra=values.get("extra", 0),
    )


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of safetensors bytes: a length of 8 bytes, then JSON."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    found = header.get("__metadata__", {})
    return found if isinstance(found, dict) else {}


def _hash(config: Mapping[str, Any]) -> str:
    text = json.dumps(dict(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _checksum(tensors: Mapping[str, Tensor], header: str) -> str:
    total = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        total.update(name.encode() + b"\0")
        total.update(tensors[name].to(torch.float32).contiguous().numpy().tobytes())
    return total.hexdigest()
