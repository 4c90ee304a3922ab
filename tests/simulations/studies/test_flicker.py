"""Clips with a known motion, and flicker that means what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from shared_model.errors import InputError
from shared_model.images import save_picture
from shared_model.pyramid import box
from simulations.cli import main
from simulations.studies import flicker as study
from simulations.studies.clips import KINDS, flicker, make_clip
from simulations.studies.flicker import Steadiness, blended, measure, summary


def photo(height: int = 100, width: int = 130) -> Tensor:
    rough = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))
    return (box(box(rough, 3), 2) * 4 - 1.5).clamp(0, 1)


class Painter:
    """Stands in for head and backbone: inverts, and paints strokes that are fixed to the frame."""

    def __init__(self, strokes: float) -> None:
        self.strokes = strokes

    def paint(self, frame: Tensor, scene: Tensor | None = None) -> Tensor:
        pattern = torch.rand(frame.shape, generator=torch.Generator().manual_seed(1)) - 0.5
        return (1 - frame + self.strokes * pattern).clamp(0, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_only_resampling_and_rounding_is_left(kind: str) -> None:
    clip = make_clip(photo(), kind, frames=4, size_px=72, noise=0.0)
    assert len(clip.frames) == 4 and len(clip.motions) == 3
    assert flicker(clip.frames, clip.motions) < (0.0005 if kind in ("still", "pan") else 0.004)
    naive = float(np.mean([(a - b).abs().mean() for a, b in zip(clip.frames[:-1], clip.frames[1:], strict=True)]))
    assert kind == "still" or naive > 3 * flicker(clip.frames, clip.motions)


def test_the_noise_of_a_clip_is_its_flicker() -> None:
    clip = make_clip(photo() * 0.5 + 0.25, "still", frames=5, size_px=72, noise=4.0)
    assert flicker(clip.frames, clip.motions) == pytest.approx(4 / 255 * (4 / np.pi) ** 0.5, rel=0.05)


def test_frames_lie_on_whole_levels_and_are_seeded() -> None:
    first, again, other = (make_clip(photo(), "pan", frames=2, size_px=64, seed=s) for s in (1, 1, 2))
    assert torch.equal(first.frames[1], again.frames[1]) and not torch.equal(first.frames[1], other.frames[1])
    levels = first.frames[0] * 255
    assert float((levels - levels.round()).abs().max()) < 1e-3


def test_strokes_fixed_to_the_frame_flicker_in_a_pan_and_the_blend_calms_them() -> None:
    clip = make_clip(photo(), "pan", frames=5, size_px=80, noise=2.0)
    alone, kept = measure(clip, Painter(0.4), keeps=[0.0, 0.9], names=("p", "h"))
    assert alone.ratio > 5 and kept.ratio < 0.3 * alone.ratio
    assert alone.sharpness == 1.0 and kept.own == alone.own
    (plain,) = measure(clip, Painter(0.0), keeps=[0.0], names=("p", "h"))
    assert plain.ratio == pytest.approx(1.0, abs=0.02), "an inverted photo flickers as the photo does"


def test_blending_nothing_returns_the_paintings() -> None:
    clip = make_clip(photo(), "still", frames=2, size_px=64)
    painted = [1 - frame for frame in clip.frames]
    assert all(map(torch.equal, blended(clip.frames, painted, keep=0.0), painted))


def test_the_summary_is_the_mean_over_clips() -> None:
    rows = [Steadiness("a", "h", "pan", 0.9, 0.01, p, 1.0, 0.8) for p in (0.01, 0.03)]
    assert summary(rows)["pan, keep 0.9"]["ratio"] == pytest.approx(2.0)
    assert summary(rows)["pan, keep 0.9"]["ratio_most"] == pytest.approx(3.0)


def test_mistakes_are_errors() -> None:
    for kind, frames, size in (("spin", 3, 64), ("pan", 1, 64), ("pan", 60, 64)):
        with pytest.raises(InputError):
            make_clip(photo(), kind, frames=frames, size_px=size)


def test_the_study_as_a_user_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "shipped_targets", lambda names, options: {name: Painter(0.3) for name in names})
    save_picture(tmp_path / "photos" / "one.png", (photo()[0].permute(1, 2, 0) * 255).byte().numpy())
    arguments = ["study", "flicker", "--photos", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    arguments += ["--px", "64", "--frames", "3", "--heads", "x", "--keep", "0.9", "--kinds", "pan", "subpixel"]
    assert main(arguments) == 0
    assert "subpixel, keep 0.9" in capsys.readouterr().out
    facts = json.loads((tmp_path / "out" / "flicker.json").read_text())
    assert len(facts["clips"]) == 4 and (tmp_path / "out" / "flicker.png").is_file()
    for wrong in (["--px", "8"], ["--keep", "1"], ["--frames", "1"], ["--kinds", "spin"], ["--photos", "nowhere"]):
        assert main(["study", "flicker", "--out", str(tmp_path / "no"), "--heads", "x", *wrong]) == 2
        assert "error" in capsys.readouterr().err
