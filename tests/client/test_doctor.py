from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from client import doctor
from client.doctor import Check, check_extras, check_home, examine, worst
from client.machine import check_disk, check_gpu
from client.store import Home
from shared_model.head import Head

ROOT = Path(__file__).resolve().parents[2]


def states(checks: list[Check], topic: str) -> set[str]:
    return {check.state for check in checks if check.topic == topic}


def test_a_healthy_installation_has_no_failure(easel_home: Path) -> None:
    checks = examine()
    assert worst(checks) != "fail", [check for check in checks if check.state == "fail"]
    assert {"python", "packages", "torch", "memory", "disk", "backbone", "home", "heads", "ledger", "extras"} <= {
        check.topic for check in checks
    }


def test_damaged_backbone_fails_and_the_rest_is_still_looked_at(
    easel_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "backbone.safetensors"
    broken.write_bytes(b"no weights")
    monkeypatch.setattr("shared_model.weights.default_backbone_path", lambda: broken)
    checks = examine()
    assert worst(checks) == "fail"
    assert states(checks, "backbone") == {"fail"}
    assert states(checks, "python") == {"ok"}


def test_an_installation_without_torch_is_diagnosed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is missing', name='torch')")
    code = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nfrom client.cli import main\nsys.exit(main(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr == ""
    assert "libtorch.so is missing" in done.stdout and "ok    python" in done.stdout


def test_damaged_and_foreign_heads_are_named(easel_home: Path, tiny_head: Head) -> None:
    home = Home.default()
    home.save_head(tiny_head, name="broken").path.write_bytes(b"x" * 40)
    home.save_head(Head(**{**vars(tiny_head), "backbone": "0" * 12}), name="old")
    found = [check for check in examine() if check.topic == "heads"]
    assert [(check.state, "'broken'" in check.message) for check in found if check.state == "fail"] == [("fail", True)]
    assert [(check.state, "'old'" in check.message) for check in found if check.state == "warn"] == [("warn", True)]


def test_open_home_is_a_warning_with_the_command_that_closes_it(tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    (check,) = check_home(tmp_path)
    assert check.state == "warn" and "chmod -R go-rwx" in check.hint
    tmp_path.chmod(0o700)
    assert [check.state for check in check_home(tmp_path)] == ["ok"]


def test_home_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("x")
    (check,) = check_home(tmp_path / "home")
    assert check.state == "fail" and "EASEL_HOME" in check.hint


def test_home_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    assert [check.state for check in check_home(tmp_path / "home")] == ["ok"]


def test_home_that_cannot_be_made_fails_before_the_first_head_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, rights: Path(path) != tmp_path)
    (check,) = check_home(tmp_path / "new" / "home")
    assert check.state == "fail" and str(tmp_path) in check.message and "EASEL_HOME" in check.hint


def test_a_path_that_is_closed_is_a_finding_and_the_rest_is_still_looked_at(
    easel_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed() -> list[Check]:
        raise PermissionError(13, "Permission denied", "/locked/models")

    monkeypatch.setattr("client.doctor._backbone", closed)
    checks = examine()
    assert [(c.topic, c.message) for c in checks if c.state == "fail"] == [
        ("backbone", "cannot look at /locked/models: Permission denied")
    ]
    assert {"home", "heads", "extras"} <= {check.topic for check in checks}


def test_missing_extras_say_how_to_get_them() -> None:
    missing = check_extras(lambda name: name != "opacus")
    assert [check.hint for check in missing if check.hint] == ["only if you want it: pip install 'easel[client]'"]


def test_a_package_that_hides_ours_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "server", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (check,) = doctor.check_shadows()
    assert check.state == "fail" and str(tmp_path) in check.message


@pytest.mark.parametrize(
    ("maker", "built", "usable", "state", "word"),
    [
        ("NVIDIA", "13.0", True, None, ""),
        ("", None, False, None, ""),
        ("", "13.0", False, "ok", "none"),
        ("NVIDIA", None, False, "warn", "CPU alone"),
        ("NVIDIA", "13.0", False, "warn", "cannot use"),
    ],
)
def test_a_gpu_that_is_not_used_is_explained(
    maker: str, built: str | None, usable: bool, state: str | None, word: str
) -> None:
    found = check_gpu(maker, built=built, usable=usable)
    assert [check.state for check in found] == ([] if state is None else [state])
    assert all(word in check.message for check in found)
    assert all(check.hint for check in found if check.state == "warn")


@pytest.mark.parametrize(("free", "state"), [(10**10, "ok"), (10**8, "warn"), (10**6, "fail")])
def test_a_full_disk_is_noticed_before_the_home_is_there(
    free: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: types.SimpleNamespace(free=free, place=place))
    (check,) = check_disk(tmp_path / "not" / "yet")
    assert check.state == state
    assert ("EASEL_HOME" in check.hint) == (state != "ok")


def test_worst() -> None:
    assert worst([]) == "ok"
    assert worst([Check("a", "warn", ""), Check("b", "ok", "")]) == "warn"
    with pytest.raises(ValueError, match="state"):
        Check("a", "bad", "")
