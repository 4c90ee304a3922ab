"""The study ``streaming``: what a round takes on the server, as its replies grow in number.

Each measurement is one real round (:func:`server.rounds.run`: requests out, admission, sum, noise, state
and ledger saved) in a process of its own, over replies of random numbers that are made as they are
fetched. Its peak memory is that of the whole process, Python, PyTorch and Flower included. Beside it
the same round with Flower's ``FedMedian``, which keeps every reply, at a few small sizes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from client.console import Console
from client.parser import Parser
from server.config import FederationConfig
from server.rounds import run as run_rounds
from server.state import StateStore
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import InputError
from shared_model.messages import ARRAY, PROTOCOL, REPLY, SETTINGS
from shared_model.split import size
from simulations.benchmark import peak_mib
from simulations.grid import InProcessGrid
from simulations.studies import study_parser

__all__ = ["Flood", "Measured", "measure", "model_of", "parser", "run"]


@dataclass(frozen=True)
class Measured:
    """One round.

    Parameters
    ----------
    aggregation
        Its rule.
    replies, accepted, parameters
        Replies that came and that were admitted, and their length.
    peak_mib
        Peak memory of the process.
    start_mib
        The same when the round began.
    replies_s
        Replies a CPU-second, from the first to the last, making them included.
    making_s
        CPU-seconds that it took to make them (a real server does not).
    """

    aggregation: str
    replies: int
    accepted: int
    parameters: int
    peak_mib: float
    start_mib: float
    replies_s: float
    making_s: float


class Flood(InProcessGrid):
    """A grid of devices that answer at once with random int8 numbers, made when they are fetched.

    Parameters
    ----------
    count
        Devices.
    """

    def __init__(self, count: int) -> None:
        super().__init__(ClientApp(), [{}])
        self._count = count
        self._rng = np.random.default_rng(0)
        self.first_s = self.last_s = self.making_s = 0.0

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of all devices."""
        return range(1001, 1001 + self._count)

    def _answer(self, message: Message) -> Message:
        begin = time.process_time()
        self.first_s = self.first_s or begin
        content = message.content
        settings = content.config_records[SETTINGS]
        length = int(content.array_records[ARRAY][ARRAY].shape[0])
        values = self._rng.integers(-127, 128, length, dtype=np.int8)
        reply = ConfigRecord(
            {
                "protocol": PROTOCOL,
                "run": settings["run"],
                "round": settings["round"],
                "scale": float(np.float32(0.9 * float(str(settings["clip"])) / (73.4 * length**0.5))),
                "ledger": f"{message.metadata.dst_node_id:016d}",
                "entry": 1,
            }
        )
        answer = Message(RecordDict({ARRAY: ArrayRecord({ARRAY: Array(values)}), REPLY: reply}), reply_to=message)
        self.last_s = time.process_time()
        self.making_s += self.last_s - begin
        return answer


def model_of(parameters: int) -> ModelConfig:
    """Return sizes of a backbone with about so many parameters."""
    widths = range(4, 129, 4)
    return min((ModelConfig(width=width) for width in widths), key=lambda model: abs(size(model) - parameters))


def measure(replies: int, *, model: ModelConfig, aggregation: str = "mean") -> Measured:
    """Run one round in this process and measure it.

    Parameters
    ----------
    replies
        Devices that answer.
    model
        Sizes of the backbone.
    aggregation
        ``"mean"`` with user-level noise, or a rule that keeps all replies, without.
    """
    noisy = aggregation == "mean"
    config = FederationConfig(
        rounds=1,
        population=10**6 if noisy else replies,
        cohort=max(10_000, replies) if noisy else replies,
        noise_multiplier=1.0 if noisy else 0.0,
        unprotected=not noisy,
        simulated_population=replies if noisy else 0,
        simulated_cohort=replies if noisy else 0,
        rescale_noise=noisy,
        aggregation=aggregation,
        min_nodes=replies,
        deadline_s=86_400.0,
        accept_loud_noise=True,
    )
    grid, start = Flood(replies), peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        state = run_rounds(grid, StateStore(folder), config=config, start=lambda: Backbone(model))
        assert (Path(folder) / "ledger.json").exists()
    return Measured(
        aggregation=aggregation,
        replies=replies,
        accepted=state.reports[0].accepted,
        parameters=len(state.backbone),
        peak_mib=peak_mib(),
        start_mib=start,
        replies_s=replies / max(1e-9, grid.last_s - grid.first_s),
        making_s=grid.making_s,
    )


def _alone(replies: int, model: ModelConfig, aggregation: str) -> Measured:
    torch.set_num_threads(1)
    return measure(replies, model=model, aggregation=aggregation)


def parser() -> Parser:
    """Return the options of the study."""
    made = study_parser(
        "streaming",
        description="Run one real round over ever more simulated replies and weigh the server.",
        example="easel-sim study streaming --replies 100 1000 10000",
    )
    made.add_argument("--replies", type=int, nargs="+", default=[100, 1000, 10_000], metavar="N", help="streamed")
    made.add_argument("--kept", type=int, nargs="*", default=[25, 50, 100], metavar="N", help="with FedMedian")
    made.add_argument("--parameters", type=int, default=1_000_000, metavar="P", help="length of an update, about")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Print a table; returns the exit code."""
    if min([*parsed.replies, *parsed.kept], default=0) < 1 or not 10_000 <= parsed.parameters <= 20_000_000:
        raise InputError("--replies and --kept must be 1 or more, --parameters from 10000 to 20000000")
    model = model_of(parsed.parameters)
    jobs = [(count, "mean") for count in parsed.replies] + [(count, "flower:FedMedian") for count in parsed.kept]
    found: list[Measured] = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for count, aggregation in jobs:
            found.append(pool.apply(_alone, (count, model, aggregation)))
            console.note(f"{aggregation}, {count} replies: {found[-1].peak_mib:.0f} MiB")
    console.table(
        _rows(found), header=("aggregation", "replies", "parameters", "peak MiB", "replies / CPU-s", "of it made in")
    )
    console.facts([asdict(one) for one in found])
    return 0


def _rows(found: Sequence[Measured]) -> list[tuple[str, ...]]:
    return [
        (
            one.aggregation,
            str(one.replies),
            str(one.parameters),
            f"{one.peak_mib:.0f}",
            f"{one.replies_s:.0f}",
            f"{one.making_s:.1f} s",
        )
        for one in found
    ]
