"""What defines each method, not only that it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from client.data import load_records
from client.ledger import Ledger
from client.private_training import train_user_level
from client.trainer import Trainer, local_settings, local_training
from server.aggregation import StreamingSum
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.errors import ConfigError
from shared_model.messages import RoundRequest
from shared_model.split import flatten
from simulations.methods import central, find
from simulations.methods.apfl import Mixture
from simulations.methods.compression import TopK, only_largest
from simulations.methods.ditto import WithOwnModel
from simulations.methods.fedbn import modulation
from simulations.methods.fedper import last_layers
from simulations.methods.fedprox import Proximal
from simulations.methods.local import _own, _train
from simulations.methods.memory import Memory
from simulations.methods.partial import PartlyOwn
from simulations.methods.scaffold import Controlled
from simulations.methods.trial import Moment, Trial
from simulations.methods.vectors import places, with_vector

MakeTrial = Callable[..., Trial]
RequestFor = Callable[..., RoundRequest]
SEED = 5


def run(trial: Trial, name: str) -> list[Moment]:
    moments: list[Moment] = []
    find(name).train(trial, on_round=moments.append)
    return moments


def own_of(device: Path, name: str, *, run: str = "run", before: int = 99) -> Tensor:
    return Memory(device, name).recall(run, before=before)["own"]


# ---- FedProx -----------------------------------------------------------------------------------


def test_fedprox_with_mu_zero_is_fedavg_to_the_bit_and_with_more_moves_less(
    make_trial: MakeTrial, request_for: RequestFor
) -> None:
    trial = make_trial(federation={"local_steps": 3})
    request = request_for(trial)
    usual = local_training(trial.start, trial.devices[0], request, seed=SEED)
    assert torch.equal(Proximal(0.0)(trial.start, trial.devices[0], request, seed=SEED), usual)
    lengths = [
        float(Proximal(mu)(trial.start, trial.devices[0], request, seed=SEED).norm()) for mu in (1.0, 100.0, 1e4)
    ]
    assert float(usual.norm()) > lengths[0] > lengths[1] > lengths[2] > 0
    assert lengths[2] < float(usual.norm()) / 10


def test_fedprox_and_fedavg_are_one_through_the_server_too(make_trial: MakeTrial, same_run: None) -> None:
    plain, near = (make_trial(name, federation={"rounds": 1}) for name in ("plain", "near"))
    near = dataclasses.replace(near, options={"mu": 0})
    assert torch.equal(flatten(run(plain, "fedavg")[-1].shared), flatten(run(near, "fedprox")[-1].shared))


# ---- shared and own parts ----------------------------------------------------------------------


def _partly(trial: Trial, own: frozenset[str], **settings: int) -> PartlyOwn:
    return PartlyOwn("test", own, flatten(trial.start), **settings)


@pytest.mark.parametrize("name", ["fedbn", "fedper", "fedrep"])
def test_the_own_part_is_never_uploaded_and_devices_paint_differently(
    name: str, make_trial: MakeTrial, same_run: None
) -> None:
    trial = make_trial(name)
    own = modulation(trial.start) if name == "fedbn" else last_layers(trial.start, 2)
    mask, first = places(trial.start, own), flatten(trial.start)
    shared = flatten(run(trial, name)[-1].shared)
    assert torch.equal(shared[mask], first[mask]), "nothing of it has reached the server"
    assert not torch.equal(shared[~mask], first[~mask])
    networks = [flatten(find(name).backbone_of(trial, device)) for device in range(3)]
    for network in networks:
        assert torch.equal(network[~mask], shared[~mask])
        assert not torch.equal(network[mask], first[mask])
    assert not torch.equal(networks[0][mask], networks[1][mask])


def test_what_a_device_uploads_does_not_depend_on_what_the_server_does_to_its_part(
    make_trial: MakeTrial, request_for: RequestFor
) -> None:
    """The server's copy of the own part is noise; a device overwrites it with its own."""
    trial = make_trial()
    request, own = request_for(trial), last_layers(trial.start, 2)
    mask = places(trial.start, own)
    noisy = with_vector(trial.start, flatten(trial.start) + 0.3 * mask)
    first = _partly(trial, own)(trial.start, trial.devices[0], request, seed=SEED)
    second = _partly(trial, own)(noisy, trial.devices[0], request, seed=SEED)
    assert torch.equal(first, second)
    assert not first[mask].any() and first[~mask].any()


