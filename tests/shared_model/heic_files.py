"""HEIC files put together from encoded pieces: nothing here can encode, so the pieces are those in `heic/`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "heic"
ALPHA, DEPTH = "urn:mpeg:hevc:2015:auxid:1", "urn:mpeg:hevc:2015:auxid:2"


def sample(name: str) -> bytes:
    """One of the files that heif-enc wrote: `color`, `grey`, `ten` (bits), `wide`."""
    return (FOLDER / f"{name}.heic").read_bytes()


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def ispe(width: int, height: int) -> bytes:
    return full(b"ispe", struct.pack(">2I", width, height))


def irot(quarters: int) -> bytes:
    """Turn counterclockwise by so many quarters."""
    return box(b"irot", bytes([quarters]))


def imir(axis: int) -> bytes:
    """Mirror: 0 swaps top and bottom, 1 swaps left and right."""
    return box(b"imir", bytes([axis]))


def icc(profile: bytes) -> bytes:
    return box(b"colr", b"prof", profile)


def nclx(primaries: int, *, transfer: int = 13, matrix: int = 6) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">3HB", primaries, transfer, matrix, 0x80))


def auxc(urn: str) -> bytes:
    return full(b"auxC", urn.encode() + b"\0")


@dataclass(frozen=True)
class Item:
    """One item of a file; `span` (offset, length in the data of all items) makes it share what another brings."""

    kind: bytes
    data: bytes = b""
    properties: Sequence[bytes] = field(default_factory=tuple)
    hidden: bool = False
    span: tuple[int, int] | None = None


def coded(name: str, *properties: bytes, hidden: bool = False, size: bytes | None = None) -> Item:
    """The HEVC picture in a sample, with further properties."""
    whole = sample(name)
    at = whole.index(b"hvcC") - 4
    config = whole[at : at + int.from_bytes(whole[at : at + 4], "big")]
    pixels = whole[whole.index(b"mdat") + 4 :]
    size = size or (ispe(2048, 1536) if name == "wide" else ispe(64, 64))
    return Item(b"hvc1", pixels, (config, size, *properties), hidden)


def grid(columns: int, rows: int, width: int, height: int, *properties: bytes) -> Item:
    """A picture laid together from others, which the reference `dimg` names."""
    data = struct.pack(">4B2I", 0, 1, rows - 1, columns - 1, width, height)
    return Item(b"grid", data, (ispe(width, height), *properties))


def exif(tiff: bytes) -> Item:
    return Item(b"Exif", struct.pack(">I", 0) + tiff, hidden=True)


def build(
    items: Sequence[Item], *, primary: int = 1, references: Sequence[tuple[bytes, int, Sequence[int]]] = ()
) -> bytes:
    """A file of items, which are numbered from 1; a reference has a kind, from which item and to which it points."""
    known = list(dict.fromkeys(one for item in items for one in item.properties))
    entries = [
        full(b"infe", struct.pack(">2H", number, 0), item.kind, b"\0", version=2, flags=int(item.hidden))
        for number, item in enumerate(items, 1)
    ]
    associations = b"".join(
        struct.pack(">HB", number, len(item.properties)) + bytes(known.index(one) + 1 for one in item.properties)
        for number, item in enumerate(items, 1)
    )
    named = [box(kind, struct.pack(f">2H{len(to)}H", start, len(to), *to)) for kind, start, to in references]
    head = [
        full(b"hdlr", bytes(4), b"pict", bytes(13)),
        full(b"pitm", struct.pack(">H", primary)),
        full(b"iinf", struct.pack(">H", len(entries)), *entries),
        box(b"iprp", box(b"ipco", *known), full(b"ipma", struct.pack(">I", len(items)), associations)),
        *([full(b"iref", *named)] if named else []),
    ]
    ftyp = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    start = len(ftyp) + 12 + sum(map(len, head)) + 16 + 14 * len(items) + 8
    places, at = [], 0
    for item in items:
        places.append(item.span or (at, len(item.data)))
        at += 0 if item.span else len(item.data)
    located = b"".join(
        struct.pack(">3H2I", number, 0, 1, start + offset, length) for number, (offset, length) in enumerate(places, 1)
    )
    iloc = full(b"iloc", b"\x44\0", struct.pack(">H", len(items)), located)
    data = b"".join(item.data for item in items if item.span is None)
    return ftyp + full(b"meta", *head, iloc) + box(b"mdat", data)
