"""`easel stylize` at the command line."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from client.batch import Painter
from client.cli import main
from client.recipe import Recipe
from client.store import Home
from shared_model.head import Head
from shared_model.images import Picture, load_picture, read_settings, save_picture
from tests.client.conftest import Easel, is_one_error


def test_one_photo_goes_beside_itself_with_its_settings(easel: Easel, photos: Path) -> None:
    code, out, err = easel("stylize", photos / "a.png", "--head", "tiny", "--seed", 4, "--strength", 0.5)
    assert (code, err) == (0, "")
    target = photos / "a-tiny.png"
    assert str(target) in out
    assert load_picture(target).rgb.shape == load_picture(photos / "a.png").rgb.shape
    recipe = Recipe.read(target)
    assert (recipe.head, recipe.options.seed, recipe.options.strength) == ("tiny", 4, 0.5)


def test_settings_say_nothing_about_the_owner(easel: Easel, photos: Path) -> None:
    easel("stylize", photos / "a.png", "--head", "tiny")
    text = json.dumps(read_settings(photos / "a-tiny.png"))
    assert str(photos) not in text and "a.png" not in text and os.sep not in text


def test_folder_goes_on_after_a_bad_picture(easel: Easel, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    code, out, err = easel("stylize", photos, "--head", "tiny", "-o", "painted")
    assert code == 2 and is_one_error(err) and "bad.png" in err
    painted = sorted(str(path) for path in Path("painted").rglob("*.*"))
    assert painted == ["painted/a-tiny.png", "painted/b-tiny.png", "painted/trip/c-tiny.png"]
    assert "3 painted, 1 failed" in out


def test_an_animation_is_painted_with_a_word_about_its_other_pictures(easel: Easel, photos: Path) -> None:
    frames = [Image.fromarray(load_picture(photos / "a.png").rgb), Image.new("RGB", (56, 40))]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    code, _, err = easel("stylize", photos / "moving.gif", photos / "a.png", "--head", "tiny")
    assert code == 0 and err.count("only the first is painted") == 1 and "moving.gif" in err


def test_running_again_paints_neither_finished_pictures_nor_paintings(easel: Easel, photos: Path) -> None:
    easel("stylize", photos, "--head", "tiny")
    first = {path: path.stat().st_mtime_ns for path in photos.rglob("*-tiny.png")}
    (photos / "b-tiny.png").unlink()
    code, out, err = easel("stylize", photos, "--head", "tiny")
    assert code == 0 and "1 painted, 2 skipped" in out and "left out 2" in err
    assert {path.name for path in photos.rglob("*-tiny*.png")} == {"a-tiny.png", "b-tiny.png", "c-tiny.png"}
    assert (photos / "a-tiny.png").stat().st_mtime_ns == first[photos / "a-tiny.png"]


def test_other_settings_get_a_numbered_name(easel: Easel, photos: Path) -> None:
    easel("stylize", photos / "a.png", "--head", "tiny")
    before = (photos / "a-tiny.png").read_bytes()
    _, out, _ = easel("stylize", photos / "a.png", "--head", "tiny", "--seed", 1)
    assert "a-tiny-2.png" in out
    _, out, _ = easel("stylize", photos / "a.png", "--head", "tiny", "--seed", 1)
    assert "a-tiny-2.png is there already" in out
    assert (photos / "a-tiny.png").read_bytes() == before
    easel("stylize", photos / "a.png", "--head", "tiny", "--seed", 1, "--overwrite")
    assert (photos / "a-tiny.png").read_bytes() != before


@pytest.mark.parametrize("given", ["photos", "photos/*", "photos/trip"])
def test_photos_that_cannot_be_read_are_not_passed_over_in_silence(easel: Easel, photos: Path, given: str) -> None:
    for name in ("1.CR2", "2.cr2", ".3.cr2", "raw.nef", "notes.txt"):
        (photos / "trip" / name).write_bytes(b"x")
    code, _, err = easel("stylize", given, "--head", "tiny", "-o", "out/")
    assert code == 0 and "2 .cr2, 1 .nef" in err and "easel[heic]" not in err and err.count("\n") == 1
    code, _, err = easel("stylize", photos / "a.png", "--head", "tiny", "-o", "out/")
    assert (code, err) == (0, "")


def test_another_photo_of_the_same_name_is_painted_too(easel: Easel, photos: Path) -> None:
    (photos / "b.jpg").rename(photos / "trip" / "a.jpg")
    for place in ("a.png", "trip/a.jpg", "a.png", "trip/a.jpg"):
        assert easel("stylize", photos / place, "--head", "tiny", "-o", "out/")[0] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-tiny-2.png", "a-tiny.png"]
    assert load_picture("out/a-tiny-2.png").rgb.shape == (56, 40, 3)
    code, _, err = easel("stylize", photos / "trip" / "a.jpg", "--head", "tiny", "-o", "out/a-tiny.png")
    assert code == 2 and "--overwrite" in err
    assert "is there already" in easel("stylize", photos / "a.png", "--head", "tiny", "-o", "out/a-tiny.png")[1]


def test_photo_that_changed_is_painted_again(easel: Easel, photos: Path) -> None:
    easel("stylize", photos / "a.png", "--head", "tiny")
    later = (photos / "a-tiny.png").stat().st_mtime + 10
    os.utime(photos / "a.png", (later, later))
    _, out, _ = easel("stylize", photos / "a.png", "--head", "tiny")
    assert "a-tiny-2.png" in out


def test_same_stem_twice_loses_nothing(easel: Easel, photos: Path) -> None:
    save_picture(photos / "a.jpg", np.zeros((40, 40, 3), np.uint8))
    easel("stylize", photos / "a.png", photos / "a.jpg", "--head", "tiny", "-o", "out/")
    assert {path.name for path in Path("out").iterdir()} == {"a-tiny.png", "a-tiny-2.png"}


def test_named_file_is_never_replaced_unasked(easel: Easel, photos: Path) -> None:
    original = (photos / "a.png").read_bytes()
    code, _, err = easel("stylize", photos / "a.png", "--head", "tiny", "-o", photos / "a.png")
    assert code == 2 and is_one_error(err) and "--overwrite" in err
    assert (photos / "a.png").read_bytes() == original
    code, _, _ = easel("stylize", photos / "a.png", "--head", "tiny", "-o", photos / "a.png", "--overwrite")
    assert code == 0 and (photos / "a.png").read_bytes() != original


def test_a_name_taken_while_painting_is_left_alone(easel: Easel, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint = Painter.paint

    def slow(self: Painter, picture: Picture, **given: Any) -> Picture:
        for name in ("a-tiny.png", "mine.png"):
            (photos / name).write_bytes(b"somebody else's")
        return paint(self, picture, **given)

    monkeypatch.setattr(Painter, "paint", slow)
    code, out, _ = easel("stylize", photos / "a.png", "--head", "tiny", "--explain")
    assert code == 0 and "a-tiny-2.png" in out and "a-tiny-2.explain.png" in out
    assert Recipe.read(photos / "a-tiny-2.png").head == "tiny" and (photos / "a-tiny-2.explain.png").exists()
    (photos / "mine.png").unlink()
    code, _, err = easel("stylize", photos / "a.png", "--head", "tiny", "-o", photos / "mine.png")
    assert code == 2 and "taken meanwhile" in err
    assert {(photos / name).read_bytes() for name in ("a-tiny.png", "mine.png")} == {b"somebody else's"}


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_out_names_the_format(easel: Easel, photos: Path, suffix: str) -> None:
    code, _, _ = easel("stylize", photos / "a.png", "--head", "tiny", "-o", f"x{suffix}", "--size", 20)
    assert code == 0 and load_picture(f"x{suffix}").rgb.shape == (20, 28, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.png"], 2, "which style"),
        (["a.png", "--head", "tniy"], 3, "did you mean tiny"),
        (["a.png", "--head", "../tiny"], 3, "no head called"),
        (["gone.png", "--head", "tiny"], 2, "gone.png"),
        (["*.tiff", "--head", "tiny"], 2, "*.tiff"),
        (["empty", "--head", "tiny"], 2, "no pictures"),
        (["a.png", "--head", "tiny", "--strength", "1.5"], 2, "strength"),
        (["a.png", "--head", "tiny", "--strength", "nan"], 2, "strength"),
        (["a.png", "--head", "tiny", "--detail", "-1"], 2, "detail"),
        (["a.png", "--head", "tiny", "--size", "0"], 2, "size"),
        (["a.png", "--head", "tiny", "--device", "mps"], 3, "no mps device"),
        (["a.png", "b.jpg", "--head", "tiny", "-o", "x.png"], 2, "2 photos"),
        (["a.png", "--head", "tiny", "-o", "x.gif"], 2, ".gif"),
        (["a.png", "--style", "gone.png"], 2, "gone.png"),
        (["a.png", "--style", "b.jpg", "--head", "tiny"], 2, "not allowed with"),
        (["--style", "b.jpg", "a.png"], 2, "PHOTO goes before --style and --mix"),
        (["a.png", "--replay", "a.png"], 2, "no easel settings"),
        (["-", "a.png", "--head", "tiny"], 2, "stdin"),
        (["a.png", "--head", "tiny", "-o", "-", "--json"], 2, "--json"),
    ],
)
def test_mistakes_are_one_error_with_its_exit_code(
    easel: Easel, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(photos)
    (photos / "empty").mkdir()
    before = sorted(photos.rglob("*"))
    got, out, err = easel("stylize", *arguments)
    assert got == code and not out and is_one_error(err) and words in err
    assert sorted(photos.rglob("*")) == before


def test_the_only_head_of_ones_own_needs_no_name(easel: Easel, photos: Path, tiny_head: Head) -> None:
    Home.default().save_head(tiny_head, name="mine")
    assert easel("stylize", photos / "a.png")[0] == 0
    assert (photos / "a-mine.png").exists()


def test_head_for_another_backbone_stops_before_painting(easel: Easel, photos: Path, tiny_head: Head) -> None:
    Home.default().save_head(dataclasses.replace(tiny_head, backbone="0" * 12), name="old")
    code, _, err = easel("stylize", photos, "--head", "old")
    assert code == 4 and is_one_error(err) and "easel personalize" in err


def test_damaged_head_is_named(easel: Easel, photos: Path, tiny_head: Head) -> None:
    Home.default().save_head(tiny_head, name="broken").path.write_bytes(b"\0" * 100)
    code, _, err = easel("stylize", photos, "--head", "broken")
    assert code == 5 and is_one_error(err) and "'broken'" in err


def test_full_disk_stops_the_batch_and_leaves_nothing_half_written(
    easel: Easel, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = easel("stylize", photos, "--head", "tiny", "-o", "out")
    assert code == 5 and is_one_error(err) and "disk is full" in err
    assert list(Path("out").iterdir()) == []


def test_interrupt_keeps_finished_pictures_and_says_how_to_go_on(
    easel: Easel, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client.batch import Painter

    paint = Painter.paint
    calls: list[int] = []

    def interrupted(self: Painter, picture: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return paint(self, picture)

    monkeypatch.setattr(Painter, "paint", interrupted)
    code, _, err = easel("stylize", photos, "--head", "tiny", "-o", "out")
    assert code == 130 and is_one_error(err) and "1 of 3" in err and "again to go on" in err
    code, out, _ = easel("stylize", photos, "--head", "tiny", "-o", "out")
    assert code == 0 and "2 painted, 1 skipped" in out


def test_json_tells_what_was_done(easel: Easel, photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"")
    code, out, _ = easel("stylize", photos / "a.png", photos / "bad.png", "--head", "tiny", "--json")
    facts = json.loads(out)
    assert code == 2
    assert [picture["status"] for picture in facts["pictures"]] == ["painted", "failed"]
    assert facts["pictures"][0]["width"] == 56 and facts["settings"]["head"] == "tiny"
    assert "empty" in facts["pictures"][1]["error"]


def test_file_names_of_any_bytes(easel: Easel, photos: Path) -> None:
    strange = Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9\n.png"))
    (photos / "a.png").rename(strange)
    code, out, err = easel("stylize", strange, "--head", "tiny")
    assert (code, err) == (0, "") and "caf??-tiny.png" in out
    code, out, _ = easel("stylize", strange, "--head", "tiny", "--json")
    assert code == 0 and json.loads(out)["pictures"][0]["input"] == str(strange)


def test_names_as_long_as_they_may_be(easel: Easel, photos: Path) -> None:
    for stem in ("é" * 120, "é" * 119 + "xyz"):  # alike up to where they are cut
        (photos / "b.jpg").rename(photos / f"{stem}.jpg")
        code, out, err = easel("stylize", photos / f"{stem}.jpg", "--head", "tiny", "--explain", "-o", "out/")
        assert (code, err) == (0, "") and "-tiny" in out
        (photos / f"{stem}.jpg").rename(photos / "b.jpg")
    assert len(list(Path("out").iterdir())) == 2  # the same photo under another name


@pytest.mark.parametrize("place", ["photo", "out", "folder", "replay"])
def test_a_name_that_is_too_long_is_one_error(easel: Easel, photos: Path, place: str) -> None:
    long = "x" * 300
    given = {"photo": [f"{long}.png"], "out": ["a.png", "-o", f"{long}.png"], "folder": ["a.png", "-o", f"{long}/"],
             "replay": ["a.png", "--replay", f"{long}.png"]}  # fmt: skip
    code, _, err = easel("stylize", *given[place], "--head", "tiny")
    assert code in (2, 5) and is_one_error(err)


def test_replay_paints_the_same_picture_and_options_win_over_it(easel: Easel, photos: Path) -> None:
    easel("stylize", photos / "a.png", "--head", "tiny", "--seed", 9, "--keep-color", "-o", "first.png")
    easel("stylize", photos / "a.png", "--replay", "first.png", "-o", "again.png")
    assert np.array_equal(load_picture("first.png").rgb, load_picture("again.png").rgb)
    easel("stylize", photos / "a.png", "--replay", "first.png", "--no-keep-color", "-o", "other.png")
    options = Recipe.read("other.png").options
    assert (options.seed, options.keep_color) == (9, False)


def test_replay_notices_that_the_head_changed(easel: Easel, photos: Path, tiny_head: Head) -> None:
    easel("stylize", photos / "a.png", "--head", "tiny", "-o", "first.png")
    Home.default().save_head(dataclasses.replace(tiny_head, images=8), name="tiny")
    code, _, err = easel("stylize", photos / "b.jpg", "--replay", "first.png", "-o", "second.png")
    assert code == 0 and "warning" in err and "changed since" in err


def test_transparency_stays_at_another_size(easel: Easel, tmp_path: Path) -> None:
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 30:] = 255
    save_picture(tmp_path / "cut.png", np.full((40, 60, 3), 90, np.uint8), alpha=alpha)
    assert easel("stylize", "cut.png", "--head", "tiny", "--size", 20)[0] == 0
    painted = load_picture("cut-tiny.png")
    assert painted.alpha is not None and painted.alpha.shape == painted.rgb.shape[:2] == (20, 30)
    assert painted.alpha[:, :12].max() == 0 and painted.alpha[:, 18:].min() == 255


def test_what_a_painting_keeps_of_its_photo(easel: Easel, tmp_path: Path, smooth: Callable[..., np.ndarray]) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera maker"
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth(1)).save(tmp_path / "a.jpg", exif=exif, icc_profile=profile)
    for policy, maker, place, color in (("safe", 1, 0, 1), ("place", 1, 1, 1), ("none", 0, 0, 0)):
        assert easel("stylize", "a.jpg", "--head", "tiny", "-o", f"{policy}.png", "--metadata", policy)[0] == 0
        with Image.open(f"{policy}.png") as painted:
            assert painted.size == (40, 56), "turned upright"
            found = painted.getexif()
            assert (0x010F in found, bool(found.get_ifd(0x8825))) == (bool(maker), bool(place))
            assert (painted.info.get("icc_profile") == profile) == bool(color)
        assert ("source" in read_settings(f"{policy}.png")) == bool(color)  # the mark by which its photo is known
    assert Recipe.read("safe.png").head == "tiny"


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_pictures_of_every_mode_are_painted(
    easel: Easel, tmp_path: Path, smooth: Callable[..., np.ndarray], mode: str
) -> None:
    image = Image.fromarray(smooth(1))
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    image = Image.fromarray(deep) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.tif")
    assert easel("stylize", "a.tif", "--head", "tiny", "-o", "b.png")[0] == 0
    painted = load_picture("b.png").rgb
    assert painted.shape == (40, 56, 3) and painted.std() > 5


def test_options_that_take_several_may_be_given_again(easel: Easel, photos: Path, tiny_head: Head) -> None:
    Home.default().save_head(tiny_head, name="other")
    assert easel("stylize", photos / "a.png", "--mix", "tiny=3", "--mix", "other=1", "-o", "mixed.png")[0] == 0
    assert Recipe.read("mixed.png").mix == (("tiny", 0.75), ("other", 0.25))
    for name, style in {"twice": ["a.png", "--style", "b.jpg"], "at once": ["a.png", "b.jpg"]}.items():
        style = [photos / part if part[0] != "-" else part for part in style]
        assert easel("stylize", photos / "a.png", "--style", *style, "-o", f"{name}.png")[0] == 0
    assert Recipe.read("twice.png").head_digest == Recipe.read("at once.png").head_digest


def test_style_pictures_fit_a_head_in_memory(easel: Easel, photos: Path, easel_home: Path) -> None:
    code, _, _ = easel("stylize", photos / "a.png", "--style", photos / "b.jpg", "-o", "styled.png")
    assert code == 0 and Recipe.read("styled.png").head == ""
    assert not (easel_home / "heads").exists()
    code, _, err = easel("stylize", photos / "a.png", "--replay", "styled.png")
    assert code == 2 and "--style" in err


class _Stream:
    """Stands for a piped stdin or stdout."""

    def __init__(self, data: bytes = b"") -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


def test_stdin_to_stdout(easel: Easel, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Stream((photos / "a.png").read_bytes()))
    out = _Stream()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        code = main(["stylize", "-", "--head", "tiny"])
    assert code == 0 and load_picture(out.buffer.getvalue()).rgb.shape == (40, 56, 3)


def test_damaged_stdin_is_one_error(easel: Easel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", _Stream(b"not a picture"))
    code, _, err = easel("stylize", "-", "--head", "tiny", "-o", "x.png")
    assert code == 2 and is_one_error(err) and not Path("x.png").exists()
