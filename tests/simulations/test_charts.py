"""Charts: round ticks, every point drawn, gaps and flat lines handled."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.charts import Series, line_chart, nice_ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_cover_the_data_with_few_round_steps(low: float, extent: float) -> None:
    ticks = nice_ticks(low, low + extent)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step
    assert ticks[-1] >= low + extent - 1e-6 * step
    assert 2 <= len(ticks) <= 7


def test_ticks_of_equal_or_unbounded_ends_still_make_an_axis() -> None:
    assert nice_ticks(2.0, 2.0)[0] < 2.0 < nice_ticks(2.0, 2.0)[-1]
    assert nice_ticks(0.0, math.inf) == [0.0, 1.0]


def test_chart_is_well_formed_and_has_a_dot_for_every_known_value() -> None:
    svg = line_chart(
        [Series("a < b", (1.0, None, 3.0)), Series("c", (0.5, math.nan, 2.0))],
        labels=["start", "1", "2"],
        title='loss & "more"',
        limit=("budget", 4.0),
    )
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == 'loss & "more"'
    assert len([node for node in root.iter("circle")]) == 4
    assert [node.get("class") for node in root.iter("line")].count("limit") == 1


def test_higher_values_are_drawn_higher() -> None:
    root = ElementTree.fromstring(line_chart([Series("x", (1.0, 2.0))], labels=["a", "b"], title="t"))
    low, high = (float(node.get("cy", "nan")) for node in root.iter("circle"))
    assert high < low


@pytest.mark.parametrize("count", [1, 2, 50])
def test_any_number_of_positions_stays_inside_the_picture(count: int) -> None:
    svg = line_chart(
        [Series("x", tuple(float(i) for i in range(count)))], labels=[str(i) for i in range(count)], title="t"
    )
    root = ElementTree.fromstring(svg)
    assert all(0 <= float(node.get("cx", "-1")) <= 420 for node in root.iter("circle"))
    assert len(list(root.iter("circle"))) == count


def test_an_infinite_limit_is_left_out() -> None:
    svg = line_chart([Series("x", (1.0, 2.0))], labels=["a", "b"], title="t", limit=("none", math.inf))
    assert 'class="limit"' not in svg


def test_long_labels_of_the_axis_stay_inside_the_picture() -> None:
    chart = line_chart([Series("loss", (0.84750, 0.84755, 0.84749))], labels=["start", "1", "2"], title="loss")
    labels = re.findall(r'<text class="tick" x="([\d.]+)" y="[\d.]+" text-anchor="end">([-\d.e]+)</text>', chart)
    ticks = [(float(x), text) for x, text in labels if "." in text]
    assert max(len(text) for _, text in ticks) >= 6
    assert all(x - 7 * len(text) >= 0 for x, text in ticks)
