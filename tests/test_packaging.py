"""The wheel holds what it needs and nothing else, works from anywhere, and takes no foreign package for ours."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import easel
from easel import launch

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("client", "easel", "protos", "server", "shared_model", "simulations")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _sources(root: Path) -> list[Path]:
    files = [file for folder in FOLDERS for file in (root / folder).rglob("*") if file.is_file()]
    return [file.relative_to(root) for file in files if "__pycache__" not in file.parts and file.suffix != ".tmp"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that nothing is built inside the working tree; with a run and a test in it."""
    copy = tmp_path_factory.mktemp("checkout")
    for file in [
        *_sources(ROOT),
        *(Path(name) for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py") if (ROOT / name).exists()),
    ]:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, copy / file)
    for stray in ("runs/demo/report.html", "runs/__init__.py", "tests/test_stray.py", "client/__pycache__/app.pyc"):
        (copy / stray).parent.mkdir(parents=True, exist_ok=True)
        (copy / stray).write_text("# must not be packed\n", encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), cwd=checkout)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel, without its dependencies, is installed in."""
    folder = tmp_path_factory.mktemp("site")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    _run("-m", "pip", *install, "--target", str(folder), str(wheel), cwd=folder)
    return folder


def _run(*arguments: str, cwd: Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_every_package(wheel: Path, checkout: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(file if file.parts[0] == "easel" else "easel" / file) for file in _sources(checkout)}
    assert expected - packed == set(), "is an __init__.py missing, or a file type in package-data of pyproject.toml?"


def test_the_wheel_holds_nothing_else(wheel: Path, checkout: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed <= {str(file if file.parts[0] == "easel" else "easel" / file) for file in _sources(checkout)}


def test_the_wheel_has_the_three_commands_and_the_license(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = f"easel-{easel.__version__}.dist-info"
    scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert "easel = easel.launch:device" in scripts
    assert "easel-server = easel.launch:server" in scripts
    assert "easel-sim = easel.launch:simulation" in scripts
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()


def test_an_installed_wheel_answers_to_both_spellings(site: Path, tmp_path: Path) -> None:
    code = (
        "import easel, shared_model.errors, easel.shared_model.errors as other\n"
        "assert other is shared_model.errors and easel.shared_model is shared_model\n"
        "print(easel.root(), other.__file__, sep='\\n')"
    )
    root, file = _run("-c", code, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert Path(root) == site / "easel"
    assert Path(file) == site / "easel" / "shared_model" / "errors.py"


def test_a_foreign_package_in_the_current_folder_is_not_taken_for_ours(site: Path, tmp_path: Path) -> None:
    for name in ("client", "shared_model"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('foreign')\n", encoding="utf-8")
    assert "stylize" in _run("-m", "easel", "--help", cwd=tmp_path, PYTHONPATH=str(site))


def test_a_child_process_finds_the_packages_through_root(site: Path, tmp_path: Path) -> None:
    code = "import shared_model.errors; print(shared_model.errors.__file__)"
    found = _run("-c", code, cwd=tmp_path, PYTHONPATH=str(site / "easel"))
    assert Path(found.strip()).is_relative_to(site)


def test_a_checkout_answers_to_both_spellings() -> None:
    plain = importlib.import_module("shared_model.errors")
    spec = plain.__spec__
    assert importlib.import_module("easel.shared_model.errors") is plain
    assert plain.__spec__ is spec
    assert plain.__name__ == "shared_model.errors"
    assert easel.root() == ROOT


def test_an_unknown_module_is_missing_under_both_spellings() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"easel\.shared_model\.nothing"):
        importlib.import_module("easel.shared_model.nothing")


def test_an_alias_of_a_foreign_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "protos").mkdir()
    (tmp_path / "protos" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("protos", "easel.protos"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match="another package named 'protos'"):
        importlib.import_module("easel.protos")


@pytest.mark.parametrize(
    ("path", "cwd", "expected"),
    [
        (["/lib", "/site"], "/home", ["/ours", "/lib", "/site"]),
        (["", "/lib"], "/home", ["/ours", "/lib"]),
        (["/home", "/lib"], "/home", ["/ours", "/lib"]),
        (["/lib", "/ours"], "/home", ["/ours", "/lib"]),
        (["/ours", "/lib"], "/ours", ["/ours", "/lib"]),
        (["/python/site", "/lib"], "/python/site", ["/ours", "/python/site", "/lib"]),
    ],
)
def test_the_search_path_starts_with_ours_and_skips_the_current_folder(
    path: list[str], cwd: str, expected: list[str]
) -> None:
    assert launch.isolate(path, root=Path("/ours"), cwd=Path(cwd), prefixes=["/python"]) == expected


def _pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): Version(version) for name, version in pairs}


def test_pins_are_exact_and_name_no_index_or_build() -> None:
    pins = _pins()
    assert not [name for name, version in pins.items() if version.local], "a local version resolves on no other index"
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and "--" not in text.replace("# ", "")


@pytest.mark.parametrize(
    "extra", ["", "client", "daemon", "export", "heic", "parquet", "server", "sim", "studio", "train", "video", "dev"]
)
def test_every_dependency_is_pinned_inside_its_range(extra: str) -> None:
    project = PROJECT["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    pins = _pins()
    for requirement in map(Requirement, wanted):
        if requirement.name != "easel":
            assert requirement.specifier.contains(pins[requirement.name.lower()]), str(requirement)


def test_the_version_is_said_once() -> None:
    assert PROJECT["project"]["version"] == easel.__version__
