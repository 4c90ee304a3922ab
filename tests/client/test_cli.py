from __future__ import annotations

import dataclasses
import errno
import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from client import cli
from client.cli import COMMANDS, main
from client.ledger import Ledger
from client.recipe import Recipe
from client.store import Home
from shared_model.head import Head
from shared_model.images import load_picture, read_settings, save_picture
from shared_model.mechanism import Mechanism
from shared_model.provenance import forget

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def easel(
    easel_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


Easel = Callable[..., tuple[int, str, str]]


def is_one_error(err: str) -> bool:
    lines = err.strip().splitlines()
    return [line.split(":")[0] for line in lines] in (["error"], ["error", "hint"])


# --- help ---------------------------------------------------------------------------------------


def test_help_in_a_process_of_its_own_loads_neither_torch_nor_rich() -> None:
    code = (
        "import sys\nfrom client.cli import main\ncode = main(['--help'])\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'flwr'} & set(sys.modules)\nassert not heavy, heavy\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
    assert "130" in done.stdout and "example" in done.stdout


def test_help_takes_well_under_half_a_second_of_the_processor() -> None:
    """Its own work, whatever else this machine does: the median of five, start of Python included."""
    call = "import os, sys\nfrom client.cli import main\nmain(['--help'])\nprint(sum(os.times()[:2]), file=sys.stderr)"
    spent = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=True)
        spent.append(float(done.stderr.splitlines()[-1]))
    assert sorted(spent)[2] < 0.5, spent


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example_and_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"easel {name}" in out and "example:" in out and "exit codes:" in out


def test_no_command_prints_help(easel: Easel) -> None:
    code, out, _ = easel()
    assert code == 0 and "usage: easel" in out


def test_version(easel: Easel) -> None:
    code, out, _ = easel("--version")
    assert code == 0 and out.startswith("easel ")


@pytest.mark.parametrize("arguments", [["paint"], ["stylize"], ["stylize", "a.png", "--seed", "x"], ["--nonsense"]])
def test_usage_errors_are_two_lines(easel: Easel, arguments: list[str]) -> None:
    code, out, err = easel(*arguments)
    assert code == 2 and not out and is_one_error(err)


def test_stylizing_in_a_process_of_its_own_loads_only_what_it_needs(photos: Path, weights_folder: Path) -> None:
    weights = weights_folder / "backbone.safetensors"
    code = (
        f"import pathlib, sys\nimport client.cli\nimport shared_model.weights\n"
        f"shared_model.weights.default_backbone_path = lambda: pathlib.Path({str(weights)!r})\n"
        f"code = client.cli.main(['stylize', {str(photos / 'a.png')!r}, '--head', 'tiny'])\n"
        "heavy = {'av', 'flwr', 'matplotlib', 'onnx', 'opacus', 'ray', 'rich', 'scipy', 'sympy', 'torch._dynamo'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (photos / "a-tiny.png").exists()


# --- stylize ------------------------------------------------------------------------------------


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


# --- heads --------------------------------------------------------------------------------------


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


# --- personalize --------------------------------------------------------------------------------


def test_personalize_then_stylize(easel: Easel, photos: Path, easel_home: Path) -> None:
    code, out, _ = easel("personalize", "mine", photos / "b.jpg", "--budget", 0, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["images"] == 1 and facts["size_bytes"] == (easel_home / "heads/mine.head").stat().st_size
    assert easel("stylize", photos / "a.png", "--head", "mine")[0] == 0


def test_personalize_tunes_within_its_budget_and_says_what_it_gained(easel: Easel, photos: Path) -> None:
    code, out, _ = easel("personalize", "mine", photos / "b.jpg", "--budget", 0.2, "--photos", photos)
    assert code == 0 and "before tuning" in out and "readable by you alone" in out


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


# --- privacy ------------------------------------------------------------------------------------


def test_privacy_of_a_device_that_never_took_part(easel: Easel) -> None:
    code, out, _ = easel("privacy")
    assert code == 0 and "nothing has left" in out
    code, out, _ = easel("privacy", "--json")
    assert code == 0 and json.loads(out)["epsilon"] == 0
    code, _, err = easel("privacy", "nowhere")
    assert code == 3 and is_one_error(err)


@pytest.mark.parametrize(("limit", "words"), [(4.0, "of at most 4"), (math.inf, "no limit")])
def test_privacy_in_plain_words(easel: Easel, easel_home: Path, limit: float, words: str) -> None:
    path = easel_home / "device" / "ledger.json"
    ledger = Ledger.open(path, max_epsilon=limit, delta=1e-5)
    reservation = ledger.reserve("first", 1, mechanism=Mechanism(1.0, 0.01, "user"))
    ledger.sent(reservation, bytes_sent=650_000)
    code, out, _ = easel("privacy")
    assert code == 0 and "took part once in 1 run and sent 650 kB" in out and words in out
    _, out, _ = easel("privacy", path.parent, "--json")
    assert json.loads(out)["participations"] == 1
    assert easel("doctor")[0] == 0


def test_privacy_lists_every_round_and_every_refusal(easel: Easel, easel_home: Path) -> None:
    path = easel_home / "device" / "ledger.json"
    ledger = Ledger.open(path, max_epsilon=4.0, delta=1e-5)
    reservation = ledger.reserve("first", 1, mechanism=Mechanism(1.0, 0.01, "user"))
    ledger.sent(reservation, bytes_sent=650_000, kind="clipped update, int8")
    ledger.refuse("second", 3, "clip 50 is above 10")
    _, out, _ = easel("privacy", path.parent, "--rounds")
    assert "650000 B clipped update, int8" in out and "noise 1, rate 0.01" in out
    assert "650 kB as clipped update, int8" in out and "refused 1 of run second" in out and "clip 50" in out
    _, out, _ = easel("privacy", path.parent, "--json")
    facts = json.loads(out)
    assert facts["bytes_by_kind"] == {"clipped update, int8": 650_000}
    assert facts["entries"][0]["round"] == 1 and facts["entries"][0]["sent_at"].endswith("+00:00")
    assert 0 < facts["epsilon_left"] < 4 and facts["refusals"][0]["run"] == "second"


def test_privacy_recovers_a_removed_ledger(easel: Easel, easel_home: Path) -> None:
    path = easel_home / "device" / "ledger.json"
    ledger = Ledger.open(path, max_epsilon=4.0, delta=1e-5, witness=easel_home / "ledgers")
    ledger.reserve("first", 1, mechanism=Mechanism(1.0, 0.01, "user"))
    for file in path.parent.iterdir():
        file.unlink()
    code, _, err = easel("privacy")
    assert code == 6 and "--recover" in err
    code, out, _ = easel("privacy", "--recover")
    assert code == 0 and "took part once" in out
    assert easel("privacy")[0] == 0


def test_removed_or_damaged_ledger_is_told_not_forgotten(easel: Easel, easel_home: Path) -> None:
    path = easel_home / "device" / "ledger.json"
    Ledger.open(path, max_epsilon=4.0, delta=1e-5)
    path.write_bytes(b"{}")
    code, _, err = easel("privacy")
    assert code == 6 and is_one_error(err)
    path.unlink()
    code, _, err = easel("privacy")
    assert code == 6 and is_one_error(err)
    code, out, _ = easel("doctor")
    assert code == 1 and "fail  ledger" in out


# --- doctor, bugs -------------------------------------------------------------------------------


def test_doctor(easel: Easel) -> None:
    code, out, _ = easel("doctor")
    assert code == 0 and "backbone" in out
    code, out, _ = easel("doctor", "--json")
    assert code == 0 and json.loads(out)["verdict"] in ("ok", "warn")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(ZeroDivisionError):
        main([])


def test_interrupt_anywhere_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert main([]) == 130
    assert capsys.readouterr().err == "stopped\n"


# --- stylize --explain ----------------------------------------------------------------------------


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


# --- evaluate --------------------------------------------------------------------------------------


@pytest.fixture
def tuned_head(easel_home: Path, tiny_head: Head) -> Head:
    """An own head called `mine` that was tuned."""
    head = dataclasses.replace(tiny_head, untuned=tiny_head.modulation, modulation=tiny_head.modulation + 1)
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
