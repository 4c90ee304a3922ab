"""Contact sheets and bars: nothing overlaps, colors differ, lengths mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from client.sheet import INK, PAPER, Tile, bar_chart, color_of, contact_sheet, heat, text


def flat(color: tuple[int, int, int], height: int = 10, width: int = 20) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def test_tiles_keep_their_place_shape_and_color() -> None:
    sheet = contact_sheet(
        [[Tile(flat((255, 0, 0))), Tile(flat((0, 255, 0), 20, 10))], [Tile(flat((0, 0, 255)))]], tile_px=40
    )
    red, green, blue = ((sheet == color).all(-1) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    assert (int(red.sum()), int(green.sum()), int(blue.sum())) == (40 * 20, 20 * 40, 40 * 20)
    assert red.any(0).argmax() < green.any(0).argmax() and red.any(1).argmax() < blue.any(1).argmax()


def test_captions_and_title_take_room_and_ink() -> None:
    bare = contact_sheet([[Tile(flat((9, 99, 9)))]], tile_px=60)
    told = contact_sheet([[Tile(flat((9, 99, 9)), "one\ntwo\x1b[31m")]], tile_px=60, title="a title")
    assert told.shape[0] > bare.shape[0] + 3 * 15
    assert (told.min(-1) < 120).sum() > (bare.min(-1) < 120).sum()


def test_no_rows_make_an_empty_sheet() -> None:
    assert contact_sheet([]).shape[2] == 3


def test_long_text_is_cut() -> None:
    image = Image.new("RGB", (200, 20), PAPER)
    text(image, (0, 0), "far too long " * 20, 80)
    assert (np.array(image)[:, 84:] == PAPER).all() and (np.array(image)[:, :80] != PAPER).any()
    text(image, (0, 0), "word", 0)  # no room at all is no error


def test_colors_of_a_legend_all_differ() -> None:
    assert len({color_of(index) for index in range(21)}) == 21
    assert INK not in {color_of(index) for index in range(21)}


def test_heat_grows_with_the_value() -> None:
    warm = heat(np.array([[0.0, 0.1, 0.2, 0.3, 9.0]]), top=0.3).astype(int).sum(-1)[0]
    assert warm.tolist() == sorted(warm.tolist()) and warm[0] == 0 and warm[-1] == 3 * 255
    assert heat(np.zeros((2, 2)), top=0.0).sum() == 0


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
def test_a_bar_is_as_long_as_its_value(value: float) -> None:
    groups = {"a": {"before": (1.0, 1.0, 1.0), "after": (value, value, value)}}
    chart = bar_chart(groups, title="t")
    before, after = ((chart[80:] == color_of(i)).all(-1).any(1).sum() for i in (0, 1))
    assert after / before == pytest.approx(value, abs=0.02)
