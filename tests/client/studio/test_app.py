"""The studio over HTTP: the gate in front of every address, limits, garbage, and the whole way from photo to file."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from PIL import Image
from starlette.testclient import TestClient

from client.atelier import open_atelier
from client.preferences import Preferences
from client.recipe import Recipe
from client.studio.app import build_app, page_files
from client.studio.desk import Desk
from client.studio.gate import KEY_HEADER, Gate
from client.studio.intake import MAX_JSON_BYTES, MAX_UPLOAD_BYTES
from client.studio.jobs import Jobs
from client.style_names import parts_of
from shared_model.errors import StorageError
from shared_model.head import Head

BASE = "http://127.0.0.1:8700"
Pictures = Callable[..., np.ndarray]


@pytest.fixture
def gate() -> Gate:
    return Gate(8700)


@pytest.fixture
def desk(easel_home: Path) -> Iterator[Desk]:
    jobs = Jobs(limit=4)
    yield Desk(open_atelier(device="cpu"), jobs=jobs)
    jobs.close()


@pytest.fixture
def page(desk: Desk, gate: Gate) -> TestClient:
    """The studio's own page: right host, origin and key."""
    headers = {"origin": BASE, KEY_HEADER: gate.key}
    return TestClient(build_app(desk, gate=gate), base_url=BASE, headers=headers, raise_server_exceptions=False)


@pytest.fixture
def stranger(desk: Desk, gate: Gate) -> TestClient:
    """Anything else on this computer."""
    return TestClient(build_app(desk, gate=gate), base_url=BASE, raise_server_exceptions=False)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def photo(page: TestClient, smooth: Pictures) -> str:
    answer = page.post("/api/photos", content=_png(smooth(11)), headers={"x-easel-name": "at%20the%20sea.png"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def _finished(page: TestClient, started: Any) -> dict[str, Any]:
    assert started.status_code == 202, started.text
    job: dict[str, Any] = started.json()
    deadline = time.monotonic() + 60
    while job["state"] not in ("done", "failed", "stopped"):
        assert time.monotonic() < deadline
        job = page.get(f"/api/jobs/{job['id']}?since={job['version']}").json()
    return job


def _error(answer: Any, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    told: dict[str, str] = answer.json()["error"]
    assert told["message"] and set(told) == {"message", "hint", "kind"}
    assert "Traceback" not in answer.text
    return told


# ---- who gets in


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
    _error(page.get(path), 404)


def test_a_ticket_opens_the_page_once(stranger: TestClient, gate: Gate) -> None:
    ticket = gate.ticket_link().partition("#ticket=")[2]
    asked = {"content": json.dumps({"ticket": ticket}), "headers": {"origin": BASE}}
    assert stranger.post("/api/session", **asked).json() == {"key": gate.key}  # type: ignore[arg-type]
    _error(stranger.post("/api/session", **asked), 401)  # type: ignore[arg-type]
    _error(stranger.post("/api/session", content="{}", headers={"origin": BASE}), 400)
    _error(stranger.post("/api/session", content=json.dumps({"ticket": ticket})), 403)


# ---- limits and garbage


def test_an_upload_is_cut_off_at_the_limit(page: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    _error(page.post("/api/photos", content=b"x", headers={"content-length": str(MAX_UPLOAD_BYTES + 1)}), 413)
    monkeypatch.setattr("client.studio.intake.MAX_UPLOAD_BYTES", 1000)
    sent = []

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            sent.append(1)
            yield b"x" * 100

    _error(page.post("/api/photos", content=endless()), 413)
    _error(page.post("/api/preview", content=b" " * (MAX_JSON_BYTES + 1)), 413)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, b"\xff\xd8\xff\xe0" + b"\0" * 50, b"<svg xmlns='http://x'/>", b"%!PS\n"]
)
def test_what_is_no_picture_is_refused_with_a_hint(page: TestClient, desk: Desk, data: bytes) -> None:
    assert _error(page.post("/api/photos", content=data), 400)["hint"]
    assert not list((desk.atelier.gallery.folder / "photos").iterdir())


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 60_000, b'{"photo": 1}', b'{"photo": {}}']
)
@pytest.mark.parametrize("path", ["/api/preview", "/api/paint", "/api/explain", "/api/styles", "/api/heads"])
def test_garbage_is_refused(page: TestClient, path: str, body: bytes) -> None:
    _error(page.post(path, content=body), 400)


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
    _error(page.post("/api/paint", json={"photo": photo, "head": "tiny", "options": options}), 400)


