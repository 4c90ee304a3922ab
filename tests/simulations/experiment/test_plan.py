"""An experiment's file: what is refused, with its line; sweeps; and settings made in Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from shared_model.errors import ConfigError, MissingError
from simulations.experiment.plan import find_plan, load_plan
from simulations.experiment.settings import ExperimentConfig, MethodConfig
from simulations.experiment.toml_text import to_toml

METHOD = '[[method]]\nname = "fedavg"\n'
FEDERATION = "[federation]\nunprotected = true\n"
SHIPPED = ("bench_cross_silo_dp", "bench_painters_by_artist", "bench_painters_dp", "bench_painters_iid")


def _write(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[federation]\nrouds = 3\n" + METHOD, "experiment.toml:2: unknown key 'rouds' in [federation]", "'rounds'"),
        ("sedes = [1]\n" + METHOD, "experiment.toml:1: unknown key 'sedes'", "'seeds'"),
        (METHOD + "\n[population]\nkind = 'naturl'", "experiment.toml:5: kind of population must be", "'natural'"),
        ("[engine]\ndevice = 'gpu'\n" + METHOD, "experiment.toml:2: device must be one of auto, cpu", '"cuda" is'),
        ("[engine]\nkind = 'proceses'\n" + METHOD, "experiment.toml:2: engine kind must be one of", "'processes'"),
        ("[evaluation]\nevery = 0\n" + METHOD, "experiment.toml:2: every must be between 1 and", ""),
        ("method = ['fedavg']", "experiment.toml:1: 'method' must be a list of tables, not", ""),
        ("seeds = 3\n" + METHOD, "experiment.toml:1: 'seeds' must be a list, not 3", ""),
        ("seeds = [true]\n" + METHOD, "experiment.toml:1: every item of 'seeds' must be a whole number, not True", ""),
        ("seeds = [1, 1]\n" + METHOD, "experiment.toml:1: seeds must differ", ""),
        (FEDERATION + '[[method]]\nname = "fedavgg"\n', "experiment.toml:4: unknown method 'fedavgg'", "'fedavg'"),
        (
            FEDERATION + METHOD + '[[method]]\nname = "fedprox"\n[method.options]\nmuu = 1',
            "experiment.toml:8: options of fedprox: unknown key 'muu'",
            "'mu'",
        ),
        (
            FEDERATION + '[[method]]\nname = "fedprox"\noptions.mu = -1.0',
            "experiment.toml:5: options of fedprox: mu must be 0 or more",
            "",
        ),
        (
            FEDERATION + METHOD + "[method.federation]\nlocal_step = 1",
            "experiment.toml:6: unknown key 'local_step' in [method.federation]",
            "'local_steps'",
        ),
        (
            FEDERATION + METHOD + "[method.federation]\nlocal_steps = 1\nrounds = 0",
            "experiment.toml:7: rounds must be at least 1",
            "",
        ),
        (FEDERATION + '[[method]]\nname = "dp-fedavg"', "toml:3: dp-fedavg: this method promises privacy", "fedavg"),
        (FEDERATION + METHOD + METHOD, "two methods are called 'fedavg'", "label"),
        (METHOD + '[sweep]\nfederation.rouds = [1]', "experiment.toml:4: unknown key 'federation.rouds'", "'rounds'"),
        (METHOD + '[sweep]\n"federation.rounds" = 3', "experiment.toml:4: 'federation.rounds' in [sweep] must be", ""),
        (METHOD + '[sweep]\n"federation.rounds" = [1, 0]', "experiment.toml:4: rounds must be at least 1", ""),
        ("", "experiment.toml: missing key 'method'", ""),
    ],
)  # fmt: skip
def test_the_first_mistake_is_named_with_its_line(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plan(_write(tmp_path, text))
    assert message in caught.value.message.replace(f"{tmp_path}/", "")
    assert hint in caught.value.hint


def test_a_sweep_is_a_grid_of_cells_with_names_of_their_own(tmp_path: Path) -> None:
    text = (
        FEDERATION + METHOD + '[sweep]\n"federation.learning_rate" = [1e-3, 1e-2]\npopulation.kind = ["iid", "natural"]'
    )
    plan = load_plan(_write(tmp_path, text))
    assert [cell.name for cell in plan.cells] == [
        "learning_rate-0.001_kind-iid",
        "learning_rate-0.001_kind-natural",
        "learning_rate-0.01_kind-iid",
        "learning_rate-0.01_kind-natural",
    ]
    assert {(cell.config.federation.learning_rate, cell.config.population.kind) for cell in plan.cells} == {
        (rate, kind) for rate in (1e-3, 1e-2) for kind in ("iid", "natural")
    }
    assert plan.digest != load_plan(_write(tmp_path, FEDERATION + METHOD)).digest


def test_only_what_settings_mean_is_hashed(tmp_path: Path) -> None:
    plain = load_plan(_write(tmp_path, FEDERATION + METHOD)).digest
    assert load_plan(_write(tmp_path, "# a comment\n" + FEDERATION + "rounds = 10\n" + METHOD)).digest == plain
    assert load_plan(_write(tmp_path, FEDERATION + "rounds = 11\n" + METHOD)).digest != plain


@pytest.mark.parametrize("name", SHIPPED)
def test_what_easel_ships_can_be_run(name: str) -> None:
    plan = load_plan(find_plan(name))
    assert len(plan.cells) == 1 and plan.cells[0].config.private
    with pytest.raises(MissingError, match="no experiment"):
        find_plan("bench_nothing")


def test_the_nominal_fleet_is_rescaled_to_the_devices_and_example_level_noise_is_not() -> None:
    config = load_plan(find_plan("bench_painters_dp")).cells[0].config
    method = next(item for item in config.method if item.title == "10^6 devices, eps 2")
    federation = config.federation_of(method, 0)
    assert (federation.population, federation.cohort, federation.simulated_cohort) == (1_000_000, 10_000, 7)
    assert federation.rescale_noise and not federation.unprotected
    silos = load_plan(find_plan("bench_cross_silo_dp")).cells[0].config
    assert any(method.name == "dp-sgd" for method in silos.method)


def test_noise_that_is_made_on_devices_cannot_be_seeded(tmp_path: Path) -> None:
    text = 'noise = "seeded for tests"\n[federation]\ntarget_epsilon = 8.0\n[[method]]\nname = "dp-sgd"\n'
    with pytest.raises(ConfigError, match="cannot be seeded"):
        load_plan(_write(tmp_path, text))
    masked = (
        'noise = "seeded for tests"\n[federation]\n{} = true\nsecure_aggregation = true\n[[method]]\nname = "fedavg"'
    )
    with pytest.raises(ConfigError, match="cannot be seeded"):
        load_plan(_write(tmp_path, masked.format("accept_loud_noise")))
    load_plan(_write(tmp_path, masked.format("unprotected")))  # there is no noise


def test_settings_made_in_python_come_back_from_their_text(tmp_path: Path) -> None:
    methods = (
        MethodConfig("fedprox", label='a "b"', options={"mu": 1.5}, federation={"rounds": 2}),
        MethodConfig("local"),
    )
    base = load_plan(_write(tmp_path, FEDERATION + METHOD)).cells[0].config
    config = dataclasses.replace(base, method=methods, seeds=(0, 3))
    again = load_plan(_write(tmp_path, to_toml(config))).cells[0].config
    assert again == config and isinstance(again, ExperimentConfig)
