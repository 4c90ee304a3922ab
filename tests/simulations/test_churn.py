"""Devices that come and go live on a clock of their own, the same for every seed."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Context, Message, RecordDict

from simulations.churn import ChurnGrid, habits
from simulations.grid import InProcessGrid
from simulations.populations.config import ChurnConfig

DEVICES = 200


def grid_of(config: ChurnConfig) -> tuple[ChurnGrid, list[int]]:
    ran: list[int] = []

    def app(message: Message, context: Context) -> Message:
        ran.append(int(context.node_config["partition-id"]))
        return Message(RecordDict(), reply_to=message)

    return ChurnGrid(InProcessGrid(app, [{} for _ in range(DEVICES)]), config), ran


def ask(grid: ChurnGrid, group: str = "1") -> list[str]:
    messages = (Message(RecordDict(), node, "train", group_id=group) for node in grid.get_node_ids())
    return list(grid.push_messages(messages))


def hours(grid: ChurnGrid, count: float) -> None:
    grid.timing.sleep(count * 3600)


def answered(grid: ChurnGrid, names: Iterable[str]) -> int:
    return len(list(grid.pull_messages(names)))


def test_nobody_answers_before_there_was_time_and_all_do_after() -> None:
    grid, ran = grid_of(ChurnConfig(device_s=60.0, slow_share=0.25, slow_factor=100.0))
    names = ask(grid)
    assert answered(grid, names) == 0
    grid.timing.sleep(73.0)
    quick = answered(grid, names)
    assert 0.6 * DEVICES < quick < 0.9 * DEVICES and len(ran) == quick
    hours(grid, 3)
    assert answered(grid, names) == DEVICES - quick
    assert answered(grid, names) == 0 and sorted(ran) == list(range(DEVICES))


def test_by_day_fewer_can_be_reached_than_by_night_and_all_within_a_day() -> None:
    def within_an_hour(start_h: float) -> int:
        grid, _ = grid_of(ChurnConfig(availability="hourly", online_h=6.0, start_h=start_h))
        names = ask(grid)
        hours(grid, 1)
        return answered(grid, names)

    assert within_an_hour(1.0) > 3 * within_an_hour(13.0)
    grid, _ = grid_of(ChurnConfig(availability="hourly", online_h=6.0, start_h=13.0))
    names = ask(grid)
    hours(grid, 25)
    assert answered(grid, names) == DEVICES


def test_the_silent_never_run_and_are_others_in_another_round() -> None:
    config = ChurnConfig(failing_share=0.5, failure_rate=0.5, seed=2)
    grid, ran = grid_of(config)
    rounds = []
    for group in ("1", "2", "1"):
        names = ask(grid, group)
        hours(grid, 1)
        count = answered(grid, names)
        rounds.append(sorted(ran[-count:]))
    assert rounds[0] != rounds[1] and rounds[0] == rounds[2]
    assert 0.6 * DEVICES < len(rounds[0]) < 0.9 * DEVICES
    silent = set(range(DEVICES)) - set(rounds[0])
    assert all(habits(config, device).failing for device in silent)


def test_replies_come_in_the_order_of_their_time() -> None:
    config = ChurnConfig(device_s=60.0, slow_share=0.3, slow_factor=3.0)
    grid, ran = grid_of(config)
    names = ask(grid)
    hours(grid, 1)
    assert answered(grid, names) == DEVICES
    slow = [habits(config, device).pace > 1 for device in ran]
    assert slow == sorted(slow)
