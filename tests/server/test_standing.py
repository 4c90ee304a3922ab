"""The facts of a fleet, its page, and the service that shows them."""

from __future__ import annotations

import http.client
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp

from server import standing as module
from server.app import federate
from server.candidate import Candidate, create
from server.chart import MOST, bars, line, thinned
from server.cli import main
from server.config import FederationConfig
from server.deployment import Fleet
from server.reasons import WORDS, explain
from server.registry import Releases
from server.standing import Standing
from server.status_page import page
from server.status_service import serve_status
from shared_model.backbone import Backbone
from shared_model.errors import FederationError, ReleaseError
from shared_model.messages import DECLINED
from shared_model.signatures import Signer
from simulations.grid import InProcessGrid

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def clock() -> datetime:
    return NOW


class Painted:
    def measure(self, backbone: Backbone) -> dict[str, float]:
        return {"quality": 0.8, "content": 0.8, "style": 0.8, "checker_db": 1.0, "finite": 1.0}


@pytest.fixture
def fleet(
    tmp_path: Path,
    config: FederationConfig,
    backbone: Backbone,
    make_client: Callable[..., ClientApp],
    honest: Callable[[Message, int], Message],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Fleet:
    """A fleet with two devices, three rounds of which one was skipped, and a release that the gate refused."""
    monkeypatch.setattr("server.app.load_backbone", lambda path: backbone)
    folder = tmp_path / "anna-and-bens-fleet"
    assert main(["init", str(folder), "--host", "fleet.example.org"]) == 0
    for name in ("anna", "ben"):
        assert main(["device", "add", name, "--folder", str(folder)]) == 0
    capsys.readouterr()
    fleet = Fleet.open(folder)
    calls: list[int] = []

    def act(message: Message, index: int) -> Message:
        calls.append(index)
        if index == 3 or 4 < len(calls) <= 8:
            raise ValueError("<script>alert(1)</script> /home/anna/photos")
        return honest(message, index)

    grid = InProcessGrid(make_client(act), [{}] * 4)
    three = replace(config, rounds=3)
    federate(grid, three, run_dir=fleet.run, backbone=str(__file__), log=logging.getLogger("test"))
    releases, signer = Releases(folder / "releases", clock=clock), Signer.load(fleet.signing_key)
    trial: Any = Painted()
    create(Candidate(backbone, "c" * 12, 2, "user", 1.0, 1e-7), releases, signer=signer, now=NOW, trial=trial)

    def object_() -> None:
        raise ReleaseError("quality below the parent's", reason="gate")

    with pytest.raises(ReleaseError):
        releases.command("promote", 1, signer=signer, check=object_)
    return fleet


@pytest.fixture
def facts(fleet: Fleet) -> dict[str, Any]:
    return Standing(fleet, clock=clock, states=lambda: {"anna": "online", "ben": "offline"}).facts()


def test_everything_that_an_operator_asks(facts: dict[str, Any]) -> None:
    run = facts["run"]
    assert (run["rounds_done"], run["rounds_planned"], run["skipped_rounds"]) == (3, 3, [2])
    assert run["cohort"] == {"population": 100_000, "planned": 4, "needed": 2}
    assert run["dropped"] == {"error 2": 6} and "vanished" in run["dropped_in_words"]["error 2"]
    assert run["bytes_up"] > 0 and run["privacy"]["epsilon"] > 0
    assert facts["fleet"]["online"] == 1 and facts["fleet"]["devices"]["invited"] == 2
    assert facts["releases"] == {
        "count": 1,
        "in_use": 0,
        "latest": {
            "version": 1,
            "round": 2,
            "created": NOW.isoformat(),
            "epsilon": 1.0,
            "quality": 0.8,
            "parent_quality": 0.8,
            "refused": "quality below the parent's",
        },
    }
    json.dumps(facts, allow_nan=False)


def test_an_accountant_is_asked_once_until_something_changes(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    real = module.facts

    def counting(run_dir: Path) -> dict[str, Any]:
        asked.append(run_dir)
        return real(run_dir)

    monkeypatch.setattr(module, "facts", counting)
    standing = Standing(fleet, clock=clock, states=dict)
    assert standing.facts() == standing.facts() and len(asked) == 1
    data = (fleet.run / "state.safetensors").read_bytes()
    (fleet.run / "state.safetensors").write_bytes(data)
    standing.facts()
    assert len(asked) == 2


def test_status_says_it_too(fleet: Fleet, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", str(fleet.folder)]) == 0
    text = capsys.readouterr().out
    for said in ("quality 0.800", "the gate refused it", "4 of 100000 devices planned", "not used: 6 error 2", "MB up"):
        assert said in text
    assert main(["status", str(fleet.folder), "--page", "--out", str(tmp_path / "s.html")]) == 0
    assert "http-equiv" not in (tmp_path / "s.html").read_text(), "a file does not load itself again"
    assert main(["status", "--run-dir", str(fleet.run), "--page"]) == 2


class Checker(HTMLParser):
    """Finds what a page loads, and elements that are not closed."""

    VOID = frozenset(("meta", "br", "rect", "line", "circle", "polyline", "link", "img"))

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [f"{tag} {name}={value}" for name, value in attrs if name in ("src", "srcset", "action", "data")]
        if tag in ("script", "link", "iframe", "img", "object"):
            self.loads.append(tag)
        if tag == "a" and not re.fullmatch(r"[a-z.]+", str(values.get("href"))):
            self.loads.append(str(values.get("href")))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing_and_says_all(facts: dict[str, Any]) -> None:
    facts["run"]["dropped"]["<b>&odd"] = 2
    text = page(facts, live=True)
    checker = Checker()
    checker.feed(text)
    assert checker.loads == [] and checker.open == []
    assert not re.search(r"url\(|@import|https?://", text)
    for said in (
        "3 of 3",
        "1 of 0",
        "skipped: too few",
        "0.800",
        "quality below the parent's",
        "Epsilon so far",
        "<b>&odd",
    ):
        assert said in checker.text, said
    assert text.count("<svg") == 3 and "prefers-color-scheme" not in text and "light-dark(" in text


def test_an_epsilon_without_bound_is_said_and_not_drawn(facts: dict[str, Any]) -> None:
    for report in facts["run"]["rounds"]:
        report["epsilon"] = None
    text = page(facts, live=False)
    assert "unbounded: there is nothing to draw" in text and text.count("<svg") == 2


def test_a_page_before_any_round(fleet: Fleet, tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "new")]) == 0
    found = Standing(Fleet.open(tmp_path / "new"), clock=clock, states=dict).facts()
    assert found["run"] is None and found["releases"] is None
    assert "No round was started yet" in page(found, live=True)


@pytest.fixture
def served(fleet: Fleet) -> Iterator[Callable[..., tuple[int, str, dict[str, str]]]]:
    with serve_status(Standing(fleet, clock=clock, states=dict).facts, port=0) as port:

        def get(path: str, *, method: str = "GET", host: str = "") -> tuple[int, str, dict[str, str]]:
            line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            line.request(method, path, headers={"Host": host or f"127.0.0.1:{port}"})
            answer = line.getresponse()
            found = answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}
            line.close()
            return found

        yield get
        with pytest.raises(FederationError, match="status on port"), serve_status(dict, port=port):
            pass


