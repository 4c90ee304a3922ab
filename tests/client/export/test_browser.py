"""The static page paints with an exported head in a real browser, and asks nobody outside of its folder."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from client.export.check import Runner
from client.export.graph import assemble
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.head import Head
from shared_model.images import load_picture, save_picture, to_tensor

PAGE = Path(__file__).resolve().parents[3] / "examples" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FILES = ("index.html", "page.css", "page.js", "painter.js")


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    for name in FILES:
        text = (PAGE / name).read_text(encoding="utf-8")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text, name
    assert "default-src 'none'" in (PAGE / "index.html").read_text(encoding="utf-8")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """The page in a folder of its own, served on loopback; what was asked for is listed."""
    if not (PAGE / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not there: run `npm install` in examples/browser")
    folder = tmp_path / "site"
    folder.mkdir()
    for name in FILES:
        shutil.copy2(PAGE / name, folder / name)
    (folder / "node_modules").symlink_to(PAGE / "node_modules")
    handler = type("Handler", (_Quiet,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/", handler.asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_photo_is_painted_in_chromium_as_by_onnxruntime(
    site: tuple[Path, str, list[str]], backbone: Backbone, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    pytest.importorskip("onnxscript", reason="the extra `export` is not installed")
    from skimage import data

    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    folder, address, asked = site
    config = HeadConfig(canvas_px=192, levels=3, patch=5, atoms=32, components=6, candidates=128)
    head = Head.fit([to_tensor(data.coffee())], backbone=backbone, config=config)
    model = assemble(head, backbone=backbone)
    (folder / "model.onnx").write_bytes(model)
    photo = data.chelsea()[:200, 60:360]
    picture = save_picture(tmp_path / "photo.png", photo)
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        elsewhere: list[str] = []
        page.on("request", lambda request: elsewhere.append(request.url))
        page.goto(address)
        page.set_input_files("#photo", str(picture))
        page.get_by_text("Ready to paint").wait_for()
        page.click("#paint")
        page.get_by_text("Painted in").wait_for(timeout=600_000)
        with page.expect_download() as saved:
            page.click("#save")
        painting = load_picture(Path(saved.value.path()).read_bytes()).rgb
        page.screenshot(path=str(tmp_path / "page.png"))
        browser.close()
    assert not problems
    assert all(url.startswith((address, "blob:", "data:")) for url in elsewhere), elsewhere
    assert "/model.onnx" in asked
    wanted = Runner(model).paint(to_tensor(photo))
    apart = np.abs(painting.astype(float) - 255 * wanted[0].permute(1, 2, 0).numpy())
    assert apart.mean() < 0.75 and (apart > 3).mean() < 0.02
    assert (to_tensor(painting) - to_tensor(photo)).abs().mean() > 0.02
