"""Choosing between candidates in a real browser, and what goes wrong while a dialog is open."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")


from client.atelier import Atelier
from client.studio.gate import Gate
from client.tasting import Tasting
from shared_model.head import Head
from tests.client.studio.browsing import DESKTOP, PAINTED, PHONE, Visit, as_file, enter, overflow

FOUR = "#candidates:not([aria-busy]) button:not([disabled]) >> nth=3"  # four candidates wait for a choice
IN_FRONT = """selector => {
    const one = document.querySelector(selector), box = one.getBoundingClientRect();
    return one.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
}"""


def test_choosing_between_candidates(visit: Visit, gate: Gate, picture: bytes) -> None:
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(picture)])
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


def choose_with_mine(page: Any, picture: bytes) -> None:
    """Drop a photo, take the head `mine` and open the choice between four candidates."""
    page.set_input_files("#photo-file", [as_file(picture)])
    page.wait_for_selector(PAINTED)
    page.click("[data-id=mine]")
    page.wait_for_selector(PAINTED)
    page.click("#open-choose")
    page.wait_for_selector(FOUR)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_candidates_with_another_style_mixed_in(
    visit: Visit, gate: Gate, atelier: Atelier, picture: bytes, tiny_head: Head, viewport: dict[str, int]
) -> None:
    for name in ("mine", "other"):
        atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name=name)
    visit.page.set_viewport_size(viewport)
    page = enter(visit, gate)
    choose_with_mine(page, picture)
    offered = page.evaluate("[...document.querySelector('#choose-partner').options].map(one => one.value)")
    assert sorted(offered) == ["", "other", "tiny"]
    page.focus("#choose-partner")
    page.select_option("#choose-partner", "other")
    page.wait_for_selector("#candidates[aria-busy]")
    page.wait_for_selector(FOUR)
    assert page.evaluate("document.activeElement.id") == "choose-partner", "the focus stays where the owner is"
    page.keyboard.press("2")  # in the list a number chooses no painting
    box = page.locator("#choose-dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= viewport["width"] and overflow(page) == 0
    for answers in range(1, 5):
        page.click("#candidates button >> nth=3")
        page.wait_for_selector(f"#choose-told >> text={answers} choice")
        page.wait_for_selector(FOUR)
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
    page.wait_for_selector(FOUR)
    page.click("#choose-forget")
    page.wait_for_selector("#choose-settled", state="hidden")
    page.wait_for_selector(FOUR)
    assert page.is_enabled("#choose-partner") and page.input_value("#choose-partner") == ""
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-id=mine][aria-checked=true]")
    visit.check(gate)


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_what_goes_wrong_in_a_dialog_is_in_front_of_it(
    visit: Visit, gate: Gate, picture: bytes, viewport: dict[str, int]
) -> None:
    visit.page.set_viewport_size(viewport)
    page = enter(visit, gate)
    page.set_input_files("#photo-file", [as_file(picture)])
    page.wait_for_selector(PAINTED)
    page.click("#open-style")
    page.set_input_files("#style-files", [as_file(b"this is no picture", "x.png")])
    page.wait_for_selector(".toast >> text=not a picture that easel can read")
    assert page.evaluate(IN_FRONT, ".toast strong") and page.evaluate(IN_FRONT, ".toast .close")
    assert page.evaluate("document.querySelector('#status').closest('dialog').id") == "style-dialog", "is read out"
    page.keyboard.press("Escape")
    page.wait_for_selector("#style-dialog", state="hidden")
    page.wait_for_function(IN_FRONT, arg=".toast strong")  # it outlives the dialog, whose end is told a moment later
    page.click("#open-style")
    page.click(".toast .close")  # a click that the dialog's backdrop would swallow
    page.wait_for_selector(".toast", state="detached")
    visit.check(gate, refusals=True)


def test_another_tab_mixes_in_another_head_meanwhile(
    visit: Visit, gate: Gate, atelier: Atelier, picture: bytes, tiny_head: Head
) -> None:
    for name in ("mine", "other", "third"):
        atelier.home.save_head(dataclasses.replace(tiny_head, modulation=tiny_head.modulation + 1), name=name)
    page = enter(visit, gate)
    choose_with_mine(page, picture)
    page.select_option("#choose-partner", "other")
    page.wait_for_selector("#candidates[aria-busy]")
    page.wait_for_selector(FOUR)
    tasting = Tasting(atelier.home)
    tasting.candidates("mine", partner="third")
    page.click("#candidates button >> nth=2")
    page.wait_for_selector(".toast >> text=Look at new candidates")
    assert page.evaluate(IN_FRONT, ".toast .hint")
    page.wait_for_selector(FOUR)
    assert page.input_value("#choose-partner") == "third" and tasting.facts("mine")["answers"] == 0
    page.click("#candidates button >> nth=2")
    page.wait_for_selector("#choose-told >> text=1 choice")
    visit.check(gate, refusals=True)
