"""The demo end to end, tiny: every file is there, kills and Ctrl-C lose nothing, privacy is never forgotten."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from client.console import Console
from client.ledger import Ledger
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.config import STROKES, ModelConfig
from shared_model.errors import FederationError, Interrupted
from shared_model.head import Head
from shared_model.images import load_picture
from shared_model.weights import save_backbone
from simulations import federated_phase, phases
from simulations.demo import run_demo
from simulations.run_folder import read_run
from simulations.settings import DemoConfig, load_demo

SETTINGS = """
devices = 2
photos_each = 2
art_each = 1
pictures_px = 64
records = 2
record_px = 48
heads = 1
tune_s = 0.0
paint_px = 64
paintings = 1
judged_records = 1
judged_pairs = 0
backbone = "{backbone}"
[federation]
rounds = 2
population = 1_000_000
cohort = 10_000
noise_multiplier = 0.9
target_epsilon = 1.0
local_steps = 1
batch = 1
"""


class Killed(BaseException):
    """Stands for a kill: no handler of ours runs for it."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DemoConfig:
    folder = tmp_path_factory.mktemp("settings")
    torch.manual_seed(0)
    model = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=6, critic_width=8)
    backbone = save_backbone(folder / "backbone.safetensors", Backbone(model))
    (folder / "tiny.toml").write_text(SETTINGS.format(backbone=backbone))
    return load_demo(folder / "tiny.toml")


@pytest.fixture(scope="module")
def lines_and_run(config: DemoConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """Run the demo once; tests look at what it left."""
    out = tmp_path_factory.mktemp("runs") / "demo"
    said = io.StringIO()
    facts = run_demo(config, out, console=Console(out=said, err=said))
    return said.getvalue(), out, facts


def rows_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((run / "rounds.csv").read_text())))


def test_everything_promised_is_there(lines_and_run: tuple[str, Path, dict[str, Any]]) -> None:
    said, out, facts = lines_and_run
    assert read_run(out).finished
    assert [line[:5] for line in said.splitlines() if line.startswith("[")] == [f"[{i}/6]" for i in range(1, 7)]
    assert "Open" in said and "report.html" in said
    assert [row["round"] for row in rows_of(out)] == ["0", "1", "2"]
    assert load_picture(out / facts["paintings"][0]).rgb.shape[:2] == (64, 64)
    assert {path.name for path in (out / "stylized").iterdir()} == {
        f"00_0_{w}.png" for w in ("before", "after", "draft")
    }
    page = (out / "report.html").read_text()
    assert "Two people taught one painter" in page and "not measured" in page


def test_both_privacy_figures_are_written_and_agree_with_the_state(
    lines_and_run: tuple[str, Path, dict[str, Any]], config: DemoConfig
) -> None:
    _, out, facts = lines_and_run
    privacy = json.loads((out / "privacy.json").read_text())
    state = StateStore(out / "federation").load()
    assert state is not None
    assert privacy["nominal"]["population"] == 1_000_000 and privacy["simulated"]["devices"] == 2
    assert privacy["nominal"]["epsilon"] == state.reports[-1].epsilon == pytest.approx(facts["epsilon"], rel=1e-5)
    assert privacy["nominal"]["epsilon"] <= config.federation.target_epsilon
    assert privacy["simulated"]["epsilon"] > 1e5 and privacy["simulated"]["protected"] is False


def test_private_things_are_readable_by_their_owner_only(lines_and_run: tuple[str, Path, dict[str, Any]]) -> None:
    _, out, _ = lines_and_run
    private = [*(out / "heads").iterdir(), *out.glob("devices/*/ledger.json"), *out.glob("devices/*/records.*")]
    assert len(private) >= 6
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_easels_own_painters_get_heads_of_broad_strokes(lines_and_run: tuple[str, Path, dict[str, Any]]) -> None:
    _, out, _ = lines_and_run
    config = Head.from_bytes((out / "heads" / "0.head").read_bytes()).config
    assert replace(config, brush=0, stroke=0) == replace(STROKES["broad"], brush=0, stroke=0) and config.brush > 0


def test_traffic_is_what_the_ledgers_say(lines_and_run: tuple[str, Path, dict[str, Any]]) -> None:
    _, out, _ = lines_and_run
    facts = read_run(out).facts("federate")
    for device in facts["devices"]:
        entries = Ledger.open(out / f"devices/{device['id']}/ledger.json").entries()
        assert device["sent"] == sum(entry.bytes_sent for entry in entries)
        assert device["messages"] == 2
        assert device["sent"] == 2 * (facts["parameters"] + 4)