def test_fedrep_fits_its_own_layers_first_and_then_the_representation_to_them(
    make_trial: MakeTrial, request_for: RequestFor
) -> None:
    trial = make_trial()
    request, own, device = request_for(trial), last_layers(trial.start, 2), trial.devices[0]
    mask = places(trial.start, own)
    moved = _partly(trial, own, own_steps=2)(trial.start, device, request, seed=SEED)
    kept = own_of(device, "test")
    # Frozen while the other moves: the own layers are what two steps on them alone give ...
    settings = dataclasses.replace(request, local_steps=2)
    alone = _only(trial.start, device, settings, own)
    assert torch.equal(kept, (flatten(trial.start) + alone)[mask])
    # ... and the representation is what a step from there gives.
    shared = frozenset(name for name, _ in trial.start.named_parameters()) - own
    after = _only(with_vector(trial.start, flatten(trial.start) + alone), device, request, shared)
    assert torch.allclose(moved, after, atol=1e-7)


def _only(backbone: Backbone, device: Path, request: RoundRequest, names: frozenset[str]) -> Tensor:
    return train_user_level(backbone, load_records(device), settings=local_settings(request), seed=SEED, only=names)


def test_own_layers_are_counted_from_the_output() -> None:
    backbone = Backbone(Backbone().config)
    assert last_layers(backbone, 1) == {"generator.leave.weight", "generator.leave.bias"}
    assert last_layers(backbone, 3) > last_layers(backbone, 2) > last_layers(backbone, 1)
    with pytest.raises(ConfigError, match="layers must be below"):
        last_layers(backbone, 13)
    assert modulation(backbone) == {"style_encoder.modulation.weight", "style_encoder.modulation.bias"}


# ---- Ditto -------------------------------------------------------------------------------------


def test_ditto_without_lambda_learns_alone_and_with_a_large_one_is_the_shared_model(
    make_trial: MakeTrial, request_for: RequestFor
) -> None:
    trial, alone = make_trial(), make_trial("alone")
    first, device = flatten(trial.start), trial.devices[0]
    sent = with_vector(trial.start, first + 0.01)
    distances = []
    for lam in (0.0, 100.0, 1e7):
        uploads = [
            WithOwnModel(lam, first)(backbone, device, request_for(trial, number, run=f"{lam}"), seed=SEED + number)
            for number, backbone in ((1, trial.start), (2, sent))
        ]
        usual = local_training(sent, device, request_for(trial, 2), seed=SEED + 2)
        assert torch.equal(uploads[1], usual), "what is uploaded is FedAvg's"
        distances.append(float((own_of(device, "ditto", run=f"{lam}") - flatten(sent)).norm()))
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-3 * distances[0]
    for number in (1, 2):
        request = request_for(alone, number)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("simulations.methods.local.round_seed", lambda request, device: SEED + request.round)
            _train(alone, alone.devices[0], request, solver="adamw")
    assert torch.equal(own_of(device, "ditto", run="0.0"), _own(alone.start, alone.devices[0], before=3))


# ---- APFL --------------------------------------------------------------------------------------


def test_apfl_at_its_ends_is_the_shared_model_and_the_own_one(make_trial: MakeTrial, request_for: RequestFor) -> None:
    trial = make_trial()
    device, first = trial.devices[0], flatten(trial.start)
    usual = local_training(trial.start, device, request_for(trial), seed=SEED)
    for alpha in (0.0, 0.5, 1.0):
        mixture = Mixture(alpha, first)
        shared = mixture(trial.start, device, request_for(trial, run=f"{alpha}"), seed=SEED)
        assert torch.equal(shared, usual), "what is uploaded is FedAvg's"
    assert torch.equal(own_of(device, "apfl", run="0.0"), first), "nothing of it is used, nothing is trained"
    assert torch.allclose(own_of(device, "apfl", run="1.0"), first + usual, atol=1e-7), "it learns alone"
    # In between, the mixture has moved, by half a step size from the middle of both.
    middle = Mixture(0.5, first).mix(own_of(device, "apfl", run="0.5"), first + usual)
    between = first + usual / 2
    assert 0 < float((middle - between).norm()) <= 0.51 * float(usual.norm())
    one, other = torch.rand(5), torch.rand(5)
    assert torch.equal(Mixture(0.0, first).mix(one, other), other)
    assert torch.equal(Mixture(1.0, first).mix(one, other), one)


