"""All methods: loaded by name, strict about options, run to the end, resumed to the bit."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch.optim import AdamW

from client.data import load_records
from client.ledger import Ledger
from server.config import FederationConfig
from server.state import StateStore
from shared_model.errors import ConfigError, FederationError, MissingError
from shared_model.sparse import kept, positions_nbytes
from shared_model.split import flatten
from simulations import populations
from simulations.engine import EngineConfig
from simulations.methods import METHODS, find
from simulations.methods.personal import measure, personal_loss
from simulations.methods.trial import Moment, Trial

ROOT = Path(__file__).resolve().parents[3]
NAMES = sorted(METHODS)
PROTECTED = {"dp-fedavg", "dp-ftrl", "dp-sgd"}
REPEATABLE = sorted(set(NAMES) - PROTECTED)  # noise of the system never repeats
ALIKE = ("fedavg", "fedbn", "fedprox", "fedrep")  # they remember what another one does, or nothing
NOISE: dict[str, object] = {"unprotected": False, "noise_multiplier": 1.0, "accept_loud_noise": True}
MakeTrial = Callable[..., Trial]


def run(trial: Trial, name: str) -> list[Moment]:
    moments: list[Moment] = []
    find(name).train(trial, on_round=moments.append)
    return moments


def test_methods_are_loaded_when_they_are_asked_for() -> None:
    script = "import sys, simulations.methods as m; assert 'fedprox' in m.METHODS; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", NAMES)
def test_a_method_has_a_name_a_paper_and_strict_options(name: str) -> None:
    method = METHODS[name]
    assert method.name == name and len(method.paper) > 20
    noise = NOISE if name in PROTECTED else {}
    config = FederationConfig(**{"population": 100, "cohort": 10, "unprotected": True, **noise})  # type: ignore[arg-type]
    method.check({}, config)
    with pytest.raises(ConfigError, match=f"options of {name}: unknown key 'solvr'") as caught:
        method.check({"solvr": "sgd"}, config)
    assert "did you mean 'solver'" in str(caught.value.hint)
    with pytest.raises(ConfigError, match=f"options of {name}: .*solver must be"):
        method.check({"solver": "newton"}, config)


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no method 'fedprocks'") as caught:
        find("fedprocks")
    assert "fedprox" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["fedavg", "fedper", "local"])
def test_a_method_learns_and_every_device_has_a_network(name: str, make_trial: MakeTrial) -> None:
    trial = make_trial(name, federation={"rounds": 4, "local_steps": 4, "batch": 2})
    method = find(name)
    before = [measure(trial, method, device) for device in range(3)]
    start = personal_loss(populations.test_records(trial.devices[0]), trial.start)
    assert before[0] == start
    moments = run(trial, name)
    assert [moment.round for moment in moments] == [1, 2, 3, 4]
    after = [measure(trial, method, device) for device in range(3)]
    assert fmean(after) < 0.9 * fmean(before)
    networks = [flatten(method.backbone_of(trial, device)) for device in range(3)]
    assert torch.equal(networks[0], networks[1]) == (name == "fedavg")
    assert torch.equal(flatten(moments[-1].shared), flatten(trial.start)) == (name == "local")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in REPEATABLE]
)
def test_kill_and_resume_gives_the_same_bits(name: str, make_trial: MakeTrial, same_run: None) -> None:
    """The trial is killed in round 2, after the first device has answered and remembered."""
    straight, killed = (make_trial(title) for title in ("straight", "killed"))

    class Killed(BaseException):
        pass

    def stop(moment: Moment) -> None:
        if moment.round == 1:
            raise Killed

    run(straight, name)
    with pytest.raises(Killed):
        METHODS[name].train(killed, on_round=stop)
    _half_a_round(name, killed)
    assert [moment.round for moment in run(killed, name)] == [2]
    for device in range(3):
        networks = [flatten(METHODS[name].backbone_of(trial, device)) for trial in (straight, killed)]
        assert torch.equal(*networks)
    assert not torch.equal(flatten(METHODS[name].backbone_of(straight, 0)), flatten(straight.start))
    assert run(killed, name) == [], "a finished trial has nothing left to do"


def _half_a_round(name: str, trial: Trial) -> None:
    """Begin round 2 and die while the third device trains."""

    class Killed(BaseException):
        pass

    calls = []

    def dying(folder: Path) -> object:
        calls.append(folder)
        if len(calls) == 3:
            raise Killed
        return load_records(folder)

    module = dict.fromkeys(("fedadam", "fedavg", "fedbuff"), "client.trainer")
    module |= dict.fromkeys(("fedbn", "fedper", "fedrep"), "simulations.methods.partial")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"{module.get(name, f'simulations.methods.{name}')}.load_records", dying)
        with pytest.raises(Killed):
            run(trial, name)
    assert len(calls) == 3


def test_protected_methods_refuse_to_protect_nobody() -> None:
    config = FederationConfig(population=100, cohort=10, unprotected=True)
    for name in PROTECTED:
        with pytest.raises(ConfigError, match="unprotected") as caught:
            METHODS[name].check({}, config)
        assert "target_epsilon" in str(caught.value.hint)


def test_fedbuff_is_the_servers_buffer(make_trial: MakeTrial) -> None:
    trial = make_trial("buffered", federation={"rounds": 3, "cohort": 2, "min_nodes": 3}, concurrency=3)
    moments = run(trial, "fedbuff")
    state = StateStore(trial.folder / "federation").load()
    assert state.config["mode"] == "buffered"
    assert [moment.report.accepted for moment in moments] == [2, 2, 2], "a release as soon as two have answered"
    noisy = dataclasses.replace(trial.federation, rounds=9, population=100, cohort=10, **NOISE)
    assert METHODS["fedbuff"].check({}, noisy).mechanism == "factorized"


def test_masks_hide_single_updates_of_any_method_and_change_nothing(make_trial: MakeTrial, same_run: None) -> None:
    """Secure aggregation around own layers and top-k: the sum is that of the plain federation."""
    masked = {"secure_aggregation": True, "rounds": 1, "clip": 1.0}
    plain, hidden = (
        make_trial(title, federation={**masked, "secure_aggregation": title == "hidden"}, top_k=0.5)
        for title in ("plain", "hidden")
    )
    start = flatten(plain.start)
    first, second = (flatten(run(trial, "fedper")[-1].shared) - start for trial in (plain, hidden))
    assert float((first - second).norm()) < 1e-3 * float(first.norm())
    assert int((first == 0).sum()) > 3 and float(second[first == 0].abs().max()) < 1e-6, "zeros stay zeros"
    entries = Ledger.open(hidden.devices[0] / "ledger.json").entries()
    assert [(entry.round, entry.kind) for entry in entries] == [(1, "masked update")]


def test_top_k_saves_the_bytes_that_it_leaves_out(make_trial: MakeTrial, same_run: None) -> None:
    """A twentieth of the numbers with their places: a ninth of the bytes in int8, whatever the method."""
    sent = {}
    for share in (1.0, 0.05):
        trial = make_trial(f"share {share}", federation={"rounds": 1, "upload": "int8"}, top_k=share)
        (moment,) = run(trial, "fedper")
        assert moment.report.accepted == 3
        sent[share] = moment.report.bytes_up / 3
        entries = Ledger.open(trial.devices[0] / "ledger.json").entries()
        assert sent[share] - entries[0].bytes_sent == 128 - 4, "the ledger counts what is measured, less a header"
    size = len(flatten(trial.start))
    count = kept(size, share=0.05)
    assert sent[1.0] == size + 128
    assert sent[0.05] == positions_nbytes(size, count=count) + count + 128 < 0.1 * size


def test_a_sparse_upload_is_refused_where_numbers_are_masked() -> None:
    """The option alone keeps its zeros and masks them; the federation's own key would promise bytes."""
    masked = {"secure_aggregation": True, "unprotected": True, "population": 100, "cohort": 10}
    assert METHODS["fedavg"].check({"top_k": 0.05}, FederationConfig(**masked)).top_k == 1.0
    with pytest.raises(ConfigError, match="masks every number") as caught:
        FederationConfig(**masked, top_k=0.05)
    assert "top_k = 1" in str(caught.value.hint)
    for share in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="top_k"):
            FederationConfig(top_k=share)


