"""Flower's own strategies as rules of aggregation: they get admitted updates and nothing else.

Only what a strategy does in ``aggregate_train`` is used; whom a round asks, its deadline, what is
admitted and the state stay ours. A strategy that keeps something between rounds (FedAdam, FedAvgM,
QFedAvg ...) is refused: what it keeps would be lost with the server and restored by nobody. Our own
optimizers (``optimizer = "fedadam"``) are saved with the round and work with every rule.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp.strategy import Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum, Strategy

from server.config import FederationConfig
from server.config_checks import FLOWER
from server.robust import Rows, Rule
from shared_model.errors import ConfigError, FederationError
from shared_model.messages import ARRAY

__all__ = ["flower_rule", "rule_of"]

_WEIGHT = "num-examples"
#: Strategies whose result depends on the replies of one round alone.
_STATELESS = (Bulyan, FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum)


def flower_rule(config: FederationConfig) -> Rule:
    """Return the rule that a configuration names: ``aggregation = "flower:FedMedian"`` and so on.

    The number of malicious devices follows from the replies that came, never more than the rule allows.
    """
    name = config.aggregation.removeprefix(FLOWER)

    def make(count: int) -> Strategy:
        outside = max(0, min(int(config.malicious * count), (count - 3) // (4 if name == "Bulyan" else 2)))
        makers: dict[str, Callable[[], Strategy]] = {
            "Bulyan": lambda: Bulyan(num_malicious_nodes=outside),
            "FedAvg": FedAvg,
            "FedMedian": FedMedian,
            "FedTrimmedAvg": lambda: FedTrimmedAvg(beta=config.trim),
            "Krum": lambda: Krum(num_malicious_nodes=outside),
            "MultiKrum": lambda: MultiKrum(num_malicious_nodes=outside, num_nodes_to_select=count - outside),
        }
        return makers[name]()

    return rule_of(make)


def rule_of(make: Callable[[int], Strategy]) -> Rule:
    """Return a strategy's aggregation as a rule for :class:`server.robust.Gathered`.

    Parameters
    ----------
    make
        Gives the strategy for a number of replies, a new one for every round.

    Raises
    ------
    ConfigError
        If the strategy keeps something between rounds; when the rule is used.
    """

    def aggregate(rows: Rows) -> npt.NDArray[np.floating]:
        strategy = make(len(rows))
        if type(strategy) not in _STATELESS:
            raise ConfigError(
                f"Flower's {type(strategy).__name__} keeps something between rounds that a crash would lose",
                hint='use optimizer = "fedadam", "fedavgm" or "fedyogi" with another aggregation',
            )
        arrays, _ = strategy.aggregate_train(1, [_message(row) for row in rows])
        if arrays is None or set(arrays) != {ARRAY}:
            raise FederationError(f"Flower's {type(strategy).__name__} gave no update")
        return np.asarray(arrays[ARRAY].numpy())

    return aggregate


def _message(row: npt.NDArray[np.float32]) -> Message:
    """Return an update as Flower's strategies expect a reply: one array, weight one."""
    content = RecordDict({ARRAY: ArrayRecord({ARRAY: Array(row)}), "metrics": MetricRecord({_WEIGHT: 1})})
    return Message(content, dst_node_id=1, message_type=MessageType.TRAIN)