# ---- SCAFFOLD ----------------------------------------------------------------------------------


def _rounds(
    trainer: Trainer, trial: Trial, devices: list[Path], request_for: RequestFor, *, rounds: int = 3, same: bool = False
) -> tuple[Tensor, list[float]]:
    """Average by hand, without rounding: the last backbone, and each round's spread of the updates."""
    vector, spreads = flatten(trial.start), []
    for number in range(1, rounds + 1):
        request, backbone = request_for(trial, number), with_vector(trial.start, vector)
        moved = torch.stack(
            [
                trainer(backbone, device, request, seed=SEED if same else SEED + index)
                for index, device in enumerate(devices)
            ]
        )
        vector = vector + moved.mean(0)
        spreads.append(float((moved - moved.mean(0)).norm(dim=1).mean() / moved.mean(0).norm()))
    return vector, spreads


FULL = {"batch": 4, "local_steps": 2}  # all records in each step


def test_scaffold_equals_fedavg_when_devices_are_the_same(make_trial: MakeTrial, request_for: RequestFor) -> None:
    trial = make_trial(federation={"local_steps": 2})
    twins = make_trial("twins").devices[0], trial.devices[0]
    usual, _ = _rounds(local_training, trial, list(twins), request_for, same=True)
    corrected, _ = _rounds(Controlled(), trial, list(twins), request_for, same=True)
    moved = float((usual - flatten(trial.start)).norm())
    assert float((corrected - usual).norm()) < 1e-3 * moved


def test_scaffold_keeps_different_devices_from_drifting_apart(make_trial: MakeTrial, request_for: RequestFor) -> None:
    trial = make_trial(federation=FULL)
    request = lambda trial, number: request_for(trial, number, learning_rate=3e-4)  # noqa: E731
    plain = find("fedavg").trainer(trial, dataclasses.replace(find("fedavg").options(), solver="sgd"))
    _, drifting = _rounds(plain, trial, list(trial.devices), request)
    _, held = _rounds(Controlled(solver="sgd"), trial, list(trial.devices), request)
    assert held[0] == pytest.approx(drifting[0]), "nothing is known before the first round"
    assert held[-1] < 0.6 * drifting[-1]


def test_the_controls_of_all_devices_add_up_to_the_servers(make_trial: MakeTrial, request_for: RequestFor) -> None:
    """Option II under full participation: c is the mean of the c_i, though no c was ever sent."""
    trial = make_trial(federation=FULL)
    vector, _ = _rounds(Controlled(), trial, list(trial.devices), request_for, rounds=2)
    request = request_for(trial)
    kept = [Memory(device, "scaffold").recall("run", before=9) for device in trial.devices]
    common = (kept[0]["sent"] - vector) / (request.local_steps * request.learning_rate)
    mean = torch.stack([values["control"] for values in kept]).mean(0)
    assert torch.allclose(mean, common, atol=1e-3 * float(common.abs().max()))


# ---- top-k -------------------------------------------------------------------------------------


