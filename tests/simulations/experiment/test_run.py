"""Runs: what they leave, and that a kill at any point changes nothing of it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shared_model.errors import InputError, MissingError
from simulations.experiment.callbacks import StopTraining, should_stop
from simulations.experiment.folder import MARKER, SETTINGS, read_facts
from simulations.experiment.page import write_experiment_report
from simulations.experiment.plan import load_plan
from simulations.experiment.rows import Row
from simulations.experiment.run import NOT_PRIVATE, resume_experiment, run_experiment
from simulations.experiment.settings import CallbackConfig
from tests.simulations.experiment.conftest import quiet

ROOT = Path(__file__).parents[3]
TRIALS = ("local_seed-0", "fedavg_seed-0", "ditto_seed-0", "dp-fedavg_seed-0")


METHODS = ("local", "fedavg", "ditto", "dp-fedavg")


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it is written."""


def figures(run: Path, trial: str) -> dict[str, Any]:
    """Return everything of a trial's result but how long it took."""
    facts = read_facts(run / "trials" / trial / "result.json")
    facts.pop("cpu_seconds")
    for row in (*facts["rows"], facts["final"]):
        row.pop("seconds", None)
    return facts


def table(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))


def begun(tiny_run: Path, folder: Path, *, done: Sequence[str] = ()) -> Path:
    """Return a run that has its people, and of its trials only those that are ``done``."""
    folder.mkdir()
    shutil.copyfile(tiny_run / SETTINGS, folder / SETTINGS)
    marker = {**json.loads((tiny_run / MARKER).read_text()), "finished": False}
    (folder / MARKER).write_text(json.dumps(marker))
    shutil.copytree(tiny_run / "people", folder / "people")
    for trial in done:
        shutil.copytree(tiny_run / "trials" / trial, folder / "trials" / trial)
    return folder


def test_a_run_leaves_a_row_for_every_round_and_a_figure_for_every_device(tiny_run: Path) -> None:
    rows = table(tiny_run / "rounds.csv")
    assert [(row["method"], row["round"]) for row in rows] == [
        (method, str(number)) for method in METHODS for number in range(3)
    ]
    assert all(float(row["personal"]) > 0 for row in rows)
    assert [row["epsilon"] for row in rows[:10]] == [""] * 10 and float(rows[11]["epsilon"]) > 1.9
    assert float(next(row["bytes_up"] for row in rows if row["method"] == "fedavg" and row["round"] == "1")) > 0
    assert float(rows[4]["ema_loss"]) > 0 and rows[0]["ema_loss"] == ""
    devices = table(tiny_run / "devices.csv")
    assert len(devices) == 8 and len({row["start"] for row in devices}) == 2
    assert json.loads((tiny_run / MARKER).read_text())["finished"] is True


def test_methods_start_from_the_same_and_only_own_networks_differ_between_devices(tiny_run: Path) -> None:
    found = {name: figures(tiny_run, name) for name in TRIALS}
    assert len({str(facts["rows"][0]["devices"]) for facts in found.values()}) == 1
    assert [facts["own_networks"] for facts in found.values()] == [True, False, True, False]
    assert found["local_seed-0"]["bytes_up"] == 0 < found["fedavg_seed-0"]["bytes_up"]
    assert (tiny_run / "trials/fedavg_seed-0/photo-0_taste-0.png").is_file()
    assert not (tiny_run / "trials/fedavg_seed-0/work").exists()


def _points() -> list[Any]:
    """Return after which write of which trial to kill: the delicate ones always, the others in slow runs."""
    delicate = {("local_seed-0", 11), ("fedavg_seed-0", 19), ("ditto_seed-0", 29), ("dp-fedavg_seed-0", 29)}
    lengths = {"local_seed-0": 15, "fedavg_seed-0": 36, "ditto_seed-0": 40, "dp-fedavg_seed-0": 36}
    others = {(trial, point) for trial, length in lengths.items() for point in range(2, length, 3)} - delicate
    return [*sorted(delicate), *(pytest.param(*point, marks=pytest.mark.slow) for point in sorted(others))]


