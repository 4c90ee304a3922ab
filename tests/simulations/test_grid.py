"""The in-process grid does what Flower's grids do, one device at a time."""

from collections.abc import Iterator

import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from simulations.grid import InProcessGrid


@pytest.fixture
def calls() -> list[int]:
    return []


@pytest.fixture
def grid(calls: list[int]) -> InProcessGrid:
    client = ClientApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        index = int(context.node_config["partition-id"])
        calls.append(index)
        if index == 2:
            try:
                raise OSError("disk on fire")
            except OSError as error:
                raise RuntimeError("outer") from error
        seen = context.state.config_records.setdefault("seen", ConfigRecord({"times": 0}))
        seen["times"] = int(seen["times"]) + 1
        name = str(context.node_config.get("name", "")) + str(context.run_config["suffix"])
        return Message(RecordDict({"out": ConfigRecord({"name": name, "times": seen["times"]})}), reply_to=message)

    return InProcessGrid(client, [{"name": "a"}, {"name": "b"}, {}], {"suffix": "!"})


def messages(grid: InProcessGrid) -> Iterator[Message]:
    return (Message(RecordDict(), node, MessageType.TRAIN, group_id="7") for node in grid.get_node_ids())


def test_node_ids_are_stable(grid: InProcessGrid) -> None:
    assert list(grid.get_node_ids()) == [1001, 1002, 1003]


def test_devices_run_when_their_reply_is_pulled_one_by_one(grid: InProcessGrid, calls: list[int]) -> None:
    names = list(grid.push_messages(messages(grid)))
    assert calls == []
    replies = grid.pull_messages(names)
    first = next(replies)
    assert calls == [0]
    assert first.metadata.reply_to_message_id == names[0]
    assert (first.metadata.src_node_id, first.metadata.dst_node_id) == (1001, 1)
    assert first.metadata.group_id == "7"
    assert first.content.config_records["out"]["name"] == "a!"
    assert len(list(replies)) == 2
    assert list(grid.pull_messages(names)) == []


def test_an_exception_becomes_an_error_reply_with_its_first_cause(grid: InProcessGrid) -> None:
    *_, last = grid.send_and_receive(messages(grid))
    assert last.has_error()
    assert last.error.reason.startswith("OSError: disk on fire (test_grid.py, line ")
    assert last.metadata.src_node_id == 1003
    assert grid.failures == [f"node 1003: {last.error.reason}"]


def test_a_device_keeps_its_context_between_rounds(grid: InProcessGrid) -> None:
    list(grid.send_and_receive(messages(grid)))
    second, *_ = grid.send_and_receive(messages(grid))
    assert second.content.config_records["out"]["times"] == 2


def test_run_and_message_creation(grid: InProcessGrid) -> None:
    grid.set_run(Run.create_empty(run_id=5))
    assert grid.run.run_id == 5
    message = grid.create_message(RecordDict(), MessageType.TRAIN, 1001, "1")
    assert message.metadata.dst_node_id == 1001


def test_stock_strategies_run_on_it() -> None:
    import numpy as np
    from flwr.app import Array, ArrayRecord, MetricRecord
    from flwr.serverapp.strategy import FedAvg

    client = ClientApp()

    @client.train()
    def train(message: Message, context: Context) -> Message:
        old = message.content["arrays"]["w"].numpy()
        content = RecordDict(
            {"arrays": ArrayRecord({"w": Array(old + 1)}), "metrics": MetricRecord({"num-examples": 1})}
        )
        return Message(content, reply_to=message)

    strategy = FedAvg(fraction_evaluate=0.0)
    result = strategy.start(
        InProcessGrid(client, [{}, {}]), ArrayRecord({"w": Array(np.zeros(3, np.float32))}), num_rounds=2
    )
    assert result.arrays["w"].numpy().tolist() == [2.0, 2.0, 2.0]