def copied(run: Path, target: Path, *, without: tuple[str, ...]) -> Path:
    """Copy a finished run and make it unfinished again by forgetting phases."""
    shutil.copytree(run, target)
    values = json.loads((target / "run.json").read_text())
    values["finished"] = ""
    for phase in without:
        values["phases"].pop(phase)
    (target / "run.json").write_text(json.dumps(values))
    return target


def test_completed_phases_are_not_done_again(
    lines_and_run: tuple[str, Path, dict[str, Any]], config: DemoConfig, tmp_path: Path
) -> None:
    run = copied(lines_and_run[1], tmp_path / "run", without=("paintings",))
    before = {path: path.stat().st_mtime_ns for path in (run / "devices").rglob("*.png")}
    said = io.StringIO()
    run_demo(config, run, console=Console(out=said, err=said))
    assert said.getvalue().count("done before") == 5 and read_run(run).finished
    assert before == {path: path.stat().st_mtime_ns for path in (run / "devices").rglob("*.png")}


def prepared(run: Path, target: Path) -> Path:
    """Copy a run as it was before its federation."""
    run = copied(run, target, without=("federate", "heads", "paintings"))
    for name in ("federation", "heads", "stylized"):
        shutil.rmtree(run / name)
    for path in (run / "devices").glob("*/ledger.json*"):
        path.unlink()
    (run / "rounds.csv").write_text("".join((run / "rounds.csv").read_text().splitlines(keepends=True)[:2]))
    return run


def test_killed_in_round_two_it_resumes_there_with_the_privacy_spent(
    lines_and_run: tuple[str, Path, dict[str, Any]],
    config: DemoConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = prepared(lines_and_run[1], tmp_path / "run")
    answer = federated_phase.InProcessGrid._answer
    calls: list[int] = []

    def dying(grid: Any, message: Any) -> Any:
        calls.append(message.metadata.dst_node_id)
        if len(calls) == 4:
            raise Killed
        return answer(grid, message)

    monkeypatch.setattr(federated_phase.InProcessGrid, "_answer", dying)
    with pytest.raises(Killed):
        run_demo(config, run, console=Console(out=io.StringIO(), err=io.StringIO()))
    state = StateStore(run / "federation").load()
    assert state is not None and (state.round, state.reserved) == (1, 2)
    first = rows_of(run)
    assert [row["round"] for row in first] == ["0", "1"]

    monkeypatch.setattr(federated_phase.InProcessGrid, "_answer", answer)
    said = io.StringIO()
    run_demo(config, run, console=Console(out=said, err=said))
    rows = rows_of(run)
    assert "going on after round 1" in said.getvalue()
    assert [row["round"] for row in rows] == ["0", "1", "2"] and rows[:2] == first
    assert 0 < float(rows[1]["epsilon"]) < float(rows[2]["epsilon"]) <= 1.0
    entries = Ledger.open(run / "devices" / "0" / "ledger.json").entries()
    assert [entry.round for entry in entries] == [1, 2, 2]


def test_a_round_that_was_saved_but_not_measured_is_measured_on_resume(
    lines_and_run: tuple[str, Path, dict[str, Any]], config: DemoConfig, tmp_path: Path
) -> None:
    run = copied(lines_and_run[1], tmp_path / "run", without=("federate", "heads", "paintings"))
    table = (run / "rounds.csv").read_text()
    (run / "rounds.csv").write_text("".join(table.splitlines(keepends=True)[:3]))
    run_demo(config, run, console=Console(out=io.StringIO(), err=io.StringIO()))
    assert [row["loss"] for row in rows_of(run)] == [row["loss"] for row in csv.DictReader(io.StringIO(table))]


def test_ctrl_c_says_how_to_go_on(
    lines_and_run: tuple[str, Path, dict[str, Any]],
    config: DemoConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = copied(lines_and_run[1], tmp_path / "run", without=("paintings",))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(phases, "stylize", interrupted)
    with pytest.raises(Interrupted, match="saved") as caught:
        run_demo(config, run, console=Console(out=io.StringIO(), err=io.StringIO()))
    assert caught.value.exit_code == 130 and str(run) in caught.value.hint
    assert not read_run(run).finished and read_run(run).done("heads")


def test_devices_that_all_fail_end_the_run_with_a_reason(
    lines_and_run: tuple[str, Path, dict[str, Any]], config: DemoConfig, tmp_path: Path
) -> None:
    run = prepared(lines_and_run[1], tmp_path / "run")
    for path in (run / "devices").glob("*/device.toml"):
        path.write_text("records = 'many'\n")
    with pytest.raises(FederationError, match="round 1 was skipped: 0 of 2"):
        run_demo(config, run, console=Console(out=io.StringIO(), err=io.StringIO()))
