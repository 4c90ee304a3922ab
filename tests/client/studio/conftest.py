"""A real browser on the studio's page; a stand-in for the command line that joins and leaves without a network."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shared_model.samples import sample_photos
from tests.client.studio.asking import BASE, Pictures, asking, png
from tests.client.studio.browsing import CHROMIUM, FLAGS, Visit, as_png

if TYPE_CHECKING:
    from starlette.testclient import TestClient

    from client.atelier import Atelier
    from client.studio.desk import Desk
    from client.studio.gate import Gate

# Stands in for `easel`: joins and leaves without a network, and notes how it was asked.
EASEL = textwrap.dedent(
    """
    import json, signal, sys, time
    from pathlib import Path
    from client.membership import Membership, forget
    from shared_model.lone import alone
    command, *given = sys.argv[1:]
    named = dict(one.removeprefix("--").split("=", 1) for one in given if "=" in one)
    folder = Path(named["folder"])
    if command == "leave":
        print("warning: the server could not be told (it sleeps)", file=sys.stderr)
        print(json.dumps({"removed": forget(folder, ledger=False), "server_told": False, "ledger_kept": False}))
    elif "--enroll-only" in given:
        code = sys.stdin.readline().strip()
        if code != "right code":
            print("error: the server refuses: this code is used up\\nhint: ask the operator for a new one",
                  file=sys.stderr)
            raise SystemExit(7)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "asked.json").write_text(json.dumps([command, *given]))
        Membership(named["server"], "anna").save(folder, ca="ca", signing_key="key")
        print(json.dumps({"server": named["server"], "name": "anna"}))
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with alone(folder / ".easel-join.lock"):
            print("waiting: not on mains power", file=sys.stderr, flush=True)
            time.sleep(60)
    """
)


@pytest.fixture
def command(tmp_path: Path) -> Callable[[Sequence[str]], list[str]]:
    (tmp_path / "easel.py").write_text(EASEL, encoding="utf-8")
    return lambda arguments: [sys.executable, str(tmp_path / "easel.py"), *arguments]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def atelier(easel_home: Path) -> Atelier:
    from client.atelier import open_atelier

    return open_atelier(device="cpu")


@pytest.fixture
def gate(atelier: Atelier, command: Callable[[Sequence[str]], list[str]]) -> Iterator[Gate]:
    from client.studio.fleet import Fleet
    from client.studio.service import serving

    with serving(atelier, fleet=Fleet(atelier.home.device_folder, command=command)) as opened:
        yield opened


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    started = Visit(browser, color_scheme="light")
    yield started
    started.context.close()


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A real photo, small."""
    return as_png(sample_photos()[1][0, :, ::2, ::2])


@pytest.fixture
def door() -> Gate:
    from client.studio.gate import Gate

    return Gate(8700)


@pytest.fixture
def desk(easel_home: Path) -> Iterator[Desk]:
    from client.atelier import open_atelier
    from client.studio.desk import Desk
    from client.studio.jobs import Jobs

    jobs = Jobs(limit=4)
    yield Desk(open_atelier(device="cpu"), jobs=jobs)
    jobs.close()


@pytest.fixture
def page(desk: Desk, door: Gate) -> TestClient:
    """The studio's own page: right host, origin and key."""
    from client.studio.gate import KEY_HEADER

    return asking(desk, door, {"origin": BASE, KEY_HEADER: door.key})


@pytest.fixture
def stranger(desk: Desk, door: Gate) -> TestClient:
    """Anything else on this computer."""
    return asking(desk, door, {})


@pytest.fixture
def photo(page: TestClient, smooth: Pictures) -> str:
    answer = page.post("/api/photos", content=png(smooth(11)), headers={"x-easel-name": "at%20the%20sea.png"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
