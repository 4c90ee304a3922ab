"""The study of video files: clips are coded, painted, decoded and compared along the known motion."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from client.batch import Painter
from client.console import Console
from client.engine import Engine
from client.recipe import Recipe
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.pyramid import box
from shared_model.stylize import Options
from simulations.studies.clips import make_clip

pytest.importorskip("av", reason="videos need PyAV (the extra `video`)")

from simulations.studies import video

TINY = HeadConfig(canvas_px=48, levels=2, patch=5, atoms=16, components=4, candidates=64)


def test_a_clip_is_painted_through_files_and_measured() -> None:
    photo = box(torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(1)), 2)
    backbone = Backbone(ModelConfig(width=8, blocks=1), seed=1).eval()
    head = Head.fit([photo], backbone=backbone, config=TINY)
    recipe = Recipe.of(head, name="tiny", options=Options())
    painter = Painter(engine=Engine(backbone, device="cpu"), head=head, recipe=recipe)
    clip = make_clip(photo, "pan", frames=3, size_px=48)
    found, shown = video.measure(clip, painter, console=Console())
    assert found["ratio"] == pytest.approx(found["painted"] / found["own"], rel=0.01)
    assert 0 < found["own"] < 0.05 and found["frames_per_cpu_s"] > 0
    assert [word for _, word in shown] == ["source", "frame 1", "frame 2", "frame 3"]
    assert float((shown[0][0] - clip.frames[0]).abs().mean()) < 0.03


@pytest.mark.parametrize("arguments", [["--px", "8"], ["--frames", "1"], ["--photo", "nobody"]])
def test_absurd_settings_are_refused(arguments: list[str]) -> None:
    with pytest.raises(InputError):
        video.run(video.parser().parse_args(arguments), Console())


def test_a_photo_that_has_to_be_enlarged_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"own": 0.1, "painted": 0.1, "ratio": 1.0, "frames_per_cpu_s": 1.0}
    monkeypatch.setattr(video, "measure", lambda clip, painter, console: (found, [(clip.frames[0], "source")]))
    for photo, told in (("chelsea", True), (video.WALL, False)):
        arguments = ["--photo", photo, "--px", "1080", "--frames", "2", "--heads", "oil", "--out", str(tmp_path)]
        assert video.run(video.parser().parse_args(arguments), Console()) == 0
        assert ("is enlarged for 1080 px" in capsys.readouterr().err) is told
