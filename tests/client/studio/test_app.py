"""The studio over HTTP: the whole way from photo to file; mixes, choices, deleting, and work that fails."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from PIL import Image
from starlette.testclient import TestClient

from client.preferences import Preferences
from client.recipe import Recipe
from client.studio.desk import Desk
from client.style_names import parts_of
from shared_model.errors import StorageError
from shared_model.head import Head
from tests.client.studio.asking import Pictures, error, finished, png


def test_heads_are_mixed_and_the_mix_is_in_the_history(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head, tmp_path: Path
) -> None:
    desk.atelier.home.save_head(replace(tiny_head, modulation=tiny_head.modulation + 1), name="mine")
    done = finished(page, page.post("/api/paint", json={"photo": photo, "head": "mix:tiny=30,mine=10"}))
    assert done["result"]["head"] == "mix:tiny=30,mine=10"
    file = page.get(f"/api/paintings/{done['result']['id']}/file").content
    (tmp_path / "painting.png").write_bytes(file)
    assert Recipe.read(tmp_path / "painting.png").mix == (("tiny", 0.75), ("mine", 0.25))
    failed = finished(page, page.post("/api/explain", json={"photo": photo, "head": "mix:tiny=30,mine=10"}))
    assert "cannot be followed" in failed["error"]["message"]
    alone = finished(page, page.post("/api/preview", json={"photo": photo, "head": "mix:tiny=30,mine=0"}))
    assert alone["state"] == "done"


@pytest.mark.parametrize(
    "mix",
    [
        *("mix:", "mix:tiny=nan,tiny=1", "mix:tiny=0", "mix:tiny=-1,tiny=2", "mix:tiny=1,none=1", "mix:tiny=inf,x=1"),
        *("mix:tiny", "mix:../x=1,tiny=1", "mix:" + ",".join(f"h{n}=1" for n in range(90))),
    ],
)
def test_a_mix_that_makes_no_sense_fails_with_words(page: TestClient, photo: str, mix: str) -> None:
    done = finished(page, page.post("/api/preview", json={"photo": photo, "head": mix}))
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
    assert finished(page, started)["state"] == "stopped"
    assert page.get("/api/paintings").json()["paintings"] == []


@pytest.mark.parametrize("too", [False, True])
def test_a_deleted_head_leaves_paintings_or_takes_them_along(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head, too: bool
) -> None:
    desk.atelier.home.save_head(replace(tiny_head, modulation=tiny_head.modulation + 1), name="mine")
    for head in ("tiny", "mine", "mix:tiny=1,mine=1"):
        assert finished(page, page.post("/api/paint", json={"photo": photo, "head": head}))["state"] == "done"
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
    assert "hands full" in error(asked[-1], 429)["message"]


def test_a_full_disk_and_an_accident_are_told_without_a_traceback(
    page: TestClient, desk: Desk, smooth: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **named: object) -> None:
        raise StorageError("cannot write: no space left", hint="free some space")

    monkeypatch.setattr("client.gallery.write_atomic", full)
    assert error(page.post("/api/photos", content=png(smooth(1))), 507)["hint"] == "free some space"
    monkeypatch.setattr(desk.atelier, "heads", lambda: 1 / 0)
    assert "report" in error(page.get("/api/heads"), 500)["hint"]


def test_from_a_photo_to_a_file_and_away_again(page: TestClient, desk: Desk, photo: str) -> None:
    state = page.get("/api/state").json()
    assert [head["id"] for head in state["heads"]] == ["tiny"] and state["device"] == "cpu"
    assert page.get(f"/api/photos/{photo}").json() == {"id": photo, "name": "at the sea", "width": 56, "height": 40}
    asked = {"photo": photo, "head": "tiny", "options": {"strength": 0.5, "seed": 2}, "tab": "t"}
    small = finished(page, page.post("/api/preview", json=asked))
    view = page.get(f"/api/jobs/{small['id']}/picture")
    assert small["state"] == "done" and view.headers["content-type"] == "image/jpeg"
    painting = finished(page, page.post("/api/paint", json=asked))["result"]
    file = page.get(f"/api/paintings/{painting['id']}/file")
    inside = json.loads(Image.open(io.BytesIO(file.content)).info["easel"])["easel"]
    assert (inside["head"], inside["options"]["strength"]) == ("tiny", 0.5)
    listed = page.get("/api/paintings").json()
    assert [one["id"] for one in listed["paintings"]] == [painting["id"]] and listed["paintings"][0]["photo_there"]
    assert page.post(f"/api/paintings/{painting['id']}", json={"kept": True}).json()["kept"]
    error(page.post(f"/api/paintings/{painting['id']}", json={"kept": "yes"}), 400)
    explained = finished(page, page.post("/api/explain", json=asked))
    assert explained["result"]["sources"][0]["share"] == 1.0
    assert page.get(f"/api/jobs/{explained['id']}/picture").headers["content-type"] == "image/png"
    page.delete(f"/api/paintings/{painting['id']}")
    assert page.get("/api/paintings").json()["paintings"] == []
    assert page.delete("/api/everything").json()["stored"]["bytes"] == 0
    error(page.get(f"/api/photos/{photo}/view"), 404)


def test_styles_and_heads_are_made_and_deleted(page: TestClient, photo: str) -> None:
    style = finished(page, page.post("/api/styles", json={"pictures": [photo]}))["result"]["head"]
    assert style.startswith("style:")
    painted = finished(page, page.post("/api/paint", json={"photo": photo, "head": style, "options": {}}))
    assert painted["state"] == "done"
    started = page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": 300})
    page.delete(f"/api/jobs/{started.json()['id']}")
    made = finished(page, started)
    if made["state"] == "done":  # had started: ends early with the best so far
        assert made["result"]["stopped"]
    else:
        made = finished(page, page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": 0}))
    assert made["result"]["head"] == "mine"
    error(page.post("/api/heads", json={"pictures": [photo], "name": "mine", "seconds": 0}), 400)
    kinds = {head["id"]: head["kind"] for head in page.get("/api/heads").json()["heads"]}
    assert kinds == {style: "style", "mine": "own", "tiny": "shipped"}
    assert page.get(f"/api/heads/{style}/view").status_code == 200
    for head in ("mine", style):
        page.delete(f"/api/heads/{head}")
    assert [head["id"] for head in page.get("/api/heads").json()["heads"]] == ["tiny"]


def test_choices_are_asked_for_learned_from_and_forgotten(page: TestClient, desk: Desk, photo: str) -> None:
    asked = {"photo": photo, "head": "tiny", "options": {"size_px": 64, "seed": 3}}
    job = finished(page, page.post("/api/candidates", json=asked))
    assert job["state"] == "done" and job["pictures"] == 4, job
    shown = job["result"]["shown"]
    assert len(shown) == 4 and all(shown.count(one) == 1 for one in shown)
    assert page.get(f"/api/jobs/{job['id']}/picture?number=3").headers["content-type"] == "image/jpeg"
    error(page.get(f"/api/jobs/{job['id']}/picture?number=4"), 404)
    facts = page.post("/api/choices", json={"head": "tiny", "shown": shown, "order": [2]}).json()
    assert facts["answers"] == 1 and set(facts["best"]) == {"head", "options", "look"}
    path = desk.atelier.home.preferences_path("tiny")
    assert path.is_file() and path.stat().st_mode & 0o077 == 0
    assert page.get("/api/heads").json()["heads"][0]["usual"] is None
    applied = page.post("/api/choices/tiny", json={}).json()["best"]
    assert page.get("/api/heads").json()["heads"][0]["usual"] == applied
    for wrong in ([], [9], [1, 1], ["x"], [True], "x", None):
        error(page.post("/api/choices", json={"head": "tiny", "shown": shown, "order": wrong}), 400)
    error(page.post("/api/choices", json={"head": "tiny", "shown": [{"strength": 9}] * 2, "order": [0]}), 400)
    assert page.delete("/api/choices/tiny").json()["answers"] == 0
    assert page.get("/api/heads").json()["heads"][0]["usual"] is None
    assert not path.exists() and page.get("/api/choices/tiny").json()["answers"] == 0
    error(page.get("/api/choices/style:" + "a" * 24), 400)
    best = page.post("/api/preview", json=asked | {"look": facts["best"]["look"]})
    assert finished(page, best)["state"] == "done"
    error(page.post("/api/preview", json=asked | {"look": {"brush": 99}}), 400)


def test_candidates_mix_in_a_partner_that_the_owner_picks(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head
) -> None:
    home = desk.atelier.home
    for name in ("mine", "other"):
        home.save_head(replace(tiny_head, modulation=tiny_head.modulation + 1), name=name)
    asked = {"photo": photo, "head": "mine", "options": {}}
    alone = finished(page, page.post("/api/candidates", json=asked))["result"]
    assert alone["partner"] == "" and not any(one["share"] for one in alone["shown"])
    job = finished(page, page.post("/api/candidates", json=asked | {"partner": "other"}))
    told = job["result"]
    assert job["state"] == "done" and job["pictures"] == 4, job
    assert told["partner"] == "other" and not told["settled"] and any(one["share"] for one in told["shown"])
    again = finished(page, page.post("/api/candidates", json=asked))["result"]
    assert again["partner"] == "other", "it is remembered"
    most = max(range(4), key=lambda number: told["shown"][number]["share"])
    answer = {"head": "mine", "shown": told["shown"], "order": [most]}
    for wrong in ({"partner": "tiny"}, {"partner": ""}, {}):
        error(page.post("/api/choices", json=answer | wrong), 400)
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
    other = finished(page, page.post("/api/candidates", json=asked | {"partner": "tiny"}))
    assert other["state"] == "failed" and "'other'" in other["error"]["message"]
    home.delete_head("other")
    left = finished(page, page.post("/api/candidates", json=asked))
    assert left["state"] == "done" and left["result"]["partner"] == "" and left["result"]["settled"]
    assert desk.bench.tasting.usual("mine")["head"] == "mine"


@pytest.mark.parametrize("partner", ["mine", "nobody", "../tiny", "style:" + "a" * 24])
def test_what_cannot_be_a_partner_is_refused_with_words(
    page: TestClient, desk: Desk, photo: str, tiny_head: Head, partner: str
) -> None:
    desk.atelier.home.save_head(tiny_head, name="mine")
    asked = {"photo": photo, "head": "mine", "options": {}, "partner": partner}
    job = finished(page, page.post("/api/candidates", json=asked))
    assert job["state"] == "failed" and job["error"]["hint"]
    assert not desk.atelier.home.preferences_path("mine").exists()
    error(page.post("/api/candidates", json=asked | {"partner": 3}), 400)


def test_a_look_is_part_of_a_painting(page: TestClient, photo: str) -> None:
    asked = {"photo": photo, "head": "tiny", "options": {}}
    plain = finished(page, page.post("/api/paint", json=asked))["result"]
    bent = finished(page, page.post("/api/paint", json=asked | {"look": {"brush": 1.5}}))["result"]
    assert plain["id"] != bent["id"] and bent["look"]["brush"] == 1.5
    file = page.get(f"/api/paintings/{bent['id']}/file")
    assert json.loads(Image.open(io.BytesIO(file.content)).info["easel"])["easel"]["look"]["brush"] == 1.5


def test_a_job_that_fails_says_why(page: TestClient, photo: str) -> None:
    job = finished(page, page.post("/api/paint", json={"photo": photo, "head": "nobody", "options": {}}))
    assert job["state"] == "failed" and "nobody" in job["error"]["message"] and job["error"]["hint"]
    error(page.get(f"/api/jobs/{job['id']}/picture"), 404)


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
