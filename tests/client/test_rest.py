"""Rest after an upload: begins when the answer is out, ends by itself, and is never more than a hint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from client.rest import FILE, GRACE_S, note_rest, rest_objections, resting
from client.supervisor import Supervisor
from shared_model.messages import LONGEST_REST_S

NOW = 1_700_000_000.0


class Node:
    def __init__(self) -> None:
        self.alive = True

    def running(self) -> bool:
        return self.alive

    def refused(self) -> bool:
        return False

    def stop(self) -> None:
        self.alive = False


def test_a_device_rests_after_its_answer_and_comes_back(tmp_path: Path) -> None:
    note_rest(tmp_path, seconds=1000.0, now=NOW, chance=0.0)
    assert resting(tmp_path, now=NOW + GRACE_S - 1) is None  # the answer is still being sent
    assert resting(tmp_path, now=NOW + GRACE_S) == NOW + 1000.0
    assert resting(tmp_path, now=NOW + 1000.0) is None


def test_devices_do_not_all_come_back_at_the_same_moment(tmp_path: Path) -> None:
    note_rest(tmp_path, seconds=1000.0, now=NOW, chance=1.0)
    assert resting(tmp_path, now=NOW + 1499.0) == NOW + 1500.0


def test_the_supervisor_signs_off_and_on(tmp_path: Path) -> None:
    now, nodes, said = [NOW], [], []

    def start() -> Node:
        nodes.append(Node())
        return nodes[-1]

    supervisor = Supervisor(
        start,
        objections=lambda taking_part: rest_objections(tmp_path, now=now[0]),
        clock=lambda: now[0],
        say=said.append,
    )
    supervisor.step()
    assert supervisor.taking_part
    note_rest(tmp_path, seconds=1000.0, now=NOW, chance=0.0)
    supervisor.step()
    assert supervisor.taking_part  # within the grace
    now[0] += GRACE_S + 1
    supervisor.step()
    assert not supervisor.taking_part and said[-1].startswith("waiting: not needed until")
    now[0] += 1000.0
    supervisor.step()
    assert supervisor.taking_part and len(nodes) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "not json",
        json.dumps({"from": 0.0, "until": NOW + 1e12}),
        json.dumps({"from": NOW, "until": NOW + 1.6 * LONGEST_REST_S}),
        json.dumps({"from": NOW + 1e6, "until": NOW + 2e6}),
        json.dumps({"from": math.nan, "until": NOW + 5}),
        json.dumps({"from": "x", "until": None}),
    ],
)
def test_what_no_server_may_ask_is_no_rest(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    assert resting(tmp_path, now=NOW + 200.0) is None


def test_a_rest_is_cut_to_a_week(tmp_path: Path) -> None:
    note_rest(tmp_path, seconds=1e9, now=NOW, chance=0.0)
    assert resting(tmp_path, now=NOW + 200.0) == NOW + LONGEST_REST_S
