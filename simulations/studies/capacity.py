"""Where one server ends: polls of idle devices, replies that are judged and added, bytes of a round."""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.console import Console
from client.parser import Parser
from server.admission import Verdict
from server.aggregation import StreamingSum
from server.partial_sums import decode, encode, fold, merge
from shared_model.discrete import lattice
from shared_model.errors import InputError
from shared_model.messages import RoundRequest
from shared_model.noise import norm
from simulations.fleet_load import POLL_S, measure
from simulations.studies import study_parser

__all__ = ["Adding", "adding", "parser", "run", "traffic"]

#: What a request carries beside the backbone, and a reply beside the update: settings, names, HTTP.
_BESIDE_DOWN, _BESIDE_UP, _BESIDE_POLL = 4_000, 2_500, 1_500


def parser() -> Parser:
    """Return the study's options."""
    study = study_parser(
        "capacity",
        description="Measure what one server's processor pays for the polls of idle devices (real SuperLink, with and "
        "without TLS, database and gate), for judging and adding a reply, and for adding the sums of several "
        "aggregators; compute the bytes of a round.",
        example="easel-sim study capacity --devices 20 --seconds 10",
    )
    study.add_argument("--devices", type=int, default=20, metavar="N", help="that poll (default: %(default)s)")
    study.add_argument("--seconds", type=float, default=8.0, metavar="S", help="for so long (default: %(default)s)")
    study.add_argument("--parameters", type=int, default=1_000_000, metavar="P", help="default: %(default)s")
    study.add_argument("--no-polls", action="store_true", help="start no SuperLink; measure adding only")
    return study


@dataclass(frozen=True)
class Adding:
    """Processor milliseconds of the root and of a leaf.

    Parameters
    ----------
    reply_ms
        To check an int8 update's numbers and length and to add it.
    merge_ms
        To read the sum of one aggregator and to add it.
    sum_bytes
        Size of such a sum.
    """

    reply_ms: float
    merge_ms: float
    sum_bytes: int


def adding(parameters: int, *, replies: int = 20, parts: int = 3) -> Adding:
    """Measure on one thread; the updates are random."""
    draw = np.random.default_rng(0)
    payloads = [draw.integers(-127, 128, parameters, dtype=np.int8) for _ in range(4)]
    total, step = StreamingSum(parameters, step=lattice(1.0)), lattice(1.0)
    start = time.process_time()
    for number in range(replies):
        update = torch.from_numpy(payloads[number % 4].astype(np.float32)) * 1e-5
        if norm(update) <= 1e9:
            total.add(update)
    reply_ms = 1000.0 * (time.process_time() - start) / replies
    sums = [_leaf(number, payloads[number % 4], step=step) for number in range(parts)]
    start = time.process_time()
    merge([decode(data) for data in sums])
    return Adding(reply_ms, 1000.0 * (time.process_time() - start) / parts, len(sums[0]))


def _leaf(number: int, payload: np.ndarray[Any, Any], *, step: float) -> bytes:
    request: Any = _Named("capacity", 1, 1)
    update = torch.from_numpy(payload.astype(np.float32)) * 1e-5
    verdicts = [Verdict(number, update=update, ledger=str(number))]
    asked: RoundRequest = request
    return encode(fold(verdicts, asked, size=len(payload), step=step))


@dataclass(frozen=True)
class _Named:
    run: str
    round: int
    attempt: int


def traffic(devices: int, *, parameters: int, cohort: int) -> dict[str, float]:
    """Return the bytes of one round, and of an idle fleet's polls in an hour."""
    return {
        "down_bytes": float(cohort * (4 * parameters + _BESIDE_DOWN)),
        "up_bytes": float(cohort * (parameters + _BESIDE_UP)),
        "poll_bytes_an_hour": devices * 3600.0 / POLL_S * _BESIDE_POLL,
        "polls_a_second": devices / POLL_S,
    }


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Measure and print."""
    if parsed.devices < 2 or parsed.parameters < 1:
        raise InputError("two devices and one parameter at least")
    torch.set_num_threads(1)
    loads: dict[str, dict[str, float]] = {}
    setups = {
        "plain, memory": (False, False, False),
        "plain, database": (False, False, True),
        "TLS and keys, memory": (True, False, False),
        "TLS and keys, database": (True, False, True),
        "TLS, keys, database, gate": (True, True, True),
    }
    for name, (secure, gate, database) in {} if parsed.no_polls else setups.items():
        with tempfile.TemporaryDirectory() as folder:
            load = measure(
                Path(folder),
                devices=parsed.devices,
                seconds=parsed.seconds,
                secure=secure,
                gate=gate,
                database=database,
            )
        each = 1000.0 / max(1, load.polls)
        loads[name] = {
            "polls_a_second": load.rate,
            "link_ms": load.link_s * each,
            "gate_ms": load.gate_s * each,
            "idle_devices": load.most_devices,
        }
        console.note(f"{name}: {load.rate:.0f} polls a second")
    if loads:
        console.table(
            [(name, *(f"{value:,.4g}" for value in load.values())) for name, load in loads.items()],
            header=("polls", "a second", "SuperLink ms", "gate ms", "idle devices a core"),
        )
    cost = adding(parsed.parameters)
    console.say(
        f"a reply of {parsed.parameters:,} parameters: {cost.reply_ms:.1f} ms, {1000 / cost.reply_ms:.0f} a second a "
        f"core; a sum of an aggregator: {cost.merge_ms:.1f} ms, {cost.sum_bytes / 1e6:.1f} MB"
    )
    rounds = {}
    for devices, cohort in ((10_000, 100), (10_000, 1_000), (1_000_000, 1_000), (1_000_000, 10_000)):
        found = rounds[f"{devices}/{cohort}"] = traffic(devices, parameters=parsed.parameters, cohort=cohort)
        console.say(
            f"{devices:>9,} devices, cohort {cohort:>6,}: {found['down_bytes'] / 1e9:.3g} GB down and "
            f"{found['up_bytes'] / 1e9:.3g} GB up a round; {found['polls_a_second']:,.0f} polls a second"
        )
    console.facts({"polls": loads, "adding": vars(cost), "rounds": rounds})
    return 0
