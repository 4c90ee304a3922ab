"""The app as a folder: program text only, every key, and weights found from outside."""

import tomllib
from pathlib import Path

import pytest

from server.bundle import run_config, write_bundle
from server.config import FederationConfig
from server.places import resolve_backbone, split_run_config
from server.superlink import environment, program
from shared_model.errors import MissingError

ROOT = Path(__file__).resolve().parents[2]


def test_bundle_holds_program_text_and_the_checkouts_settings(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "app")
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".py", ".toml"}
    assert [path.name for path in folder.rglob("*.toml")] == ["pyproject.toml"]
    for name in ("server/app.py", "client/app.py", "shared_model/metrics/__init__.py"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    app = tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert app["config"] == ours["config"]
    assert app["components"] == ours["components"]
    assert (app["publisher"], app["fab-include"]) == (ours["publisher"], ours["fab-include"])


def test_run_config_survives_the_journey(tmp_path: Path) -> None:
    config = FederationConfig(rounds=7, clip=2.5, unit="example", unprotected=True)
    values = run_config(config, run_dir=tmp_path, backbone='a "quoted" name', devices_dir="d")
    places, back = split_run_config(values)
    assert back == config
    assert places == {"run-dir": str(tmp_path), "backbone": 'a "quoted" name', "devices-dir": "d"}


def test_the_starting_backbone_is_given_shipped_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_backbone(str(tmp_path / "mine")) == tmp_path / "mine"
    monkeypatch.setattr("server.places.default_backbone_path", lambda: tmp_path / "fab" / "backbone.safetensors")
    monkeypatch.setattr("easel.root", lambda: tmp_path)
    with pytest.raises(MissingError, match="starting backbone"):
        resolve_backbone("")
    installed = tmp_path / "shared_model" / "weights" / "backbone.safetensors"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert resolve_backbone("") == installed


def test_flower_has_a_home_of_its_own_and_reports_to_nobody(tmp_path: Path) -> None:
    found = environment(tmp_path)
    assert found["FLWR_HOME"] == str(tmp_path / "flwr")
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert found["PATH"].split(":")[0] == str(Path(program("flwr")).parent)
