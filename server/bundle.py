"""The Flower app as a folder of its own, from a checkout and from an installed wheel alike.

``flwr run`` wants a folder with a pyproject.toml and packages under their directory names; a wheel
keeps them under ``easel.*`` and has no such file. The bundle holds program text only.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from server.config import FederationConfig
from server.places import PLACES
from shared_model.files import write_atomic

__all__ = ["PACKAGES", "run_config", "run_config_toml", "write_bundle"]

PACKAGES = ("client", "protos", "server", "shared_model")

_PROJECT = """\
[project]
name = "easel"
version = "{version}"
description = "Learn to paint together under differential privacy"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "easel"
fab-include = [{include}]

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
{config}
"""


def write_bundle(folder: Path | str) -> Path:
    """Write the app into ``folder`` (made when missing) and return it."""
    target = Path(folder)
    for package in PACKAGES:
        origin = importlib.import_module(package).__file__
        if origin is None:
            continue
        shutil.copytree(
            Path(origin).parent,
            target / package,
            ignore=lambda directory, names: [name for name in names if _is_data(Path(directory) / name)],
            dirs_exist_ok=True,
        )
    defaults = {**dict.fromkeys(PLACES, ""), **_flat(FederationConfig())}
    text = _PROJECT.format(
        version=_version(),
        include=", ".join(f'"{package}/**/*.py"' for package in PACKAGES),
        config=run_config_toml(defaults),
    )
    write_atomic(target / "pyproject.toml", text.encode())
    return target


def run_config_toml(values: dict[str, Any]) -> str:
    """Write a flat run-config as TOML, one key a line."""
    return "\n".join(f"{key} = {_toml(value)}" for key, value in values.items())


def run_config(config: FederationConfig, *, run_dir: Path, backbone: str, devices_dir: str = "") -> dict[str, Any]:
    """Return the flat run-config of a federation with its places, hyphens in the keys."""
    places = {"run-dir": str(run_dir), "backbone": backbone, "devices-dir": devices_dir}
    return {**places, **_flat(config)}


def _flat(config: FederationConfig) -> dict[str, Any]:
    return {item.name.replace("_", "-"): getattr(config, item.name) for item in dataclasses.fields(config)}


def _toml(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str | bool) else repr(value)


def _is_data(path: Path) -> bool:
    return path.name == "__pycache__" or (path.is_file() and path.suffix != ".py")


def _version() -> str:
    try:
        return importlib.metadata.version("easel")
    except importlib.metadata.PackageNotFoundError:
        return "0.0.0"
