"""The cost of secure aggregation is measured on rounds that really add up."""

import pytest

from simulations.secure_cost import main, measure


@pytest.mark.parametrize(("dropped", "neighbors"), [(0, 0), (1, 0), (1, 4)])
def test_a_measured_round_opens_the_right_sum(dropped: int, neighbors: int) -> None:
    cost = measure(6, parameters=500, dropped=dropped, neighbors=neighbors)
    assert cost.error < 1e-5
    assert cost.plain_bytes == 504
    assert cost.device_bytes > 4 * 500 * (6 - dropped) / 6
    assert cost.device_s > 0
    assert cost.server_s > 0


def test_the_table_has_a_line_per_case(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--devices", "4", "--parameters", "100"])
    assert len(capsys.readouterr().out.splitlines()) == 3
