"""The command line: status of a run from its folder, clear mistakes, quick help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp

from server.app import federate
from server.cli import main
from server.config import FederationConfig
from server.outputs import BACKBONE, PRIVACY, ROUNDS
from shared_model.backbone import Backbone
from shared_model.weights import load_backbone, read_manifest, save_backbone
from simulations.grid import InProcessGrid

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def finished(tmp_path: Path, config: FederationConfig, backbone: Backbone, fake_client: ClientApp) -> Path:
    import logging

    weights = save_backbone(tmp_path / "start.safetensors", backbone)
    grid = InProcessGrid(fake_client, [{}] * 4)
    federate(grid, config, run_dir=tmp_path / "run", backbone=str(weights), log=logging.getLogger("test"))
    return tmp_path / "run"


def test_a_run_leaves_its_files(finished: Path, config: FederationConfig) -> None:
    lines = (finished / ROUNDS).read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("round,asked,accepted,dropped,reasons,released,epsilon,run_epsilon")
    assert lines[1].startswith("1,4,4,0,,1,")
    facts = json.loads((finished / PRIVACY).read_text())
    assert (facts["rounds_done"], facts["rounds_charged"]) == (2, 2)
    assert facts["epsilon"] < facts["run_epsilon"]
    manifest = read_manifest(finished / BACKBONE)
    assert manifest["round"] == "2"
    assert "NOT protected" in manifest["privacy"]
    assert load_backbone(finished / BACKBONE).config.width == 8


def test_status_as_text_and_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--run-dir", str(finished)]) == 0
    text = capsys.readouterr().out
    assert "2 of 2 rounds" in text
    assert "round 2/2: 4 of 4 accepted" in text
    assert "NOT protected" in text
    assert main(["status", "--run-dir", str(finished), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["finished"] and not facts["under_way"]
    assert (facts["accepted"], facts["asked"], facts["dropped"]) == (8, 8, {})
    assert facts["backbone"].endswith(BACKBONE)
    assert facts["rounds"][1]["epsilon"] == facts["privacy"]["epsilon"]


def test_mistakes_are_two_lines_and_a_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--run-dir", str(tmp_path)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"error: there is no run in {tmp_path}",
        "hint: start one with easel-server run",
    ]


def test_run_refuses_before_any_process_starts(
    tmp_path: Path, backbone: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "federation.toml"
    weights = save_backbone(tmp_path / "b.safetensors", backbone)
    common = ["run", "--config", str(config), "--run-dir", str(tmp_path / "run"), "--backbone", str(weights)]
    config.write_text("rouds = 2\n")
    assert main(common) == 2
    assert "did you mean 'rounds'" in capsys.readouterr().err
    config.write_text("population = 50\ncohort = 5\nnoise_multiplier = 1.0\n")
    assert main(common) == 6
    assert "50 devices, 5 a round" in capsys.readouterr().err
    config.write_text("population = 1000000\ncohort = 10000\nnoise_multiplier = 1.0\n")
    assert main([*common, "--ca", str(weights)]) == 2
    assert "belong together" in capsys.readouterr().err
    assert main([*common, "--host", "0.0.0.0"]) == 7
    assert "without encryption" in capsys.readouterr().err
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_run_refuses_a_changed_configuration(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "federation.toml"
    config.write_text("rounds = 5\n")
    assert main(["run", "--config", str(config), "--run-dir", str(finished)]) == 2
    assert "rounds was 2, now 5" in capsys.readouterr().err


def test_doctor_names_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert main(["doctor", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    checks = {check["check"]: check for check in found["checks"]}
    assert not checks["flower-superlink"]["ok"]
    assert "pip install" in checks["flower-superlink"]["detail"]
    assert checks["privacy accountant"]["ok"]


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from server.cli import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'flwr', 'opacus', 'ray') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "example: easel-server run" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
