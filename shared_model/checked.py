"""JSON with a format, a version and a checksum: what a ledger is written in.

The checksum finds damage, not forgery: whoever can write the file can also compute it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared_model.errors import LedgerError

__all__ = ["decode", "encode"]

_HINT = "put the latest copy of the ledger back; nothing is sent while it is damaged"


def encode(content: Mapping[str, Any], *, format: str, version: int) -> bytes:
    """Serialize with a checksum, readable to a curious owner.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    whole = {"format": format, "version": version, **content}
    whole["checksum"] = _checksum(whole)
    return (json.dumps(whole, indent=1, allow_nan=False) + "\n").encode()


def decode(data: bytes, *, format: str, version: int, path: Path) -> dict[str, Any]:
    """Verify and read what :func:`encode` wrote, without ``format``, ``version`` and ``checksum``.

    Raises
    ------
    LedgerError
        If it is not such a file, of another version, truncated, damaged or edited.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"the privacy ledger {path} is damaged: it is not JSON", hint=_HINT) from error
    if not isinstance(content, dict) or content.get("format") != format:
        raise LedgerError(f"{path} is not a privacy ledger ({format})", hint=_HINT)
    if content.get("version") != version:
        raise LedgerError(
            f"{path} has ledger version {content.get('version')!r}, this easel reads {version}",
            hint="use the version of easel that wrote it",
        )
    stated = content.pop("checksum", None)
    try:
        whole = stated == _checksum(content)
    except (ValueError, RecursionError):  # NaN, a lone surrogate, too deep
        whole = False
    if not whole:
        raise LedgerError(f"the privacy ledger {path} is damaged or was edited", hint=_HINT)
    return {key: value for key, value in content.items() if key not in ("format", "version")}


def _checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
