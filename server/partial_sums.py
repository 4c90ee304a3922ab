"""Sums of parts of a cohort that add up to the sum of all of it, to the bit: several aggregators in a tree.

One aggregator judges and adds the replies of its own devices and hands its sum on; whoever gets several
of them adds them and hands the sum on, or, at the root, takes the round's :func:`server.rounds.step` with it.

Guarantees
    On the lattice of the round's noise every update is a whole number of steps, and float64 adds
    them exactly below 2^53 steps: how the devices are dealt out to aggregators, and in which order
    sums arrive, changes no bit. A device, and a device's ledger, is in one sum at most, or the
    sums are refused. Noise is added once, at the root.
Assumes
    The aggregators are the operator's own, like the server itself: what they hand on has NO noise yet
    and is as secret as the updates. Where noise is none (``step`` 0), plain float64 sums are added,
    whose last bits depend on the order.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from server.admission import Verdict
from server.aggregation import StreamingSum
from server.secure import Summed
from shared_model.errors import FederationError, StorageError
from shared_model.messages import RoundRequest

__all__ = ["PartialSum", "decode", "encode", "fold", "merge"]

_FORMAT = "easel-partial-sum-1"


@dataclass(frozen=True, eq=False)
class PartialSum:
    """The sum of one part of a cohort.

    Parameters
    ----------
    run, round, attempt
        What it is a part of.
    total
        The exact sum, (P,) float64, without noise.
    reasons
        How many replies were dropped, by reason.
    bytes_up
        Payload of all replies.
    judged
        Devices that answered or were late.
    ledgers
        Names of the ledgers whose updates are in the sum.
    """

    run: str
    round: int
    attempt: int
    total: StreamingSum
    reasons: Mapping[str, int]
    bytes_up: int
    judged: frozenset[int]
    ledgers: frozenset[str]

    def check(self, request: RoundRequest, nodes: Sequence[int], *, size: int, step: float) -> None:
        """Refuse a sum that is not of this attempt at this round, or not on its lattice.

        Raises
        ------
        FederationError
            Naming what differs.
        """
        mine = (self.run, self.round, self.attempt)
        if mine != (request.run, request.round, request.attempt):
            raise FederationError(f"this sum is of run {self.run}, round {self.round}, attempt {self.attempt}")
        if len(self.total.total) != size or self.total.step != step:
            raise FederationError("this sum is of another backbone, or on another lattice")
        if not self.judged <= set(nodes):
            raise FederationError("this sum has devices that were not asked")

    def summed(self, request: RoundRequest, nodes: Sequence[int], *, size: int, step: float) -> Summed:
        """Return what the root's :func:`server.rounds.step` takes; it adds the noise.

        Raises
        ------
        FederationError
            If the sum is not of this attempt at this round, or not on its lattice.
        """
        self.check(request, nodes, size=size, step=step)
        reasons = Counter(self.reasons) + Counter({"not reached": len(nodes) - len(self.judged)})
        return Summed(self.total, reasons, bytes_down=0, bytes_up=self.bytes_up, noised=False)


def fold(verdicts: Iterable[Verdict], request: RoundRequest, *, size: int, step: float) -> PartialSum:
    """Add the verdicts on the replies of some devices, one at a time.

    Parameters
    ----------
    verdicts
        From an :class:`server.admission.Admission` that knows these devices only.
    request
        What they were asked.
    size
        Length of an update.
    step
        The round's lattice, :meth:`server.budget.Budget.step`.
    """
    total, reasons, nbytes = StreamingSum(size, step=step), Counter[str](), 0
    judged, ledgers = set[int](), set[str]()
    for verdict in verdicts:
        nbytes += verdict.nbytes
        if verdict.node is not None:
            judged.add(verdict.node)
        if verdict.update is None:
            reasons[verdict.reason] += 1
        else:
            total.add(verdict.update, within=verdict.within)
            ledgers.add(verdict.ledger)
    return PartialSum(
        request.run, request.round, request.attempt, total, reasons, nbytes, frozenset(judged), frozenset(ledgers)
    )


def merge(parts: Sequence[PartialSum]) -> PartialSum:
    """Add sums of different devices of one round; nothing is changed in place.

    Raises
    ------
    FederationError
        If there are none, they are not of one attempt at one round, or a device is in two of them.
    """
    if not parts:
        raise FederationError("there are no sums to add")
    first = parts[0]
    total = StreamingSum(len(first.total.total), step=first.total.step)
    reasons, judged, ledgers = Counter[str](), set[int](), set[str]()
    for part in parts:
        if (part.run, part.round, part.attempt) != (first.run, first.round, first.attempt):
            raise FederationError("these sums are not of one attempt at one round")
        if part.total.step != total.step or part.total.total.shape != total.total.shape:
            raise FederationError("these sums are not on one lattice, or of different backbones")
        if judged & part.judged or ledgers & part.ledgers:
            raise FederationError("a device is in two of these sums", hint="each device belongs to one aggregator")
        total.total += part.total.total
        total.count += part.total.count
        total.within += part.total.within
        reasons.update(part.reasons)
        judged |= part.judged
        ledgers |= part.ledgers
    nbytes = sum(part.bytes_up for part in parts)
    return PartialSum(
        first.run, first.round, first.attempt, total, reasons, nbytes, frozenset(judged), frozenset(ledgers)
    )


def encode(part: PartialSum) -> bytes:
    """Return a sum as safetensors bytes with their SHA-256; to be kept and sent as secretly as updates."""
    header = json.dumps(
        {
            "format": _FORMAT,
            "run": part.run,
            "round": part.round,
            "attempt": part.attempt,
            "step": part.total.step.hex(),
            "count": part.total.count,
            "within": part.total.within,
            "reasons": dict(part.reasons),
            "bytes_up": part.bytes_up,
            "judged": sorted(part.judged),
            "ledgers": sorted(part.ledgers),
        },
        sort_keys=True,
    )
    return save_tensors({"total": part.total.total}, metadata={"easel": header, "sha256": _checksum(part, header)})


def decode(data: bytes) -> PartialSum:
    """Read what :func:`encode` wrote.

    Raises
    ------
    StorageError
        If it is damaged, or something else.
    """
    try:
        tensors = load_tensors(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        header: dict[str, Any] = json.loads(metadata["easel"])
        if header["format"] != _FORMAT:
            raise ValueError("another format")
        total = StreamingSum(len(tensors["total"]), step=float.fromhex(header["step"]))
        total.total, total.count, total.within = tensors["total"].double(), header["count"], header["within"]
        part = PartialSum(
            header["run"],
            header["round"],
            header["attempt"],
            total,
            header["reasons"],
            header["bytes_up"],
            frozenset(header["judged"]),
            frozenset(header["ledgers"]),
        )
        whole = metadata["sha256"] == _checksum(part, metadata["easel"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StorageError(
            "this is not a partial sum, or it is damaged", hint="let its aggregator send it again"
        ) from error
    if not whole:
        raise StorageError("this partial sum is damaged", hint="let its aggregator send it again")
    return part


def _checksum(part: PartialSum, header: str) -> str:
    return hashlib.sha256(header.encode() + b"\0" + part.total.total.contiguous().numpy().tobytes()).hexdigest()
