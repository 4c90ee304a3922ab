"""The gate lets in the studio's own page and nobody else."""

from __future__ import annotations

import pytest

from client.studio.gate import KEY_HEADER, Gate, RefusedError

HOST = "127.0.0.1:8700"
ORIGIN = f"http://{HOST}"


@pytest.fixture
def gate() -> Gate:
    return Gate(8700, key="k" * 43)


def _headers(**changes: str | None) -> dict[str, str]:
    headers: dict[str, str | None] = {
        "host": HOST,
        "origin": ORIGIN,
        KEY_HEADER: "k" * 43,
        "sec-fetch-site": "same-origin",
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in headers.items() if value is not None}


def test_the_page_itself_gets_in(gate: Gate) -> None:
    gate.check("POST", _headers(), public=False)
    gate.check("GET", _headers(origin=None), public=False)
    gate.check("GET", _headers(host="localhost:8700", origin=None), public=False)


@pytest.mark.parametrize("host", ["evil.example:8700", "127.0.0.1", "127.0.0.1:8701", "", "given twice"])
def test_another_host_is_refused_whatever_it_points_to(gate: Gate, host: str) -> None:
    with pytest.raises(RefusedError, match="not the address") as caught:
        gate.check("GET", _headers(host=host, origin=None), public=True)
    assert caught.value.status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8700", "http://127.0.0.1:9", ""])
def test_another_origin_is_refused_even_with_the_key(gate: Gate, origin: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        with pytest.raises(RefusedError, match="another page"):
            gate.check(method, _headers(origin=origin), public=False)


def test_what_changes_something_needs_an_origin(gate: Gate) -> None:
    for method in ("POST", "DELETE", "PUT", "PATCH", "OPTIONS"):
        with pytest.raises(RefusedError, match="without an origin"):
            gate.check(method, _headers(origin=None), public=False)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_that_another_page_made_is_refused(gate: Gate, site: str) -> None:
    with pytest.raises(RefusedError, match="another page"):
        gate.check("GET", _headers(origin=None, sec_fetch_site=site), public=True)
    gate.check("GET", _headers(origin=None, sec_fetch_site=site, sec_fetch_mode="navigate"), public=True)
    with pytest.raises(RefusedError, match="another page"):
        gate.check("GET", _headers(origin=None, sec_fetch_site=site, sec_fetch_mode="navigate"), public=False)


@pytest.mark.parametrize("key", [None, "", "k", "x" * 43, "é"])
def test_without_the_key_nothing_but_the_page(gate: Gate, key: str | None) -> None:
    headers = _headers(**{KEY_HEADER: key})
    gate.check("GET", headers, public=True)
    with pytest.raises(RefusedError) as caught:
        gate.check("GET", headers, public=False)
    assert caught.value.status == 401


def test_a_ticket_is_good_once_and_for_a_minute() -> None:
    now = 0.0
    gate = Gate(8700, clock=lambda: now)
    ticket = gate.ticket_link().partition("#ticket=")[2]
    assert gate.key not in gate.ticket_link()
    assert gate.redeem(ticket) == gate.key
    with pytest.raises(RefusedError):
        gate.redeem(ticket)
    late = gate.ticket_link().partition("#ticket=")[2]
    now = 61.0
    with pytest.raises(RefusedError):
        gate.redeem(late)


def test_keys_differ_and_are_not_shown(gate: Gate) -> None:
    assert Gate(1).key != Gate(1).key
    assert len(Gate(1).key) >= 43
    assert gate.key not in repr(gate)
    assert gate.link() == f"http://{HOST}/#key={gate.key}"
