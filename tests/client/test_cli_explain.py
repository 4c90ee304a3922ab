"""`easel stylize --explain` and `easel evaluate`."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from client.store import Home
from shared_model.backbone import Backbone
from shared_model.head import Head
from shared_model.images import load_picture, save_picture
from shared_model.provenance import forget
from tests.client.conftest import Easel, is_one_error


def test_an_explanation_goes_beside_the_painting_with_its_facts(easel: Easel, photos: Path) -> None:
    code, out, err = easel("stylize", photos / "a.png", "--head", "tiny", "--explain", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)["pictures"][0]["explanation"]
    assert facts["path"] == str(photos / "a-tiny.explain.png")
    assert facts["pictures"] == [{"picture": 1, "share": 1.0, "share_by_level": [1.0, 1.0]}]
    assert 0 < facts["change"]["mean"] < 1
    sheet = load_picture(facts["path"]).rgb
    assert sheet.shape[0] > 600 and sheet.shape[1] == 1000


def test_an_explanation_is_no_photo_and_replaces_only_explanations(easel: Easel, photos: Path) -> None:
    target = photos / "a-tiny.explain.png"
    assert easel("stylize", photos / "a.png", "--head", "tiny", "--explain")[0] == 0
    code, out, _ = easel("stylize", photos / "a.png", "--head", "tiny", "--explain")
    assert code == 0 and "is there already" in out
    target.unlink()  # the painting is finished, its explanation is not
    assert easel("stylize", photos / "a.png", "--head", "tiny", "--explain")[0] == 0 and target.is_file()
    code, out, _ = easel("stylize", photos, "--head", "tiny", "-o", "painted")
    assert code == 0 and "3 painted" in out and not list(Path("painted").rglob("*explain*"))
    save_picture(target, load_picture(photos / "b.jpg").rgb)
    code, _, err = easel("stylize", photos / "a.png", "--head", "tiny", "--explain", "--overwrite")
    assert code == 2 and "no explanation" in err
    assert load_picture(target).rgb.shape == load_picture(photos / "b.jpg").rgb.shape


def test_explaining_with_a_head_that_remembers_nothing_says_so(easel: Easel, photos: Path, tiny_head: Head) -> None:
    Home.default().save_head(forget(tiny_head), name="old")
    code, _, err = easel("stylize", photos / "a.png", "--head", "old", "--explain")
    assert code == 0 and "does not remember" in err and "personalize" in err
    assert (photos / "a-old.explain.png").is_file()


def test_explaining_a_pipe(easel: Easel, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = easel("stylize", photos / "a.png", "--head", "tiny", "--explain", "-o", "-")
    assert code == 2 and not out and is_one_error(err)
    data = io.TextIOWrapper(io.BytesIO((photos / "a.png").read_bytes()))
    monkeypatch.setattr("sys.stdin", data)
    code, out, err = easel("stylize", "-", "--head", "tiny", "--explain", "-o", "x.png")
    assert (code, err) == (0, "") and "strokes: 100% from picture 1" in out
    assert Path("x.explain.png").is_file()


@pytest.fixture
def tuned_head(easel_home: Path, tiny_head: Head, backbone: Backbone) -> Head:
    """An own head called `mine` that was tuned."""
    size = sum(p.numel() for p in backbone.generator.parameters())
    head = dataclasses.replace(tiny_head, change=torch.full((size,), 0.1).half())
    Home.default().save_head(head, name="mine")
    return head


def test_evaluating_against_another_picture_of_the_painter(
    easel: Easel, tuned_head: Head, photos: Path, tmp_path: Path, smooth: Callable[..., np.ndarray]
) -> None:
    (photos / "b.jpg").unlink()
    (photos / "trip" / "c.png").unlink()
    save_picture(tmp_path / "art" / "other.png", smooth(2))
    save_picture(tmp_path / "art" / "own.png", smooth(1))
    code, out, err = easel("evaluate", "mine", "--photos", photos, "--art", tmp_path / "art", "--json")
    assert code == 0 and "left out 1 of the pictures" in err
    facts = json.loads(out)
    assert (facts["pairs"], facts["before"], facts["pictures"]) == (1, "untuned", 1)
    headline = facts["measures"]["headline"]
    assert (
        set(headline) == {"draft", "untuned", "tuned", "change", "interval", "clear"} and headline["interval"] is None
    )
    assert headline["change"] == pytest.approx(headline["tuned"] - headline["untuned"], abs=2e-4)
    sheet = load_picture(Path("mine-evaluation/pictures.png")).rgb
    assert sheet.shape[1] == 10 + 5 * 330
    assert load_picture(Path("mine-evaluation/scores.png")).rgb.shape[0] > 300
    saved = json.loads(Path("mine-evaluation/scores.json").read_text())
    assert saved["measures"] == facts["measures"]


def test_evaluating_without_pictures_says_what_is_compared(easel: Easel, tuned_head: Head, photos: Path) -> None:
    code, out, err = easel("evaluate", "mine", "--photos", photos, "-o", "ev")
    assert (code, err) == (0, "")
    assert (
        "BEFORE TUNING" in out and "AFTER" in out and "memory of colors and contrast" in out and "3 of 3 pairs" in out
    )
    (photos / "b.jpg").unlink()
    (photos / "trip" / "c.png").unlink()
    code, _, err = easel("evaluate", "mine", "--photos", photos, "-o", "ev")
    assert code == 2 and "--overwrite" in err
    assert easel("evaluate", "mine", "--photos", photos, "-o", "ev", "--overwrite")[0] == 0


def test_evaluating_a_head_that_was_never_tuned_compares_with_the_draft(easel: Easel, photos: Path) -> None:
    code, out, _ = easel("evaluate", "tiny", "--photos", photos)
    assert code == 0 and "HEAD ALONE" in out and "FINISHED" in out and "not tuned" in out


def test_evaluating_against_the_heads_own_pictures_warns(
    easel: Easel,
    tuned_head: Head,
    photos: Path,
    tmp_path: Path,
    smooth: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    score = {name: 0.5 for name in ("headline", "content", "style", "texture", "joint", "color", "identifiability")}
    monkeypatch.setattr("client.evaluation.score_pair", lambda output, photo, painting: score)
    monkeypatch.setattr("client.evaluation.Painting.of", staticmethod(lambda pixels: pixels))
    save_picture(tmp_path / "art" / "own.png", smooth(1))
    code, out, err = easel("evaluate", "mine", "--photos", photos, "--art", tmp_path / "art")
    assert code == 0 and "flatter" in err and "that the head was made from" in out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nobody", "--photos", "photos"], 3),
        (["mine", "--photos", "nowhere"], 2),
        (["mine", "--photos", "photos", "--art", "nowhere"], 2),
        (["mine", "--photos", "photos", "--budget", "-1"], 2),
        (["mine", "--photos", "photos", "--budget", "nan"], 2),
        (["mine", "--photos", "photos", "-o", "photos/a.png"], 2),
        (["mine", "--photos", "photos", "--seed", "-1"], 2),
        (["mine"], 2),
    ],
)
def test_mistakes_in_an_evaluation_are_two_lines(
    easel: Easel, tuned_head: Head, photos: Path, arguments: list[str], code: int
) -> None:
    found, out, err = easel("evaluate", *arguments)
    assert found == code and not out and is_one_error(err)
    assert not Path("mine-evaluation").exists()
