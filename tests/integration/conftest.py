"""Small devices with real pictures, and a small backbone, for federations that really train."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.data import DeviceConfig, load_records, write_device
from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.images import save_picture
from shared_model.weights import save_backbone

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)


@pytest.fixture
def config() -> FederationConfig:
    """Three simulated devices that stand for a hundred thousand."""
    return FederationConfig(
        rounds=2,
        population=100_000,
        cohort=1_000,
        noise_multiplier=1.5,
        simulated_population=3,
        simulated_cohort=3,
        rescale_noise=True,
        clip=0.5,
        local_steps=1,
        batch=2,
        min_nodes=3,
        wait_s=90.0,
        deadline_s=120.0,
        quorum=1.0,
    )


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_backbone(tmp_path / "start.safetensors", Backbone(TINY))


@pytest.fixture
def make_devices(tmp_path: Path) -> Callable[[int], list[Path]]:
    """Return a factory of device folders, each with two photos and two paintings of its own."""

    def make(count: int) -> list[Path]:
        folders = []
        for index in range(count):
            folder = tmp_path / "devices" / str(index)
            draw = np.random.default_rng(index)
            for kind in ("photos", "art"):
                for number in range(2):
                    coarse = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                    save_picture(folder / kind / f"{number}.png", np.kron(coarse, np.ones((10, 10, 1), np.uint8)))
            write_device(
                folder,
                DeviceConfig(
                    photos=Path("photos"),
                    art=Path("art"),
                    max_epsilon=3.0,
                    records=4,
                    size_px=64,
                    seed=index,
                    head=HeadConfig(canvas_px=64, atoms=64, candidates=200),
                ),
            )
            folders.append(folder)
        return folders

    return make


@pytest.fixture(scope="session")
def private_templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four devices with telling names, pictures full of detail (3 photos, 2 paintings each), and records made."""
    home = tmp_path_factory.mktemp("templates")
    for index in range(4):
        folder = home / f"easel-device-{index}"
        draw = np.random.default_rng(100 + index)
        for kind, number in (("photos", 3), ("art", 2)):
            for item in range(number):
                coarse = np.kron(draw.integers(30, 220, (9, 9, 3)), np.ones((10, 10, 1)))
                picture = (coarse + draw.integers(-30, 30, coarse.shape)).astype(np.uint8)
                save_picture(folder / kind / f"our-{kind}-in-lisbon-{item}.png", picture)
        head = HeadConfig(canvas_px=64, atoms=64, candidates=200)
        config = DeviceConfig(
            photos=Path("photos"), art=Path("art"), max_epsilon=20.0, records=5, size_px=64, seed=index, head=head
        )
        write_device(folder, config)
        load_records(folder)
    return home


@pytest.fixture
def private_devices(tmp_path: Path, private_templates: Path) -> Callable[[int], list[Path]]:
    """Return a factory of copies of these devices; their records need not be made again."""

    def make(count: int) -> list[Path]:
        home = tmp_path / "marguerite-home"
        return [
            Path(shutil.copytree(private_templates / f"easel-device-{index}", home / f"easel-device-{index}"))
            for index in range(count)
        ]

    return make