def test_a_buffer_and_a_robust_rule_take_sparse_uploads(make_trial: MakeTrial) -> None:
    buffered = make_trial("buffered", federation={"rounds": 2, "cohort": 2}, concurrency=3, top_k=0.1)
    assert [moment.report.accepted for moment in run(buffered, "fedbuff")] == [2, 2]
    size = len(flatten(buffered.start))
    robust = make_trial("krum", federation={"rounds": 1, "aggregation": "median"}, top_k=0.1)
    (moment,) = run(robust, "fedavg")
    assert moment.report.accepted == 3 and moment.report.bytes_up < 3 * 0.3 * size, "float16: two bytes each"


def test_robust_rules_work_around_own_layers_and_top_k(make_trial: MakeTrial, same_run: None) -> None:
    found = []
    for rule in ("mean", "median"):
        trial = make_trial(rule, federation={"aggregation": rule, "rounds": 1}, top_k=0.3)
        (moment,) = run(trial, "fedper")
        assert moment.report.accepted == 3
        found.append(flatten(moment.shared) - flatten(trial.start))
    assert not torch.equal(*found)
    # Of three sparse updates the median is zero wherever two are; the mean is zero only where all are.
    assert 0 < int((found[1] != 0).sum()) < int((found[0] != 0).sum())


