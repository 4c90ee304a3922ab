"""Where a federation finds its things: keys of a run-config that are not part of the federation."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.config import FederationConfig
from shared_model.errors import ConfigError, MissingError
from shared_model.weights import default_backbone_path

__all__ = ["PLACES", "SERVERAPP", "resolve_backbone", "split_run_config"]

#: ``backbone``: a weights file, empty for the one easel ships; ``devices-dir``: read by simulated
#: devices; ``run-dir``: where state and results go.
PLACES = ("backbone", "devices-dir", "run-dir")
#: In ``run-dir``: the mark of the ServerApp that is running (:mod:`shared_model.processes`).
SERVERAPP = "serverapp.pid"


def split_run_config(values: Mapping[str, Any]) -> tuple[dict[str, str], FederationConfig]:
    """Take the places out of a run's configuration and read the federation from the rest.

    Raises
    ------
    ConfigError
        If ``run-dir`` is missing or not absolute: the app runs in a folder of Flower's.
    """
    places = {key: str(values.get(key, "")) for key in PLACES}
    if not Path(places["run-dir"]).is_absolute():
        raise ConfigError(
            f"run-dir must be an absolute folder, not {places['run-dir']!r}",
            hint="for example --run-config 'run-dir=\"/home/me/runs/first\"'",
        )
    return places, FederationConfig.from_run_config({key: values[key] for key in values if key not in PLACES})


def resolve_backbone(given: str) -> Path:
    """Return the weights to start from: ``given``, else the ones that easel ships.

    A Flower app bundle holds no weights. There, the installed ``easel`` package (or the checkout
    that it was installed from) is asked where they are.

    Raises
    ------
    MissingError
        If they are nowhere.
    """
    if given:
        return Path(given).expanduser()
    candidates = [default_backbone_path()]
    if importlib.util.find_spec("easel") is not None:
        root = importlib.import_module("easel").root
        candidates.append(Path(root()) / "shared_model" / "weights" / default_backbone_path().name)
    for path in candidates:
        if path.is_file():
            return path
    raise MissingError(
        "the starting backbone was not found",
        hint="install easel beside the server, or name a file: --run-config 'backbone=\"/path/backbone.safetensors\"'",
    )