def test_the_running_fleet_shows_it_on_loopback_and_to_nobody_else(served: Callable[..., Any], fleet: Fleet) -> None:
    status, text, headers = served("/")
    assert status == 200 and "<h1>Fleet fleet.example.org</h1>" in text
    assert (
        headers["content-security-policy"].startswith("default-src 'none'") and headers["cache-control"] == "no-store"
    )
    assert json.loads(served("/status.json")[1])["run"]["rounds_done"] == 3
    assert "easel_replies_accepted_total 6\n" in served("/metrics")[1]
    assert served("/metrics", method="HEAD")[1] == "" and served("/health")[:2] == (200, "ok\n")
    assert served("/", host="evil.example.org")[0] == 403, "a foreign name that leads here"
    assert served("/../devices.json")[0] == 404 and served("/", method="POST")[0] == 501
    (fleet.run / "state.safetensors").write_bytes(b"damaged")
    status, text, _ = served("/")
    assert status == 503 and "damaged" in text


def test_a_reader_that_goes_away_is_not_worth_a_word(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    import socket
    import struct
    import time

    with serve_status(Standing(fleet, clock=clock, states=dict).facts, port=0) as port:
        for _ in range(3):
            line = socket.create_connection(("127.0.0.1", port))
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            line.close()  # with a reset
        time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_nothing_of_a_single_device_is_shown(served: Callable[..., Any]) -> None:
    for path in ("/", "/metrics"):
        text = served(path)[1]
        assert not [word for word in ("anna", "ben", "photos", "alert(1)", "1001") if word in text]
    found = json.loads(served("/status.json")[1])
    folder = found["fleet"].pop("folder")
    assert folder.endswith("anna-and-bens-fleet")  # where the fleet lies is the operator's own
    backbone = found["run"].pop("backbone")
    assert backbone.startswith(folder)
    assert not [word for word in ("anna", "ben", "photos", "alert(1)") if word in json.dumps(found)]


def test_charts_of_many_rounds_stay_small() -> None:
    many = list(range(1, 2001))
    places = thinned(many)
    assert len(places) == MOST and places[0] == 0 and places[-1] == 1999
    text = bars("x", many, [[float(n) for n in many]], words=str)
    assert text.count("<rect") == MOST and len(text) < 20_000
    gap = line("x", [1, 2, 3, 4, 5], [1.0, 2.0, None, 3.0, 4.0], words=str)
    assert gap.count("<polyline") == 2 and gap.count("<circle") == 4
    for empty in (bars("x", [], [[]], words=str), line("x", [1], [None], words=str)):
        assert empty.startswith("<svg") and "nan" not in empty


def test_every_reason_that_the_server_gives_has_words() -> None:
    sources = [path.read_text() for path in sorted((ROOT / "server").glob("*.py"))]
    given = {word for text in sources for word in re.findall(r'reason(?:s\[|=| = )"([a-z ]+)"', text)}
    secure = (ROOT / "server" / "secure.py").read_text()
    given |= set(DECLINED.values()) | set(re.findall(r'^(?:TOO_\w+|UNOPENED) = "(.*)"', secure, re.M))
    given -= {"mismatch", "gate"}  # why a release is refused
    assert len(given) > 10
    assert not given - set(WORDS)
    assert explain("error 5") and explain("something new") == ""
