"""Configurations: parsing, refusing, hashing."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared_model.config import HeadConfig, LossConfig, ModelConfig, TrainConfig, digest, load_toml, parse, to_dict
from shared_model.errors import ConfigError, StorageError


def test_nested_tables_become_nested_configurations(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('steps = 7\n[model]\ntrunk = "cnn"\n[loss]\nkeep = 2\n')
    config = load_toml(path, TrainConfig)
    assert config == TrainConfig(steps=7, model=ModelConfig(trunk="cnn"), loss=LossConfig(keep=2.0))


def test_an_unknown_key_is_refused_and_the_nearest_named() -> None:
    with pytest.raises(ConfigError, match="unknown key 'stepz'") as caught:
        parse({"stepz": 3}, TrainConfig, source="x.toml")
    assert "'steps'" in caught.value.hint


def test_an_unknown_key_in_a_table_names_the_table() -> None:
    with pytest.raises(ConfigError, match=r"'trunc' in \[model\]"):
        parse({"model": {"trunc": "cnn"}}, TrainConfig, source="x.toml")


@pytest.mark.parametrize("values", [{"steps": "7"}, {"steps": True}, {"steps": 1.5}, {"model": 3}, {"seed": None}])
def test_a_wrong_type_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        parse(values, TrainConfig, source="x.toml")


@pytest.mark.parametrize(
    ("cls", "values"),
    [
        (ModelConfig, {"trunk": "vgg"}),
        (ModelConfig, {"width": 0}),
        (HeadConfig, {"patch": 4}),
        (HeadConfig, {"patch": 3}),
        (HeadConfig, {"atoms": 9000}),
        (HeadConfig, {"roughness": -1.0}),
        (LossConfig, {"adversarial": "gan"}),
        (LossConfig, {"keep": -0.1}),
        (TrainConfig, {"steps": 0}),
        (TrainConfig, {"crop_px": 100}),
        (TrainConfig, {"validation_share": 0.4, "test_share": 0.4}),
        (TrainConfig, {"record_px": 64}),
        (TrainConfig, {"ema": 1.0}),
    ],
)
def test_a_value_out_of_range_is_refused(cls: type, values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse(values, cls, source="x.toml")


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("steps = \n")
    with pytest.raises(ConfigError, match="line 1"):
        load_toml(path, TrainConfig)
    with pytest.raises(StorageError):
        load_toml(tmp_path / "none.toml", TrainConfig)


def test_the_digest_changes_with_every_value_and_only_then() -> None:
    assert digest(TrainConfig()) == digest(parse(to_dict(TrainConfig()), TrainConfig, source="again"))
    assert digest(TrainConfig()) != digest(TrainConfig(seed=1))
    assert digest(TrainConfig()) != digest(TrainConfig(loss=LossConfig(keep=1.1)))
