"""Who can use the studio's page, in a real browser: by keyboard, on a phone, in two tabs; and who cannot."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")


from client.studio.gate import Gate
from shared_model.samples import sample_photos
from tests.client.studio.browsing import PAINTED, PHONE, Visit, as_file, as_png, enter, overflow


def test_by_keyboard_alone(visit: Visit, gate: Gate) -> None:
    page = enter(visit, gate)

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
    page = enter(visit, gate)
    assert overflow(page) == 0
    page.set_input_files("#photo-file", [as_file(picture, "a very long name " * 8 + ".png")])
    page.wait_for_selector(PAINTED)
    for address in ("#paint", "#history", "#privacy"):
        page.goto(gate.address + address)
        page.wait_for_timeout(200)
        assert overflow(page) == 0, address
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
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(picture)])
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
    one = enter(visit, gate)
    one.set_input_files("#photo-file", [as_file(picture, "first.png")])
    one.wait_for_selector(PAINTED)
    other = visit.open()
    other.goto(gate.address)
    other.wait_for_selector("html[data-ready]")
    assert other.is_visible("#welcome"), "the key is there, the photo of the other tab is not"
    other.set_input_files("#photo-file", [as_file(as_png(sample_photos()[2][0, :, ::2, ::2]), "second.png")])
    other.wait_for_selector(PAINTED)
    one.reload()
    one.wait_for_selector(PAINTED)
    assert "first" in one.get_attribute("#before", "alt")
    visit.check(gate)


def test_another_page_of_this_computer_gets_nothing(browser: Any, visit: Visit, gate: Gate) -> None:
    """A page on another port, as a malicious one would be, asks the studio in every way a browser allows."""
    enter(visit, gate)
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
