"""When a device takes part: each of the owner's conditions by itself, and what the machine is asked."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from client.conditions import Machine, When, idle_s, metered, on_mains, read_machine
from client.policy import load_policy
from shared_model.errors import ConfigError

NOON = datetime(2026, 11, 1, 12, 0)
ALWAYS = When(charging=False, unmetered=False)


@pytest.mark.parametrize(
    ("when", "machine", "expected"),
    [
        ({}, {}, []),
        ({}, {"mains": False}, ["on battery"]),
        ({"charging": False}, {"mains": False}, []),
        ({}, {"metered": True}, ["the network is metered"]),
        ({"unmetered": False}, {"metered": True}, []),
        ({}, {"metered": None}, []),
        ({"assume_metered": True}, {"metered": None}, ["the network is metered"]),
        ({"assume_metered": True}, {"metered": False}, []),
        ({"hours": ("22:00-07:00",)}, {}, ["outside 22:00-07:00"]),
        ({"hours": ("22:00-07:00", "11:30-12:30")}, {}, []),
        ({"hours": ("22:00-07:00",)}, {"now": NOON.replace(hour=6, minute=59)}, []),
        ({"hours": ("22:00-07:00",)}, {"now": NOON.replace(hour=7)}, ["outside 22:00-07:00"]),
        ({"hours": ("22:00-07:00",)}, {"now": NOON.replace(hour=22)}, []),
        ({"idle_minutes": 10.0}, {"idle_s": 599.0}, ["somebody is working here"]),
        ({"idle_minutes": 10.0}, {"idle_s": 600.0}, []),
        ({"idle_minutes": 10.0}, {"idle_s": None}, []),
        ({"max_load": 0.5}, {"load": 0.6}, ["the machine is busy"]),
        ({"max_load": 0.5}, {"load": 0.6, "taking_part": True}, []),
        ({}, {"epsilon_left": 0.0}, ["the privacy budget is used up"]),
        ({"min_epsilon_left": 0.5}, {"epsilon_left": 0.4}, ["the privacy budget is used up"]),
        ({}, {"epsilon_left": None}, []),
        ({}, {"mains": False, "metered": True}, ["on battery", "the network is metered"]),
    ],
)
def test_each_condition(when: dict[str, Any], machine: dict[str, Any], expected: list[str]) -> None:
    assert When(**when).objections(Machine(**{"now": NOON, **machine})) == expected


def supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir(parents=True)
    for file, text in files.items():
        (folder / name / file).write_text(text + "\n")


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ([], True),
        ([{"type": "Battery", "status": "Discharging"}], False),
        ([{"type": "Battery", "status": "Charging"}], True),
        ([{"type": "Battery", "status": "Full"}], True),
        ([{"type": "Battery", "status": "Discharging"}, {"type": "Mains", "online": "1"}], True),
        ([{"type": "Battery", "status": "Discharging"}, {"type": "Mains", "online": "0"}], False),
        ([{"type": "Battery", "status": "Discharging"}, {"type": "USB", "online": "1"}], True),
        ([{"type": "Battery", "status": "Discharging", "scope": "Device"}], True),
    ],
)
def test_power_supplies(tmp_path: Path, supplies: list[dict[str, str]], expected: bool) -> None:
    for number, files in enumerate(supplies):
        supply(tmp_path, str(number), **files)
    assert on_mains(tmp_path) is expected
    assert on_mains(tmp_path / "nothing") is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("GENERAL.METERED:unknown\n", None),
        ("GENERAL.METERED:no (guessed)\nGENERAL.METERED:unknown\n", False),
        ("GENERAL.METERED:no\nGENERAL.METERED:yes (guessed)\n", True),
    ],
)
def test_metered_networks(text: str, expected: bool | None) -> None:
    assert metered(lambda: text) is expected


def test_idle_is_since_the_last_key_anywhere(tmp_path: Path) -> None:
    import os

    for name, accessed in (("a", 100.0), ("b", 160.0)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (accessed, 0.0))
    assert idle_s(200.0, [tmp_path / "a", tmp_path / "b", tmp_path / "gone"]) == 40.0
    assert idle_s(150.0, [tmp_path / "b"]) == 0.0
    assert idle_s(200.0, []) is None


def test_the_machine_is_read_without_trouble() -> None:
    machine = read_machine(epsilon_left=1.0, taking_part=True)
    assert machine.load >= 0.0 and machine.epsilon_left == 1.0 and machine.taking_part
    assert ALWAYS.objections(machine) == []


@pytest.mark.parametrize(
    "when", [{"hours": ("22-7",)}, {"hours": ("25:00-07:00",)}, {"idle_minutes": -1.0}, {"max_load": float("nan")}]
)
def test_values_are_checked(when: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        When(**when)


def test_the_policy_file_has_them(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text('max_clip = 2.0\n[when]\ncharging = false\nhours = ["01:00-05:00"]\n')
    policy = load_policy(tmp_path, simulated=False)
    assert policy.when == When(charging=False, hours=("01:00-05:00",)) and policy.max_clip == 2.0
    (tmp_path / "policy.toml").write_text("[when]\nchargin = false\n")
    with pytest.raises(ConfigError, match="unknown key 'chargin'"):
        load_policy(tmp_path, simulated=False)
