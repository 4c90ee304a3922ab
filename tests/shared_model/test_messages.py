"""The words that server and device share."""

from dataclasses import fields, replace

import pytest

from shared_model.config import LossConfig, ModelConfig
from shared_model.errors import CompatibilityError, ConfigError
from shared_model.mechanism import Mechanism
from shared_model.messages import PROTOCOL, RoundRequest

REQUEST = RoundRequest(
    run="abc",
    round=2,
    rounds=5,
    model=ModelConfig(width=8),
    loss=LossConfig(adversarial="lsgan"),
    architecture="0123456789ab",
    unit="example",
    clip=0.5,
    record_clip=1.0,
    noise_multiplier=0.0,
    cohort=10,
    population=1000,
    delta=1e-6,
    simulated=True,
    local_steps=3,
    batch=4,
    learning_rate=1e-3,
    record_rate=0.25,
    upload="float16",
    seed=7,
)


def test_settings_survive_the_journey_as_plain_values() -> None:
    values = REQUEST.to_values()
    assert {type(value) for value in values.values()} <= {str, int, float, bool}
    assert values.keys() == {item.name for item in fields(RoundRequest)}
    assert RoundRequest.from_values(values) == REQUEST
    assert REQUEST.sample_rate == 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "person"}, "unit"),
        ({"upload": "float64"}, "upload"),
        ({"round": 0}, "round"),
        ({"round": 6}, "of only 5"),
        ({"clip": float("inf")}, "clip"),
        ({"record_clip": 0.0}, "record_clip"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"),
        ({"noise_multiplier": float("nan")}, "noise_multiplier"),
        ({"cohort": 2000}, "larger than population"),
        ({"record_rate": 1.5}, "record_rate"),
        ({"mechanism": "magic"}, "mechanism"),
        ({"min_separation": 0}, "min_separation"),
        ({"mechanism": "factorized"}, "protect users"),
        ({"adaptive_clip": True, "count_noise": 5.0}, "protect users"),
        ({"adaptive_clip": True, "count_noise": 5.0, "unit": "user", "mechanism": "factorized"}, "same clip"),
        ({"count_noise": 5.0}, "adaptive clipping only"),
        ({"count_noise": float("nan")}, "count_noise"),
        ({"adaptive_clip": True, "unit": "user", "noise_multiplier": 2.0, "count_noise": 1.0}, "must be above 1"),
        ({"adaptive_clip": True, "unit": "user", "noise_multiplier": 2.0, "count_noise": 0.0}, "must be above 1"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(REQUEST, **changes)
    with pytest.raises(ConfigError, match=message):
        RoundRequest.from_values({**REQUEST.to_values(), **changes})


def test_another_protocol_unknown_keys_and_broken_json_are_refused() -> None:
    values = REQUEST.to_values()
    with pytest.raises(CompatibilityError, match=f"this device {PROTOCOL}"):
        RoundRequest.from_values({**values, "protocol": PROTOCOL + 1})
    with pytest.raises(ConfigError, match="unknown key 'nosie'"):
        RoundRequest.from_values({**values, "nosie": 1})
    for broken in ("{", "[]", 3):
        with pytest.raises(ConfigError, match="model"):
            RoundRequest.from_values({**values, "model": broken})
    with pytest.raises(ConfigError, match="clip"):
        RoundRequest.from_values({**values, "clip": "wide"})


def test_the_price_depends_on_what_protects() -> None:
    noisy = replace(REQUEST, noise_multiplier=2.0)
    assert noisy.price == Mechanism(2.0, 0.25, "example")
    user = replace(noisy, unit="user")
    assert user.price == Mechanism(2.0, 0.01, "user")
    assert replace(user, mechanism="factorized", min_separation=3).price == Mechanism(2.0, 1.0, "user")
    assert replace(user, adaptive_clip=True, count_noise=9.0).price == user.price
