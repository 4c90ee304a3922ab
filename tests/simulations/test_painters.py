"""Tests of `simulations.painters`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared_model.errors import InputError
from simulations.painters import PAINTERS, PALETTES, Style, paint
from simulations.painters.canvas import Canvas, trace
from simulations.painters.fields import Flow, blur, flow_of, guided, jittered_grid, luminance
from simulations.painters.ink import contours


def _photo(height: int = 96, width: int = 96) -> NDArray[np.uint8]:
    """Return a bright disc on a dark, bluish slope."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    disc = (np.hypot(x - 0.5, y - 0.5) < 0.3)[..., None]
    ground = np.stack([0.1 + 0.2 * x, 0.15 + 0.2 * y, 0.35 + 0.2 * x], axis=-1)
    return (255 * np.where(disc, (0.95, 0.75, 0.4), ground)).astype(np.uint8)


def _gray(rgb: NDArray[np.uint8]) -> NDArray[np.floating]:  # type: ignore[type-arg]
    return luminance(rgb.astype(np.float32) / 255)


@pytest.mark.parametrize("painter", PAINTERS)
def test_same_style_gives_the_same_picture(painter: str) -> None:
    photo = _photo()
    first = paint(photo, painter, seed=3)
    assert first.shape == photo.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, paint(photo, painter, seed=3))
    assert not np.array_equal(first, paint(photo, painter, seed=4))


@pytest.mark.parametrize("painter", PAINTERS)
def test_the_photo_stays_recognizable_and_is_changed(painter: str) -> None:
    photo = _photo()
    painted = paint(photo, painter)
    before, after = (blur(_gray(rgb), 3).ravel() for rgb in (photo, painted))
    assert np.corrcoef(before, after)[0, 1] > 0.8
    assert np.abs(painted.astype(int) - photo).mean() > 5


@pytest.mark.parametrize("painter", PAINTERS)
def test_palette_and_stroke_change_the_look(painter: str) -> None:
    photo = _photo()
    plain = paint(photo, painter).astype(int)
    assert np.abs(paint(photo, painter, palette="dusk") - plain).mean() > 3
    assert np.abs(paint(photo, painter, stroke=2.0) - plain).mean() > 1


@pytest.mark.parametrize("painter", PAINTERS)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_flat_color(painter: str, value: int) -> None:
    painted = paint(np.full((40, 40, 3), value, dtype=np.uint8), painter)
    assert np.isfinite(painted.astype(float)).all()
    assert painted.shape == (40, 40, 3)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(PAINTERS)), st.integers(16, 70), st.integers(16, 70), st.floats(0.3, 4.0))
def test_any_shape_and_stroke(painter: str, height: int, width: int, stroke: float) -> None:
    assert paint(_photo(height, width), painter, stroke=stroke).shape == (height, width, 3)


def test_a_strip() -> None:
    for painter in PAINTERS:
        assert paint(_photo(16, 300), painter).shape == (16, 300, 3)


def test_registries_are_sorted_and_read_only() -> None:
    assert list(PAINTERS) == sorted(PAINTERS)
    assert list(PALETTES) == sorted(PALETTES)
    assert {"cartoon", "impressionist", "oil", "sketch"} <= set(PAINTERS)
    with pytest.raises(TypeError):
        PAINTERS["oil"] = PAINTERS["sketch"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("style", "word"),
    [
        ({"painter": "oyl"}, "painter"),
        ({"painter": "oil", "palette": "neon"}, "palette"),
        ({"painter": "oil", "stroke": 0.0}, "stroke"),
        ({"painter": "oil", "stroke": float("nan")}, "stroke"),
    ],
)
def test_bad_style(style: dict[str, object], word: str) -> None:
    with pytest.raises(InputError) as caught:
        Style(**style)  # type: ignore[arg-type]
    assert word in caught.value.message
    assert caught.value.hint


def test_photo_too_small() -> None:
    with pytest.raises(InputError) as caught:
        paint(np.zeros((15, 100, 3), dtype=np.uint8), "oil")
    assert "100 x 15" in caught.value.message


def test_wrong_array_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="uint8"):
        paint(np.zeros((20, 20, 3), dtype=np.float32), "oil")  # type: ignore[arg-type]


def test_style_paints_like_paint() -> None:
    photo = _photo(48, 48)
    style = Style("oil", palette="warm", stroke=0.8, seed=2)
    assert np.array_equal(style.paint(photo), paint(photo, "oil", palette="warm", stroke=0.8, seed=2))


