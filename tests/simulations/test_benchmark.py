"""The benchmark runs and compares like with like; what it measures decides nothing here."""

from __future__ import annotations

import pytest
import torch

from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from simulations.benchmark import Row, TransformNet, bench_memory, bench_stylize, bench_training
from simulations.cli import main


def test_the_peer_is_the_network_of_the_paper() -> None:
    net = TransformNet()
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(1.68e6, rel=0.02)
    with torch.no_grad():
        assert net(torch.rand(1, 3, 32, 40)).shape == (1, 3, 32, 40)


def test_rows_compare_at_the_same_size() -> None:
    rows = bench_stylize(Backbone(ModelConfig(width=8, blocks=1)), sizes=[64], runs=1)
    assert [row.what for row in rows] == ["stylize 64 px"]
    assert rows[0].ours > 0 and rows[0].theirs > 0
    assert Row("x", 1.0, 4.0).ratio == 0.25


def test_private_and_plain_steps_are_timed() -> None:
    row = bench_training(batch=1, steps=1, runs=1)
    assert row.ours > 0 and row.theirs > 0


@pytest.mark.slow
def test_a_private_step_takes_no_more_memory_than_a_plain_one() -> None:
    row = bench_memory()
    assert row.theirs > 20, "four records of 128 pixels do not fit into less"
    assert 5 < row.ours <= row.theirs


def test_absurd_sizes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--sizes", "9"]) == 2
    assert "between 64 and 4096" in capsys.readouterr().err
