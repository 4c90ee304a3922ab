"""The quality study on tiny pictures: right scores, right differences, nothing done twice, honest pictures."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.images import load_picture, load_tensor, to_uint8
from shared_model.metrics import Painting, score_pair
from shared_model.stylize import Options, stylize
from shared_model.weights import save_backbone
from simulations.cli import main
from simulations.studies import scoring
from simulations.studies.hands import Passive, load_hands
from simulations.studies.quality import PARTS, compare, to_markdown
from simulations.studies.sheets import MAX_WIDTH, SheetRow, write_sheets

SHARED = Path(__file__).parents[4] / "shared"


def _arguments(gallery: Path, folder: Path) -> list[str]:
    return [
        *("study", "quality", "--photos", str(gallery / "photos"), "--art", str(gallery / "art")),
        *("--pairs", str(folder / "pairs.json"), "--size", "128", "--out", str(folder / "out")),
        *("--backbone", f"random={folder / 'backbone.safetensors'}", "--faces", "2,1"),
    ]


@pytest.fixture(scope="module")
def study(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the command once: two photos, one painting, the head alone and a backbone with random weights."""
    folder = tmp_path_factory.mktemp("study")
    save_backbone(folder / "backbone.safetensors", Backbone(seed=3))
    pairs = [{"content": name, "style": "slanted"} for name in ("0", "1")]
    (folder / "pairs.json").write_text(json.dumps(pairs))
    assert main(_arguments(gallery, folder)) == 0
    return folder


