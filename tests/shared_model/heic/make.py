"""Makes the HEIC files beside it: `python make.py`, with numpy, Pillow and heif-enc (libheif 1.15.1, x265 3.5).

All four are made of numbers drawn here, so nobody else has a right in them.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def quarters() -> Image.Image:
    """64 x 48: red, green, blue and yellow quarters with a little noise."""
    pixels = np.zeros((48, 64, 3))
    pixels[:24, :32], pixels[:24, 32:] = (200, 40, 40), (40, 160, 60)
    pixels[24:, :32], pixels[24:, 32:] = (50, 70, 200), (220, 200, 60)
    pixels += np.random.default_rng(6).normal(0, 4, (48, 64, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def sixteen_bits() -> bytes:
    """A PNG of 64 x 48: red grows to the right, green downwards, both in steps finer than 8 bits; blue stays."""
    rows = b"".join(
        b"\0" + b"".join(struct.pack(">3H", x * 1040, y * 1394, 30000) for x in range(64)) for y in range(48)
    )
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def main() -> None:
    """Write all of them."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        quarters().save(place / "color.png")
        Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))).save(place / "grey.png")
        Image.new("RGB", (2048, 1536), (100, 150, 50)).save(place / "wide.png")
        (place / "ten.png").write_bytes(sixteen_bits())
        for name, options in {"color": (), "grey": (), "wide": (), "ten": ("-b", "10")}.items():
            source, target = str(place / f"{name}.png"), str(HERE / f"{name}.heic")
            subprocess.run(["heif-enc", "-q", "90", *options, source, "-o", target], check=True)


if __name__ == "__main__":
    main()
