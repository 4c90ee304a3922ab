"""Driving the studio's page in a real browser: a visit that notes what was asked for and what went wrong."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tests.client.studio.asking import png

if TYPE_CHECKING:
    from client.studio.gate import Gate

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-domain-reliability --disable-features=OptimizationHints"
).split()
PAINTED = "#download:not([disabled])"
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


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


def as_png(photo: torch.Tensor) -> bytes:
    return png((photo.permute(1, 2, 0).numpy() * 255).astype(np.uint8))


def as_file(data: bytes, name: str = "cat.png") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": data}


def drop(page: Any, target: str, *pictures: bytes) -> None:
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


def drop_from_disk(page: Any, target: str, *paths: Path) -> None:
    """Drop files and folders as they come from the desktop: the page gets what the browser makes of their paths."""
    box = page.locator(target).bounding_box()
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})


def enter(visit: Visit, gate: Gate) -> Any:
    visit.page.goto(gate.link())
    visit.page.wait_for_selector("html[data-ready]")
    return visit.page


def overflow(page: Any) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
