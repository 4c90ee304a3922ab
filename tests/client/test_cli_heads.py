"""`easel heads` and `easel personalize`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from client.store import Home
from shared_model.head import Head
from shared_model.weights import default_heads
from tests.client.conftest import Easel, is_one_error

SHIPPED = default_heads()


def test_heads_list_marks_damage_and_foreign_backbones(easel: Easel, tiny_head: Head) -> None:
    home = Home.default()
    home.save_head(tiny_head, name="mine")
    home.save_head(dataclasses.replace(tiny_head, backbone="0" * 12), name="old")
    home.save_head(tiny_head, name="broken").path.write_bytes(b"x")
    code, out, _ = easel("heads", "list")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "ready" in lines["mine"] and "yours" in lines["mine"] and "2024-05-06" in lines["mine"]
    assert "shipped" in lines["tiny"]
    assert "another backbone" in lines["old"] and "damaged" in lines["broken"]
    _, out, _ = easel("heads", "list", "--json")
    by_name = {head["name"]: head for head in json.loads(out)["heads"]}
    assert by_name["mine"]["backbone_matches"] is True and by_name["old"]["backbone_matches"] is False
    assert "cannot be used" in by_name["broken"]["damage"]


def test_heads_are_listed_without_a_backbone(easel: Easel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Home.default().shipped
    monkeypatch.setattr("shared_model.weights.default_backbone_path", lambda: tmp_path / "gone.safetensors")
    monkeypatch.setattr("shared_model.weights.default_heads", lambda: shipped)
    code, out, err = easel("heads", "list")
    assert code == 0 and "not checked" in out and "gone.safetensors" in err


def test_heads_show_warns_about_the_pieces_inside(easel: Easel, tiny_head: Head) -> None:
    Home.default().save_head(tiny_head, name="mine")
    code, out, err = easel("heads", "show", "mine")
    assert code == 0 and "pictures  1" in out and "pieces of the pictures" in err
    code, _, err = easel("heads", "show", "tiny")
    assert code == 0 and err == ""


def test_heads_show_of_a_damaged_head_is_an_error(easel: Easel, tiny_head: Head) -> None:
    Home.default().save_head(tiny_head, name="broken").path.write_bytes(b"x")
    code, _, err = easel("heads", "show", "broken")
    assert code == 5 and is_one_error(err)
    code, out, _ = easel("heads", "show", "broken", "--json")
    assert code == 5 and "cannot be used" in json.loads(out)["damage"]


@pytest.mark.usefixtures("tiny_fits")
def test_an_own_head_before_a_shipped_one_is_told(easel: Easel, tiny_head: Head, photos: Path) -> None:
    home, word = Home.default(), "easel's own 'tiny' is hidden"
    home.save_head(tiny_head, name="mine")
    assert word in easel("heads", "rename", "mine", "tiny")[2]
    easel("heads", "export", "tiny", "tiny.head")
    assert word in easel("heads", "import", "tiny.head", "--overwrite")[2]
    assert word in easel("personalize", "tiny", photos / "a.png", "--budget", 0, "--overwrite")[2]
    easel("heads", "delete", "tiny", "--yes")
    assert "hidden" not in easel("heads", "import", "tiny.head", "--name", "other")[2]


def test_heads_delete_asks_unless_told(easel: Easel, tiny_head: Head) -> None:
    home = Home.default()
    home.save_head(tiny_head, name="mine")
    code, _, err = easel("heads", "delete", "mine")
    assert code == 2 and "--yes" in err and home.load_head("mine")
    assert easel("heads", "delete", "mine", "--yes")[0] == 0
    assert easel("heads", "show", "mine")[0] == 3
    code, _, err = easel("heads", "delete", "tiny", "--yes")
    assert code == 2 and "shipped" in err


def test_heads_rename(easel: Easel, tiny_head: Head) -> None:
    Home.default().save_head(tiny_head, name="mine")
    assert easel("heads", "rename", "mine", "claude")[0] == 0
    assert easel("heads", "show", "claude")[0] == 0
    assert easel("heads", "rename", "claude", "../up")[0] == 2


def test_heads_show_says_which_strokes_a_head_has(easel: Easel, tiny_head: Head) -> None:
    broad = dataclasses.replace(tiny_head, config=dataclasses.replace(tiny_head.config, brush=2, stroke=4))
    Home.default().save_head(tiny_head, name="plain")
    Home.default().save_head(broad, name="broad")
    for name in ("cartoon", "woodcut", "watercolor"):
        Home.default().save_head(Head.from_bytes(SHIPPED[name].read_bytes()), name=f"my-{name}")
    assert "strokes   fine\n" in easel("heads", "show", "plain")[1]
    canvas = tiny_head.config.canvas_px
    assert (
        f"strokes   broad, 10 pixels wide and up to 18 long on a canvas of {canvas}"
        in easel("heads", "show", "broad")[1]
    )
    facts = [
        json.loads(easel("heads", "show", name, "--json")[1])
        for name in ("plain", "broad", "my-cartoon", "my-woodcut", "my-watercolor")
    ]
    assert [fact["stroke_px"] for fact in facts[:2]] == [None, [10, 18]] and facts[1]["canvas_px"] == canvas
    assert "strokes   none: even areas in 8 tones, with outlines\n" in easel("heads", "show", "my-cartoon")[1]
    assert "strokes   hatched in one ink, lines about 1." in easel("heads", "show", "my-woodcut")[1]
    assert [fact["areas"] for fact in facts] == [None, None, 8, None, None]
    assert [fact["hatch_px"] is not None for fact in facts] == [False, False, False, True, False]
    assert [fact["wash"] for fact in facts] == [None, None, None, None, 1]
    assert "strokes   none: washes that wander and have dark rims\n" in easel("heads", "show", "my-watercolor")[1]


def test_heads_show_says_whose_hand_paints(easel: Easel, tiny_head: Head) -> None:
    Home.default().save_head(tiny_head, name="plain")
    Home.default().save_head(dataclasses.replace(tiny_head, change=torch.ones(5).half()), name="tuned")
    assert "hand      the shared one" in easel("heads", "show", "plain")[1]
    assert "hand      its own" in easel("heads", "show", "tuned")[1]
    assert json.loads(easel("heads", "show", "tuned", "--json")[1])["tuned"] is True


def test_personalize_then_stylize(easel: Easel, photos: Path, easel_home: Path) -> None:
    code, out, _ = easel("personalize", "mine", photos / "b.jpg", "--budget", 0, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["images"] == 1 and facts["size_bytes"] == (easel_home / "heads/mine.head").stat().st_size
    assert easel("stylize", photos / "a.png", "--head", "mine")[0] == 0


def test_personalize_tunes_within_its_budget_and_says_what_it_gained(easel: Easel, photos: Path) -> None:
    code, out, _ = easel("personalize", "mine", photos / "b.jpg", "--budget", 0.2, "--photos", photos)
    assert code == 0 and "before tuning" in out and "readable by you alone" in out
    code, out, _ = easel("personalize", "hasty", photos / "b.jpg", "--budget", 0.001)
    assert code == 0 and "nothing better in its time; a larger --budget" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["../up", "b.jpg"], 2, "cannot be the name"),
        (["mine", "gone.jpg"], 2, "gone.jpg"),
        (["mine", "bad.jpg"], 2, "bad.jpg"),
        (["mine", "b.jpg", "--budget", "-3"], 2, "budget"),
        (["taken", "b.jpg"], 2, "--overwrite"),
    ],
)
def test_personalize_mistakes(
    easel: Easel,
    photos: Path,
    tiny_head: Head,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(photos)
    (photos / "bad.jpg").write_bytes(b"x")
    Home.default().save_head(tiny_head, name="taken")
    got, _, err = easel("personalize", *arguments)
    assert got == code and is_one_error(err) and words in err
    assert [head.name for head in Home.default().heads()] == ["taken", "tiny"]
