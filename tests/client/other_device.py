"""A device that is not the CPU, made of Python: run as a program, it trains there and prints what it found.

Where there is no GPU this stands for one. It holds its numbers apart from the CPU's, refuses to compute with both at
once, as CUDA does, and has no float64, as MPS has none. PyTorch takes one such device a process, so it has its own.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
_BETWEEN = {"aten::_copy_from"}  # carries numbers from one device to another
_PLAIN = ("_to_copy", "alias", "convolution_overrideable", "convolution_backward_overrideable", "copy_", "detach")
_numbers: dict[int, Tensor] = {}  # by storage: tensors here have a shape and no memory
_copies: set[int] = set()  # of views: what is written into them would be lost


def register() -> list[torch.library.Library]:
    """Make the device known; it lasts as long as what is returned."""
    _setup_privateuseone_for_python_backend(NAME)
    aten, rest = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    for full in torch._C._dispatch_get_all_op_names():
        composite = torch._C._dispatch_has_kernel_for_dispatch_key(full, "CompositeExplicitAutograd")
        base, _, overload = full.removeprefix("aten::").partition(".")
        found = getattr(getattr(torch.ops.aten, base, None), overload or "default", None)
        if full.startswith("aten::") and composite and base not in _PLAIN and found is not None:
            aten.impl(full.removeprefix("aten::"), _kernel(found), "PrivateUse1")
    aten.impl("convolution_overrideable", _kernel(torch.ops.aten.convolution.default), "PrivateUse1")
    aten.impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")
    rest.fallback(_run, "PrivateUse1")
    return [aten, rest]


def _kernel(op: Any) -> Any:
    return lambda *args, **kwargs: _run(op, *args, **kwargs)


def _convolution_backward(gradient: Tensor, picture: Tensor, weight: Tensor, *rest: Any) -> Any:
    return _run(torch.ops.aten.convolution_backward.default, gradient, picture, weight, None, *rest)


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Compute on the CPU with the numbers of tensors that are here."""
    name, mine = op._schema.name, dict[int, Tensor]()

    def taken(value: Any) -> Any:
        if isinstance(value, torch.device):
            return torch.device("cpu") if value.type == NAME else value
        if not isinstance(value, Tensor):
            return value
        if value.device.type == NAME:
            numbers = _numbers[_key(value)]
            mine[id(numbers)] = value
            return numbers
        if value.dim() and name not in _BETWEEN:
            raise RuntimeError(f"{op} was given tensors of {NAME} and of the CPU")
        return value

    def given(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return mine[id(value)] if id(value) in mine else _put(value)

    values = tree_map(taken, args), tree_map(taken, kwargs)
    if name in _BETWEEN:
        values[0][1].copy_(values[0][0])
        return args[1]
    result = op(*values[0], **values[1])
    for argument, value in zip(op._schema.arguments, args, strict=False):
        if isinstance(value, Tensor) and argument.alias_info is not None and argument.alias_info.is_write:
            assert _key(value) not in _copies, f"{op} wrote into a copy"
    assert all(value.shape == _numbers[_key(value)].shape for value in mine.values()), f"{op} changed a shape"
    return tree_map(given, result)


def _put(numbers: Tensor) -> Tensor:
    if numbers.dtype == torch.float64:
        raise RuntimeError(f"{NAME} has no float64")
    made: Tensor = torch._C._acc.create_empty_tensor(numbers.shape, numbers.dtype)
    _numbers[_key(made)] = numbers.contiguous()
    (_copies.discard if numbers.is_contiguous() else _copies.add)(_key(made))
    return made


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def main() -> dict[str, Any]:
    """Train on both devices and say how far apart what comes out is."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from client.joint_step import JointStep
    from client.local_settings import LocalSettings
    from client.private_training import train_example_level, train_user_level
    from shared_model import objective
    from shared_model.backbone import Backbone
    from shared_model.config import ModelConfig
    from shared_model.records import Batch
    from shared_model.split import flatten
    from simulations.methods.proximal import drawn_to
    from simulations.methods.scaffold import _corrected
    from simulations.methods.vectors import with_vector

    generator = torch.Generator().manual_seed(0)
    records = Batch(*(torch.rand(3, 3, 64, 64, generator=generator) for _ in range(5)), torch.tensor([0.0, 1.0, 0.0]))
    here = Backbone(ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=6, critic_width=8), seed=1)
    there = with_vector(copy.deepcopy(here).to(NAME), flatten(here))
    settings = LocalSettings(steps=5, batch=2)
    private = LocalSettings(steps=2, batch=3, noise_multiplier=1.0)
    draws = objective.draw(torch.Generator().manual_seed(1), size_px=64)

    def user(backbone: Backbone) -> Tensor:
        return train_user_level(backbone, records, settings=settings)

    def proximal(backbone: Backbone) -> Tensor:
        return train_user_level(backbone, records, settings=settings, after_step=drawn_to(backbone, 100.0))

    def scaffold(backbone: Backbone) -> Tensor:
        correction = torch.full_like(flatten(backbone), 0.1)
        return train_user_level(backbone, records, settings=settings, after_step=_corrected(backbone, correction))

    def released(backbone: Backbone, chunk: int) -> Tensor:
        work = copy.deepcopy(backbone)
        solver = torch.optim.SGD(work.parameters(), lr=1.0)
        quiet = dataclasses.replace(private, noise_multiplier=0.0, chunk=chunk)
        JointStep(work, solver, settings=quiet)(records, draws, penalty=True)
        return flatten(work) - flatten(backbone)

    def apart(train: Any, *more: Any) -> float:
        one, other = train(here, *more), train(there, *more)
        assert other.device.type == "cpu" and other.dtype == torch.float32
        return float((one - other).norm() / one.norm())

    try:
        mixed = str(next(there.parameters()) + next(here.parameters()))
    except RuntimeError as error:
        mixed = str(error)
    delta, mechanism, steps = train_example_level(there, records, settings=private)
    return {
        "device": str(next(there.parameters()).device),
        "mixed": mixed,
        "user": apart(user),
        "proximal": apart(proximal),
        "scaffold": apart(scaffold),
        "private, one by one": apart(released, 1),
        "private, together": apart(released, 3),
        "noised": [float(delta.norm()), mechanism.noise_multiplier, steps],
    }


if __name__ == "__main__":
    kept = register()
    print(json.dumps(main()))
