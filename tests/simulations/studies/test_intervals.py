"""Intervals: the score's own over pairs, wider over groups, right about signs."""

from __future__ import annotations

import numpy as np
import pytest

from shared_model.metrics import summarize
from simulations.studies.intervals import estimate


def test_the_interval_over_pairs_is_the_score_s_own() -> None:
    values = np.random.default_rng(3).uniform(size=20).tolist()
    rows = [{"identifiability": 3.0, "headline": value} for value in values]
    found = estimate(values)
    assert (found.mean, found.low, found.high) == pytest.approx(summarize(rows)["headline"], abs=1e-12)


def test_groups_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    values = [level + 0.01 * rng.normal() for level in (0.0, 1.0, 2.0) for _ in range(20)]
    groups = [name for name in "abc" for _ in range(20)]
    found = estimate(values, groups)
    assert found.group_high - found.group_low > 2 * (found.high - found.low)
    assert found.count == 60 and found.positive == sum(value > 0 for value in values)


def test_one_group_says_nothing_about_groups() -> None:
    found = estimate([0.1, 0.2, 0.6], ["a", "a", "a"])
    assert found.group_low == found.group_high == pytest.approx(found.mean)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        found = estimate(rng.normal(size=30).tolist())
        hits += found.low <= 0 <= found.high
    assert 175 <= hits <= 200