# ------------------------------------------------------------------------------ parts


@pytest.mark.parametrize("degrees", [0, 30, 60, 90, 150])
def test_flow_runs_along_stripes(degrees: float) -> None:
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[0:64, 0:64].astype(np.float32)
    wave = 0.5 + 0.5 * np.sin((x * -np.sin(angle) + y * np.cos(angle)) / 3)
    flow = flow_of(np.repeat(wave[..., None], 3, axis=-1).astype(np.float32), 4)
    along = np.abs(flow.x * np.cos(angle) + flow.y * np.sin(angle))[16:48, 16:48]
    assert along.min() > 0.98
    assert flow.strength[16:48, 16:48].min() > 0.5


def _straight(size: int) -> Flow:
    ones, zeros = np.ones((size, size), dtype=np.float32), np.zeros((size, size), dtype=np.float32)
    return Flow(ones, zeros, zeros)


def test_strokes_follow_the_flow_and_end_at_another_color() -> None:
    reference = np.zeros((40, 40, 3), dtype=np.float32)
    reference[:, 25:] = 1
    starts = np.array([[20.0, 10.0]], dtype=np.float32)
    strokes = trace(_straight(40), starts, length=20, step=1, reference=reference, tolerance=0.1)
    used = strokes.points[0, : strokes.counts[0]]
    assert used[:, 1].tolist() == [10.0] * len(used)
    assert used[0, 0] == 10
    assert used[-1, 0] < 25
    assert np.abs(strokes.normals[0] @ [1, 0]).max() < 1e-6


def test_canvas_paints_the_given_colors_over_the_ground() -> None:
    canvas = Canvas(np.zeros((40, 40, 3), dtype=np.float32))
    strokes = trace(_straight(40), np.array([[20.0, 20.0]], dtype=np.float32), length=30, step=1)
    colors = np.array([[1.0, 0.5, 0.25]], dtype=np.float32)
    canvas.brush(strokes, colors, width=8, rng=np.random.default_rng(0), streak=0.0)
    assert canvas.rgb()[20, 20] == pytest.approx([1, 0.5, 0.25], abs=0.01)
    assert canvas.rgb()[5].max() == 0
    canvas.dots(np.array([[5.0, 5.0]], dtype=np.float32), np.ones((1, 3), dtype=np.float32), np.full(1, 3.0))
    assert canvas.rgb()[5, 5].min() == 1


def test_contours_lie_on_edges_only() -> None:
    photo = np.full((60, 60, 3), 0.9, dtype=np.float32)
    photo[:, 30:] = 0.1
    lines = contours(photo, 1.2)
    assert lines[:, 26:36].max(axis=1).min() > 0.9
    assert lines[:, :20].max() < 0.05
    assert lines[:, 42:].max() < 0.05


def test_guided_keeps_edges_and_removes_noise() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((60, 60, 3), 0.2, dtype=np.float32)
    clean[:, 30:] = 0.8
    noisy = clean + 0.04 * rng.standard_normal(clean.shape, dtype=np.float32)
    smooth = guided(noisy, 3, epsilon=0.01)
    assert np.abs(smooth - clean).mean() < 0.5 * np.abs(noisy - clean).mean()
    assert (smooth[:, 31] - smooth[:, 28]).mean() > 0.4


def test_grid_has_one_point_in_each_cell() -> None:
    points = jittered_grid(40, 60, spacing=10, rng=np.random.default_rng(0))
    assert sorted({(int(x // 10), int(y // 10)) for x, y in points.tolist()}) == [
        (i, j) for i in range(6) for j in range(4)
    ]


def test_drawings_use_the_ink_and_paper_of_the_palette() -> None:
    rgb = paint(_photo(), "woodcut", palette="cool").astype(np.float32) / 255
    ink, paper = (np.array(color) for color in (PALETTES["cool"].ink, PALETTES["cool"].paper))
    nearest = np.minimum(np.abs(rgb - ink).max(-1), np.abs(rgb - paper).max(-1))
    assert np.median(nearest) < 0.06


def test_palette_keeps_light_and_dark() -> None:
    rgb = _photo().astype(np.float32) / 255
    for palette in PALETTES.values():
        assert np.abs(luminance(palette.apply(rgb)) - luminance(rgb)).mean() < 0.05
