"""Prometheus text: its grammar, line by line, and what is left out."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from server.metrics import exposition

# Exposition format 0.0.4, as promtool reads it.
HELP = re.compile(r"# HELP [a-zA-Z_:][a-zA-Z0-9_:]* [^\n]+")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)")
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(
    rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\+Inf)"
)


@pytest.fixture
def run() -> dict[str, Any]:
    return {
        "rounds_done": 3,
        "rounds_planned": 10,
        "asked": 30,
        "accepted": 27,
        "dropped": {'a "bad"\nreason\\': 3},
        "skipped_rounds": [2],
        "cohort": {"planned": 10, "needed": 5, "population": 100},
        "bytes_down": 100,
        "bytes_up": 25,
        "privacy": {"epsilon": 1.5, "run_epsilon": None},
    }


FLEET: Mapping[str, Any] = {
    "process": 1,
    "devices": {"enrolled": 2, "invited": 0, "revoked": 0},
    "online": 1,
    "certificate_days_left": 300,
}
RELEASES = {"in_use": 1, "latest": {"version": 2, "quality": 0.81, "parent_quality": None}}


def samples(text: str) -> dict[str, str]:
    """Parse strictly: each family once, HELP and TYPE before its samples, counters named as such."""
    found: dict[str, str] = {}
    family, seen = "", set()
    lines = text.split("\n")
    assert lines.pop() == "", "the last line ends"
    for index, line in enumerate(lines):
        if line.startswith("# HELP"):
            assert HELP.fullmatch(line) and lines[index + 1].startswith("# TYPE " + line.split()[2])
        elif line.startswith("#"):
            match = TYPE.fullmatch(line)
            assert match, line
            family = match[1]
            assert family not in seen
            seen.add(family)
            assert (match[2] == "counter") == family.endswith("_total")
        else:
            match = SAMPLE.fullmatch(line)
            assert match and match[1] == family, line
            key = line.rsplit(" ", 1)[0]
            assert key not in found
            found[key] = match[3]
    return found


def test_metrics_are_well_formed_and_escape(run: dict[str, Any]) -> None:
    found = samples(exposition(run, FLEET, RELEASES))
    assert found['easel_replies_dropped_total{reason="a \\"bad\\"\\nreason\\\\"}'] == "3"
    assert found['easel_privacy_epsilon{of="fleet"}'] == "1.5"
    assert found['easel_release_quality{of="latest"}'] == "0.81"
    assert found["easel_up"] == "1" and found["easel_cohort_planned"] == "10"
    assert not [name for name in found if 'of="run"' in name or 'of="parent"' in name], "unknown is left out"


def test_nothing_known_is_nothing_said(run: dict[str, Any]) -> None:
    assert exposition(None, None) == ""
    assert "easel_up" not in exposition(run, None)


def test_the_parser_can_fail() -> None:
    for bad in ("easel_up 1\n", "# TYPE easel_x counter\neasel_x 1\n", "# TYPE easel_up gauge\neasel_up one\n"):
        with pytest.raises(AssertionError):
            samples(bad)
