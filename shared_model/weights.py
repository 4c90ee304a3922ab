"""Weights on disk: safetensors with a manifest, never pickle.

A backbone file holds the shared parameters and, in its metadata, the format, the model
configuration, the architecture hash, a SHA-256 over the tensors, and free manifest entries
(parent, round, epsilon, licence ...). It is checked in full before anything of it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch.overrides import TorchFunctionMode

from shared_model import split
from shared_model.assets import find_asset
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig, parse, to_dict
from shared_model.errors import CompatibilityError, EaselError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = [
    "FORMAT",
    "architecture_hash",
    "backbone_id",
    "blank_backbone",
    "default_backbone",
    "default_backbone_path",
    "default_heads",
    "load_backbone",
    "read_manifest",
    "save_backbone",
]

FORMAT = "easel-backbone-1"
_LIMIT = 256 << 20  # bytes; a backbone has a few million
_LARGEST = 1e4  # absolute value of a weight; those of the shipped backbone stay below 2
_HINT = "fetch or train it again; `easel doctor` checks the installed one"


@lru_cache(maxsize=64)
def architecture_hash(config: ModelConfig) -> str:
    """Return 12 hex digits of the ordered parameter names and shapes, and of what they mean."""
    shapes = {name: list(shape) for name, shape in _shapes(config).items()}
    text = json.dumps([FORMAT, to_dict(config), sorted(shapes.items())], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Return the shape of every parameter without making any: a file may ask for absurd sizes."""
    with torch.device("meta"), _Uninitialized():
        return {name: parameter.shape for name, parameter in Backbone(config).named_parameters()}


def blank_backbone(config: ModelConfig) -> Backbone:
    """Return a backbone whose weights are whatever was in memory: for :func:`shared_model.split.unflatten` at once."""
    with _Uninitialized():
        return Backbone(config)


class _Uninitialized(TorchFunctionMode):
    """While entered, nothing is drawn: it takes long, and on the meta device it would load torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Leave a tensor that is to be filled as it is."""
        named = kwargs or {}
        if (
            func in (torch.Tensor.normal_, torch.Tensor.uniform_)
            or getattr(func, "__module__", "") == torch.nn.init.__name__
        ):
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _weights_hash(backbone: Backbone) -> str:
    return hashlib.sha256(split.flatten(backbone).numpy().tobytes()).hexdigest()


def backbone_id(backbone: Backbone) -> str:
    """Return 12 hex digits of architecture and weights: what a head's modulation numbers belong to."""
    text = architecture_hash(backbone.config) + _weights_hash(backbone)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def save_backbone(path: Path | str, backbone: Backbone, *, manifest: Mapping[str, str] | None = None) -> Path:
    """Write a backbone atomically; ``manifest`` entries go into the metadata beside our own."""
    named = dict(backbone.named_parameters())
    tensors = {name: named[name].detach().cpu().float().contiguous() for name in split.shared_parameters(backbone)}
    metadata = dict(manifest or {}) | {
        "format": FORMAT,
        "config": json.dumps(to_dict(backbone.config)),
        "architecture": architecture_hash(backbone.config),
        "sha256": _weights_hash(backbone),
    }
    return write_atomic(path, safetensors.torch.save(tensors, metadata=metadata))


def _manifest(data: bytes) -> dict[str, str]:
    """Return the metadata of the bytes of a safetensors file that safetensors itself has accepted."""
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length]).get("__metadata__") or {})


def read_manifest(path: Path | str) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    data = read_bytes(path, limit=_LIMIT, ordinary=True)
    try:
        safetensors.torch.load(data)
        return _manifest(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise StorageError(f"cannot read weights {path}", hint=_HINT) from error


def load_backbone(path: Path | str) -> Backbone:
    """Read and check a backbone; it comes back in evaluation mode on the CPU.

    Raises
    ------
    StorageError
        If the file is missing, truncated or altered, or holds numbers that nothing can be painted with.
    CompatibilityError
        If it is something else than a backbone of this format and architecture.
    """
    data = read_bytes(path, limit=_LIMIT, ordinary=True)
    try:
        tensors = safetensors.torch.load(data)
        manifest = _manifest(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise StorageError(f"damaged weights {path}", hint=_HINT) from error
    if manifest.get("format") != FORMAT:
        raise CompatibilityError(f"{path} is not a backbone of format {FORMAT}", hint="is this the right file?")
    try:
        config = parse(json.loads(manifest["config"]), ModelConfig, source=str(path))
    except (KeyError, RecursionError, TypeError, ValueError, EaselError) as error:
        raise StorageError(f"damaged manifest in {path}", hint=_HINT) from error
    if manifest.get("architecture") != architecture_hash(config):
        raise CompatibilityError(
            f"{path} was made for another version of the network", hint="use the weights of this version of easel"
        )
    if {name: tensor.shape for name, tensor in tensors.items()} != _shapes(config):
        raise StorageError(f"damaged weights {path}", hint=_HINT)
    backbone = Backbone(config)
    try:
        backbone.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise StorageError(f"damaged weights {path}", hint=_HINT) from error
    if _weights_hash(backbone) != manifest.get("sha256"):
        raise StorageError(f"weights {path} do not match their checksum", hint=_HINT)
    if any(not _is_usable(tensor) for tensor in tensors.values()):
        raise StorageError(f"weights {path} hold numbers that nothing can be painted with", hint=_HINT)
    return backbone.eval()


def _is_usable(tensor: torch.Tensor) -> bool:
    """Tell whether all is finite and of a size that training can reach: what overflows ends as NaN in every painting.

    A checksum does not see to that; whoever trains such weights, or makes them up, writes a fitting one.
    """
    return bool((tensor.abs() <= _LARGEST).all())  # false for NaN


def default_backbone_path() -> Path:
    """Where the backbone that easel ships lies."""
    return find_asset("weights/backbone.safetensors")


def default_backbone() -> Backbone:
    """Load the backbone that easel ships."""
    return load_backbone(default_backbone_path())


def default_heads() -> dict[str, Path]:
    """Return the heads that easel ships, by name, sorted."""
    folder = default_backbone_path().parent / "heads"
    return {path.stem: path for path in sorted(folder.glob("*.head"))}
