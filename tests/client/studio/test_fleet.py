"""The fleet, from the page's side: what is asked of `easel join` and `easel leave`, and how their words come back."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the studio's extra is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.testclient import TestClient

from client.atelier import open_atelier
from client.studio.app import build_app
from client.studio.desk import Desk
from client.studio.fleet import Application, Fleet
from client.studio.gate import KEY_HEADER, Gate
from client.studio.jobs import Jobs
from shared_model.errors import FederationError, InputError, StorageError
from shared_model.lone import alone

RIGHT = Application("fleet.example.org:39300", "right code", "~/photos", "~/art", 3.0)


@pytest.fixture
def fleet(own_home: Path, command: Callable[[Sequence[str]], list[str]]) -> Iterator[Fleet]:
    made = Fleet(own_home / "device", command=command)
    yield made
    made.close()


def test_joining_hands_the_code_over_where_nobody_can_read_it(fleet: Fleet) -> None:
    assert fleet.facts() == {"joined": False, "folder": str(fleet.folder), "taking_part": False}
    assert fleet.join(RIGHT)["name"] == "anna"
    asked = json.loads((fleet.folder / "asked.json").read_text())
    assert asked[0] == "join" and "--max-epsilon=3" in asked and "--enroll-only" in asked
    assert "--photos=~/photos" in asked and not any("right" in one for one in asked)
    assert "right code" not in repr(RIGHT)
    facts = fleet.facts()
    assert facts["joined"] and facts["server"] == "fleet.example.org:39300" and not facts["taking_part"]


def test_what_joining_meets_is_told_in_its_words(fleet: Fleet) -> None:
    with pytest.raises(FederationError, match="used up") as caught:
        fleet.join(Application("fleet.example.org:39300", "old", "p", "a", 3.0))
    assert caught.value.hint == "ask the operator for a new one"
    assert not fleet.facts()["joined"]


@pytest.mark.parametrize("missing", ["server", "code", "photos", "art"])
@pytest.mark.parametrize("value", ["", "  ", "a\nb"])
def test_what_is_missing_is_named_before_anything_is_started(fleet: Fleet, missing: str, value: str) -> None:
    given = {"server": "s:1", "code": "c", "photos": "p", "art": "a", missing: value}
    with pytest.raises(InputError, match="is missing"):
        fleet.join(Application(**given, max_epsilon=3.0))
    assert not fleet.folder.exists()


def test_an_option_in_a_field_is_no_option(fleet: Fleet) -> None:
    fleet.join(Application("--folder=/elsewhere", "right code", "--json", "-x", 3.0))
    asked = json.loads((fleet.folder / "asked.json").read_text())
    assert "--server=--folder=/elsewhere" in asked and "--photos=--json" in asked


def test_taking_part_starts_and_ends_a_process(fleet: Fleet) -> None:
    fleet.join(RIGHT)
    fleet.take_part()
    fleet.take_part()  # at most one
    until = time.monotonic() + 20
    while not (note := fleet.facts()["note"]) and time.monotonic() < until:
        time.sleep(0.05)
    assert fleet.facts()["taking_part"] and note == "waiting: not on mains power"
    fleet.rest()
    assert not fleet.facts()["taking_part"] and fleet.facts()["joined"]
    fleet.rest()


def test_the_process_ends_with_the_studio(fleet: Fleet) -> None:
    fleet.join(RIGHT)
    fleet.take_part()
    fleet.close()
    assert not fleet.facts()["taking_part"]


def test_a_process_that_ends_at_once_is_an_error(own_home: Path) -> None:
    line = "import sys; print('error: the disk is full', file=sys.stderr); sys.exit(5)"
    fleet = Fleet(own_home / "device", command=lambda arguments: [sys.executable, "-c", line])
    with pytest.raises(StorageError, match="the disk is full"):
        fleet.take_part()
    silent = Fleet(own_home / "device", command=lambda arguments: [sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(FederationError, match="unexpectedly"):
        silent.leave()


def test_leaving_ends_taking_part_and_passes_warnings_on(fleet: Fleet) -> None:
    fleet.join(RIGHT)
    fleet.take_part()
    told = fleet.leave()
    assert told["warnings"] == ["the server could not be told (it sleeps)"]
    assert not fleet.facts()["joined"] and not fleet.facts()["taking_part"]


def test_a_damaged_membership_is_told_and_can_be_left(fleet: Fleet) -> None:
    fleet.join(RIGHT)
    (fleet.folder / "membership.json").write_text("{")
    facts = fleet.facts()
    assert facts["joined"] and "damaged" in facts["problem"]["message"]
    fleet.leave()
    assert not fleet.facts()["joined"]


def test_easel_itself_is_asked_and_refuses_a_mistyped_code(own_home: Path) -> None:
    fleet = Fleet(own_home / "device")
    with pytest.raises(InputError, match="incomplete or mistyped"):
        fleet.join(Application("fleet.example.org:39300", "nonsense", str(own_home), str(own_home), 3.0))


# ---- over HTTP


@pytest.fixture
def page(easel_home: Path, command: Callable[[Sequence[str]], list[str]]) -> Iterator[TestClient]:
    jobs, gate = Jobs(), Gate(8700)
    desk = Desk(open_atelier(device="cpu"), jobs=jobs, fleet=Fleet(easel_home / "device", command=command))
    headers = {"origin": "http://127.0.0.1:8700", KEY_HEADER: gate.key}
    yield TestClient(build_app(desk, gate=gate), base_url="http://127.0.0.1:8700", headers=headers)
    jobs.close()
    desk.fleet.close()


def _end(page: TestClient, answer: Any) -> dict[str, Any]:
    job = answer.json()
    until = time.monotonic() + 30
    while job["state"] not in ("done", "failed", "stopped") and time.monotonic() < until:
        job = page.get(f"/api/jobs/{job['id']}?since={job['version']}").json()
    return dict(job)


def test_the_page_joins_takes_part_and_leaves(page: TestClient) -> None:
    asked = {"server": "fleet.example.org:39300", "code": "old", "photos": "p", "art": "a", "max_epsilon": 3}
    failed = _end(page, page.post("/api/fleet", json=asked))
    assert failed["state"] == "failed" and "used up" in failed["error"]["message"]
    assert _end(page, page.post("/api/fleet", json={**asked, "code": "right code"}))["state"] == "done"
    assert _end(page, page.post("/api/fleet/part", json={"on": True}))["state"] == "done"
    assert page.get("/api/privacy").json()["fleet"]["taking_part"]
    assert _end(page, page.post("/api/fleet/part", json={"on": False}))["state"] == "done"
    left = _end(page, page.delete("/api/fleet"))
    assert left["result"]["warnings"] and not page.get("/api/privacy").json()["fleet"]["joined"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"server": "s:1", "code": "c", "photos": "p", "art": "a"},
        {"server": "s:1", "code": "c", "photos": "p", "art": "a", "max_epsilon": True},
        {"server": 1, "code": "c", "photos": "p", "art": "a", "max_epsilon": 3},
        {"server": "s:1", "code": "", "photos": "p", "art": "a", "max_epsilon": 3},
        {"server": "s" * 2000, "code": "c", "photos": "p", "art": "a", "max_epsilon": 3},
    ],
)
def test_garbage_joins_nothing(page: TestClient, body: dict[str, object]) -> None:
    assert page.post("/api/fleet", json=body).status_code == 400
    assert page.post("/api/fleet/part", json={"on": "yes"}).status_code == 400


def test_a_lock_that_another_process_holds_is_seen(fleet: Fleet) -> None:
    fleet.folder.mkdir(parents=True)
    with alone(fleet.folder / ".easel-join.lock"):
        assert fleet.facts()["taking_part"]
    assert not fleet.facts()["taking_part"]
