"""Where training computes: names, who gets which GPU, and a device that is not the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from client.data import DeviceConfig
from client.placement import DEVICES, dealt, known, place
from client.trainer import Placed
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import ConfigError, InputError, MissingError
from shared_model.messages import RoundRequest

BOTH = ("cuda", "cpu")


def test_names() -> None:
    assert all(known(name) for name in (*DEVICES, "cuda:0", "cuda:12"))
    assert not any(known(name) for name in ("", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cpu:0", "CUDA"))


def test_a_device_is_the_one_asked_for_or_the_fastest() -> None:
    assert place("auto", available=BOTH, count=lambda: 2) == torch.device("cuda")
    assert place("auto", available=("mps", "cpu"), count=lambda: 0) == torch.device("mps")
    assert place("cpu", available=BOTH, count=lambda: 1) == torch.device("cpu")
    assert place("cuda:1", available=BOTH, count=lambda: 2) == torch.device("cuda:1")


@pytest.mark.parametrize(("name", "available"), [("cuda", ("cpu",)), ("mps", BOTH), ("cuda:2", BOTH)])
def test_one_that_is_not_there_is_refused(name: str, available: tuple[str, ...]) -> None:
    with pytest.raises(MissingError, match=f"no {name} device") as caught:
        place(name, available=available, count=lambda: 2)
    assert f"auto or {available[0]}" in caught.value.hint


def test_one_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        place("tpu")
    with pytest.raises(ConfigError, match="device must be one of auto, cpu, cuda, mps, not 'tpu'"):
        DeviceConfig(photos=Path("p"), art=Path("a"), device="tpu")


def test_workers_get_the_gpus_in_turn() -> None:
    assert dealt("cuda", 5, available=BOTH, count=lambda: 2) == ("cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0")
    assert dealt("auto", 2, available=BOTH, count=lambda: 3) == ("cuda:0", "cuda:1")
    assert dealt("cuda:1", 2, available=BOTH, count=lambda: 3) == ("cuda:1", "cuda:1")
    assert dealt("auto", 3, available=("cpu",), count=lambda: 0) == ("cpu", "cpu", "cpu")
    with pytest.raises(MissingError):
        dealt("cuda", 2, available=("cpu",), count=lambda: 0)


def test_a_trainer_gets_the_backbone_where_it_is_to_compute() -> None:
    def look(backbone: Backbone, folder: Path, request: RoundRequest, *, seed: int) -> torch.Tensor:
        assert {parameter.device.type for parameter in backbone.parameters()} == {"meta"}
        return torch.full((1,), float(seed))

    backbone = Backbone(ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2))
    assert Placed(look, torch.device("meta"))(backbone, Path(), None, seed=7).item() == 7.0  # type: ignore[arg-type]


def test_training_computes_on_another_device_and_the_mechanism_on_the_cpu() -> None:
    """No GPU is needed: the device is made of Python, mixes with no other and has no float64."""
    program = [sys.executable, str(Path(__file__).with_name("other_device.py"))]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["device"] == "elsewhere:0"
    assert "device" in found["mixed"] and "cpu" in found["mixed"].lower(), "the device would hide mistakes"
    for way in ("user", "proximal", "scaffold", "private, one by one", "private, together"):
        assert found[way] < 1e-3, way
    length, noise, steps = found["noised"]
    assert length > 0 and (noise, steps) == (1.0, 2)
