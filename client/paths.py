"""Where the owner's things lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["home_folder"]


def home_folder(*, environ: Mapping[str, str] | None = None) -> Path:
    """Return ``$EASEL_HOME`` or the platform's user data folder, without making it."""
    given = (os.environ if environ is None else environ).get("EASEL_HOME", "")
    if given:
        return Path(given).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("easel", appauthor=False))
