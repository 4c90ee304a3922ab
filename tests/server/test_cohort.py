"""Who is asked: secret coins, seeded simulations, and never too soon."""

from dataclasses import replace

import pytest

from server.cohort import choose, remember
from server.config import FederationConfig
from shared_model.errors import ConfigError

FACTORIZED = FederationConfig(
    mechanism="factorized", min_separation=4, rounds=20, population=40, cohort=5, accept_loud_noise=True
)


def test_real_cohorts_are_secret_and_of_random_size() -> None:
    config = FederationConfig(population=1000, cohort=100)
    drawn = [choose(range(1000), round=1, asked={}, config=config) for _ in range(20)]
    assert len({len(nodes) for nodes in drawn}) > 1
    assert len(set(drawn)) == 20
    assert all(50 < len(nodes) < 160 for nodes in drawn)
    assert all(list(nodes) == sorted(nodes) for nodes in drawn)


def test_more_than_the_cohort_is_asked_with_one_rate_for_everybody() -> None:
    config = FederationConfig(population=1000, cohort=100, over_selection=2.0)
    drawn = [choose(range(1000), round=1, asked={}, config=config) for _ in range(50)]
    assert sum(map(len, drawn)) / 50 == pytest.approx(200, abs=6 * (160 / 50) ** 0.5)
    fixed = replace(FACTORIZED, over_selection=1.5)
    assert len(choose(range(40), round=1, asked={}, config=fixed)) == 8
    with pytest.raises(ConfigError, match="40 devices cannot give 15"):
        replace(FACTORIZED, over_selection=3.0)


def test_nobody_is_asked_twice_within_the_separation() -> None:
    asked, history = {}, {}
    for number in range(1, 21):
        nodes = choose(range(40), round=number, asked=asked, config=FACTORIZED)
        assert len(nodes) == 5
        for node in nodes:
            assert number - history.get(node, -99) >= 4
            history[node] = number
        asked = remember(asked, nodes, round=number, config=FACTORIZED)
        assert len(asked) <= 4 * 5
    assert len(set(history.values())) > 1


def test_too_few_rested_devices_make_a_smaller_cohort() -> None:
    assert choose([1, 2, 3], round=3, asked={1: 1, 2: 2}, config=FACTORIZED) == (3,)
    assert choose([], round=3, asked={}, config=FACTORIZED) == ()


@pytest.mark.parametrize("separation", [1, 2, 4])
def test_a_repeated_round_asks_others_as_their_ledgers_would_refuse(separation: int) -> None:
    config = replace(FACTORIZED, min_separation=separation)
    first = choose(range(40), round=7, asked={}, config=config)
    asked = remember({}, first, round=7, config=config)
    again = choose(range(40), round=7, asked=asked, config=config)
    assert len(again) == 5
    assert not set(first) & set(again)
    asked = remember(asked, again, round=7, config=config)
    assert not {*first, *again} & set(choose(range(40), round=7, asked=asked, config=config))


def test_a_separation_longer_than_the_run_lets_newcomers_in() -> None:
    config = replace(FACTORIZED, rounds=3, min_separation=50, population=400)
    assert choose([1, 2], round=3, asked={1: 1}, config=config) == (2,)


def test_a_simulation_rests_its_devices_too_and_repeats_itself() -> None:
    config = replace(FACTORIZED, simulated_population=12, simulated_cohort=2, rescale_noise=True)
    asked = {3: 5, 4: 4, 5: 1}
    nodes = choose(range(12), round=6, asked=asked, config=config)
    assert nodes == choose(range(11, -1, -1), round=6, asked=asked, config=config)
    assert len(nodes) == 2
    assert not {3, 4} & set(nodes)


def test_sampled_rounds_remember_nobody() -> None:
    assert remember({1: 1}, [2], round=2, config=FederationConfig()) == {}
