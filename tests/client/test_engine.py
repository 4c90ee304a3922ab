from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from client import engine as engine_module
from client.engine import Engine, available_devices, native_bf16, plan
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, InputError, MissingError
from shared_model.head import Head
from shared_model.stylize import Options, stylize

PHOTO = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(4))


def test_auto_takes_the_fastest_device_there_is() -> None:
    assert plan(available=("cuda", "cpu")).device.type == "cuda"
    assert plan(available=("mps", "cpu")).device.type == "mps"
    assert plan(available=("cpu",)).device.type == "cpu"
    assert available_devices()[-1] == "cpu"


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_precision(precision: str, dtype: torch.dtype) -> None:
    assert plan(device="cpu", precision=precision).dtype == dtype


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_auto_computes_in_bf16_only_where_the_device_does(device: str) -> None:
    assert plan(available=(device,), bf16=lambda name: name == device).dtype == torch.bfloat16
    assert plan(available=(device,), bf16=lambda name: False).dtype == torch.float32
    assert not native_bf16("mps")


def test_a_device_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(MissingError, match="no cuda device") as caught:
        plan(device="cuda", available=("cpu",))
    assert "--device" in caught.value.hint
    with pytest.raises(InputError, match="unknown device"):
        plan(device="tpu")
    with pytest.raises(InputError, match="unknown precision"):
        plan(precision="int4")


def test_engine_paints_what_the_model_paints(backbone: Backbone, tiny_head: Head) -> None:
    options = Options(seed=3)
    expected = stylize(PHOTO, head=tiny_head, backbone=backbone, options=options)
    painted = Engine(backbone, device="cpu", precision="fp32").stylize(PHOTO, tiny_head, options=options)
    assert painted.shape == PHOTO.shape and painted.dtype == torch.float32
    torch.testing.assert_close(painted, expected, atol=1e-4, rtol=0)


def test_engine_leaves_the_backbone_alone(backbone: Backbone, tiny_head: Head) -> None:
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    Engine(backbone, device="cpu", precision="bf16").stylize(PHOTO, tiny_head)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_stays_close(backbone: Backbone, tiny_head: Head, precision: str) -> None:
    exact = Engine(backbone, device="cpu", precision="fp32").stylize(PHOTO, tiny_head)
    rounded = Engine(backbone, device="cpu", precision=precision).stylize(PHOTO, tiny_head)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05


def test_head_of_another_backbone_is_refused(backbone: Backbone, tiny_head: Head) -> None:
    foreign = dataclasses.replace(tiny_head, backbone="0" * 12)
    with pytest.raises(CompatibilityError):
        Engine(backbone, device="cpu").stylize(PHOTO, foreign)


def test_a_head_whose_numbers_overflow_is_refused(backbone: Backbone, tiny_head: Head) -> None:
    wild = dataclasses.replace(tiny_head, modulation=torch.full_like(tiny_head.modulation, 1e30))
    with pytest.raises(CompatibilityError, match="out of all proportion"):
        Engine(backbone, device="cpu", precision="fp32").stylize(PHOTO, wild)


def test_who_watches_hears_of_every_step_and_can_end_it(backbone: Backbone, tiny_head: Head) -> None:
    shares: list[float] = []
    engine = Engine(backbone, device="cpu", rows=16)
    engine.stylize(PHOTO, tiny_head, options=Options(size_px=100), watch=shares.append)
    assert shares == sorted(shares) and len(shares) == 3 + 7 and 0 <= shares[0] < shares[-1] <= 1

    def stop(share: float) -> None:
        if share >= 0.5:
            raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        engine.stylize(PHOTO, tiny_head, options=Options(size_px=100), watch=stop)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    ],
)
def test_out_of_memory_is_one_clear_error(
    backbone: Backbone, tiny_head: Head, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(engine_module, "stylize", fail)
    with pytest.raises(InputError, match="not enough memory") as caught:
        Engine(backbone, device="cpu").stylize(PHOTO, tiny_head)
    assert "--size" in caught.value.hint


def test_short_memory_narrows_the_bands_and_the_engine_remembers(
    backbone: Backbone, tiny_head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def short(photo: torch.Tensor, *, rows: int, **rest: Any) -> torch.Tensor:
        tried.append(rows)
        if rows > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stylize(photo, rows=rows, **rest)

    monkeypatch.setattr(engine_module, "stylize", short)
    engine = Engine(backbone, device="cpu", precision="fp32")
    painted = engine.stylize(PHOTO, tiny_head)
    engine.stylize(PHOTO, tiny_head)
    assert tried == [128, 64, 32, 16, 16]
    torch.testing.assert_close(painted, stylize(PHOTO, head=tiny_head, backbone=backbone), atol=1e-4, rtol=0)


def test_no_memory_even_for_the_narrowest_bands_ends_after_few_tries(
    backbone: Backbone, tiny_head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def never(photo: torch.Tensor, *, rows: int, **rest: Any) -> torch.Tensor:
        tried.append(rows)
        raise MemoryError

    monkeypatch.setattr(engine_module, "stylize", never)
    with pytest.raises(InputError, match="not enough memory"):
        Engine(backbone, device="cpu").stylize(PHOTO, tiny_head)
    assert tried == [128, 64, 32, 16, 8]


def test_a_bug_is_not_taken_for_a_lack_of_memory(
    backbone: Backbone, tiny_head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(engine_module, "stylize", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        Engine(backbone, device="cpu").stylize(PHOTO, tiny_head)
