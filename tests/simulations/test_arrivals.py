"""Arrivals of a large fleet on the server's own selection."""

from dataclasses import replace

import numpy as np
import pytest

from server.config import FederationConfig
from shared_model.errors import ConfigError, InputError
from simulations.arrivals import HOUR_S, Arrivals, Habits, even_gini, gini, simulate
from simulations.studies import run_study
from simulations.studies.arrivals import variants


def test_people_sleep_at_night_where_they_live() -> None:
    here = Arrivals(20_000, habits=Habits(zones={1: 1.0}, absent=0.0), seed=1)
    shares = [float(here.there(hour * HOUR_S).mean()) for hour in range(24)]
    assert shares[2] > 0.75 > 0.2 > shares[14] > 0.02, "3 o'clock and 15 o'clock of theirs"
    assert shares.index(max(shares)) in (1, 2, 3)
    far = Arrivals(20_000, habits=Habits(zones={9: 1.0}, absent=0.0), seed=1)
    later = [float(far.there(hour * HOUR_S).mean()) for hour in range(24)]
    assert (shares.index(max(shares)) - later.index(max(later))) % 24 in (7, 8, 9)


def test_who_is_there_is_the_same_again_and_another_another_day() -> None:
    one, again = (Arrivals(5_000, habits=Habits(), seed=3) for _ in range(2))
    assert np.array_equal(one.there(3 * HOUR_S), again.there(3 * HOUR_S))
    assert not np.array_equal(one.there(3 * HOUR_S), one.there(27 * HOUR_S))
    assert not np.array_equal(one.there(3 * HOUR_S), Arrivals(5_000, habits=Habits(), seed=4).there(3 * HOUR_S))
    nobody = Arrivals(1_000, habits=Habits(absent=1.0), seed=0)
    assert not nobody.there(0.0).any()


def test_a_population_that_is_never_there_does_not_fill_cohorts_and_one_that_is_does() -> None:
    known = variants(20_000, 200)
    found = {
        name: simulate(replace(config, min_nodes=200), devices=20_000, days=0.5).facts()
        for name, config in known.items()
    }
    # Each is asked with 1 in 100, and most are not there. Who is asked is never repeatable (the sampling is the
    # server's own), so now and then a round has enough: 0 to 2 of 39 in thirty tries.
    assert found["stated"]["released"] < 0.2 * found["stated"]["rounds"]
    assert found["there"]["released"] > 0.9 * found["there"]["rounds"]
    assert found["separated"]["asked_mean"] == 200 and found["separated"]["released"] == found["separated"]["rounds"]
    assert 0 < found["there"]["fill_s_median"] < 600


def test_a_separation_is_kept_and_spreads_the_work() -> None:
    plain = variants(10_000, 100)["separated"]
    outcome = simulate(replace(plain, min_nodes=100), devices=10_000, days=1.0, pause_s=1200.0)
    most = -(-len(outcome.rounds) // 50)
    assert outcome.times_asked.max() <= most and outcome.times_asked.sum() == 100 * len(outcome.rounds)
    assert all(item.asked == 100 for item in outcome.rounds)


def test_rounds_wait_for_enough_devices() -> None:
    config = replace(variants(5_000, 100)["there"], min_nodes=2_000, rounds=3)
    found = simulate(config, devices=5_000, days=1.0, habits=Habits(zones={0: 1.0})).rounds
    assert all(item.present >= 2_000 for item in found)
    impossible = replace(config, min_nodes=5_000, wait_s=600.0)
    with pytest.raises(ConfigError, match="no round ever had enough devices"):
        simulate(impossible, devices=5_000, days=0.2)


def test_fewer_answer_where_more_go_away() -> None:
    config = replace(variants(20_000, 400)["there"], min_nodes=100, rounds=4)
    steady, restless = (
        simulate(config, devices=20_000, days=1.0, habits=Habits(leaves_per_hour=rate)).facts()["answered_mean"]
        for rate in (0.01, 20.0)
    )
    assert restless < 0.75 * steady


def test_gini() -> None:
    assert gini(np.array([3, 3, 3])) == pytest.approx(0.0)
    assert gini(np.array([0, 0, 0, 8])) == pytest.approx(0.75)
    assert gini(np.zeros(3, dtype=np.int64)) == 0.0
    assert even_gini(0.1) > 0.85 > 0.2 > even_gini(20.0) > 0.1


def test_bad_habits_are_refused() -> None:
    with pytest.raises(ConfigError, match="unmetered"):
        Habits(unmetered=1.5)
    with pytest.raises(ConfigError, match="zones"):
        Habits(zones={})
    with pytest.raises(InputError, match="cannot fill"):
        variants(100, 10)
    FederationConfig()


def test_the_study_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    options = ["--devices", "20000", "--cohort", "200", "--days", "0.1", "--json"]
    assert run_study("arrivals", options) == 0
    assert '"gini_of_chance"' in capsys.readouterr().out
