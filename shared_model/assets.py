"""Where the files that easel brings along lie: weights, heads, sample photos.

A Flower app bundle carries Python files only, so code that runs from one takes these files from the
easel that is installed on the machine.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from shared_model.errors import MissingError

__all__ = ["find_asset"]


def find_asset(name: str) -> Path:
    """Return the path of a file or folder below ``shared_model``, such as ``data/calibration.jpg``.

    Raises
    ------
    MissingError
        If neither this copy of the package nor an installed easel has it.
    """
    here = Path(__file__).parent
    folders = [here]
    spec = importlib.util.find_spec("easel")
    if spec is not None and spec.origin is not None:
        launcher = Path(spec.origin).parent
        folders += [launcher / here.name, launcher.parent / here.name]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    raise MissingError(f"easel's own file {name} is missing", hint="install easel on this machine: pip install easel")
