"""The studio's work, without any page: photos in, paintings, explanations and heads out."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.atelier import Atelier, open_atelier
from client.personalize import Patience
from client.recipe import Recipe
from client.strokes import NOWHERE
from client.views import stem
from shared_model.config import STROKES
from shared_model.errors import CompatibilityError, InputError, MissingError, PictureError
from shared_model.head import Head
from shared_model.images import read_settings
from shared_model.provenance import forget
from shared_model.stylize import Options


@pytest.fixture
def atelier(easel_home: Path) -> Atelier:
    return open_atelier(device="cpu")


def _file(pixels: np.ndarray, **save: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, **({"format": "PNG"} | save))
    return stream.getvalue()


@pytest.fixture
def photo(atelier: Atelier, smooth) -> str:  # type: ignore[no-untyped-def]
    return str(atelier.receive(_file(smooth(11)), name="at the sea.png")["id"])


def _size(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


def test_a_photo_is_taken_in_upright(atelier: Atelier, smooth) -> None:  # type: ignore[no-untyped-def]
    exif = Image.Exif()
    exif[0x0112] = 6
    facts = atelier.receive(_file(smooth(3, 40, 56), format="JPEG", exif=exif), name="IMG_1.jpg")
    assert (facts["width"], facts["height"], facts["name"]) == (40, 56, "IMG_1")
    assert _size(atelier.view(facts["id"])) == (40, 56)
    assert _size(atelier.preview(facts["id"], "tiny", options=Options())) == (40, 56)
    painting = atelier.paint(facts["id"], "tiny", options=Options())
    assert _size(atelier.gallery.picture(painting.id)) == (40, 56)


def test_what_is_no_picture_is_refused(atelier: Atelier) -> None:
    for data in (b"\x89PNG\r\n\x1a\n" + b"x" * 100, b"GIF89a", b"<svg/>", b"x" * 1000):
        with pytest.raises(PictureError):
            atelier.receive(data, name="x.png")
    assert not list((atelier.gallery.folder / "photos").iterdir())


def test_a_bomb_is_refused_by_its_header(atelier: Atelier) -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    with pytest.raises(PictureError, match="more than"):
        atelier.receive(bomb.getvalue(), name="bomb.png")


def test_transparent_parts_stay(atelier: Atelier, smooth) -> None:  # type: ignore[no-untyped-def]
    alpha = np.zeros((40, 56), np.uint8)
    alpha[:, 20:] = 255
    facts = atelier.receive(_file(np.dstack([smooth(3), alpha])), name="cut.png")
    for data in (atelier.preview(facts["id"], "tiny", options=Options()), atelier.view(facts["id"])):
        assert Image.open(io.BytesIO(data)).mode == "RGBA"
    painting = atelier.paint(facts["id"], "tiny", options=Options())
    assert Image.open(io.BytesIO(atelier.gallery.picture(painting.id))).mode == "RGBA"


def test_a_painting_goes_into_the_history_once_with_its_recipe(atelier: Atelier, photo: str, tmp_path: Path) -> None:
    options = Options(strength=0.8, size_px=64, seed=3)
    painting = atelier.paint(photo, "tiny", options=options)
    assert atelier.paint(photo, "tiny", options=options) == painting
    assert [one.id for one in atelier.gallery.paintings()] == [painting.id]
    assert (painting.title, painting.head, painting.height) == ("at the sea", "tiny", 64)
    file = tmp_path / "painting.png"
    file.write_bytes(atelier.gallery.picture(painting.id))
    recipe = Recipe.read(file)
    assert (recipe.head, recipe.options) == ("tiny", options)
    assert "sea" not in json.dumps(read_settings(file)), "nothing of the photo is in the painting"


def test_a_preview_leaves_no_trace_and_size_aside(atelier: Atelier, photo: str) -> None:
    assert _size(atelier.preview(photo, "tiny", options=Options(size_px=300))) == (56, 40)
    assert atelier.gallery.paintings() == []


def test_huge_sizes_are_refused(atelier: Atelier, photo: str) -> None:
    with pytest.raises(InputError, match="million pixels"):
        atelier.paint(photo, "tiny", options=Options(size_px=16384))


def test_styles_on_the_spot_are_found_again(atelier: Atelier, photo: str, smooth) -> None:  # type: ignore[no-untyped-def]
    other = str(atelier.receive(_file(smooth(5)), name="b.png")["id"])
    style = atelier.style([photo, other, photo])
    assert style == atelier.style([other, photo])
    assert atelier.heads()[0] == {"id": style, "name": "", "kind": "style", "pictures": [photo, other]}
    painting = atelier.paint(photo, style, options=Options())
    again = open_atelier(device="cpu")
    assert again.preview(photo, style, options=Options())
    data = io.BytesIO(again.gallery.picture(painting.id))
    assert json.loads(Image.open(data).info["easel"])["easel"]["head"] == ""
    atelier.delete_head(style)
    with pytest.raises(MissingError):
        atelier.paint(photo, style, options=Options(seed=1))


@pytest.mark.parametrize("count", [0, 11])
def test_a_style_has_one_to_ten_pictures(atelier: Atelier, count: int) -> None:
    with pytest.raises(InputError, match="1 to 10"):
        atelier.style([f"{number:024x}" for number in range(count)])


def test_learning_makes_an_own_head(atelier: Atelier, photo: str) -> None:
    shares: list[float] = []
    saved = atelier.learn([photo], name="mine", budget_s=0, strokes="fine", patience=Patience(), progress=shares.append)
    assert saved.name == "mine"
    assert {"id": "mine", "name": "mine", "kind": "own", "pictures": []} in atelier.heads()
    assert atelier.preview(photo, "mine", options=Options())
    with pytest.raises(InputError, match="already"):
        atelier.learn([photo], name="mine", budget_s=0, strokes="fine", patience=Patience(), progress=shares.append)
    atelier.delete_head("mine")
    with pytest.raises(InputError):
        atelier.delete_head("tiny")


def test_learning_takes_all_kinds_of_strokes(atelier: Atelier, photo: str) -> None:
    freedom = {}
    for strokes in ("fine", "broad", "flat"):
        atelier.learn(
            [photo], name=strokes, budget_s=0, strokes=strokes, patience=Patience(), progress=lambda share: None
        )
        config = atelier.home.load_head(strokes).config
        freedom[strokes] = config.brush
        assert replace(config, brush=0, stroke=0) == replace(STROKES[strokes], brush=0, stroke=0)
    assert freedom["broad"] > freedom["fine"] == freedom["flat"] == 0


def test_learning_tells_its_progress_and_can_be_stopped(
    atelier: Atelier, photo: str, tiny_head: Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tune(head: Head, styles: object, *, progress: Callable[[float, float], None], **named: Any) -> Head:
        for step in range(10):
            progress(step / 10, 1.0)
            if named["clock"]() > named["budget_s"] + begin:
                return tiny_head
        raise AssertionError("not stopped")

    monkeypatch.setattr("client.personalize.tune", tune)
    shares: list[float] = []
    patience = Patience()
    begin = patience()

    def progress(share: float) -> None:
        shares.append(share)
        if share >= 0.3:
            patience.stop()

    atelier.learn([photo], name="mine", budget_s=300, strokes="fine", patience=patience, progress=progress)
    assert shares == [0.0, 0.1, 0.2, 0.3]


def test_a_changed_head_is_not_taken_for_the_old_one(atelier: Atelier, photo: str, tiny_head: Head) -> None:
    atelier.home.save_head(tiny_head, name="mine")
    first = atelier.paint(photo, "mine", options=Options())
    other = Head.fit([atelier._style_picture(photo)], backbone=atelier.backbone, config=tiny_head.config)
    atelier.home.save_head(other, name="mine", overwrite=True)
    assert atelier.paint(photo, "mine", options=Options()).id != first.id


def test_a_head_for_another_backbone_says_what_to_do(atelier: Atelier, photo: str, tiny_head: Head) -> None:
    strange = Head(**{**vars(tiny_head), "backbone": "other"})
    atelier.home.save_head(strange, name="old")
    with pytest.raises(CompatibilityError) as caught:
        atelier.preview(photo, "old", options=Options())
    assert "again" in caught.value.hint


def test_strokes_point_at_their_pictures(atelier: Atelier, photo: str) -> None:
    made = atelier.explain(photo, "tiny", options=Options())
    pixels = np.asarray(Image.open(io.BytesIO(made.map)))
    assert pixels.shape == (made.facts["height"], made.facts["width"], 3)
    assert set(np.unique(pixels[..., 0])) == {0}
    assert [source["share"] for source in made.facts["sources"]] == [1.0]
    assert made.facts["sources"][0]["picture"] and not made.facts["note"]


def test_a_head_without_memory_says_so(atelier: Atelier, photo: str, tiny_head: Head) -> None:
    atelier.home.save_head(forget(tiny_head), name="blank")
    made = atelier.explain(photo, "blank", options=Options())
    assert np.asarray(Image.open(io.BytesIO(made.map)))[..., 0].min() == NOWHERE
    assert made.facts["sources"] == [] and "remember" in made.facts["note"]


def test_heads_have_a_picture_of_what_they_do(atelier: Atelier) -> None:
    first = atelier.head_view("tiny")
    assert max(_size(first)) <= 288
    assert atelier.head_view("tiny") == first


def test_samples_can_be_painted(atelier: Atelier) -> None:
    facts = atelier.sample(0)
    assert facts["width"] == 768
    assert _size(atelier.sample_view(0))[0] <= 288
    with pytest.raises(InputError):
        atelier.sample(atelier.samples())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IMG_1.JPG", "IMG_1"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\sea.png", "sea"),
        ("", "photo"),
        ("...", "photo"),
        ("a\nb<c>.png", "abc"),
        ("x" * 300 + ".png", "x" * 60),
        ("été à la mer.webp", "été à la mer"),
    ],
)
def test_only_the_stem_of_a_name_is_kept(name: str, expected: str) -> None:
    assert stem(name) == expected
