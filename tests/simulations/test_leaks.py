"""The scanner: every form is found, chance is not."""

import base64
import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
import pytest

from simulations.leaks import Finding, Scanner, Secrets, unfold

NOISE = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
PICTURE = np.random.default_rng(1).integers(0, 256, 600, np.uint8)


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("name", data)
    return stream.getvalue()


PACKED = {
    "raw": lambda data: data,
    "zlib": zlib.compress,
    "zlib, fast": lambda data: zlib.compress(data, 1),
    "gzip": gzip.compress,
    "zip": zipped,
    "base64": base64.b64encode,
    "url base64": base64.urlsafe_b64encode,
    "hex": lambda data: data.hex().encode(),
    "base64 of zlib": lambda data: base64.b64encode(zlib.compress(data)),
}


@pytest.mark.parametrize("packing", PACKED)
def test_a_stretch_of_a_picture_is_found_in_every_packing(packing: str) -> None:
    piece = PICTURE[101:150].tobytes()
    data = NOISE[:1001] + b"~" + PACKED[packing](piece) + b"~" + NOISE[1001:5000]
    found = Scanner(Secrets(arrays={"picture": PICTURE.tobytes()})).scan(data)
    assert {finding.what for finding in found} == {"picture"}


def test_noise_holds_nothing() -> None:
    seeker = Scanner(Secrets(texts={"name": "lisbon"}, arrays={"picture": PICTURE.tobytes()}, numbers={"loss": 0.4321}))
    assert seeker.scan(NOISE) == []


def test_flat_areas_are_no_evidence() -> None:
    assert Scanner(Secrets(arrays={"sky": bytes([7, 7, 8, 8] * 100)})).scan(bytes([7, 7, 8, 8] * 50)) == []


def test_texts_and_numbers() -> None:
    seeker = Scanner(Secrets(texts={"name": "lisbon", "short": "ab"}, numbers={"loss": 0.4321987}))
    assert seeker.scan(b"in lisbon, ab") == [Finding("name", "raw")]
    assert seeker.scan("in lisbon".encode("utf-16-le")) == [Finding("name", "raw")]
    for form in (struct.pack("<d", 0.4321987), struct.pack(">f", 0.4321987), b"0.432199", b"loss 0.4322"):
        assert seeker.scan(b"\x00" + form) == [Finding("loss", "raw")]
    for near in (b"flwr-timestamp: 2026-11-30T04:22:10.432217+00:00", b"10.4322"):  # of another number
        assert seeker.scan(near) == []
        assert seeker.scan(near + b" loss=0.4322") == [Finding("loss", "raw")]


def test_layers_are_told() -> None:
    assert [how for how, _ in unfold(b"..." + zlib.compress(b". " * 100))] == ["raw", "zlib in raw"]


def test_nothing_to_look_for_finds_nothing() -> None:
    assert Scanner(Secrets()).scan(NOISE) == []
    assert Scanner(Secrets(arrays={"empty": b"", "short": b"123"})).scan(b"") == []
