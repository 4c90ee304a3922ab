"""What a configuration accepts, what it refuses, and that pyproject offers the same keys."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from server.config import FederationConfig
from server.places import split_run_config
from shared_model.errors import ConfigError


def test_defaults_are_valid() -> None:
    config = FederationConfig()
    assert config.planned == config.cohort
    assert config.needed == 500
    assert config.effective_delta == pytest.approx(100_000**-1.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 0}, "rounds"),
        ({"unit": "person"}, "unit"),
        ({"clip": 0.0}, "clip"),
        ({"clip": float("nan")}, "clip"),
        ({"cohort": 10, "population": 5}, "larger than population"),
        ({"quorum": 0.0}, "quorum"),
        ({"quorum": 1.5}, "quorum"),
        ({"delta": 1.0}, "delta"),
        ({"delta": 2e-5}, "delta must be 0"),
        ({"delta": 2e-5, "unit": "example"}, "delta must be 0"),
        ({"mechanism": "magic"}, "mechanism"),
        ({"min_separation": 0}, "min_separation"),
        ({"min_separation": 5}, "correlated noise"),
        ({"mechanism": "factorized", "min_separation": 101, "rounds": 200}, "100000 devices cannot give 1000"),
        ({"mechanism": "factorized", "unit": "example"}, "unit 'user'"),
        ({"mechanism": "factorized", "adaptive_clip": True}, "same clip"),
        (
            {"mechanism": "factorized", "min_separation": 3, "simulated_population": 8, "simulated_cohort": 4}
            | {"rescale_noise": True},
            "8 devices cannot give 4",
        ),
        ({"adaptive_clip": True, "unit": "example"}, "unit 'user'"),
        ({"adaptive_clip": True, "clip": 11.0}, "above clip_max"),
        ({"clip_quantile": 1.0}, "clip_quantile"),
        ({"clip_rate": 0.0}, "clip_rate"),
        ({"count_noise": -1.0}, "count_noise"),
        ({"count_noise": 5.0}, "for adaptive clipping"),
        ({"target_epsilon": 0.0}, "neither target_epsilon"),
        ({"target_epsilon": -1.0}, "target_epsilon"),
        ({"unprotected": True, "noise_multiplier": 1.0}, "contradicts"),
        ({"rescale_noise": True}, "simulations only"),
        ({"secure_neighbors": 4}, "need secure_aggregation = true"),
        ({"secure_collusion": 0.1}, "need secure_aggregation = true"),
        ({"secure_aggregation": True, "cohort": 2}, "hides nobody among 2 devices"),
        ({"secure_aggregation": True, "secure_neighbors": 5}, "even number"),
        ({"secure_aggregation": True, "secure_collusion": 0.6}, "secure_collusion"),
        ({"simulated_population": 6, "simulated_cohort": 6}, "rescale_noise = true"),
        ({"simulated_population": 6, "simulated_cohort": 7, "rescale_noise": True}, "between 1 and"),
        ({"simulated_population": 6, "simulated_cohort": 6, "rescale_noise": True, "unit": "example"}, "user-level"),
        ({"unit": "example", "batch": 20, "records": 10}, "larger than records"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"upload": "float32"}, "upload"),
        ({"seed": -1}, "seed"),
    ],
)
def test_nonsense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FederationConfig(**values)


def test_run_config_keys_have_hyphens_and_typos_are_named() -> None:
    assert FederationConfig.from_run_config({"local-steps": 3, "server-lr": 1}).local_steps == 3
    with pytest.raises(ConfigError, match="local_step") as caught:
        FederationConfig.from_run_config({"local-step": 3})
    assert "local_steps" in caught.value.hint
    with pytest.raises(ConfigError, match="rounds"):
        FederationConfig.from_run_config({"rounds": "two"})


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    path.write_text("rounds = 3\nclip = 2\n")
    config = FederationConfig.load(path)
    assert (config.rounds, config.clip) == (3, 2.0)
    assert config.differences({**vars(config), "clip": 9.0}) == ("clip",)


def test_places_are_taken_out_and_must_be_absolute(tmp_path: Path) -> None:
    places, config = split_run_config({"run-dir": str(tmp_path), "backbone": "", "devices-dir": "x", "rounds": 4})
    assert places["run-dir"] == str(tmp_path)
    assert config.rounds == 4
    for bad in ({"run-dir": "relative"}, {}):
        with pytest.raises(ConfigError, match="absolute"):
            split_run_config(bad)


def test_pyproject_offers_every_key_with_the_same_default() -> None:
    root = Path(__file__).resolve().parents[2]
    offered = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    places = {"backbone", "devices-dir", "run-dir"}
    assert set(offered) - places == set(FederationConfig.keys())
    assert {key: offered[key] for key in places} == dict.fromkeys(places, "")
    given = FederationConfig.from_run_config({key: value for key, value in offered.items() if key not in places})
    assert given == FederationConfig()


@pytest.mark.parametrize("changes", [{"adaptive_clip": True}, {"mechanism": "factorized", "population": 100_000}])
def test_secure_aggregation_refuses_what_the_server_would_have_to_add(changes: dict[str, Any]) -> None:
    FederationConfig(**changes)
    with pytest.raises(ConfigError, match="neither adaptive clipping nor noise that is correlated"):
        FederationConfig(secure_aggregation=True, **changes)
