# ruff: noqa: E402
"""The studio in a real browser: drop, paint, compare, learn, explain, look back; by mouse, by keyboard, on a phone.

Every test also sees to it that the browser asks nobody but the studio, and that the page logs no error.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("starlette", reason="the studio's extra is not installed")

import torch
from PIL import Image

from client.atelier import Atelier, open_atelier
from client.studio.fleet import Fleet
from client.studio.gate import Gate
from client.studio.service import serving
from client.tasting import Tasting
from shared_model.head import Head
from shared_model.samples import sample_photos

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-domain-reliability --disable-features=OptimizationHints"
).split()
PAINTED = "#download:not([disabled])"
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def atelier(easel_home: Path) -> Atelier:
    return open_atelier(device="cpu")


@pytest.fixture
def gate(atelier: Atelier, command: Callable[[Sequence[str]], list[str]]) -> Iterator[Gate]:
    with serving(atelier, fleet=Fleet(atelier.home.device_folder, command=command)) as opened:
        yield opened


class Visit:
    """A page with what it asked for and what went wrong in it."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self.context = browser.new_context(viewport=DESKTOP, accept_downloads=True, **context)
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page = self.open()

    def open(self) -> Any:
        page = self.context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda line: line.type == "error" and self.wrong.append(line.text))
        return page

    def check(self, gate: Gate, *, refusals: bool = False) -> None:
        outside = [url for url in self.asked if not url.startswith((gate.address, f"blob:{gate.address}"))]
        assert self.asked and not outside
        wrong = [text for text in self.wrong if not (refusals and "Failed to load resource" in text)]
        assert not wrong


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    started = Visit(browser, color_scheme="light")
    yield started
    started.context.close()


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A real photo, small."""
    return _png(sample_photos()[1][0, :, ::2, ::2])


def _png(photo: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((photo.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _file(data: bytes, name: str = "cat.png") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def _drop(page: Any, target: str, *pictures: bytes) -> None:
    """Drop files on an element as a hand would: dragenter, dragover, drop."""
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            files.forEach((file, index) => {
                const bytes = Uint8Array.from(atob(file), letter => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], `cat ${index + 1}.png`, { type: "image/png" }));
            });
            return transfer;
        }""",
        [base64.b64encode(data).decode() for data in pictures],
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event(target, kind, {"dataTransfer": transfer})


def _enter(visit: Visit, gate: Gate) -> Any:
    visit.page.goto(gate.link())
    visit.page.wait_for_selector("html[data-ready]")
    return visit.page


def _overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_drop_paint_compare_and_download(visit: Visit, gate: Gate, picture: bytes, tmp_path: Path) -> None:
    page = _enter(visit, gate)
    assert gate.key not in page.url, "the key leaves the address at once"
    _drop(page, "#drop-photo", picture)
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
    assert _overflow(page) == 0
    visit.check(gate)


def test_own_pictures_are_painted_with_and_learned_from(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(picture)])
    page.wait_for_selector(PAINTED)
    _drop(page, "#open-style", picture, _png(sample_photos()[2][0, :, ::2, ::2]))
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
    page.set_input_files("#style-files", [_file(picture)])
    page.wait_for_selector("#style-pictures li")
    page.fill("#learn-name", "not a name!")
    page.click("#learn-start")
    page.wait_for_selector(".toast >> text=cannot be the name")
    page.fill("#learn-name", "mine")
    page.evaluate("document.querySelector('#learn-seconds').add(new Option('none', '0', true, true))")
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
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(picture)])
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
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(picture)])
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
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(picture)])
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
    page = _enter(visit, gate)
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
    assert _overflow(page) == 0
    page.fill("#fleet-code", "right code")
    page.click("#fleet-join")
    page.wait_for_selector("#fleet >> text=Joined, not taking part now")
    page.wait_for_selector("#fleet-part:focus")
    page.keyboard.press("Enter")
    page.wait_for_selector("#fleet >> text=Taking part")
    page.click("#fleet-part >> text=Stop taking part")
    page.wait_for_selector("#fleet >> text=not taking part now")
    assert _overflow(page) == 0
    page.click("#fleet-leave")
    page.click("#confirm-yes")
    page.wait_for_selector(".toast >> text=could not be told")
    page.wait_for_selector("#fleet-open")
    visit.check(gate, refusals=True)


