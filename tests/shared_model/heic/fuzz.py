"""Counts how often pi-heif crashes on changed files: `PYTHONPATH=. python tests/shared_model/heic/fuzz.py 60000`.

Decodes without the process that easel puts around it, each file in a fork; crashing files are kept where told. Not a
test: it says what the decoder is worth, and whether a new version is worth more.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
from collections import Counter
from pathlib import Path

import pi_heif

from tests.shared_model.heic_files import ALPHA, auxc, build, coded, exif, grid, irot, nclx, sample

EXTREMES = (b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\x80\0\0\0", b"\0\0\xff\xff")


def sources() -> list[bytes]:
    """What is changed: samples, one with everything, one of tiles."""
    everything = [
        coded("color", irot(1), nclx(12)),
        coded("grey", auxc(ALPHA), hidden=True),
        exif(b"II*\0\x08\0\0\0" + bytes(6)),
    ]
    tiles = [grid(2, 1, 128, 64), coded("color", hidden=True), coded("color", hidden=True)]
    return [
        sample("color"),
        sample("ten"),
        sample("grey"),
        build(everything, references=[(b"auxl", 2, [1]), (b"cdsc", 3, [1])]),
        build(tiles, references=[(b"dimg", 1, [2, 3])]),
    ]


def changed(whole: bytes, rng: random.Random) -> bytes:
    """Flip bits, write extreme numbers, cut out, repeat, copy or cut off; half of the time near the start."""
    data, near = bytearray(whole), rng.random() < 0.5
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        at, what = rng.randrange(max(1, min(len(data), 600 if near else len(data)))), rng.random()
        if what < 0.6:
            data[at : at + 1] = bytes([data[at] ^ (1 << rng.randrange(8)) if at < len(data) else 0])
        elif what < 0.75:
            data[at : at + 4] = rng.choice(EXTREMES)
        elif what < 0.82:
            del data[at : at + rng.randrange(1, 9)]
        elif what < 0.9:
            data[at:at] = data[at : at + rng.randrange(1, 64)] * rng.randrange(1, 20)
        elif what < 0.95:
            del data[at:]
        else:
            other, length = rng.randrange(len(data) or 1), rng.randrange(1, 16)
            data[at : at + length] = data[other : other + length]
    return bytes(data)


def decode(data: bytes) -> None:
    """Decode in a child, which never returns: exit code 0, or 1 where it was refused."""
    try:
        os.close(2)
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        found = pi_heif.open_heif(data)
        if found.size[0] * found.size[1] <= 4_000_000:
            bytes(found[found.primary_index].data)
        os._exit(0)
    except BaseException:
        os._exit(1)


def main() -> None:
    """Change, decode, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--keep", type=Path, help="folder for files that crash")
    given = parser.parse_args()
    for unused in ("THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES"):
        setattr(pi_heif.options, unused, False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files, came = sources(), Counter[str]()
    for number in range(given.count):
        rng = random.Random(number)
        data = changed(rng.choice(files), rng)
        child = os.fork()
        if not child:
            decode(data)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            came[signal.Signals(os.WTERMSIG(status)).name] += 1
            if given.keep:
                (given.keep / f"{number}.heic").write_bytes(data)
        else:
            came["refused" if os.WEXITSTATUS(status) else "read"] += 1
    print(pi_heif.libheif_info(), dict(came))


if __name__ == "__main__":
    main()
