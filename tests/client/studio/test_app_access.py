"""The studio over HTTP: the gate in front of every address, limits and garbage."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.testclient import TestClient

from client.studio.app import page_files
from client.studio.desk import Desk
from client.studio.gate import Gate
from client.studio.intake import MAX_JSON_BYTES, MAX_UPLOAD_BYTES
from tests.client.studio.asking import BASE, error


def _every_address(desk: Desk) -> list[tuple[str, str]]:
    found = []
    for route in desk.routes():
        path = route.path.replace("{number:int}", "0").replace("{id}", "a" * 24).replace("{head}", "tiny")
        found += [(method, path) for method in sorted((route.methods or set()) - {"HEAD"})]
    return found


def test_no_address_answers_without_the_key(stranger: TestClient, desk: Desk) -> None:
    addresses = _every_address(desk)
    assert len(addresses) > 20
    for method, path in addresses:
        assert stranger.request(method, path, headers={"origin": BASE}).status_code == 401, path
    assert not list((desk.atelier.gallery.folder / "photos").iterdir())


def test_no_address_answers_a_foreign_host_or_origin(page: TestClient, desk: Desk) -> None:
    for method, path in _every_address(desk):
        assert page.request(method, path, headers={"host": "evil.example:8700"}).status_code == 421, path
        assert page.request(method, path, headers={"origin": "http://evil.example"}).status_code == 403, path
        assert page.request(method, path, headers={"sec-fetch-site": "cross-site"}).status_code == 403, path


def test_a_form_of_another_page_changes_nothing(stranger: TestClient, desk: Desk) -> None:
    for headers in ({}, {"origin": "null"}, {"origin": "http://127.0.0.1:9000"}):
        for body in ({"data": {"name": "x"}}, {"content": b"{}"}, {"files": {"file": b"x"}}):
            answer = stranger.post("/api/photos", headers=headers, **body)
            assert answer.status_code == 403


def test_a_header_given_twice_counts_as_none(page: TestClient) -> None:
    for name, value in (("host", "127.0.0.1:8700"), ("origin", BASE)):
        answer = page.get("/api/state", headers=[(name, value), (name, value)])
        assert answer.status_code in (403, 421)


def test_every_answer_forbids_storing_framing_and_loading_from_elsewhere(
    page: TestClient, stranger: TestClient, photo: str
) -> None:
    answers = [page.get(path) for path in ("/", "/app.js", "/api/state", "/api/none", f"/api/photos/{photo}/view")]
    answers += [stranger.get("/api/state"), stranger.get("/", headers={"host": "evil.example"})]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';") and "unsafe" not in policy and "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers and "set-cookie" not in answer.headers


def test_the_empty_page_needs_no_key_and_names_no_other_address(stranger: TestClient) -> None:
    for path, (content, kind) in page_files().items():
        answer = stranger.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        text = content.decode("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//cdn" not in text, path
        assert "innerHTML" not in text and "eval(" not in text and " style=" not in text, path


@pytest.mark.parametrize(
    "path", ["/../app.py", "/..%2fapp.py", "/static/app.js", "//etc/passwd", "/%2e%2e/desk.py", "/index.html", "/x.js"]
)
def test_nothing_but_the_page_is_served(page: TestClient, path: str) -> None:
    error(page.get(path), 404)


def test_a_ticket_opens_the_page_once(stranger: TestClient, door: Gate) -> None:
    ticket = door.ticket_link().partition("#ticket=")[2]
    asked = {"content": json.dumps({"ticket": ticket}), "headers": {"origin": BASE}}
    assert stranger.post("/api/session", **asked).json() == {"key": door.key}  # type: ignore[arg-type]
    error(stranger.post("/api/session", **asked), 401)  # type: ignore[arg-type]
    error(stranger.post("/api/session", content="{}", headers={"origin": BASE}), 400)
    error(stranger.post("/api/session", content=json.dumps({"ticket": ticket})), 403)


def test_an_upload_is_cut_off_at_the_limit(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    error(page.post("/api/photos", content=b"x", headers={"content-length": str(MAX_UPLOAD_BYTES + 1)}), 413)
    monkeypatch.setattr("client.studio.intake.MAX_UPLOAD_BYTES", 1000)
    sent = []

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b"x" * 100

    error(page.post("/api/photos", content=endless()), 413)
    error(page.post("/api/preview", content=b" " * (MAX_JSON_BYTES + 1)), 413)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, b"\xff\xd8\xff\xe0" + b"\0" * 50, b"<svg xmlns='http://x'/>", b"%!PS\n"]
)
def test_what_is_no_picture_is_refused_with_a_hint(page: TestClient, desk: Desk, data: bytes) -> None:
    assert error(page.post("/api/photos", content=data), 400)["hint"]
    assert not list((desk.atelier.gallery.folder / "photos").iterdir())


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 60_000, b'{"photo": 1}', b'{"photo": {}}']
)
@pytest.mark.parametrize("path", ["/api/preview", "/api/paint", "/api/explain", "/api/styles", "/api/heads"])
def test_garbage_is_refused(page: TestClient, path: str, body: bytes) -> None:
    error(page.post(path, content=body), 400)


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 2},
        {"strength": "much"},
        {"strength": None},
        {"detail": -1},
        {"keep_color": 1},
        {"size_px": 1},
        {"size_px": 10**9},
        {"seed": -1},
        {"seed": 1.5},
        {"unknown": 1},
        [],
        "x",
    ],
)
def test_options_out_of_range_are_refused(page: TestClient, photo: str, options: object) -> None:
    error(page.post("/api/paint", json={"photo": photo, "head": "tiny", "options": options}), 400)


def test_nan_is_refused(page: TestClient, photo: str) -> None:
    asked = {"photo": photo, "head": "tiny", "options": {"strength": float("nan")}}
    error(page.post("/api/paint", content=json.dumps(asked)), 400)


@pytest.mark.parametrize("name", ["../x", "", "a b", "con", "x" * 65])
def test_bad_names_of_heads_are_refused_before_any_work(page: TestClient, photo: str, name: str) -> None:
    error(page.post("/api/heads", json={"pictures": [photo], "name": name, "seconds": 0}), 400)


@pytest.mark.parametrize("seconds", [-1, 1e9, "x", True, None])
def test_learning_has_a_limit(page: TestClient, photo: str, seconds: object) -> None:
    error(page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": seconds}), 400)


@pytest.mark.parametrize("strokes", ["thick", "", 1, None])
def test_strokes_are_fine_or_broad(page: TestClient, photo: str, strokes: object) -> None:
    error(page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": 0, "strokes": strokes}), 400)


def test_ids_that_are_none_lead_nowhere(page: TestClient) -> None:
    for path in ("/api/photos/{}", "/api/photos/{}/view", "/api/paintings/{}/file", "/api/paintings/{}/view"):
        for name in ("..%2f..%2fheads%2fx", "a" * 23, "..", "%00", "A" * 24):
            assert page.get(path.format(name)).status_code in (400, 404)
        error(page.get(path.format("a" * 24)), 404)
    error(page.get("/api/jobs/none"), 404)
    error(page.get("/api/heads/none/view"), 404)
    error(page.delete("/api/heads/tiny"), 400)
