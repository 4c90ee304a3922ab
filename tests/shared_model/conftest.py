"""Small pictures, heads and networks that the tests of the model share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.head import Head
from shared_model.pyramid import box
from shared_model.records import Batch, make_records


def _picture(seed: int, height: int = 96, width: int = 128) -> Tensor:
    """A made-up picture ``(1, 3, H, W)`` with smooth areas, edges and some grain."""
    generator = torch.Generator().manual_seed(seed)
    smooth = box(torch.rand(1, 3, height, width, generator=generator), 5) * 3 - 1
    edges = (box(torch.rand(1, 1, height, width, generator=generator), 9) > 0.5).float()
    grain = torch.randn(1, 3, height, width, generator=generator) * 0.02
    return (0.6 * smooth + 0.3 * edges + grain).clamp(0, 1)


@pytest.fixture(scope="session")
def picture() -> Callable[..., Tensor]:
    """Make pictures: ``picture(seed, height, width)``."""
    return _picture


@pytest.fixture(scope="session")
def small_model() -> ModelConfig:
    return ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=6, critic_width=8)


@pytest.fixture(scope="session")
def small_head() -> HeadConfig:
    return HeadConfig(canvas_px=96, atoms=64, candidates=600, components=12)


@pytest.fixture
def backbone(small_model: ModelConfig) -> Backbone:
    """A tiny backbone with random weights."""
    return Backbone(small_model, seed=1)


@pytest.fixture
def head(backbone: Backbone, small_head: HeadConfig) -> Head:
    """A head for the tiny backbone."""
    return Head.fit([_picture(7)], backbone=backbone, name="seven", config=small_head)


@pytest.fixture(scope="session")
def records(small_head: HeadConfig) -> Batch:
    """Four photo records of 48 px."""
    photos, arts = [_picture(1), _picture(2)], [_picture(3), _picture(4)]
    return make_records(photos, arts, count=4, size_px=48, head_config=small_head)
