from __future__ import annotations

import io
import json
import sys

import pytest

from client.console import Console, format_bytes, format_seconds
from shared_model.errors import InputError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (617_000, "617 kB"), (999_600, "1.0 MB"), (2_500_000_000, "2.5 GB")],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (75.2, "1 min 15 s")])
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_json_is_all_that_a_script_sees() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = Console(json=True, out=out, err=err)
    console.say("words")
    console.table([("a", "b")], header=("X", "Y"))
    with console.progress("working") as advance:
        advance(0.5, "half")
    console.facts({"käse": 1})
    assert json.loads(out.getvalue()) == {"käse": 1} and err.getvalue() == ""


def test_a_person_sees_words_and_no_json() -> None:
    out = io.StringIO()
    console = Console(out=out)
    console.facts({"a": 1})
    console.table([("monet", "1"), ("a", "22")], header=("NAME", "N"))
    assert out.getvalue() == "NAME   N\nmonet  1\na      22\n"


def test_an_error_is_one_line_and_a_hint_whatever_is_in_it() -> None:
    err = io.StringIO()
    Console(err=err).error(InputError("bad\nname\x1b", hint="try\nagain"), subject="x.png")
    assert err.getvalue() == "error: x.png: bad name?\nhint: try again\n"


def test_a_hostile_file_name_cannot_steer_the_terminal() -> None:
    out = io.BytesIO()
    console = Console(out=io.TextIOWrapper(out, encoding="utf-8"))
    console.say("\033]0;owned\007\udcff.png")
    assert out.getvalue() == b"?]0;owned??.png\n"


def test_colors_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    err = Terminal()
    Console(err=err).warn("careful")
    assert "\033[1;33mwarning:" in err.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    err = Terminal()
    Console(err=err).warn("careful")
    assert err.getvalue() == "warning: careful\n"


def test_lines_stand_above_the_bar_and_results_stay_on_stdout() -> None:
    out, err = io.StringIO(), Terminal()
    console = Console(out=out, err=err)
    with console.progress("painting") as advance:
        advance(0.5, "half")
        console.say("a.png")
        console.note("beside")
    assert out.getvalue() == "a.png\n"
    assert "painting" in err.getvalue() and "beside\n" in err.getvalue()


def test_anything_but_yes_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, expected in (("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False), ("", False)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        assert Console(err=io.StringIO()).ask("sure?") is expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert Console(err=io.StringIO()).ask("sure?") is False
