"""Looks for a device's private things in bytes that left it: pixels, patches, heads, names, numbers.

Guarantees
    An array of which 31 bytes in a row are in the data is found, at any alignment, as uint8, float16 or
    float32, channels first or last, also inside zlib, gzip, zip, base64 or hexadecimal, three layers
    deep. A text is found in UTF-8 and UTF-16.
Assumes
    Bytes are not encrypted, and a stretch of 16 bytes with at least six different values does not occur twice
    by chance.
Edge cases
    Flat areas (fewer than six different bytes in sixteen) are no evidence and are left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client.data import device_heads, load_device, load_records
from shared_model.head import Head
from shared_model.images import find_pictures, load_picture, load_tensor

__all__ = ["Finding", "Scanner", "Secrets", "device_secrets", "unfold"]

Bytes = npt.NDArray[np.uint8]

_WINDOW = 16
_VARIETY = 6
_DEPTH = 3
_LARGEST = 1 << 26
_SMALL = 1024
_SHORTEST_TEXT = 4


@dataclass(frozen=True)
class Finding:
    """Something private that was found.

    Parameters
    ----------
    what
        Label of the secret.
    how
        In which layer, for example ``"zlib in raw"``.
    """

    what: str
    how: str


@dataclass(frozen=True)
class Secrets:
    """What must not leave.

    Parameters
    ----------
    texts
        Names and paths by label; shorter than four characters are left out.
    arrays
        Raw bytes by label.
    numbers
        Exact private numbers by label, such as losses.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, bytes] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)


def device_secrets(folder: Path, *, texts: Mapping[str, str], numbers: Mapping[str, float] | None = None) -> Secrets:
    """Collect the private things of a device folder.

    Pictures as files and as pixels (as stored, and as the device loads them), its training records, every tensor
    of its heads, the names of its files, its folders' names and paths.

    Parameters
    ----------
    folder
        The device folder; its records are made if they are not there.
    texts, numbers
        More secrets, for example the user's name, and losses.
    """
    config = load_device(folder)
    arrays: dict[str, bytes] = {}
    names: dict[str, str] = {"device folder": str(folder), **texts}
    for path in find_pictures([config.photos, config.art]):
        label = f"{path.parent.name}/{path.name}"
        names[f"name of {label}"], names[f"path of {label}"] = path.name, str(path)
        names[f"folder of {label}"] = str(path.parent)
        arrays[f"file {label}"] = path.read_bytes()
        arrays |= _pixels(f"pixels of {label}", torch.from_numpy(load_picture(path).rgb.copy()).permute(2, 0, 1))
        arrays |= _pixels(f"canvas of {label}", load_tensor(path, config.head.canvas_px)[0])
    records = load_records(folder)
    for index, tensor in enumerate(records.tensors()):
        arrays |= _numbers(f"records, tensor {index}", tensor)
    for index, head in enumerate(device_heads(folder)):
        for name, tensor in _tensors(head).items():
            arrays |= _numbers(f"head {index}, {name}", tensor)
        arrays[f"head {index}, file"] = head.to_bytes()
    return Secrets(names, arrays, dict(numbers or {}))


class Scanner:
    """Finds secrets in data.

    Parameters
    ----------
    secrets
        What to look for; several devices' may be given at once.
    """

    def __init__(self, *secrets: Secrets) -> None:
        self._secrets = secrets
        self._index = _Index([pair for device in secrets for pair in device.arrays.items()])

    def scan(self, data: bytes) -> list[Finding]:
        """Return what of the secrets is in the data; each once per layer."""
        found: list[Finding] = []
        seen: set[bytes] = set()
        for how, layer in unfold(data):
            digest = hashlib.sha256(layer).digest()
            if digest in seen:
                continue
            seen.add(digest)
            labels = self._index.labels(layer)
            for device in self._secrets:
                labels += [label for label, text in device.texts.items() if _has_text(layer, text)]
                labels += [label for label, value in device.numbers.items() if _has_number(layer, value)]
            found += [Finding(label, how) for label in labels]
        return found


