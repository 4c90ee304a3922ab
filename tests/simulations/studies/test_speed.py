"""Speed and memory: like is compared with like, and an 8K photo stays below 2 GiB."""

from __future__ import annotations

import pytest
import torch

from client.console import Console
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.errors import InputError
from shared_model.head import Head
from simulations.studies import speed

BACKBONE = Backbone(ModelConfig(width=8, blocks=1), seed=1).eval()
PHOTO = torch.rand(1, 3, 60, 90, generator=torch.Generator().manual_seed(1))
TINY = HeadConfig(canvas_px=48, levels=2, patch=5, atoms=16, components=4, candidates=64)


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Head:
    monkeypatch.setattr(speed, "default_backbone", lambda: BACKBONE)
    return Head.fit([PHOTO], backbone=BACKBONE, config=TINY)


def test_precisions_are_compared_with_fp32(head: Head) -> None:
    found = speed.precisions(head, PHOTO, runs=1)
    assert set(found) == {"fp32", "bf16", "fp16"}
    assert found["fp32"]["ratio"] == 1 and found["fp32"]["levels"] == 0 and found["bf16"]["levels"] > 0


def test_bands_are_compared_with_the_whole(head: Head) -> None:
    found = speed.bands(head, PHOTO, [7, 60], runs=1)
    assert set(found) == {"7", "60"} and found["60"]["off"] == 0 and found["7"]["off"] < 1e-5


def test_rates_and_roofline_agree(head: Head) -> None:
    found = speed.rates(head, device="cpu", runs=1, frames={"small": (48, 64), "large": (96, 128)}, side=256)
    assert set(found) == {"small", "large"}
    for row in found.values():
        assert row["second"] > 0 and row["roofline"] > 0
        assert row["share"] == pytest.approx(row["roofline"] * row["second"] / 10, rel=0.05, abs=0.001)
    assert found["large"]["roofline"] >= found["small"]["roofline"]  # as large a canvas, four times the pixels


@pytest.mark.parametrize("arguments", [["--sizes", "8"], ["--runs", "0"], ["--rows", "0"]])
def test_absurd_settings_are_refused(arguments: list[str]) -> None:
    with pytest.raises(InputError):
        speed.run(speed.parser().parse_args(arguments), Console())


@pytest.mark.slow
def test_an_8k_photo_stays_below_two_gibibytes() -> None:
    assert 500 < speed.memory("oil") < 2048


@pytest.mark.slow
def test_a_long_panorama_stays_below_two_gibibytes() -> None:
    assert 500 < speed.memory("oil", size=(2048, 16384)) < 2048
