"""A population to look at: one row of pictures a device, and a table of numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared_model.files import write_atomic
from shared_model.images import find_pictures, load_picture
from simulations.population import Pixels, shrunk
from simulations.populations.deal import Share
from simulations.populations.settlement import Settlement
from simulations.populations.statistics import entropy_bits
from simulations.studies.sheets import SheetRow, write_sheets

__all__ = ["write_population_sheet", "write_population_table"]

_TILE = 150  # pixels
_PHOTOS, _ART = 4, 4
_MOST = 48  # devices shown
COLUMNS = ("device", "photos", "artworks", "styles", "entropy_bits", "domain", "records", "test_photos", "test_art")


def write_population_sheet(settlement: Settlement, folder: Path | str) -> list[Path]:
    """Write ``population.png`` (or several): some of each device's pictures, as they lie in its folder.

    Left to right: photos and artworks that it trains on, then a photo and an artwork of its personal test.
    The first devices only where there are many.
    """
    photos = min(_PHOTOS, max(len(share.photos) for share in settlement.shares))
    art = min(_ART, max(len(share.art) for share in settlement.shares))
    pairs = zip(settlement.devices[:_MOST], settlement.shares, strict=False)
    rows = [_row(home, share, photos=photos, art=art) for home, share in pairs]
    columns = ("photos", *[""] * (photos - 1), "art", *[""] * (art - 1), "personal test", "")
    return write_sheets(Path(folder), "population", rows, columns=columns, tile_px=_TILE, rows_per_sheet=12)


def write_population_table(settlement: Settlement, path: Path | str) -> Path:
    """Write a CSV file with one row a device."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index, share in enumerate(settlement.shares):
        styles, bits = "; ".join(sorted(set(share.styles))), f"{entropy_bits(share.styles):.3f}"
        counts = len(share.photos), len(share.art), styles, bits, share.domain, share.records
        writer.writerow((index, *counts, len(share.test_photos), len(share.test_art)))
    return write_atomic(path, stream.getvalue().encode())


def _row(home: Path, share: Share, *, photos: int, art: int) -> SheetRow:
    styles = sorted(set(share.styles), key=share.styles.count, reverse=True)
    words = [f"{share.styles.count(style)} x {style}" for style in styles]
    light = f", {share.domain}" if share.domain else ""
    title = f"device {home.name}: {len(share.photos)} photos{light}, {share.records} records; {'; '.join(words)}"
    pictures = (
        *_some(home / "photos", photos),
        *_some(home / "art", art),
        *_some(home / "test" / "photos", 1),
        *_some(home / "test" / "art", 1),
    )
    return SheetRow(title if len(title) < 190 else title[:187] + "...", pictures)


def _some(folder: Path, count: int) -> Sequence[Pixels]:
    """Read the first pictures of a folder as squares; white where there is none."""
    files = find_pictures([folder])[:count] if folder.is_dir() else []
    found = [_square(shrunk(load_picture(path).rgb, _TILE)) for path in files]
    return [*found, *[np.full((_TILE, _TILE, 3), 255, np.uint8)] * (count - len(found))]


def _square(rgb: Pixels) -> Pixels:
    side = min(rgb.shape[:2])
    top, left = (rgb.shape[0] - side) // 2, (rgb.shape[1] - side) // 2
    return np.ascontiguousarray(rgb[top : top + side, left : left + side])