def test_choosing_between_candidates(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(picture)])
    page.wait_for_selector(PAINTED)
    page.click("#open-choose")
    for answers in (1, 2):
        page.wait_for_selector("#candidates button:not([disabled]) >> nth=3")
        assert page.locator("#candidates img[src^='blob:']").count() == 4
        page.keyboard.press("3")
        page.wait_for_selector("#candidates[aria-busy]")
        page.wait_for_selector(f"#choose-told >> text={answers} choice")
    page.click("#choose-use")
    page.wait_for_selector("#choose-dialog", state="hidden")
    page.wait_for_selector(".toast >> text=now starts from what you like")
    page.wait_for_selector(PAINTED)
    page.click("#reset")
    page.wait_for_selector(PAINTED)
    assert page.input_value("#brush") == "100"
    visit.check(gate)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_candidates_with_another_style_mixed_in(
    visit: Visit, gate: Gate, atelier: Atelier, picture: bytes, tiny_head: Head, viewport: dict[str, int]
) -> None:
    for name in ("mine", "other"):
        atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name=name)
    visit.page.set_viewport_size(viewport)
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(picture)])
    page.wait_for_selector(PAINTED)
    page.click("[data-id=mine]")
    page.wait_for_selector(PAINTED)
    page.click("#open-choose")
    four = "#candidates:not([aria-busy]) button:not([disabled]) >> nth=3"
    page.wait_for_selector(four)
    offered = page.evaluate("[...document.querySelector('#choose-partner').options].map(one => one.value)")
    assert sorted(offered) == ["", "other", "tiny"]
    page.focus("#choose-partner")
    page.select_option("#choose-partner", "other")
    page.wait_for_selector("#candidates[aria-busy]")
    page.wait_for_selector(four)
    assert page.evaluate("document.activeElement.id") == "choose-partner", "the focus stays where the owner is"
    page.keyboard.press("2")  # in the list a number chooses no painting
    box = page.locator("#choose-dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= viewport["width"] and _overflow(page) == 0
    for answers in range(1, 5):
        page.click("#candidates button >> nth=3")
        page.wait_for_selector(f"#choose-told >> text={answers} choice")
        page.wait_for_selector(four)
    assert page.is_disabled("#choose-partner") and page.is_visible("#choose-settled")
    assert page.input_value("#choose-partner") == "other"
    best = Tasting(atelier.home).facts("mine")["best"]
    page.click("#choose-use")
    page.wait_for_selector("#choose-dialog", state="hidden")
    page.wait_for_selector(PAINTED)
    assert best["head"].startswith("mix:mine=")
    assert page.evaluate("JSON.parse(sessionStorage.getItem('easel-workplace')).head") == best["head"]
    assert page.locator("[role=radio][data-share]").count() == 2
    page.click("#open-choose")  # the mix is what this head paints, so its owner can go on choosing
    page.wait_for_selector(four)
    page.click("#choose-forget")
    page.wait_for_selector("#choose-settled", state="hidden")
    page.wait_for_selector(four)
    assert page.is_enabled("#choose-partner") and page.input_value("#choose-partner") == ""
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-id=mine][aria-checked=true]")
    visit.check(gate)


def test_by_keyboard_alone(visit: Visit, gate: Gate) -> None:
    page = _enter(visit, gate)

    def go_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                shown = "getComputedStyle(document.activeElement).outlineStyle"
                assert selector == "#slider" or page.evaluate(shown) != "none", f"{selector} shows no focus"
                return
        pytest.fail(f"{selector} cannot be reached with Tab")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    go_to("#samples button")
    page.keyboard.press("Enter")
    page.wait_for_selector(PAINTED)
    go_to("#slider")
    before = page.input_value("#slider")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#slider") == str(int(before) + 1)
    assert "percent painting" in page.get_attribute("#slider", "aria-valuetext")
    go_to("#keep-color")
    page.keyboard.press("Space")
    page.wait_for_selector("#download[disabled]")
    page.wait_for_selector(PAINTED)
    page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('Painted')")
    go_to("#download")
    with page.expect_download():
        page.keyboard.press("Enter")
    page.goto(gate.address + "#history")
    page.wait_for_selector(".painting >> nth=1")
    go_to(".tools .danger")
    page.keyboard.press("Enter")
    page.wait_for_selector("#confirm-dialog[open]")
    page.keyboard.press("Escape")
    assert page.locator(".painting").count() == 2
    go_to(".painting .picture")
    visit.check(gate)


