"""The folder of an experiment: its settings, one owner at a time, and a file for each finished trial.

``experiment.toml`` and ``experiment.json`` say what the run is; everything else can be made from them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_model.errors import InputError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic
from simulations.experiment.plan import Plan, load_plan

__all__ = [
    "MARKER",
    "SETTINGS",
    "Facts",
    "Folders",
    "claim",
    "is_experiment",
    "plain",
    "read_facts",
    "read_marker",
    "write_facts",
]

MARKER, SETTINGS = "experiment.json", "experiment.toml"
FORMAT = 1

Facts = dict[str, Any]


@dataclass(frozen=True)
class Folders:
    """Pictures of one's own for the people of an experiment; empty: those that easel brings along.

    Parameters
    ----------
    photos, art
        Folders.
    splits
        JSON file that names the held-out pictures, see :func:`simulations.populations.settle`.
    """

    photos: tuple[str, ...] = ()
    art: tuple[str, ...] = ()
    splits: str = ""

    @classmethod
    def of(cls, photos: Sequence[str] = (), art: Sequence[str] = (), splits: str = "") -> Folders:
        """Make paths absolute, so that a run can go on from another folder."""

        def absolute(name: str) -> str:
            return str(Path(name).expanduser().resolve())

        return cls(tuple(map(absolute, photos)), tuple(map(absolute, art)), absolute(splits) if splits else "")


def claim(folder: Path, plan: Plan, *, folders: Folders, weights: str) -> None:
    """Begin a run in an empty folder, or make sure that the one there is the same.

    Raises
    ------
    InputError
        If the folder holds something else, or a run with other settings, pictures or weights.
    """
    identity = {"digest": plan.digest, "weights": weights, "folders": plain(vars(folders))}
    if (folder / MARKER).is_file():
        found = read_marker(folder)
        different = [key for key, value in identity.items() if found.get(key) != value]
        if different:
            raise InputError(
                f"{folder} holds a run with other {', '.join(different)}".replace("digest", "settings"),
                hint=f"`easel-sim resume {folder}` goes on with it; choose another --out for a new run",
            )
        return
    if folder.exists() and any(path.name != ".lock" for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no experiment", hint="choose another folder with --out")
    write_atomic(folder / SETTINGS, plan.text.encode())
    write_facts(folder / MARKER, {"easel": "experiment", "format": FORMAT, **identity, "finished": False})


def is_experiment(folder: Path | str) -> bool:
    """Say whether a folder holds an experiment."""
    return (Path(folder) / MARKER).is_file()


def read_marker(folder: Path | str) -> Facts:
    """Read what a run is.

    Raises
    ------
    MissingError
        If the folder holds no experiment.
    StorageError
        If its marker is damaged or of another version.
    """
    path = Path(folder) / MARKER
    if not path.is_file():
        raise MissingError(f"{folder} holds no experiment", hint="name the folder that easel-sim run made")
    facts = read_facts(path)
    if facts.get("easel") != "experiment" or facts.get("format") != FORMAT:
        raise StorageError(f"{path} is not an experiment of this version", hint="choose another folder")
    return facts


def read_plan(folder: Path | str, *, same: bool = True) -> tuple[Plan, Folders]:
    """Read what a run asks for, to go on with it or to show it.

    Parameters
    ----------
    folder
        Of the run.
    same
        Insist that the settings mean what they meant when the run began; whoever only shows it need not.

    Raises
    ------
    MissingError, StorageError, ConfigError
        If there is no run, or its files are damaged or of another version.
    """
    marker, plan = read_marker(folder), load_plan(Path(folder) / SETTINGS)
    if same and plan.digest != marker["digest"]:
        raise StorageError(
            f"{Path(folder) / SETTINGS} is not what this run was begun with",
            hint="put it back, use the easel version that began it, or begin a new run",
        )
    found = marker["folders"]
    return plan, Folders(tuple(found["photos"]), tuple(found["art"]), found["splits"])


def read_facts(path: Path) -> Facts:
    """Read a JSON document.

    Raises
    ------
    StorageError
        If it is damaged.
    """
    try:
        return dict(json.loads(read_bytes(path, limit=1 << 28)))
    except ValueError as error:
        raise StorageError(f"{path} is damaged", hint="delete it and resume the run") from error


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON document; infinity and not-a-number become null."""
    write_atomic(path, (json.dumps(plain(facts), indent=1) + "\n").encode())


def plain(value: Any) -> Any:
    """Return JSON-ready values."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
