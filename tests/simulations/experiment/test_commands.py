"""``easel-sim run``, ``resume`` and ``compare`` from the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from simulations.cli import main
from simulations.experiment.folder import SETTINGS


def test_the_first_mistake_is_said_in_two_lines_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiment.toml").write_text('name = "x"\n[federation]\nrouds = 2\n[[method]]\nname = "fedavg"\n')
    assert main(["run", str(tmp_path / "experiment.toml"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("experiment.toml:3: unknown key 'rouds' in [federation]")
    assert said[1] == "hint: did you mean 'rounds'?" and len(said) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arguments", [["run", "nothing"], ["resume", "nowhere"], ["compare", "nowhere"]])
def test_what_is_not_there_is_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 3
    assert "error: " in capsys.readouterr().err


def test_a_run_from_the_command_line_ends_with_its_page(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "trials/local_seed-0/result.json").unlink()  # one trial is left to finish
    assert main(["resume", str(tmp_path / "run"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [trial["method"] for trial in facts["cells"][0]["trials"]] == ["local", "fedavg", "ditto", "dp-fedavg"]
    page = Path(facts["report"]).read_text()
    assert "Tiny" in page and "NOT PRIVATE" in page
    text = (tmp_path / "run" / SETTINGS).read_text().replace("rounds = 2", "rounds = 3")
    (tmp_path / "other.toml").write_text(text)
    assert main(["run", str(tmp_path / "other.toml"), "--out", str(tmp_path / "run")]) == 2
    assert "other settings" in capsys.readouterr().err
