"""Both epsilons, and that neither hides the other."""

import json
import math
from dataclasses import replace

import pytest

from server.budget import Budget, solve_noise
from server.config import FederationConfig
from shared_model.adaptive_clip import joint_noise
from shared_model.errors import PrivacyError
from shared_model.factorization import Factorization
from shared_model.mechanism import Mechanism
from shared_model.privacy import epsilon

REAL = FederationConfig(rounds=5, population=10_000, cohort=1_000, noise_multiplier=1.2, clip=0.5)


def test_a_real_fleet_adds_the_whole_noise_and_has_one_epsilon() -> None:
    budget = Budget(REAL, solve_noise(REAL))
    assert budget.std(0.5) == pytest.approx(0.6)
    assert budget.epsilon(5) == budget.run_epsilon(5)
    assert budget.epsilon(5) == epsilon([(Mechanism(1.2, 0.1, "user"), 5)], delta=REAL.effective_delta)
    assert budget.epsilon(0) == 0.0


def test_a_simulation_reports_both_epsilons_and_says_so(config: FederationConfig) -> None:
    budget = Budget(config, 1.5)
    assert budget.std(config.clip) == pytest.approx(1.5 * config.clip * 4 / 10_000)
    nominal, real = budget.epsilon(2), budget.run_epsilon(2)
    assert nominal == epsilon([(Mechanism(1.5, 0.1, "user"), 2)], delta=config.effective_delta)
    # Independent bound for the run itself: mu = sqrt(T) / sigma, epsilon is at least mu^2 / 2.
    assert real > (2 / (1.5 * 4 / 10_000) ** 2) / 2 > 1e5 * nominal
    facts = budget.statement(2, parameters=10)
    assert (facts["epsilon"], facts["run_epsilon"]) == (nominal, real)
    assert "NOT protected" in facts["says"]
    assert "nominal fleet of 100000" in facts["says"]


def test_noise_is_solved_for_the_target() -> None:
    config = replace(REAL, noise_multiplier=0.0, target_epsilon=3.0)
    noise = solve_noise(config)
    assert 2.9 < Budget(config, noise).epsilon(config.rounds) <= 3.0


def test_unprotected_is_infinite_and_json_ready() -> None:
    config = replace(REAL, noise_multiplier=0.0, unprotected=True)
    budget = Budget(config, solve_noise(config))
    assert budget.std(1.0) == 0.0
    assert math.isinf(budget.epsilon(1))
    facts = json.loads(json.dumps(budget.statement(1, parameters=3), allow_nan=False))
    assert facts["epsilon"] is None
    assert "No privacy" in facts["says"]


def test_example_level_noise_is_the_devices() -> None:
    config = FederationConfig(unit="example", records=40, batch=8, local_steps=10, rounds=3, noise_multiplier=2.0)
    budget = Budget(config, 2.0)
    assert budget.std(1.0) == 0.0
    assert budget.epsilon(3) == epsilon([(Mechanism(2.0, 0.2, "example"), 30)], delta=1e-5)
    assert "record" in budget.statement(3, parameters=1)["says"]


def test_a_small_fleet_is_refused_with_numbers_and_can_be_accepted() -> None:
    small = replace(REAL, population=50, cohort=20)
    with pytest.raises(PrivacyError, match="50 devices, 20 a round"):
        Budget(small, 1.2).warning(parameters=650_000)
    assert "50 devices" in Budget(replace(small, accept_loud_noise=True), 1.2).warning(parameters=650_000)
    large = replace(REAL, population=1_000_000, cohort=10_000)
    assert Budget(large, 1.2).warning(parameters=650_000) == ""


def test_secure_aggregation_is_honest_about_the_server() -> None:
    plain = FederationConfig(noise_multiplier=1.0)
    secure = FederationConfig(noise_multiplier=1.0, secure_aggregation=True)
    assert Budget(plain, 1.0).server_epsilon(5) == math.inf
    assert Budget(plain, 1.0).server_epsilon(0) == 0.0
    against_server = Budget(secure, 1.0).server_epsilon(5)
    assert Budget(secure, 1.0).epsilon(5) < against_server < math.inf
    assert against_server == pytest.approx(
        Budget(FederationConfig(population=1000, delta=secure.effective_delta), 1.0).epsilon(5)
    )
    facts = Budget(secure, 1.0).statement(5, parameters=10)
    assert facts["server_epsilon"] == against_server
    assert "it knows whom it asked" in facts["says"]
    assert "server_epsilon" not in Budget(plain, 1.0).statement(5, parameters=10)


