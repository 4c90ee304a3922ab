"""``easel-sim``: light to start, mistakes in two lines, exit codes as documented."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations import demo
from simulations.cli import main
from simulations.settings import load_demo

ROOT = Path(__file__).parents[2]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from simulations.cli import main; main(['--help']); main(['demo', '--help']);"
        "print('HEAVY', sorted({'torch', 'flwr', 'opacus', 'numpy', 'jinja2', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "HEAVY []" in result.stdout
    assert "easel-sim demo" in result.stdout


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "report" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dmeo"], "dmeo"),
        (["demo", "--devices", "1"], "devices must be between 2"),
        (["demo", "--devices", "many"], "--devices"),
        (["demo", "--rounds", "0"], "rounds must be at least 1"),
        (["demo", "--seed", "-1"], "seed must be"),
        (["demo", "--photos", "somewhere"], "belong together"),
    ],
)
def test_mistakes_are_two_lines_and_exit_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error: ") and said in lines[0]
    assert len(lines) <= 2 and all(line.startswith("hint: ") for line in lines[1:])
    assert list(tmp_path.iterdir()) == []


def test_report_of_a_run_is_written_and_named(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(finished_run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(finished_run / "report.html")}
    assert (finished_run / "report.html").stat().st_size > 1000


def test_report_without_a_run_exits_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 3
    assert "holds no run" in capsys.readouterr().err


def test_a_foreign_folder_exits_2_and_is_untouched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_wrong_key_names_file_key_and_the_nearest_right_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text("devises = 4\n")
    assert main(["demo", "--config", str(tmp_path / "mine.toml")]) == 2
    err = capsys.readouterr().err
    assert "mine.toml" in err and "'devises'" in err and "'devices'" in err


def test_options_reach_the_federation_and_keep_the_nominal_fleet() -> None:
    config = load_demo(devices=3, rounds=2, seed=5)
    federation = config.federation
    assert (config.devices, config.heads, config.seed) == (3, 3, 5)
    assert (federation.rounds, federation.simulated_population, federation.simulated_cohort) == (2, 3, 3)
    assert federation.population == 1_000_000 and federation.rescale_noise and federation.min_nodes == 3


def test_a_polite_kill_is_a_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(demo, "run_demo", killed)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["demo"]) == 130
    assert "stopped" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
