"""The studio in a real browser: drop, paint, mix, learn, explain, look back.

Every test also sees to it that the browser asks nobody but the studio, and that the page logs no error.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")

from PIL import Image

from client.atelier import Atelier
from client.studio.gate import Gate
from shared_model import heic
from shared_model.head import Head
from shared_model.samples import sample_photos
from tests.client.studio.browsing import (
    PAINTED,
    PHONE,
    Visit,
    as_file,
    as_png,
    drop,
    drop_from_disk,
    enter,
    overflow,
)
from tests.shared_model.heic_files import sample


def test_drop_paint_compare_and_download(visit: Visit, gate: Gate, picture: bytes, tmp_path: Path) -> None:
    page = enter(visit, gate)
    assert gate.key not in page.url, "the key leaves the address at once"
    drop(page, "#drop-photo", picture)
    page.wait_for_selector(PAINTED)
    page.focus("#slider")
    page.keyboard.press("Home")
    assert page.eval_on_selector("#after", "image => getComputedStyle(image).clipPath").endswith(" 0%)")
    page.keyboard.press("End")
    assert page.eval_on_selector("#after", "image => getComputedStyle(image).clipPath").endswith(" 100%)")
    first = page.get_attribute("#after", "src")
    page.locator("#strength").fill("40")
    page.wait_for_function("old => document.querySelector('#after').src !== old", arg=first)
    page.wait_for_selector(PAINTED)
    with page.expect_download() as coming:
        page.click("#download")
    assert coming.value.suggested_filename == "cat 1-tiny.png"
    coming.value.save_as(tmp_path / "painting.png")
    with Image.open(tmp_path / "painting.png") as painting:
        assert '"strength": 0.4' in painting.info["easel"]
    page.click("nav >> text=History")
    page.wait_for_selector(".painting >> nth=1")
    page.click("nav >> text=Privacy")
    page.wait_for_selector(".verdict.good")
    assert overflow(page) == 0
    visit.check(gate)


def test_own_pictures_are_painted_with_and_learned_from(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(picture)])
    page.wait_for_selector(PAINTED)
    drop(page, "#open-style", picture, as_png(sample_photos()[2][0, :, ::2, ::2]))
    page.wait_for_selector("#style-pictures li >> nth=1")
    page.click("#style-now")
    page.wait_for_selector("[data-id^='style:'][aria-checked=true]")
    page.wait_for_selector(PAINTED)
    page.click("#open-explain")
    page.wait_for_selector("#sources li >> nth=1")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#explain-told').textContent.includes('from picture')")
    page.keyboard.press("Escape")
    page.click("#open-style")
    page.set_input_files("#style-files", [as_file(picture)])
    page.wait_for_selector("#style-pictures li")
    page.fill("#learn-name", "not a name!")
    page.click("#learn-start")
    page.wait_for_selector(".toast >> text=cannot be the name")
    page.fill("#learn-name", "mine")
    page.evaluate("document.querySelector('#learn-seconds').add(new Option('none', '0', true, true))")
    page.select_option("#learn-strokes", "broad")
    page.click("#learn-start")
    page.wait_for_selector("[data-id=mine][aria-checked=true]")
    page.click("[aria-label='Delete mine']")
    page.click("#confirm-yes")
    page.wait_for_selector("[data-id=mine]", state="detached")
    visit.check(gate, refusals=True)


def test_styles_are_mixed_with_sliders(
    visit: Visit, gate: Gate, atelier: Atelier, picture: bytes, tiny_head: Head
) -> None:
    for name in ("mine", "other"):
        atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name=name)
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(picture)])
    page.wait_for_selector(PAINTED)
    page.focus("#open-mix")
    page.keyboard.press("Enter")
    assert page.get_attribute("#open-mix", "aria-expanded") == "true"
    shares = "() => [...document.querySelectorAll('#mix-rows output')].map(one => one.value)"
    assert sorted(page.evaluate(shares)) == ["0 %", "0 %", "100 %"]
    for number in range(3):
        page.locator("#mix-rows input").nth(number).fill("50")
    assert sorted(page.evaluate(shares)) == ["33 %", "33 %", "34 %"]
    page.focus("#mix-rows div:nth-child(3) input")
    page.keyboard.press("Home")
    page.wait_for_selector("#download[disabled]")
    page.wait_for_selector(PAINTED)
    assert page.locator("[role=radio][data-share='50 %']").count() == 2
    assert page.locator("[role=radio][aria-checked=true]").count() == 0
    assert page.is_disabled("#open-explain") and page.is_hidden("#open-choose")
    with page.expect_download() as coming:
        page.click("#download")
    assert coming.value.suggested_filename.count("+") == 1
    page.reload()
    page.wait_for_selector(PAINTED)
    assert page.is_visible("#mix") and sorted(page.evaluate(shares)) == ["0 %", "50 %", "50 %"]
    page.click("nav >> text=History")
    page.wait_for_selector(".painting:first-child >> text=50 % ")
    page.click(".painting:first-child .picture")
    page.wait_for_selector(PAINTED)
    page.click("[data-id=tiny]")
    page.wait_for_selector("[data-id=tiny][aria-checked=true]")
    assert "100 %" in page.evaluate(shares)
    visit.check(gate)


def test_a_full_painting_is_cancelled_and_asked_for_again(
    visit: Visit, gate: Gate, atelier: Atelier, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, paint = threading.Event(), atelier.paint

    def slow(*given: Any, watch: Callable[[float], None], **more: Any) -> Any:
        for _ in range(2000):
            watch(0.4)
            if go.wait(0.01):
                break
        return paint(*given, watch=watch, **more)

    monkeypatch.setattr(atelier, "paint", slow)
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(picture)])
    page.wait_for_selector("#told >> text=40 %")
    page.click("#full >> text=Cancel")
    page.wait_for_selector("#told >> text=Stopped")
    assert page.is_disabled("#download") and not page.evaluate("document.querySelector('#busy').matches('.on')")
    go.set()
    page.click("#full >> text=Paint in full size")
    page.wait_for_selector(PAINTED)
    assert page.is_hidden("#full")
    page.click("nav >> text=History")
    page.wait_for_selector(".painting")
    assert page.locator(".painting").count() == 1, "what was cancelled is not in the history"
    visit.check(gate)


def test_a_head_goes_with_its_paintings_if_its_owner_wants(
    visit: Visit, gate: Gate, atelier: Atelier, picture: bytes, tiny_head: Head
) -> None:
    atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name="mine")
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(picture)])
    page.wait_for_selector(PAINTED)
    page.click("[data-id=tiny]")
    page.wait_for_selector("#download[disabled]")
    page.wait_for_selector(PAINTED)
    page.click("[aria-label='Delete mine']")
    page.wait_for_selector("#confirm-more >> text=the painting in the history")
    assert not page.is_checked("#confirm-also")
    page.check("#confirm-also")
    page.click("#confirm-yes")
    page.wait_for_selector("[data-id=mine]", state="detached")
    page.click("nav >> text=History")
    page.wait_for_selector(".painting")
    assert page.locator(".painting").count() == 1
    assert page.inner_text(".painting .chip") == "tiny"
    visit.check(gate)


def test_a_fleet_is_joined_taken_part_in_and_left(visit: Visit, gate: Gate) -> None:
    visit.page.set_viewport_size(PHONE)
    page = enter(visit, gate)
    page.click("nav >> text=Privacy")
    page.click("#fleet-open summary")
    page.click("#fleet-join")
    page.wait_for_selector("#fleet-wrong >> text=address is missing")
    for name, value in {"server": "fleet.example.org:39300", "code": "old", "photos": "~/a", "art": "~/b"}.items():
        page.fill(f"#fleet-{name}", value)
    page.focus("#fleet-code")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fleet-wrong >> text=used up. Ask the operator for a new one.")
    assert page.input_value("#fleet-photos") == "~/a", "what was typed stays"
    assert overflow(page) == 0
    page.fill("#fleet-code", "right code")
    page.click("#fleet-join")
    page.wait_for_selector("#fleet >> text=Joined, not taking part now")
    page.wait_for_selector("#fleet-part:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fleet >> text=Taking part")
    page.click("#fleet-part >> text=Stop taking part")
    page.wait_for_selector("#fleet >> text=not taking part now")
    assert overflow(page) == 0
    page.click("#fleet-leave")
    page.click("#confirm-yes")
    page.wait_for_selector(".toast >> text=could not be told")
    page.wait_for_selector("#fleet-open")
    visit.check(gate, refusals=True)


def test_a_pasted_photo_is_painted(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = enter(visit, gate)
    page.evaluate(
        """file => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(file), letter => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], "image.png", { type: "image/png" }));
            window.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
        }""",
        base64.b64encode(picture).decode(),
    )
    page.wait_for_selector("#after:not([hidden])")
    visit.check(gate)


def test_mistakes_are_shown_with_a_hint(visit: Visit, gate: Gate) -> None:
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(b"this is no picture", "x.png")])
    page.wait_for_selector(".toast >> text=not a picture that easel can read")
    assert "JPEG" in page.inner_text(".toast .hint")
    page.click(".toast .close")
    page.wait_for_selector(".toast", state="detached")
    assert page.is_visible("#welcome")
    visit.check(gate, refusals=True)


def test_a_photo_that_opens_ends_complaints_about_others(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(b"this is no picture", "x.png")])
    page.wait_for_selector(".toast >> text=not a picture that easel can read")
    moving, frames = io.BytesIO(), [Image.new("RGB", (40, 30), color) for color in ("teal", "gold")]
    frames[0].save(moving, "GIF", save_all=True, append_images=frames[1:])
    page.set_input_files("#photo-file", [as_file(moving.getvalue(), "wave.gif")])
    page.wait_for_selector(".toast.good >> text=wave holds several pictures; one of them is painted")
    page.wait_for_selector(PAINTED)
    assert not page.query_selector_all(".toast:not(.good)")
    visit.check(gate, refusals=True)


def test_what_is_dropped_from_the_desktop_and_is_no_photo_is_named(visit: Visit, gate: Gate, tmp_path: Path) -> None:
    page = enter(visit, gate)
    (tmp_path / "trip").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.heic").write_bytes(sample("color")[:900])
    for name, said in [
        ("trip", "trip cannot be read"),
        ("notes.txt", "notes.txt is not a picture"),
        ("empty.jpg", "empty.jpg is empty"),
        ("cut.heic", "cut.heic is damaged" if heic.installed() else "cut.heic is a HEIC photo"),
    ]:
        drop_from_disk(page, "#drop-photo", tmp_path / name)
        page.wait_for_selector(f".toast >> text={said}")
    assert "drop the pictures in it" in page.inner_text(".toast >> nth=0")
    drop_from_disk(page, "#drop-photo", tmp_path / "trip", tmp_path / "notes.txt")  # two: pictures of a style
    page.wait_for_selector("#style-dialog .toast >> text=notes.txt is not a picture")
    page.wait_for_selector("#style-dialog .toast >> text=trip cannot be read")
    visit.check(gate, refusals=True)


def test_heic_is_dropped_painted_and_shown(visit: Visit, gate: Gate, tmp_path: Path) -> None:
    if not heic.installed():
        pytest.skip("pi-heif is not installed")
    page = enter(visit, gate)
    (tmp_path / "IMG_1.HEIC").write_bytes(sample("color"))
    drop_from_disk(page, "#drop-photo", tmp_path / "IMG_1.HEIC")
    page.wait_for_selector(PAINTED)
    assert page.get_attribute("#before", "alt") == "The photo IMG_1"
    assert page.evaluate("document.getElementById('before').naturalWidth") == 64
    visit.check(gate)