@pytest.mark.parametrize(("trial", "last_write"), _points())
def test_a_run_killed_at_any_write_ends_as_if_nothing_had_happened(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial: str, last_write: int
) -> None:
    run, written = begun(tiny_run, tmp_path / "run", done=[name for name in TRIALS if name != trial]), [0]
    really = os.replace

    def replace(source: Any, target: Any) -> None:
        written[0] += 1
        if written[0] > last_write:
            raise Killed
        really(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            resume_experiment(run, console=quiet())
    assert not json.loads((run / MARKER).read_text())["finished"]
    assert not (run / "trials" / trial / "result.json").exists()
    resume_experiment(run, console=quiet())
    assert figures(run, trial) == figures(tiny_run, trial)


def test_a_finished_run_is_only_read(tiny_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (tiny_run / "trials").rglob("*")}
    facts = resume_experiment(tiny_run, console=quiet())
    assert [trial["method"] for trial in facts["cells"][0]["trials"]] == list(METHODS)
    assert {path: path.stat().st_mtime_ns for path in (tiny_run / "trials").rglob("*")} == before


def test_other_settings_are_not_mixed_into_a_run(tiny_run: Path, tiny_text: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(tiny_text.replace("rounds = 2", "rounds = 4"))
    with pytest.raises(InputError, match="other settings"):
        run_experiment(load_plan(tmp_path / "other.toml"), tiny_run, console=quiet())
    with pytest.raises(InputError, match="holds no experiment"):
        run_experiment(load_plan(tmp_path / "other.toml"), tmp_path, console=quiet())
    with pytest.raises(MissingError, match="holds no experiment"):
        resume_experiment(tmp_path, console=quiet())


def test_a_device_that_is_not_there_is_said_before_a_run_begins(tiny_text: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(tiny_text + "\n[sweep]\n'engine.device' = ['cpu', 'mps']")
    with pytest.raises(MissingError, match="there is no mps device"):
        run_experiment(load_plan(tmp_path / "x.toml"), tmp_path / "out", console=quiet())
    assert not (tmp_path / "out").exists()


def test_noise_of_the_system_is_never_the_same_and_seeded_noise_is_said_to_protect_nobody(
    tiny_run: Path, tiny_text: str, tmp_path: Path
) -> None:
    trial = "dp-fedavg_seed-0"
    text = tiny_text.replace('noise = "seeded for tests"', 'noise = "from the system"')
    (tmp_path / "private.toml").write_text(re.sub(r'\[\[method\]\]\nname = "(local|fedavg|ditto)"\n', "", text))
    for plan, expected in ((load_plan(tmp_path / "private.toml"), True), (load_plan(tiny_run / SETTINGS), False)):
        run, console = tiny_run if not expected else tmp_path / "private", quiet()
        facts = run_experiment(plan, run, console=console)
        assert facts["private"] is expected
        assert (NOT_PRIVATE in console.err.getvalue()) is not expected  # type: ignore[attr-defined]
    seeded, private = figures(tiny_run, trial), figures(tmp_path / "private", trial)
    assert seeded["rows"][0] == private["rows"][0] and seeded["networks"] != private["networks"]
    assert private["epsilon"] == pytest.approx(2.0, rel=0.02) and private["run_epsilon"] > 100


def test_the_cells_of_a_sweep_are_runs_on_the_same_people(tiny_run: Path, tiny_text: str, tmp_path: Path) -> None:
    only = tiny_text[: tiny_text.index("[[method]]")] + '[[method]]\nname = "local"\n'
    (tmp_path / "sweep.toml").write_text(only + '[sweep]\n"federation.rounds" = [1, 2]\n')
    facts = run_experiment(load_plan(tmp_path / "sweep.toml"), tmp_path / "run", console=quiet())
    assert [cell["changes"] for cell in facts["cells"]] == [{"federation.rounds": 1}, {"federation.rounds": 2}]
    cells = [tmp_path / "run" / "cells" / f"rounds-{rounds}" for rounds in (1, 2)]
    assert [len(figures(cell, "local_seed-0")["rows"]) for cell in cells] == [2, 3]
    assert figures(cells[1], "local_seed-0") == figures(tiny_run, "local_seed-0")
    assert (tmp_path / "run" / "people" / "seed-0").is_dir() and not (cells[0] / "people").exists()
    page = write_experiment_report(tmp_path / "run").read_text()
    assert "rounds = 1" in page and "rounds = 2" in page


def test_a_trial_stops_when_it_has_learned_all() -> None:
    config = CallbackConfig(stop_after=2, stop_margin=0.01)

    def rows(*losses: float) -> list[Row]:
        return [{"round": number, "personal": loss} for number, loss in enumerate(losses)]

    assert not should_stop(rows(1.0, 0.9), config)
    assert not should_stop(rows(1.0, 0.9, 0.95, 0.8), config)
    assert should_stop(rows(1.0, 0.9, 0.95, 0.895), config)
    assert not should_stop(rows(1.0, 1.0, 1.0, 1.0), CallbackConfig())


class Watch:
    """Counts rows, and stops every trial after its first round."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_start(self, trial: str, *, rows: Any) -> None:
        self.told.append(f"{trial} after {len(rows)}")

    def on_round(self, trial: str, row: Row) -> None:
        self.told.append(f"{trial} {row['round']}")
        raise StopTraining

    def on_end(self, trial: str) -> None:
        self.told.append(f"{trial} ended")


def test_a_callback_is_told_and_may_end_a_trial(tiny_run: Path, tmp_path: Path) -> None:
    others = [trial for trial in TRIALS if trial != "fedavg_seed-0"]
    run, watch = begun(tiny_run, tmp_path / "run", done=others), Watch()
    run_experiment(load_plan(run / SETTINGS), run, console=quiet(), callbacks=(watch,))
    assert watch.told == ["fedavg_seed-0 after 1", "fedavg_seed-0 1", "fedavg_seed-0 ended"]
    assert [row["round"] for row in figures(run, "fedavg_seed-0")["rows"]] == [0, 1]


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_round(tiny_run: Path, tmp_path: Path) -> None:
    run = begun(tiny_run, tmp_path / "run")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from simulations.methods import personal\n"
        "from simulations.experiment import measures, run\n"
        "real, calls = measures.personal_loss, [0]\n"
        "def dying(*values, **named):\n"
        "    calls[0] += 1\n"
        "    if calls[0] == 9: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*values, **named)\n"
        "measures.personal_loss = dying\n"
        "run.resume_experiment(Path(sys.argv[1]))\n"
    )
    died = subprocess.run([sys.executable, "-c", code, str(run)], cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL
    resume_experiment(run, console=quiet())
    for trial in TRIALS:
        assert figures(run, trial) == figures(tiny_run, trial)
