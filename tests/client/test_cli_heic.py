"""`easel stylize` of HEIC photos: with what reads them, and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared_model import folders, heic
from shared_model.images import load_picture
from tests.client.conftest import Easel
from tests.shared_model.heic_files import build, coded, sample


def test_heic_photos_are_painted_as_png_where_they_can_be_read(easel: Easel, photos: Path) -> None:
    if not heic.installed():
        pytest.skip("pi-heif is not installed")
    (photos / "trip" / "IMG_1.HEIC").write_bytes(sample("color"))
    code, out, err = easel("stylize", photos / "trip", photos / "trip" / "IMG_1.HEIC", "--head", "tiny")
    assert code == 0 and not err and "IMG_1-tiny.png" in out and "IMG_1-tiny-2" not in out
    assert load_picture(photos / "trip" / "IMG_1-tiny.png").rgb.shape == (48, 64, 3)
    assert "IMG_1-tiny.png is there already" in easel("stylize", photos / "trip" / "IMG_1.HEIC", "--head", "tiny")[1]
    (photos / "two.heic").write_bytes(build([coded("color"), coded("grey")]))
    code, _, err = easel("stylize", photos / "two.heic", "--head", "tiny")
    assert code == 0 and "two.heic holds several pictures; only the main one is painted" in err


def test_heic_photos_that_are_passed_over_can_be_helped(
    easel: Easel, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heic, "installed", lambda: False)
    monkeypatch.setattr(folders, "SUFFIXES", tuple({*folders.SUFFIXES} - {*heic.SUFFIXES}))
    (photos / "trip" / "IMG_1.HEIC").write_bytes(sample("color"))
    code, out, err = easel("stylize", photos, "--head", "tiny", "-o", "out/")
    assert code == 0 and "IMG_1" not in out and "1 .heic" in err and "easel[heic]" in err and err.count("\n") == 1
    code, _, err = easel("stylize", photos / "trip" / "IMG_1.HEIC", "--head", "tiny")
    assert code == 2 and "easel[heic]" in err and "Traceback" not in err


@pytest.mark.parametrize("given", ["a.png", "a.heic"])
def test_nothing_is_ever_written_under_the_name_of_a_heic_photo(easel: Easel, photos: Path, given: str) -> None:
    (photos / "a.heic").write_bytes(sample("color"))
    for extra in ((), ("--overwrite",)):
        for target in (photos / "a.heic", photos / "new.heic"):
            code, _, err = easel("stylize", photos / given, "--head", "tiny", "-o", target, *extra)
            assert code == 2 and "cannot save it as '.heic'" in err
    assert (photos / "a.heic").read_bytes() == sample("color") and not (photos / "new.heic").exists()