def unfold(data: bytes, *, how: str = "raw", depth: int = _DEPTH) -> Iterator[tuple[str, bytes]]:
    """Yield the data, and whatever is packed in it: compressed streams, base64, hexadecimal."""
    yield how, data
    if depth == 0:
        return
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data):
        yield from _inflated(data[match.start() :], 15, f"zlib in {how}", depth)
    for match in re.finditer(rb"\x1f\x8b\x08", data):
        yield from _inflated(data[match.start() :], 31, f"gzip in {how}", depth)
    for match in re.finditer(rb"PK\x03\x04.{4}\x08\x00", data, re.DOTALL):
        start = match.start()
        if len(data) >= start + 30:
            name, extra = struct.unpack("<HH", data[start + 26 : start + 30])
            yield from _inflated(data[start + 30 + name + extra :], -15, f"zip in {how}", depth)
    for match in re.finditer(rb"[A-Za-z0-9+/_-]{16,}", data):
        text = match.group().translate(bytes.maketrans(b"-_", b"+/"))
        for start in range(4):  # other letters may stand before it
            plain = base64.b64decode(text[start : start + (len(text) - start) // 4 * 4])
            yield from unfold(plain, how=f"base64 in {how}", depth=depth - 1)
    for match in re.finditer(rb"(?:[0-9a-fA-F]{2}){12,}", data):
        yield from unfold(binascii.unhexlify(match.group()), how=f"hex in {how}", depth=depth - 1)


def _inflated(data: bytes, bits: int, how: str, depth: int) -> Iterator[tuple[str, bytes]]:
    try:
        plain = zlib.decompressobj(bits).decompress(data, _LARGEST)
    except zlib.error:
        return
    if len(plain) >= _SHORTEST_TEXT:
        yield from unfold(plain, how=how, depth=depth - 1)


def _has_text(layer: bytes, text: str) -> bool:
    return len(text) >= _SHORTEST_TEXT and (text.encode() in layer or text.encode("utf-16-le") in layer)


def _has_number(layer: bytes, value: float) -> bool:
    """Look for a number in full precision; as float32 in small layers only, where four bytes are no chance hit.

    Zero is no evidence, nor are digits in the middle of another number: the seconds of a time, ``10.7951``, hold
    no ``0.7951``.
    """
    if value == 0.0:
        return False
    texts = [text.encode() for text in (f"{value:.6g}", f"{value:.4f}") if len(text) > _SHORTEST_TEXT]
    forms = [struct.pack("<d", value), struct.pack(">d", value)]
    if len(layer) <= _SMALL:
        forms += [struct.pack("<f", value), struct.pack(">f", value)]
    written = any(re.search(rb"(?<![0-9])" + re.escape(text), layer) for text in texts)
    return written or any(form in layer for form in forms)


def _windows(data: Bytes) -> npt.NDArray[np.uint64]:
    """Return all stretches of eight bytes as sorted numbers."""
    count = len(data) - 7
    if count <= 0:
        return np.empty(0, np.uint64)
    found = np.zeros(count, np.uint64)
    for place in range(8):
        found |= data[place : place + count].astype(np.uint64) << np.uint64(8 * place)
    return np.unique(found)


class _Index:
    """All stretches of sixteen bytes of the arrays that are worth looking for, sorted by their first half."""

    def __init__(self, arrays: Sequence[tuple[str, bytes]]) -> None:
        self._names = [name for name, _ in arrays]
        parts = [_blocks(raw) for _, raw in arrays]
        self._blocks = np.concatenate(parts) if parts else np.empty((0, _WINDOW), np.uint8)
        owners = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        halves = np.ascontiguousarray(self._blocks).view("<u8")[:, 0]
        order = np.argsort(halves, kind="stable")
        self._halves, self._blocks, self._owners = halves[order], self._blocks[order], owners[order]

    def labels(self, layer: bytes) -> list[str]:
        """Name the arrays of which a stretch is in the layer."""
        windows = _windows(np.frombuffer(layer, np.uint8))
        begin, end = (np.searchsorted(self._halves, windows, side=side) for side in ("left", "right"))
        hit: set[int] = set()
        for one in np.flatnonzero(end > begin):
            for place in range(begin[one], end[one]):
                if self._owners[place] not in hit and self._blocks[place].tobytes() in layer:
                    hit.add(int(self._owners[place]))
        return [self._names[owner] for owner in sorted(hit)]


def _blocks(raw: bytes) -> Bytes:
    """Cut bytes into stretches of sixteen, without those that are too flat to prove anything."""
    count = len(raw) // _WINDOW
    blocks = np.frombuffer(raw, np.uint8, count * _WINDOW).reshape(count, _WINDOW)
    ordered = np.sort(blocks, axis=1)
    rich: Bytes = blocks[(ordered[:, 1:] != ordered[:, :-1]).sum(axis=1) + 1 >= _VARIETY]
    return rich


def _pixels(label: str, picture: Tensor) -> dict[str, bytes]:
    """Return a picture (3, H, W) in the formats it could travel in, channels first and last."""
    unit = picture.float() / 255 if picture.dtype == torch.uint8 else picture.float()
    turned = unit.permute(1, 2, 0)
    return _numbers(label, unit) | _numbers(f"{label}, channels last", turned)


def _numbers(label: str, tensor: Tensor) -> dict[str, bytes]:
    """Return a tensor's bytes as float16, float32 and uint8 (of 0 to 1)."""
    exact = tensor.detach().cpu().contiguous()
    kinds = {"float16": torch.float16, "float32": torch.float32}
    forms = {f"{label} ({name})": exact.to(kind).numpy().tobytes() for name, kind in kinds.items()}
    unit = exact if exact.dtype == torch.uint8 else (exact.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return forms | {f"{label} (uint8)": unit.contiguous().numpy().tobytes()}


def _tensors(head: Head) -> dict[str, Tensor]:
    found = {"palette": head.color.mean, "covariance": head.color.covariance, "tones": head.color.tones}
    found |= head.surface.tables()
    found["modulation"] = head.modulation
    for number, level in enumerate(head.levels):
        names = ("patches", "center", "basis", "price", "keys")
        found |= {f"level {number} {name}": getattr(level, name) for name in names}
    return found
