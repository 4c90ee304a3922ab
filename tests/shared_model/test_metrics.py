"""The quality score: known orders, artefacts, and agreement with the reference script where it is at hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from shared_model.errors import InputError
from shared_model.metrics import Painting, score_pair, summarize
from shared_model.metrics.artefacts import checker_peak, seam_jump
from shared_model.metrics.score import expected_share

Bytes = NDArray[np.uint8]
REFERENCE = Path(__file__).parents[3] / "shared" / "eval" / "score.py"


def _photo(seed: int = 0) -> Bytes:
    """Smooth blobs with edges, ``(160, 200, 3)``."""
    noise = np.random.default_rng(seed).normal(size=(160, 200, 3))
    smooth = ndimage.gaussian_filter(noise, (9, 9, 0)) * 60
    return np.asarray(np.clip(128 + 60 * np.sign(smooth) + 60 * smooth, 0, 255), dtype=np.uint8)


def _painting(seed: int = 1) -> Bytes:
    """Slanted strokes in warm colors."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(160, 200)), (1, 4))
    strokes = ndimage.rotate(np.tile(noise, (2, 2)), 30, reshape=False)[80:240, 100:300]
    value = 128 + 400 * strokes
    return np.asarray(np.clip(np.stack([value * 1.2, value * 0.8, value * 0.4], -1), 0, 255), dtype=np.uint8)


@pytest.fixture(scope="module")
def painting() -> Painting:
    return Painting.of(_painting())


def test_the_photo_itself_has_content_and_no_style(painting: Painting) -> None:
    scores = score_pair(_photo(), _photo(), painting)
    assert scores["content"] == pytest.approx(1, abs=0.01)
    assert scores["style"] == scores["headline"] == 0


def test_the_painting_itself_has_style_and_is_called_a_copy(painting: Painting) -> None:
    scores = score_pair(_painting(), _photo(), painting)
    assert scores["style"] > 0.8 and scores["content"] < 0.4
    assert scores["copy"] > 0.9 and scores["headline"] < 0.1


def test_noise_and_recoloring_are_not_style(painting: Painting) -> None:
    noise = np.random.default_rng(2).normal(0, 25, _photo().shape)
    warm = _photo() * np.array([1.0, 0.7, 0.4])
    for edited in (_photo() + noise, warm):
        assert score_pair(np.clip(edited, 0, 255).astype(np.uint8), _photo(), painting)["headline"] < 0.2


def test_another_aspect_ratio_is_refused(painting: Painting) -> None:
    with pytest.raises(InputError):
        score_pair(_photo()[:, :100], _photo(), painting)


def test_weaves_and_seams_are_seen() -> None:
    import torch

    plain = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    woven, torn = plain.clone(), plain.clone()
    woven[:, :, :, ::4] += 0.1
    torn[:, :, :, 48:] += 0.4
    assert checker_peak(woven) > checker_peak(plain) + 10
    assert seam_jump(torn) > seam_jump(plain) + 1


def test_summaries_leave_out_what_says_nothing() -> None:
    rows = [{"identifiability": v, "headline": h} for v, h in ((3.0, 0.8), (2.5, 0.6), (1.0, 0.0))]
    assert summarize(rows)["headline"][0] == pytest.approx(0.7)
    assert summarize(rows, cut=0.0)["headline"][0] == pytest.approx(1.4 / 3)
    mean, low, high = summarize(rows)["headline"]
    assert low <= mean <= high


@pytest.mark.parametrize("share", [-0.9, -0.1, 0.0, 0.4, 1.0, 1.3])
@pytest.mark.parametrize("deviation", [0.0, 0.05, 0.4])
def test_the_expected_share_is_the_mean_of_clipped_measurements(share: float, deviation: float) -> None:
    drawn = share + deviation * np.random.default_rng(0).normal(size=200_000)
    assert expected_share(share, deviation) == pytest.approx(float(np.clip(drawn, 0, 1).mean()), abs=2e-3)


@given(st.floats(-10, 10), st.floats(0, 2))
def test_the_expected_share_is_a_share(share: float, deviation: float) -> None:
    assert 0 <= expected_share(share, deviation) <= 1 + 1e-12
    assert expected_share(-0.4122, 0.05) >= 0  # terms that cancel left -1e-17 here, whose root is no real number


def test_version_two_calls_nothing_a_copy_that_the_photo_has_by_itself(painting: Painting) -> None:
    like = (0.8 * _photo() + 0.2 * _painting()).astype(np.uint8)  # a photo that happens to look like the painting
    painted = (0.7 * like + 0.3 * _painting(3)).astype(np.uint8)
    told = score_pair(painted, like, painting)
    assert score_pair(like, like, painting)["copy_correlation"] > told["copy_correlation"] > 0.2
    assert 0.1 < told["copy"] < 0.5 and told["headline2"] > told["headline"] * 1.1
    assert told["headline2"] == pytest.approx(told["headline"] / (1 - told["copy"]), abs=0.02)
    pasted = (0.5 * _photo() + 0.5 * _painting()).astype(np.uint8)
    assert score_pair(pasted, _photo(), painting)["headline2"] == 0  # what the photo has not is a copy as before


def test_version_two_differs_only_where_texture_says_little(painting: Painting) -> None:
    told = score_pair((0.5 * _photo() + 0.5 * _painting(3)).astype(np.uint8), _photo(), painting)
    assert told["identifiability"] > 2 and told["headline"] > 0.2
    assert told["headline2"] == pytest.approx(told["headline"], abs=0.02)
    # A painting like a photo in all but its colors: no texture can be closer to it than the photo's own.
    alike = Painting.of(np.ascontiguousarray(_photo(5)[:, :, ::-1]) // 2 + 100)
    warm = (_photo() * 0.5 + 100).astype(np.uint8)
    there = score_pair(warm, _photo(), alike)
    assert there["identifiability"] < 1.5 and there["headline"] == 0 < 0.3 < there["headline2"]
    assert score_pair(_photo(), _photo(), alike)["headline2"] == 0  # still no reward for the photo itself


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference script is not at hand (../shared/eval)")
def test_numbers_equal_the_reference_script(tmp_path: Path, painting: Painting) -> None:
    import sys

    spec = importlib.util.spec_from_file_location("reference_score", REFERENCE)
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    sys.modules["reference_score"] = reference
    spec.loader.exec_module(reference)
    mixed = (0.5 * _photo() + 0.5 * _painting(3)).astype(np.uint8)
    for name, picture in (("out", mixed), ("photo", _photo()), ("painting", _painting())):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    style = reference.StyleModel.build(tmp_path / "painting.png")
    wanted = reference.score_pair(tmp_path / "out.png", tmp_path / "photo.png", style)
    scores = score_pair(mixed, _photo(), painting)
    del scores["headline2"]  # easel's own second version
    for name, value in scores.items():
        assert value == pytest.approx(wanted[name.replace("color", "colour")], abs=1e-5)
