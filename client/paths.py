"""Where the owner's things lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["home_folder", "witness_folder"]


def home_folder(*, environ: Mapping[str, str] | None = None) -> Path:
    """Return ``$EASEL_HOME`` or the platform's user data folder, without making it."""
    given = (os.environ if environ is None else environ).get("EASEL_HOME", "")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("easel", appauthor=False))


def witness_folder(*, environ: Mapping[str, str] | None = None) -> Path:
    """Return where the second memory of privacy ledgers lies (:mod:`client.witness`), without making it.

    ``$EASEL_STATE``, else a folder of ``$EASEL_HOME``, else the platform's user *state* folder, which
    backups of documents and settings usually leave out.
    """
    known = os.environ if environ is None else environ
    for name in ("EASEL_STATE", "EASEL_HOME"):
        if known.get(name, ""):
            return Path(known[name]).expanduser().absolute() / "ledgers"
    import platformdirs

    return Path(platformdirs.user_state_dir("easel", appauthor=False)) / "ledgers"