def test_nan_is_refused(page: TestClient, photo: str) -> None:
    asked = {"photo": photo, "head": "tiny", "options": {"strength": float("nan")}}
    _error(page.post("/api/paint", content=json.dumps(asked)), 400)


@pytest.mark.parametrize("name", ["../x", "", "a b", "con", "x" * 65])
def test_bad_names_of_heads_are_refused_before_any_work(page: TestClient, photo: str, name: str) -> None:
    _error(page.post("/api/heads", json={"pictures": [photo], "name": name, "seconds": 0}), 400)


@pytest.mark.parametrize("seconds", [-1, 1e9, "x", True, None])
def test_learning_has_a_limit(page: TestClient, photo: str, seconds: object) -> None:
    _error(page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": seconds}), 400)


def test_ids_that_are_none_lead_nowhere(page: TestClient) -> None:
    for path in ("/api/photos/{}", "/api/photos/{}/view", "/api/paintings/{}/file", "/api/paintings/{}/view"):
        for name in ("..%2f..%2fheads%2fx", "a" * 23, "..", "%00", "A" * 24):
            assert page.get(path.format(name)).status_code in (400, 404)
        _error(page.get(path.format("a" * 24)), 404)
    _error(page.get("/api/jobs/none"), 404)
    _error(page.get("/api/heads/none/view"), 404)
    _error(page.delete("/api/heads/tiny"), 400)


def test_heads_are_mixed_and_the_mix_is_in_the_history(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head, tmp_path: Path
) -> None:
    desk.atelier.home.save_head(replace(tiny_head, modulation=tiny_head.modulation + 1), name="mine")
    done = _finished(page, page.post("/api/paint", json={"photo": photo, "head": "mix:tiny=30,mine=10"}))
    assert done["result"]["head"] == "mix:tiny=30,mine=10"
    file = page.get(f"/api/paintings/{done['result']['id']}/file").content
    (tmp_path / "painting.png").write_bytes(file)
    assert Recipe.read(tmp_path / "painting.png").mix == (("tiny", 0.75), ("mine", 0.25))
    failed = _finished(page, page.post("/api/explain", json={"photo": photo, "head": "mix:tiny=30,mine=10"}))
    assert "cannot be followed" in failed["error"]["message"]
    alone = _finished(page, page.post("/api/preview", json={"photo": photo, "head": "mix:tiny=30,mine=0"}))
    assert alone["state"] == "done"


@pytest.mark.parametrize(
    "mix",
    [
        *("mix:", "mix:tiny=nan,tiny=1", "mix:tiny=0", "mix:tiny=-1,tiny=2", "mix:tiny=1,none=1", "mix:tiny=inf,x=1"),
        *("mix:tiny", "mix:../x=1,tiny=1", "mix:" + ",".join(f"h{n}=1" for n in range(90))),
    ],
)
def test_a_mix_that_makes_no_sense_fails_with_words(page: TestClient, photo: str, mix: str) -> None:
    done = _finished(page, page.post("/api/preview", json={"photo": photo, "head": mix}))
    if mix == "mix:tiny":  # one head that counts all
        assert done["state"] == "done"
    else:
        assert done["state"] == "failed" and "inside easel" not in done["error"]["message"], done


def test_a_running_painting_can_be_given_up(page: TestClient, desk: Desk, photo: str) -> None:
    begun, go = threading.Event(), threading.Event()
    stylize = desk.atelier.engine.stylize

    def slow(*given: Any, watch: Callable[[float], None], **more: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return stylize(*given, watch=watch, **more)

    desk.atelier.engine.stylize = slow  # type: ignore[method-assign]
    started = page.post("/api/paint", json={"photo": photo, "head": "tiny"})
    assert begun.wait(20)
    page.delete(f"/api/jobs/{started.json()['id']}")
    go.set()
    assert _finished(page, started)["state"] == "stopped"
    assert page.get("/api/paintings").json()["paintings"] == []


@pytest.mark.parametrize("too", [False, True])
def test_a_deleted_head_leaves_paintings_or_takes_them_along(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head, too: bool
) -> None:
    desk.atelier.home.save_head(replace(tiny_head, modulation=tiny_head.modulation + 1), name="mine")
    for head in ("tiny", "mine", "mix:tiny=1,mine=1"):
        assert _finished(page, page.post("/api/paint", json={"photo": photo, "head": head}))["state"] == "done"
    assert page.get("/api/heads/mine/view").status_code == 200
    views = set((desk.atelier.gallery.folder / "views").iterdir())
    left = page.delete(f"/api/heads/mine{'?paintings' if too else ''}").json()["heads"]
    assert [one["id"] for one in left] == ["tiny"]
    assert len(views - set((desk.atelier.gallery.folder / "views").iterdir())) == 1, "what shows the head goes with it"
    kept = {one["head"] for one in page.get("/api/paintings").json()["paintings"]}
    assert kept == ({"tiny"} if too else {"tiny", "mine", "mix:tiny=1,mine=1"})


def test_too_much_work_is_refused(page: TestClient, desk: Desk, photo: str) -> None:
    go = threading.Event()
    desk.jobs.submit("paint", lambda job: bool(go.wait(10)))
    asked = [
        page.post("/api/paint", json={"photo": photo, "head": "tiny", "options": {"seed": seed}}) for seed in range(8)
    ]
    go.set()
    statuses = [answer.status_code for answer in asked]
    assert statuses.count(202) in (4, 5) and statuses[-1] == 429
    assert "hands full" in _error(asked[-1], 429)["message"]


def test_a_full_disk_and_an_accident_are_told_without_a_traceback(
    page: TestClient, desk: Desk, smooth: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **named: object) -> None:
        raise StorageError("cannot write: no space left", hint="free some space")

    monkeypatch.setattr("client.gallery.write_atomic", full)
    assert _error(page.post("/api/photos", content=_png(smooth(1))), 507)["hint"] == "free some space"
    monkeypatch.setattr(desk.atelier, "heads", lambda: 1 / 0)
    assert "report" in _error(page.get("/api/heads"), 500)["hint"]


# ---- the whole way


def test_from_a_photo_to_a_file_and_away_again(page: TestClient, desk: Desk, photo: str) -> None:
    state = page.get("/api/state").json()
    assert [head["id"] for head in state["heads"]] == ["tiny"] and state["device"] == "cpu"
    assert page.get(f"/api/photos/{photo}").json() == {"id": photo, "name": "at the sea", "width": 56, "height": 40}
    asked = {"photo": photo, "head": "tiny", "options": {"strength": 0.5, "seed": 2}, "tab": "t"}
    small = _finished(page, page.post("/api/preview", json=asked))
    view = page.get(f"/api/jobs/{small['id']}/picture")
    assert small["state"] == "done" and view.headers["content-type"] == "image/jpeg"
    painting = _finished(page, page.post("/api/paint", json=asked))["result"]
    file = page.get(f"/api/paintings/{painting['id']}/file")
    inside = json.loads(Image.open(io.BytesIO(file.content)).info["easel"])["easel"]
    assert (inside["head"], inside["options"]["strength"]) == ("tiny", 0.5)
    listed = page.get("/api/paintings").json()
    assert [one["id"] for one in listed["paintings"]] == [painting["id"]] and listed["paintings"][0]["photo_there"]
    assert page.post(f"/api/paintings/{painting['id']}", json={"kept": True}).json()["kept"]
    _error(page.post(f"/api/paintings/{painting['id']}", json={"kept": "yes"}), 400)
    explained = _finished(page, page.post("/api/explain", json=asked))
    assert explained["result"]["sources"][0]["share"] == 1.0
    assert page.get(f"/api/jobs/{explained['id']}/picture").headers["content-type"] == "image/png"
    page.delete(f"/api/paintings/{painting['id']}")
    assert page.get("/api/paintings").json()["paintings"] == []
    assert page.delete("/api/everything").json()["stored"]["bytes"] == 0
    _error(page.get(f"/api/photos/{photo}/view"), 404)


def test_styles_and_heads_are_made_and_deleted(page: TestClient, photo: str) -> None:
    style = _finished(page, page.post("/api/styles", json={"pictures": [photo]}))["result"]["head"]
    assert style.startswith("style:")
    painted = _finished(page, page.post("/api/paint", json={"photo": photo, "head": style, "options": {}}))
    assert painted["state"] == "done"
    started = page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": 300})
    page.delete(f"/api/jobs/{started.json()['id']}")
    made = _finished(page, started)
    if made["state"] == "done":  # had started: ends early with the best so far
        assert made["result"]["stopped"]
    else:
        made = _finished(page, page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": 0}))
    assert made["result"]["head"] == "mine"
    _error(page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": 0}), 400)
    kinds = {head["id"]: head["kind"] for head in page.get("/api/heads").json()["heads"]}
    assert kinds == {style: "style", "mine": "own", "tiny": "shipped"}
    assert page.get(f"/api/heads/{style}/view").status_code == 200
    for head in ("mine", style):
        page.delete(f"/api/heads/{head}")
    assert [head["id"] for head in page.get("/api/heads").json()["heads"]] == ["tiny"]


def test_choices_are_asked_for_learned_from_and_forgotten(page: TestClient, desk: Desk, photo: str) -> None:
    asked = {"photo": photo, "head": "tiny", "options": {"size_px": 64, "seed": 3}}
    job = _finished(page, page.post("/api/candidates", json=asked))
    assert job["state"] == "done" and job["pictures"] == 4, job
    shown = job["result"]["shown"]
    assert len(shown) == 4 and all(shown.count(one) == 1 for one in shown)
    assert page.get(f"/api/jobs/{job['id']}/picture?number=3").headers["content-type"] == "image/jpeg"
    _error(page.get(f"/api/jobs/{job['id']}/picture?number=4"), 404)
    facts = page.post("/api/choices", json={"head": "tiny", "shown": shown, "order": [2]}).json()
    assert facts["answers"] == 1 and set(facts["best"]) == {"head", "options", "look"}
    path = desk.atelier.home.preferences_path("tiny")
    assert path.is_file() and path.stat().st_mode & 0o077 == 0
    assert page.get("/api/heads").json()["heads"][0]["usual"] is None
    applied = page.post("/api/choices/tiny", json={}).json()["best"]
    assert page.get("/api/heads").json()["heads"][0]["usual"] == applied
    for wrong in ([], [9], [1, 1], ["x"], [True], "x", None):
        _error(page.post("/api/choices", json={"head": "tiny", "shown": shown, "order": wrong}), 400)
    _error(page.post("/api/choices", json={"head": "tiny", "shown": [{"strength": 9}] * 2, "order": [0]}), 400)
    assert page.delete("/api/choices/tiny").json()["answers"] == 0
    assert page.get("/api/heads").json()["heads"][0]["usual"] is None
    assert not path.exists() and page.get("/api/choices/tiny").json()["answers"] == 0
    _error(page.get("/api/choices/style:" + "a" * 24), 400)
    best = page.post("/api/preview", json=asked | {"look": facts["best"]["look"]})
    assert _finished(page, best)["state"] == "done"
    _error(page.post("/api/preview", json=asked | {"look": {"brush": 99}}), 400)


def test_candidates_mix_in_a_partner_that_the_owner_picks(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head
) -> None:
    home = desk.atelier.home
    for name in ("mine", "other"):
        home.save_head(replace(tiny_head, modulation=tiny_head.modulation + 1), name=name)
    asked = {"photo": photo, "head": "mine", "options": {}}
    alone = _finished(page, page.post("/api/candidates", json=asked))["result"]
    assert alone["partner"] == "" and not any(one["share"] for one in alone["shown"])
    job = _finished(page, page.post("/api/candidates", json=asked | {"partner": "other"}))
    told = job["result"]
    assert job["state"] == "done" and job["pictures"] == 4, job
    assert told["partner"] == "other" and not told["settled"] and any(one["share"] for one in told["shown"])
    again = _finished(page, page.post("/api/candidates", json=asked))["result"]
    assert again["partner"] == "other", "it is remembered"
    most = max(range(4), key=lambda number: told["shown"][number]["share"])
    answer = {"head": "mine", "shown": told["shown"], "order": [most]}
    for wrong in ({"partner": "tiny"}, {"partner": ""}, {}):
        _error(page.post("/api/choices", json=answer | wrong), 400)
    for _ in range(4):
        facts = page.post("/api/choices", json=answer | {"partner": "other"}).json()
    assert facts["answers"] == 4 and facts["settled"] and facts["partner"] == "other"
    best = page.post("/api/choices/mine", json={}).json()["best"]
    known = Preferences.load(home.preferences_path("mine"))
    assert known.defaults == known.best() and known.defaults.share > 0, "as easel prefer --apply has it"
    assert dict(parts_of(best["head"])) == pytest.approx(
        {"mine": 1 - known.defaults.share, "other": known.defaults.share}
    )
    assert desk.bench.tasting.usual("mine") == best
    other = _finished(page, page.post("/api/candidates", json=asked | {"partner": "tiny"}))
    assert other["state"] == "failed" and "'other'" in other["error"]["message"]
    home.delete_head("other")
    left = _finished(page, page.post("/api/candidates", json=asked))
    assert left["state"] == "done" and left["result"]["partner"] == "" and left["result"]["settled"]
    assert desk.bench.tasting.usual("mine")["head"] == "mine"


@pytest.mark.parametrize("partner", ["mine", "nobody", "../tiny", "style:" + "a" * 24])
def test_what_cannot_be_a_partner_is_refused_with_words(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head, partner: str
) -> None:
    desk.atelier.home.save_head(tiny_head, name="mine")
    asked = {"photo": photo, "head": "mine", "options": {}, "partner": partner}
    job = _finished(page, page.post("/api/candidates", json=asked))
    assert job["state"] == "failed" and job["error"]["hint"]
    assert not desk.atelier.home.preferences_path("mine").exists()
    _error(page.post("/api/candidates", json=asked | {"partner": 3}), 400)


def test_a_look_is_part_of_a_painting(page: TestClient, photo: str) -> None:
    asked = {"photo": photo, "head": "tiny", "options": {}}
    plain = _finished(page, page.post("/api/paint", json=asked))["result"]
    bent = _finished(page, page.post("/api/paint", json=asked | {"look": {"brush": 1.5}}))["result"]
    assert plain["id"] != bent["id"] and bent["look"]["brush"] == 1.5
    file = page.get(f"/api/paintings/{bent['id']}/file")
    assert json.loads(Image.open(io.BytesIO(file.content)).info["easel"])["easel"]["look"]["brush"] == 1.5


def test_a_job_that_fails_says_why(page: TestClient, photo: str) -> None:
    job = _finished(page, page.post("/api/paint", json={"photo": photo, "head": "nobody", "options": {}}))
    assert job["state"] == "failed" and "nobody" in job["error"]["message"] and job["error"]["hint"]
    _error(page.get(f"/api/jobs/{job['id']}/picture"), 404)


def test_privacy_is_told_as_it_is(page: TestClient, desk: Desk) -> None:
    pytest.importorskip("opacus", reason="the ledger needs the client extra")
    facts = page.get("/api/privacy").json()
    assert facts["problem"] is None and "nothing has left it" in facts["sentences"][0]
    assert facts["fleet"]["joined"] is False and facts["participations"] == 0
    assert facts["complete"] is True
    device = desk.atelier.home.device_folder
    device.mkdir(parents=True)
    (device / "device.toml").write_text("")
    (device / "ledger.json").write_text("{damaged")
    facts = page.get("/api/privacy").json()
    assert facts["problem"]["message"] and facts["sentences"] == [] and facts["fleet"]["set_up"]
