"""What a device's owner can refuse."""

from dataclasses import replace
from pathlib import Path

import pytest

from client.policy import Policy, load_policy
from shared_model.config import LossConfig, ModelConfig
from shared_model.errors import ConfigError, PrivacyError
from shared_model.messages import RoundRequest
from shared_model.secure_terms import SecureTerms

REQUEST = RoundRequest(
    run="a",
    round=1,
    rounds=2,
    model=ModelConfig(),
    loss=LossConfig(),
    architecture="b",
    unit="user",
    clip=1.0,
    record_clip=1.0,
    noise_multiplier=1.0,
    cohort=10,
    population=100,
    delta=1e-5,
    simulated=False,
    local_steps=5,
    batch=4,
    learning_rate=1e-3,
    record_rate=0.5,
    upload="int8",
    seed=0,
)


def test_an_ordinary_request_is_accepted() -> None:
    Policy().check(REQUEST, parameters=650_000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_multiplier": 0.1}, "noise multiplier 0.1 is below 0.3"),
        ({"clip": 11.0}, "clip 11 is above 10"),
        ({"record_clip": 11.0}, "record clip 11"),
        ({"local_steps": 5000}, "5000 local steps"),
        ({"batch": 1000}, "batch 1000"),
        ({"simulated": True}, "rescaled"),
        ({"delta": 1e-4}, "delta 0.0001 is above 1e-05"),
        ({"clip": 12.5, "adaptive_clip": True, "count_noise": 50.0}, "clip 12.5 is above 10"),
    ],
)
def test_a_greedy_request_is_refused_by_name(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PrivacyError, match=message):
        Policy().check(replace(REQUEST, **changes), parameters=650_000)


def test_units_and_size_are_limited() -> None:
    with pytest.raises(PrivacyError, match="unit 'example'"):
        Policy(units=("user",)).check(replace(REQUEST, unit="example"), parameters=1)
    with pytest.raises(PrivacyError, match="parameters"):
        Policy(max_parameters=10).check(REQUEST, parameters=11)


FACTORIZED = replace(REQUEST, mechanism="factorized", min_separation=5)
ADAPTIVE = replace(REQUEST, adaptive_clip=True, count_noise=50.0)


def test_correlated_noise_and_the_bit_are_accepted_unless_the_owner_says_no() -> None:
    for request in (FACTORIZED, ADAPTIVE):
        Policy().check(request, parameters=1)
    with pytest.raises(PrivacyError, match="mechanism 'factorized' is not accepted"):
        Policy(mechanisms=("sampled",)).check(FACTORIZED, parameters=1)
    with pytest.raises(PrivacyError, match="mechanism 'sampled' is not accepted"):
        Policy(mechanisms=("factorized",)).check(REQUEST, parameters=1)
    with pytest.raises(PrivacyError, match="separation 5 is below 6"):
        Policy(min_separation=6).check(FACTORIZED, parameters=1)
    Policy(min_separation=5).check(FACTORIZED, parameters=1)
    Policy(min_separation=6).check(REQUEST, parameters=1)
    with pytest.raises(PrivacyError, match="adaptive clipping is not accepted"):
        Policy(adaptive_clip=False).check(ADAPTIVE, parameters=1)


def test_the_owners_clip_bounds_what_the_server_adapts_to() -> None:
    policy = Policy(max_clip=0.5)
    policy.check(replace(ADAPTIVE, clip=0.5, record_clip=0.5), parameters=1)
    with pytest.raises(PrivacyError, match=r"clip 0\.501 is above 0\.5"):
        policy.check(replace(ADAPTIVE, clip=0.501, record_clip=0.5), parameters=1)


def test_file_beats_defaults_and_simulated_devices_are_lenient(tmp_path: Path) -> None:
    assert load_policy(tmp_path, simulated=False) == Policy()
    load_policy(tmp_path, simulated=True).check(replace(REQUEST, simulated=True), parameters=1)
    (tmp_path / "policy.toml").write_text('min_noise_multiplier = 2.0\nunits = ["user"]\n')
    policy = load_policy(tmp_path, simulated=True)
    assert (policy.min_noise_multiplier, policy.units, policy.simulation) == (2.0, ("user",), False)


@pytest.mark.parametrize(
    "text",
    [
        "min_noise_multiplier = -1.0",
        "max_clip = 0.0",
        "max_delta = 0.0",
        "max_batch = 0",
        "min_separation = 0",
        'units = ["person"]',
        "units = []",
        'mechanisms = ["magic"]',
        "mechanisms = []",
        "adaptive_clip = 1",
        "x = 1",
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(ConfigError):
        load_policy(tmp_path, simulated=False)


TERMS = SecureTerms("0123456789abcdef", capacity=10, needed=8, colluding=0, sum_noise=1.0)


def test_secure_aggregation_is_accepted_and_can_be_demanded() -> None:
    strict = Policy(require_secure_aggregation=True)
    Policy().check(REQUEST, parameters=1, secure=TERMS)
    strict.check(REQUEST, parameters=1, secure=TERMS)
    with pytest.raises(PrivacyError, match="only secure aggregation"):
        strict.check(REQUEST, parameters=1)


def test_a_secure_sum_needs_the_promised_noise_and_enough_devices() -> None:
    with pytest.raises(PrivacyError, match=r"noise of 0\.9 on the secure sum is below the promised 1"):
        Policy().check(REQUEST, parameters=1, secure=replace(TERMS, sum_noise=0.9))
    with pytest.raises(PrivacyError, match="8 devices is too small"):
        Policy(min_secure_peers=8).check(REQUEST, parameters=1, secure=TERMS)
    # Example level: the noise is in the update already.
    Policy().check(replace(REQUEST, unit="example"), parameters=1, secure=replace(TERMS, sum_noise=0.0))
    with pytest.raises(ConfigError, match="min_secure_peers must be at least 2"):
        Policy(min_secure_peers=1)
