"""The real server and the real client app in one process."""

import itertools
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.app import app
from client.ledger import Ledger
from server.aggregation import Noise
from server.app import federate
from server.config import FederationConfig
from server.rounds import run
from server.state import RoundState, StateStore
from shared_model.errors import PrivacyError
from shared_model.mechanism import Mechanism
from shared_model.noise import secure_normal
from shared_model.privacy import epsilon
from shared_model.split import flatten
from shared_model.weights import load_backbone
from simulations.grid import InProcessGrid

ROOT = Path(__file__).resolve().parents[2]
MakeDevices = Callable[[int], list[Path]]


def fleet(folders: list[Path]) -> InProcessGrid:
    return InProcessGrid(app, [{"device-dir": str(folder)} for folder in folders])


def federation(config: FederationConfig, folders: list[Path], run_dir: Path, weights: Path) -> RoundState:
    return federate(fleet(folders), config, run_dir=run_dir, backbone=str(weights), log=logging.getLogger("test"))


def test_two_rounds_train_and_every_ledger_knows(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    folders = make_devices(3)
    state = federation(config, folders, tmp_path / "run", weights)
    assert [report.accepted for report in state.reports] == [3, 3]
    start = flatten(load_backbone(weights))
    assert 0 < (state.backbone - start).norm() < 2 * config.clip + 0.1
    for folder in folders:
        entries = Ledger.open(folder / "ledger.json").entries()
        assert [(entry.run, entry.round, entry.state) for entry in entries] == [
            (state.run, 1, "committed"),
            (state.run, 2, "committed"),
        ]
        assert [entry.bytes_sent for entry in entries] == [len(start) + 4] * 2
        # The device's own bound agrees with the server's, at the device's delta.
        assert Ledger.open(folder / "ledger.json").spent() > 0
    # One byte per parameter and little else went up.
    assert state.reports[0].bytes_up <= 3 * (len(start) + 256)


EXAMPLE = {
    "unit": "example",
    "records": 4,
    "batch": 4,
    "noise_multiplier": 4.0,
    "population": 3,
    "cohort": 3,
    "simulated_population": 0,
    "simulated_cohort": 0,
    "rescale_noise": False,
}


@pytest.mark.parametrize("changes", [{"upload": "float16"}, EXAMPLE])
def test_other_uploads_and_units(
    changes: dict[str, object],
    tmp_path: Path,
    config: FederationConfig,
    make_devices: MakeDevices,
    weights: Path,
) -> None:
    changed = replace(config, rounds=1, **changes)
    folders = make_devices(3)
    state = federation(changed, folders, tmp_path / "run", weights)
    assert state.reports[0].accepted == 3
    assert {entry.unit for entry in Ledger.open(folders[0] / "ledger.json").entries()} == {changed.unit}
    assert state.reports[0].epsilon > 0


def test_the_clip_adapts_to_devices_that_really_train(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    """All updates are longer than the first clip: the noised count says so, and the clip grows."""
    adaptive = replace(config, adaptive_clip=True, clip=1e-3, clip_rate=1.0, count_noise=2.0)
    folders = make_devices(3)
    state = federation(adaptive, folders, tmp_path / "run", weights)
    assert [report.accepted for report in state.reports] == [3, 3]
    first, second = state.reports
    # The count's noise has deviation 2 * 3 / 1000 on three devices.
    assert first.within == pytest.approx(0.0, abs=0.02)
    assert (first.clip, second.clip) == (1e-3, pytest.approx(1e-3 * math.exp(0.5 - first.within)))
    for folder in folders:
        entries = Ledger.open(folder / "ledger.json").entries()
        assert {entry.bytes_sent for entry in entries} == {len(state.backbone) + 5}


def test_correlated_noise_with_devices_that_guard_their_separation(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    factorized = replace(
        config,
        mechanism="factorized",
        min_separation=2,
        rounds=4,
        noise_multiplier=6.0,
        simulated_population=4,
        simulated_cohort=2,
        min_nodes=4,
    )
    folders = make_devices(4)
    state = federation(factorized, folders, tmp_path / "run", weights)
    assert [report.accepted for report in state.reports] == [2, 2, 2, 2]
    for folder in folders:
        ledger = Ledger.open(folder / "ledger.json")
        assert [b - a for a, b in itertools.pairwise(entry.round for entry in ledger.entries())] == [2]
        assert ledger.spent() == epsilon([(Mechanism(6.0, 1.0, "user"), 1)], delta=1e-6)
    facts = json.loads((tmp_path / "run" / "privacy.json").read_text())
    assert facts["participations"] == 2
    # A server whose older state was put back is stopped by its own ledger.
    forgetful = replace(state, round=3, reserved=3, asked={}, noise_keys=(bytes(32),) * 3, reports=state.reports[:3])
    StateStore(tmp_path / "run").save(forgetful)
    with pytest.raises(PrivacyError, match="older state"):
        run(fleet(folders), StateStore(tmp_path / "run"), config=factorized, start=lambda: None)


def test_a_device_without_budget_is_dropped_and_the_round_goes_on(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    folders = make_devices(3)
    Ledger.open(folders[1] / "ledger.json", max_epsilon=1e-3, delta=1e-6)
    text = (folders[1] / "device.toml").read_text().replace("max_epsilon = 3.0", "max_epsilon = 0.001")
    (folders[1] / "device.toml").write_text(text)
    state = federation(replace(config, rounds=1, quorum=0.5), folders, tmp_path / "run", weights)
    assert state.reports[0].accepted == 2
    assert state.reports[0].reasons == {"budget used up": 1}
    assert Ledger.open(folders[1] / "ledger.json").spent() == 0


CHILD = """
import json, sys, time
from pathlib import Path
from client.app import app
from server.config import FederationConfig
from server.rounds import run
from server.state import StateStore
from shared_model.weights import load_backbone
from simulations.grid import InProcessGrid

folder, devices, weights, hang = sys.argv[1:5]
config = FederationConfig(**json.loads(sys.argv[5]))
calls = []

def client(message, context):
    calls.append(context.node_id)
    if hang == "yes" and len(calls) == 5:  # the second device of round 2
        print("in round 2", flush=True)
        time.sleep(120)
    return app(message, context)

nodes = [{"device-dir": f"{devices}/{index}"} for index in range(3)]
state = run(
    InProcessGrid(client, nodes), StateStore(folder), config=config, start=lambda: load_backbone(weights)
)
print(json.dumps({"run": state.run, "rounds": [report.epsilon for report in state.reports]}))
"""


def child(tmp_path: Path, weights: Path, config: FederationConfig, *, hang: bool) -> subprocess.Popen[str]:
    values = json.dumps({key: getattr(config, key) for key in FederationConfig.__dataclass_fields__})
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            CHILD,
            str(tmp_path / "run"),
            str(tmp_path / "devices"),
            str(weights),
            "yes" if hang else "no",
            values,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_kill_nine_in_round_two_resumes_there_with_the_privacy_intact(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    folders = make_devices(3)
    first = child(tmp_path, weights, config, hang=True)
    try:
        assert first.stdout.readline() == "in round 2\n"
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        first.stdout.close()
    saved = StateStore(tmp_path / "run").load()
    assert (saved.round, saved.reserved) == (1, 2)
    second = child(tmp_path, weights, config, hang=False)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0
    done = json.loads(output.splitlines()[-1])
    assert done["run"] == saved.run
    assert done["rounds"][0] == saved.reports[0].epsilon
    state = StateStore(tmp_path / "run").load()
    assert (state.round, state.reserved) == (2, 2)
    assert not torch.equal(state.backbone, saved.backbone)
    # The first device answered round 2 twice, the second was asked twice; nothing was forgotten.
    rounds = [[entry.round for entry in Ledger.open(folder / "ledger.json").entries()] for folder in folders]
    assert rounds == [[1, 2, 2], [1, 2], [1, 2]]
    assert state.reports[1].epsilon > state.reports[0].epsilon


def test_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path
) -> None:
    def no_noise(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float64)

    folders = make_devices(3)
    calls: list[int] = []

    def interrupted(message: object, context: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return app(message, context)

    def start() -> object:
        return load_backbone(weights)

    nodes = [{"device-dir": str(folder)} for folder in folders]
    store = StateStore(tmp_path / "a")
    with pytest.raises(Exception, match="stopped in round 2"):
        run(InProcessGrid(interrupted, nodes), store, config=config, start=start, noise=no_noise)
    resumed = run(fleet(folders), store, config=config, start=start, noise=no_noise)
    straight = run(fleet(folders), StateStore(tmp_path / "b"), config=config, start=start, noise=no_noise)
    moved = (straight.backbone - flatten(load_backbone(weights))).norm()
    # Other runs draw other minibatches and rounding coins; the size of the step is the same.
    assert (resumed.backbone - flatten(load_backbone(weights))).norm() == pytest.approx(float(moved), rel=0.5)
    assert [report.epsilon for report in resumed.reports] == [report.epsilon for report in straight.reports]


def test_a_seeded_run_repeats_in_everything_but_its_noise(
    tmp_path: Path, config: FederationConfig, make_devices: MakeDevices, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed everything twice. float16 uploads, since int8 ones are rounded with coins of the operating system."""
    folders = make_devices(3)
    monkeypatch.setattr("server.steps.new_run_name", lambda: "0123456789ab")  # minibatches are drawn from it
    seeded = replace(config, upload="float16", seed=7)

    def quiet(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float64)

    def once(name: str, noise: Noise) -> RoundState:
        for folder in folders:
            for file in folder.glob("ledger.json*"):
                file.unlink()
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        start = load_backbone(weights)
        return run(fleet(folders), StateStore(tmp_path / name), config=seeded, start=lambda: start, noise=noise)

    first, second = once("a", quiet), once("b", quiet)
    assert torch.equal(first.backbone, second.backbone)
    assert [replace(report, seconds=0.0) for report in first.reports] == [
        replace(report, seconds=0.0) for report in second.reports
    ]
    noisy, again = once("c", secure_normal), once("d", secure_normal)
    step = 2 * 1.5 * config.clip * 3 / 1000 / 3  # deviation of the average, two rounds of it
    differences = (noisy.backbone - again.backbone).abs()
    assert float(differences.median()) > step / 20
    assert float((differences > 0).double().mean()) > 0.99