def _facts(study: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((study / "out" / "quality.json").read_text())
    return facts


def test_rows_are_the_scores_of_what_stylize_paints(study: Path, gallery: Path) -> None:
    row = next(r for r in _facts(study)["rows"] if r["hand"] == "random" and r["content_image"] == "1")
    art, photo = gallery / "art" / "slanted.png", gallery / "photos" / "1.png"
    backbone = Backbone(seed=3).eval()
    head = Head.fit([load_tensor(art)], backbone=backbone)
    painted = to_uint8(stylize(load_tensor(photo), head=head, backbone=backbone, options=Options(size_px=128)))
    kept = load_picture(study / "out" / "paintings" / "random" / "1__slanted.png").rgb
    assert np.array_equal(painted, kept)
    expected = score_pair(painted, load_picture(photo).rgb, Painting.of(load_picture(art).rgb))
    assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_differences_are_paired(study: Path) -> None:
    facts = _facts(study)
    rows = {(row["hand"], row["content_image"]): row["headline"] for row in facts["rows"]}
    wanted = np.mean([rows["random", name] - rows["head", name] for name in ("0", "1")])
    found = facts["differences"]["random - head"]["all"]["headline"]
    assert found["mean"] == pytest.approx(wanted) and found["count"] == 2
    assert "random - head" in (study / "out" / "quality.md").read_text()


def test_a_second_run_paints_and_scores_nothing(study: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done twice")

    before = _facts(study)
    monkeypatch.setattr(scoring, "stylize", never)
    monkeypatch.setattr(scoring, "score_pair", never)
    assert main(_arguments(gallery, study)) == 0
    assert _facts(study) == before


def test_a_changed_photo_is_painted_again(study: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "stylize", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("painted")))
    other = gallery / "photos" / "0.png"
    kept = other.read_bytes()
    try:
        other.write_bytes((gallery / "photos" / "2.png").read_bytes())
        with pytest.raises(RuntimeError, match="painted"):
            main(_arguments(gallery, study))
    finally:
        other.write_bytes(kept)


def test_sheets_hold_every_pair_and_stay_narrow(study: Path) -> None:
    sheet = load_picture(study / "out" / "sheet.png").rgb
    assert sheet.shape[1] <= MAX_WIDTH and sheet.shape[0] > 2 * 300
    faces = load_picture(study / "out" / "faces.png").rgb
    assert faces.shape[1] < sheet.shape[1]


def test_wide_sheets_shrink_and_long_ones_are_cut(tmp_path: Path) -> None:
    tile = np.zeros((40, 60, 3), dtype=np.uint8)
    rows = [SheetRow("row", (tile,) * 9) for _ in range(5)]
    written = write_sheets(tmp_path, "many", rows, columns=["c"] * 9, rows_per_sheet=2)
    assert [path.name for path in written] == ["many-1.png", "many-2.png", "many-3.png"]
    assert load_picture(written[0]).rgb.shape[1] <= MAX_WIDTH


def test_the_head_alone_is_the_draft() -> None:
    colored, draft = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    numbers, noise = torch.zeros(1, 1), torch.zeros(1, 1, 8, 8)
    assert Passive(draft=True).paint(colored, draft, numbers, noise) is draft
    assert Passive(draft=False).paint(colored, draft, numbers, noise) is colored


def test_hands_with_equal_names_are_refused(study: Path) -> None:
    file = str(study / "backbone.safetensors")
    assert [hand.name for hand in load_hands([file, f"other={file}"])] == ["head", "backbone", "other"]
    with pytest.raises(InputError, match="same name"):
        load_hands([f"head={file}"])


def test_a_backbone_comes_again_with_broad_strokes(study: Path) -> None:
    hands = load_hands([str(study / "backbone.safetensors")], broad=True)
    assert [(hand.name, hand.strokes) for hand in hands] == [
        ("head", "fine"),
        ("head, broad", "broad"),
        ("backbone", "fine"),
        ("backbone, broad", "broad"),
    ]
    assert len({hand.identity for hand in hands}) == 4


def test_the_cut_is_taken_from_the_pair_and_falls_back_to_all() -> None:
    def row(hand: str, name: str, identifiability: float, value: float) -> dict[str, Any]:
        parts = dict.fromkeys(PARTS, value)
        return {"hand": hand, "content_image": name, "style_image": "s", "identifiability": identifiability} | parts

    rows = [row(hand, name, i, v) for hand, v in (("head", 0.5), ("b", 0.7)) for name, i in (("x", 3.0), ("y", 1.0))]
    found = compare(rows, "b", "head")
    assert found["all"]["headline"].count == 2 and found["cut"]["headline"].count == 1
    assert found["cut"]["headline"].mean == pytest.approx(0.2)
    vague = [r | {"identifiability": 1.0} for r in rows]
    assert compare(vague, "b", "head")["cut"]["headline"].count == 2
    assert "Identifiable pairs: 1" in to_markdown(rows, {"b - head": found})


@pytest.mark.skipif(not (SHARED / "eval" / "score.py").is_file(), reason="needs the reference script")
def test_rows_equal_the_reference_script_s(study: Path, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the script sets its own
    spec = importlib.util.spec_from_file_location("reference_score", SHARED / "eval" / "score.py")
    assert spec is not None and spec.loader is not None
    reference = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = reference
    try:
        spec.loader.exec_module(reference)
        with torch.no_grad():
            style = reference.StyleModel.build(gallery / "art" / "slanted.png")
            for row in _facts(study)["rows"][1:3]:  # one of either hand
                path = study / "out" / "paintings" / row["hand"] / f"{row['content_image']}__slanted.png"
                theirs = reference.score_pair(path, gallery / "photos" / f"{row['content_image']}.png", style)
                theirs["color"] = theirs.pop("colour")
                assert {key: row[key] for key in theirs} == pytest.approx(theirs, abs=1e-6)
    finally:
        del sys.modules[spec.name]


def test_notes_of_narrow_pictures_are_broken_into_lines(tmp_path: Path) -> None:
    """Nothing is written into the next column: between two pictures the paper below them is blank."""
    note = "headline 0.83  content 0.79  texture 0.77"
    rows = [SheetRow("a pair", (np.full((40, 60, 3), 90, np.uint8),) * 3, (note, note, note))]
    for tile, lines in ((420, 1), (200, 2), (100, 3)):
        [path] = write_sheets(tmp_path, f"sheet-{tile}", rows, columns=["a", "b", "c"], tile_px=tile)
        sheet = np.asarray(Image.open(path).convert("L"))
        assert sheet.shape[0] == 20 + 20 + round(tile * 40 / 60) + lines * 20 + 6
        gaps = sheet[:, [6 + tile + x for x in range(2, 6)]]
        assert bool((gaps[40:] == 255).all()), "words run into the next column"
