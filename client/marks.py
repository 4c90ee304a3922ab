"""Marks by which easel knows again what it painted a picture from, and nobody else does.

A painting carries a mark of its source, so that another photo of the same name is painted too, and a finished one is
not painted twice. The mark is keyed with a secret of the owner's.

Guarantees
    Without the secret a mark says nothing: not the photo's name, content or place, and a known photo cannot be
    compared with it.
Assumes
    The secret stays in the owner's folder.
Edge cases
    Two paintings of one photo by one owner carry the same mark. Where the folder cannot be written there is no
    secret, and paintings carry no mark. A secret that is lost makes easel paint anew, under other names.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared_model.errors import StorageError
from shared_model.files import read_bytes, write_new

__all__ = ["FIELD", "Marks"]

FIELD = "source"  # of a painting's settings
_BYTES = 32
_PIECE = 1 << 18  # from the start, the middle and the end of a file, which may be a film


@dataclass(frozen=True)
class Marks:
    """Makes marks with a secret; with an empty one, none.

    Attributes
    ----------
    secret
        32 random bytes.
    """

    secret: bytes = field(default=b"", repr=False)

    @classmethod
    def of_owner(cls, folder: Path) -> Marks:
        """Return the marks of the owner of ``folder``; their secret is made on first use."""
        path = folder / "marks.key"
        try:
            if not path.exists():
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_new(path, secrets.token_bytes(_BYTES), mode=0o600)
            secret = read_bytes(path, limit=_BYTES, ordinary=True)
        except (OSError, StorageError):
            return cls()
        return cls(secret if len(secret) == _BYTES else b"")

    def of(self, path: Path) -> dict[str, object]:
        """Return what is embedded in the painting of a file; nothing without a secret, or if it cannot be read."""
        if not self.secret:
            return {}
        mark = hmac.new(self.secret, digestmod=hashlib.sha256)
        try:
            with path.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                mark.update(size.to_bytes(8, "big"))
                for start in (0, size // 2, max(0, size - _PIECE)):
                    stream.seek(start)
                    mark.update(stream.read(_PIECE))
        except OSError:
            return {}
        return {FIELD: mark.hexdigest()[:16]}

    def deny(self, path: Path, settings: Mapping[str, object]) -> bool:
        """Tell whether ``settings`` carry the mark of another file; older paintings carry none."""
        own = self.of(path)
        return bool(own) and FIELD in settings and own[FIELD] != settings[FIELD]