def test_top_k_keeps_the_largest_and_remembers_the_others(make_trial: MakeTrial, request_for: RequestFor) -> None:
    vector = torch.tensor([1.0, -5.0, 2.0, 0.5])
    assert only_largest(vector, share=0.5).tolist() == [0.0, -5.0, 2.0, 0.0]
    assert torch.equal(only_largest(vector, share=1.0), vector)
    trial = make_trial()
    device, given = trial.devices[0], torch.tensor([4.0, 3.0, 2.0, 1.5])

    def inner(backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> Tensor:
        return given

    kept = [TopK(inner, 0.25)(trial.start, device, request_for(trial, number), seed=0) for number in (1, 2, 3)]
    assert [update.tolist() for update in kept] == [[4, 0, 0, 0], [0, 6, 0, 0], [8, 0, 0, 0]]
    # Nothing is lost: what was sent and what waits is all that was learned.
    rest = Memory(device, "top-k").recall("run", before=9)["rest"]
    assert torch.equal(torch.stack(kept).sum(0) + rest, 3 * given)
    again = TopK(inner, 0.25)(trial.start, device, request_for(trial, 3), seed=0)
    assert torch.equal(again, kept[2]), "a repeated round takes from the memory before it"
    forgetful = TopK(inner, 0.25, feedback=False)
    assert [forgetful(trial.start, device, request_for(trial, n), seed=0).tolist() for n in (1, 2)] == [
        [4, 0, 0, 0]
    ] * 2


def test_fedprox_with_top_k_under_user_level_noise_stays_within_the_clip(
    make_trial: MakeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transform comes before the clip: whatever waits on a device, what is summed is no longer than the clip."""
    seen: list[Tensor] = []
    add = StreamingSum.add
    monkeypatch.setattr(
        StreamingSum, "add", lambda self, update, **more: (seen.append(update), add(self, update, **more))
    )
    noise = {"unprotected": False, "noise_multiplier": 1.0, "accept_loud_noise": True, "upload": "int8", "clip": 0.01}
    trial = make_trial(federation=noise, mu=1.0, top_k=0.05)
    moments = run(trial, "fedprox")
    assert [moment.report.accepted for moment in moments] == [3, 3]
    assert all(moment.report.epsilon > 0 for moment in moments)
    size = len(flatten(trial.start))
    for update in seen:
        assert 0 < int((update != 0).sum()) <= -(-size // 20)
        assert 0.9 * 0.01 < float(update.double().norm()) <= 0.01
    waiting = Memory(trial.devices[0], "top-k").recall(StateStore(trial.folder / "federation").load().run, before=9)
    assert float(waiting["rest"].norm()) > 0.01, "more waits than may leave"


# ---- what the server does ------------------------------------------------------------------------


def test_fedadam_moves_every_number_by_about_its_step_size(make_trial: MakeTrial) -> None:
    trial = make_trial(federation={"rounds": 1, "server_lr": 1.0}, server_lr=1e-4)
    (moment,) = run(trial, "fedadam")
    moved = (flatten(moment.shared) - flatten(trial.start)).abs()
    assert 0 < float(moved.max()) <= 1e-4 * 1.001
    state = StateStore(trial.folder / "federation").load()
    assert set(state.moments) == {"first", "second"}


def test_dp_ftrl_is_the_servers_factorized_mechanism(make_trial: MakeTrial) -> None:
    noise = {"unprotected": False, "noise_multiplier": 1.0, "accept_loud_noise": True}
    trial = make_trial(federation={**noise, "rounds": 3, "population": 3, "cohort": 1, "quorum": 1.0})
    config = find("dp-ftrl").check(trial.options, trial.federation)
    assert (config.mechanism, config.min_separation) == ("factorized", 3)
    run(trial, "dp-ftrl")
    state = StateStore(trial.folder / "federation").load()
    assert state.config["mechanism"] == "factorized"
    rounds = [[entry.round for entry in Ledger.open(device / "ledger.json").entries()] for device in trial.devices]
    assert sorted(rounds) == [[1], [2], [3]], "each once in the separation"
    with pytest.raises(ConfigError, match="dp-ftrl: 3 devices cannot give"):
        find("dp-ftrl").check({"min_separation": 4}, dataclasses.replace(trial.federation, rounds=9))


def test_dp_sgd_noises_every_step_on_the_device_and_a_nominal_fleet_is_left_out(make_trial: MakeTrial) -> None:
    nominal = {"population": 100_000, "cohort": 1000, "simulated_population": 3, "simulated_cohort": 3}
    noise = {"unprotected": False, "noise_multiplier": 1.0, "rescale_noise": True, "records": 4}
    trial = make_trial(federation={**nominal, **noise, "rounds": 1})
    run(trial, "dp-sgd")
    state = StateStore(trial.folder / "federation").load()
    assert (state.config["unit"], state.config["population"], state.config["cohort"]) == ("example", 3, 3)
    for device in trial.devices:
        (entry,) = Ledger.open(device / "ledger.json").entries()
        assert (entry.unit, entry.steps, entry.sample_rate, entry.noise_multiplier) == ("example", 1, 1.0, 1.0)


def test_central_looks_at_everybodys_records_and_says_so(
    make_trial: MakeTrial, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    train = central.train_user_level
    monkeypatch.setattr(
        central,
        "train_user_level",
        lambda work, records, **more: (seen.append(len(records)), train(work, records, **more))[1],
    )
    trial = make_trial(federation={"rounds": 1})
    assert find("central").check({}, trial.federation).local_steps == 3, "as many steps as three devices take"
    run(trial, "central")
    assert seen == [12]
    assert "in a simulation only" in caplog.text
    assert not (trial.devices[0] / "ledger.json").exists()
    assert torch.equal(*(flatten(find("central").backbone_of(trial, device)) for device in (0, 1)))
