"""Whose calls are answered: the enrolled devices of the fleet's ``devices.json``, read again when it changes."""

from __future__ import annotations

import json
from pathlib import Path

from shared_model.errors import MissingError, StorageError
from shared_model.files import read_bytes

__all__ = ["Members"]

_LIMIT = 1 << 28


class Members:
    """The public keys of enrolled devices.

    Parameters
    ----------
    path
        ``devices.json``: ``{"format": "easel-devices-1", "devices": {NAME: {"state": ..., "public_key": ...}}}``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: frozenset[str] = frozenset()

    def includes(self, public_key: str) -> bool:
        """Say whether this key belongs to an enrolled device; a revoked one is out with the next call.

        Raises
        ------
        MissingError
            If there is no such file.
        StorageError
            If it is damaged.
        """
        try:
            status = self._path.stat()
        except OSError as error:
            raise MissingError(f"there is no {self._path}", hint="enrol devices: easel-server device add") from error
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._keys, self._seen = self._read(), seen
        return public_key in self._keys

    def _read(self) -> frozenset[str]:
        try:
            content = json.loads(read_bytes(self._path, limit=_LIMIT))
            if content["format"] != "easel-devices-1":
                raise ValueError
            devices = content["devices"].values()
            return frozenset(str(item["public_key"]) for item in devices if item["state"] == "enrolled")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StorageError(f"{self._path} is damaged", hint="put the latest backup of it back") from error