def test_personal_methods_refuse_example_level() -> None:
    config = FederationConfig(unit="example", population=10, cohort=10, records=4, noise_multiplier=1.0)
    for name in sorted(set(NAMES) - {"central", "dp-sgd", "fedavg", "local"}):
        with pytest.raises(ConfigError, match="user"):
            METHODS[name].check({}, config)


def test_when_no_device_answers_the_first_cause_is_said(make_trial: MakeTrial) -> None:
    trial = make_trial("broken")
    for device in trial.devices:
        (device / "device.toml").write_text((device / "device.toml").read_text().replace("inf", "1.0"))
    with pytest.raises(FederationError, match="fedavg: no device sent an update: BudgetError"):
        run(trial, "fedavg")


def test_every_upload_is_in_the_ledger_and_within_the_clip(make_trial: MakeTrial) -> None:
    """Personal layers, mixtures and control variates change nothing about what is paid and what leaves."""
    for name in ("scaffold", "ditto"):
        trial = make_trial(name, federation={"clip": 1e-3, "upload": "int8"})
        moments = run(trial, name)
        assert all(0 < moment.report.update_norm <= 1e-3 for moment in moments)
        for device in trial.devices:
            entries = Ledger.open(device / "ledger.json").entries()
            assert [entry.round for entry in entries] == [1, 2]
            assert {entry.bytes_sent for entry in entries} == {len(flatten(trial.start)) + 4}


def test_the_state_of_the_federation_is_the_servers_own(make_trial: MakeTrial) -> None:
    trial = make_trial("state")
    moments = run(trial, "fedavg")
    state = StateStore(trial.folder / "federation").load()
    assert torch.equal(state.backbone, flatten(moments[-1].shared))
    changed = dataclasses.replace(trial, federation=dataclasses.replace(trial.federation, clip=1.0))
    with pytest.raises(ConfigError, match=r"clip was 10\.0, now 1\.0"):
        run(changed, "fedavg")


@pytest.mark.parametrize("name", ["central", "fedavg", "local"])
def test_every_kind_of_method_trains_on_the_device_of_the_engine(name: str, make_trial: MakeTrial) -> None:
    trial = dataclasses.replace(make_trial(), engine=EngineConfig(device="mps"))
    with pytest.raises(MissingError, match="there is no mps device"):
        run(trial, name)


@pytest.mark.parametrize("name", ["central", "fedavg", "local"])
def test_every_kind_of_method_trains_with_the_threads_of_the_engine(
    name: str, make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of threads changes bits; without this, baselines depended on the machine's."""
    seen: list[int] = []
    real = AdamW.step

    def step(self: AdamW, *values: object) -> object:
        seen.append(torch.get_num_threads())
        return real(self, *values)

    monkeypatch.setattr(AdamW, "step", step)
    before = torch.get_num_threads()
    run(dataclasses.replace(make_trial(), engine=EngineConfig(threads=before + 1)), name)
    assert set(seen) == {before + 1} and torch.get_num_threads() == before