def test_at_phone_width_nothing_overflows(visit: Visit, gate: Gate, picture: bytes) -> None:
    visit.page.set_viewport_size(PHONE)
    page = _enter(visit, gate)
    assert _overflow(page) == 0
    page.set_input_files("#photo-file", [_file(picture, "a very long name " * 8 + ".png")])
    page.wait_for_selector(PAINTED)
    for address in ("#paint", "#history", "#privacy"):
        page.goto(gate.address + address)
        page.wait_for_timeout(200)
        assert _overflow(page) == 0, address
    page.goto(gate.address + "#paint")
    page.click("#open-style")
    box = page.locator("#style-dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    small = page.evaluate(
        """() => [...document.querySelectorAll("#page-paint button, #page-paint select, .top a")]
            .filter(one => one.offsetParent && !one.matches(".remove"))
            .filter(one => one.getBoundingClientRect().height < 36).map(one => one.textContent)"""
    )
    assert small == [], "too small for a thumb"
    visit.check(gate)


def test_every_control_has_a_name_and_every_field_a_label(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(picture)])
    page.wait_for_selector(PAINTED)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a[href], input:not([type=file]), select, [role]")]
            .filter(one => !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length
                || one.getAttribute("aria-labelledby") || one.querySelector("img[alt]:not([alt=''])")
                || ["status", "alert"].includes(one.getAttribute("role"))))
            .map(one => one.outerHTML)"""
    )
    assert [text for text in nameless if "confirm-yes" not in text] == []
    visit.check(gate)


def test_a_pasted_photo_is_painted(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = _enter(visit, gate)
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
    page = _enter(visit, gate)
    page.set_input_files("#photo-file", [_file(b"this is no picture", "x.png")])
    page.wait_for_selector(".toast >> text=not a picture that easel can read")
    assert "JPEG" in page.inner_text(".toast .hint")
    page.click(".toast .close")
    page.wait_for_selector(".toast", state="detached")
    assert page.is_visible("#welcome")
    visit.check(gate, refusals=True)


def test_without_the_key_the_page_stays_locked(visit: Visit, gate: Gate) -> None:
    visit.page.goto(gate.address)
    visit.page.wait_for_selector("#page-locked:not([hidden])")
    assert visit.page.is_hidden("#page-paint")
    visit.page.goto(gate.address + "#key=wrong")
    visit.page.reload()
    visit.page.wait_for_selector("#page-locked:not([hidden])")
    visit.page.goto("about:blank")
    visit.page.goto(gate.ticket_link())
    visit.page.wait_for_selector("html[data-ready]")
    visit.asked = [url for url in visit.asked if url != "about:blank"]
    visit.check(gate, refusals=True)


def test_tabs_do_not_disturb_each_other_and_a_reload_goes_on(visit: Visit, gate: Gate, picture: bytes) -> None:
    one = _enter(visit, gate)
    one.set_input_files("#photo-file", [_file(picture, "first.png")])
    one.wait_for_selector(PAINTED)
    other = visit.open()
    other.goto(gate.address)
    other.wait_for_selector("html[data-ready]")
    assert other.is_visible("#welcome"), "the key is there, the photo of the other tab is not"
    other.set_input_files("#photo-file", [_file(_png(sample_photos()[2][0, :, ::2, ::2]), "second.png")])
    other.wait_for_selector(PAINTED)
    one.reload()
    one.wait_for_selector(PAINTED)
    assert "first" in one.get_attribute("#before", "alt")
    visit.check(gate)


def test_another_page_of_this_computer_gets_nothing(browser: Any, visit: Visit, gate: Gate) -> None:
    """A page on another port, as a malicious one would be, asks the studio in every way a browser allows."""
    _enter(visit, gate)
    foreign = visit.open()
    foreign.route(
        "http://127.0.0.1:1/", lambda route: route.fulfill(body="<title>foreign</title>", content_type="text/html")
    )
    foreign.goto("http://127.0.0.1:1/")
    got = foreign.evaluate(
        """async address => {
            const tried = {};
            const attempt = async (name, path, init) => {
                try {
                    const answer = await fetch(address + path, init);
                    tried[name] = answer.type === "opaque" ? "opaque" : answer.status;
                } catch {
                    tried[name] = "blocked";
                }
            };
            await attempt("read", "api/state", {});
            await attempt("cookies", "api/state", { credentials: "include" });
            await attempt("header", "api/state", { headers: { "X-Easel-Key": "x" } });
            await attempt("form", "api/everything", { method: "POST", mode: "no-cors", body: "{}" });
            await attempt("blind", "app.js", { mode: "no-cors" });
            return tried;
        }""",
        gate.address,
    )
    assert got == dict.fromkeys(("read", "cookies", "header", "blind"), "blocked") | {"form": "blocked"}