def test_the_clip_of_the_round_scales_its_noise() -> None:
    budget = Budget(REAL, 1.2)
    assert [budget.std(clip) for clip in (0.5, 0.25, 2.0)] == pytest.approx([0.6, 0.3, 2.4])


ADAPTIVE = replace(REAL, adaptive_clip=True)


def test_updates_and_bits_together_have_the_announced_noise() -> None:
    budget = Budget(ADAPTIVE, 1.2)
    assert budget.count_noise == budget.count_std == 50.0
    assert budget.std(1.0) == pytest.approx((1.2**-2 - 100.0**-2) ** -0.5)
    assert budget.std(1.0) > 1.2
    assert joint_noise(budget.std(1.0), budget.count_std) == pytest.approx(1.2)
    assert budget.epsilon(5) == Budget(REAL, 1.2).epsilon(5)
    facts = budget.statement(3, parameters=10, clips=[0.5, 0.6, 0.7])
    assert facts["clips"] == [0.5, 0.6, 0.7]
    assert facts["count_noise"] == 50.0
    assert facts["update_noise_multiplier"] == budget.update_noise


def test_a_small_cohort_still_gets_enough_noise_on_its_count() -> None:
    tiny = Budget(replace(ADAPTIVE, cohort=10, population=10), 4.0)
    assert tiny.count_noise == 4.0
    assert tiny.update_noise == pytest.approx(4.0 / math.sqrt(0.75))
    with pytest.raises(PrivacyError, match="must be above 2"):
        _ = Budget(replace(ADAPTIVE, count_noise=1.5), 4.0).update_noise


def test_a_simulation_rescales_both_noises(config: FederationConfig) -> None:
    budget = Budget(replace(config, adaptive_clip=True), 1.5)
    scale = 4 / 10_000
    assert budget.count_noise == 500.0
    assert budget.count_std == pytest.approx(500.0 * scale)
    assert joint_noise(budget.std(1.0), budget.count_std) == pytest.approx(1.5 * scale)


def test_without_noise_the_count_has_none_either() -> None:
    budget = Budget(replace(ADAPTIVE, noise_multiplier=0.0, unprotected=True), 0.0)
    assert budget.update_noise == budget.count_noise == budget.std(1.0) == 0.0


FACTORIZED = replace(REAL, mechanism="factorized", rounds=20, min_separation=5)


def test_correlated_noise_is_one_gaussian_step_of_the_whole_run() -> None:
    budget, plan = Budget(FACTORIZED, 3.0), Factorization(20, 5)
    assert budget.std(0.5) == pytest.approx(3.0 * plan.sensitivity() * 0.5)
    assert budget.epsilon(20) == epsilon([(Mechanism(3.0, 1.0, "user"), 1)], delta=FACTORIZED.effective_delta)
    assert 0.0 == budget.epsilon(0) < budget.epsilon(1) < budget.epsilon(19) < budget.epsilon(20)
    facts = budget.statement(20, parameters=10)
    assert (facts["mechanism"], facts["sample_rate"], facts["participations"]) == ("factorized", 1.0, 4)
    assert "at most once in 5 rounds" in facts["says"]


def test_correlated_noise_is_solved_for_the_target() -> None:
    config = replace(FACTORIZED, noise_multiplier=0.0, target_epsilon=2.0)
    assert 1.98 < Budget(config, solve_noise(config)).epsilon(20) <= 2.0


def test_correlated_noise_is_judged_by_the_backbone_it_leaves() -> None:
    small = replace(FACTORIZED, population=1000, cohort=50)
    noise = Factorization(20, 5).comparable_noise(3.0)
    with pytest.raises(PrivacyError, match=f"noise multiplier {noise:.3g}"):
        Budget(small, 3.0).warning(parameters=650_000)


def test_a_small_site_is_told_what_its_guarantee_is_worth_and_of_full_batches() -> None:
    config = FederationConfig(unit="example", records=40, batch=8, local_steps=10, noise_multiplier=2.0)
    text = Budget(config, 2.0).warning(parameters=10**6)
    assert "weak formal guarantee for each record, none for a person" in text
    assert "batch = 40 with local_steps = 2" in text
    full = replace(config, batch=40)
    assert Budget(full, 2.0).mechanism.sample_rate == 1.0
    assert "full-batch" not in Budget(full, 2.0).warning(parameters=10**6)
    assert Budget(replace(config, records=1000), 2.0).warning(parameters=10**6) == ""
