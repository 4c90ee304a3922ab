"""Server memory: that of one model however many replies come, and not so where a rule keeps them."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Iterable, Iterator

import pytest
from flwr.app import Message

from client.console import Console
from shared_model.config import ModelConfig
from shared_model.errors import InputError
from shared_model.split import size
from simulations.studies import streaming

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)


class Watched(streaming.Flood):
    """Counts how many answers are alive when the next one is made."""

    most = 0

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        alive: list[weakref.ref[Message]] = []
        for message in super().pull_messages(message_ids):
            alive.append(weakref.ref(message))
            yield message
            del message
            gc.collect()
            Watched.most = max(Watched.most, sum(one() is not None for one in alive))


@pytest.mark.parametrize("aggregation", ["mean", "flower:FedMedian"])
def test_every_reply_is_admitted(aggregation: str) -> None:
    found = streaming.measure(40, model=TINY, aggregation=aggregation)
    assert (found.accepted, found.replies, found.parameters) == (40, 40, size(TINY))
    assert found.replies_s > 0 and found.making_s > 0


def test_a_mean_holds_one_reply_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "Flood", Watched)
    streaming.measure(6, model=TINY)
    assert Watched.most <= 2


def test_memory_grows_with_the_replies_only_where_they_are_kept() -> None:
    def peak(replies: int, aggregation: str) -> float:
        streaming.measure(replies, model=TINY, aggregation=aggregation)  # imports and caches
        tracemalloc.start()
        streaming.measure(replies, model=TINY, aggregation=aggregation)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found / (4 * size(TINY))

    kept = peak(60, "flower:FedMedian") - peak(20, "flower:FedMedian")
    streamed = peak(60, "mean") - peak(20, "mean")
    assert kept > 30  # 40 more replies, 4 bytes a parameter each
    assert streamed < 5


def test_sizes_come_near() -> None:
    assert size(streaming.model_of(1_000_000)) == pytest.approx(1_000_000, rel=0.1)


@pytest.mark.parametrize("arguments", [["--replies", "0"], ["--parameters", "5"], ["--kept", "-1"]])
def test_absurd_settings_are_refused(arguments: list[str]) -> None:
    with pytest.raises(InputError):
        streaming.run(streaming.parser().parse_args(arguments), Console())
