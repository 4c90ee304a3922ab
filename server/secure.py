"""One securely aggregated round: four exchanges, after which the server knows a noisy sum and no part of it.

Guarantees
    The server learns nothing of an update but its place in the sum, and opens no sum of fewer than
    ``needed`` updates. Every secret that takes masks off is verified. A sum that is longer than so
    many honest devices could make it is thrown away: one device that masks wrongly or sends garbage
    costs the round, not the backbone. Memory is that of the model.
Assumes
    The server follows the protocol (honest but curious): it relays true public keys and true lists.
Edge cases
    Devices may drop out of every stage. Too few of them, or shares too few to take the masks off, and
    the round is skipped; its charge stays. Single updates cannot be checked for their norm: a device
    is trusted to clip, and one that lies can move the sum by up to what all devices together may.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from server.admission import read_array
from server.aggregation import StreamingSum
from server.config import FederationConfig
from server.transport import Timing, receive, request_content, send_each
from server.unmask import Member, check_primitives, is_key, neighborhoods, share_fits, unmask
from shared_model.messages import ARRAY, DECLINED, PROTOCOL, REPLY, SETTINGS, RoundRequest
from shared_model.noise import norm
from shared_model.secure_sum import decode
from shared_model.secure_terms import LEAST, SECURE, SecureTerms, threshold

__all__ = ["TOO_FEW", "TOO_LONG", "UNOPENED", "Summed", "check_secure", "secure_sum", "secure_terms"]

TOO_FEW = "too few for secure aggregation"
UNOPENED = "sum could not be opened"
TOO_LONG = "sum longer than honest devices can make it"
_SEALED_LIMIT = 4096


@dataclass(frozen=True, eq=False)
class Summed:
    """What a round gave whose updates were added elsewhere: secure aggregation, or a tree of aggregators.

    Parameters
    ----------
    total
        The sum, and how many updates are in it: none if the round failed.
    reasons
        How many devices are not in it, by reason.
    bytes_down, bytes_up
        Payload of all exchanges.
    noised
        Whether the devices have added the noise; if not, the step adds it.
    """

    total: StreamingSum
    reasons: Counter[str]
    bytes_down: int
    bytes_up: int
    noised: bool = True


def secure_terms(config: FederationConfig, *, asked: int, std: float) -> SecureTerms | None:
    """Return the terms of one attempt, or ``None`` if so few devices were asked that it cannot succeed.

    Parameters
    ----------
    asked
        Devices asked.
    std
        Standard deviation that the noise on the sum needs.
    """
    needed = max(LEAST, config.needed)
    if asked < needed:
        return None
    return SecureTerms(
        attempt=secrets.token_hex(8),
        capacity=asked,
        needed=needed,
        colluding=int(config.secure_collusion * needed),
        sum_noise=std,
    )


def check_secure(config: FederationConfig, *, size: int, std: float) -> None:
    """Refuse a federation that cannot aggregate securely, before anything is charged.

    Raises
    ------
    MissingError
        If a part of Flower is missing.
    PrivacyError
        If the sum of a planned cohort does not fit into the ring.
    """
    if config.secure_aggregation:
        check_primitives()
        terms = secure_terms(config, asked=max(config.selected, config.needed, LEAST), std=std)
        if terms is not None:
            terms.ring(size=size, clip=config.clip)


def secure_sum(
    grid: Grid,
    request: RoundRequest,
    nodes: Sequence[int],
    backbone: Tensor,
    *,
    terms: SecureTerms | None,
    neighbors: int,
    limit_s: float,
    timing: Timing,
) -> Summed:
    """Run the four exchanges of one round.

    Parameters
    ----------
    grid, request, nodes, backbone
        As for a plain round.
    terms
        From :func:`secure_terms`.
    neighbors
        With how many others a device shares secrets; 0: with all.
    limit_s
        Patience per exchange, seconds.
    timing
        Clock and pauses.
    """
    if terms is None:
        return Summed(StreamingSum(len(backbone)), Counter({TOO_FEW: len(nodes)} if nodes else {}), 0, 0)
    return _Attempt(grid, request, nodes, terms=terms, limit_s=limit_s, timing=timing).run(backbone, neighbors)


class _Attempt:
    """One attempt at one round: who is in it, under which number, and why others are not."""

    def __init__(
        self,
        grid: Grid,
        request: RoundRequest,
        nodes: Sequence[int],
        *,
        terms: SecureTerms,
        limit_s: float,
        timing: Timing,
    ) -> None:
        self._grid, self._request, self._nodes, self._terms = grid, request, nodes, terms
        self._limit_s, self._timing = limit_s, timing
        self._reasons: dict[int, str] = {}
        self._members: dict[int, Member] = {}
        self._index: dict[int, int] = {}  # by node
        self._down = self._up = 0

    def run(self, backbone: Tensor, neighbors: int) -> Summed:
        size = len(backbone)
        ring = self._terms.ring(size=size, clip=self._request.clip)
        context = self._terms.context(self._request.run, self._request.round)
        enough = self._collect_keys(neighbors) and self._collect_shares()
        if not enough:
            return self._failed(size, TOO_FEW)
        total, survivors = self._collect_masked(backbone)
        if len(survivors) < self._terms.needed:
            return self._failed(size, TOO_FEW)
        self._collect_openings(survivors)
        plain = unmask(total, self._members, survivors, context=context)
        if plain is None:
            return self._failed(size, UNOPENED)
        summed = StreamingSum(size)
        summed.total, summed.count = decode(plain, ring), len(survivors)
        if norm(summed.total) > ring.longest(summed.count):
            return self._failed(size, TOO_LONG)
        return Summed(summed, Counter(self._reasons.values()), self._down, self._up)

    def _failed(self, size: int, reason: str) -> Summed:
        """Blame the devices that did all right on the failure of the whole."""
        reasons = Counter(self._reasons.get(node, reason) for node in self._nodes)
        return Summed(StreamingSum(size), reasons, self._down, self._up)

    def _collect_keys(self, neighbors: int) -> bool:
        settings = ConfigRecord(dict(self._request.to_values()))
        content = RecordDict({SETTINGS: settings, SECURE: self._stage("keys", **self._terms.to_values())})
        known: dict[int, tuple[bytes, bytes]] = {}
        taken: set[bytes] = set()
        for node, reply, _ in self._exchange("keys", {node: content for node in self._nodes}):
            found = reply.get("mask_key"), reply.get("seal_key")
            keys = tuple(key for key in found if isinstance(key, bytes) and len(key) < 1024 and is_key(key))
            if len(reply) != 2 or len(set(keys) - taken) != 2:
                self._reasons[node] = "bad keys"
                continue
            taken.update(keys)
            known[node] = keys[0], keys[1]
        self._index = {node: index for index, node in enumerate(sorted(known))}
        groups = neighborhoods(len(known), neighbors=neighbors, shuffle=secrets.SystemRandom().shuffle)
        for node, index in self._index.items():
            self._members[index] = Member(index, *known[node], holders=groups[index])
        return len(known) >= self._terms.needed

    def _collect_shares(self) -> bool:
        contents = {
            node: RecordDict(
                {
                    SECURE: self._stage(
                        "shares",
                        index=index,
                        holders=list(self._members[index].holders),
                        mask_keys=[self._members[other].mask_key for other in self._members[index].holders],
                        seal_keys=[self._members[other].seal_key for other in self._members[index].holders],
                    )
                }
            )
            for node, index in self._index.items()
        }
        done: dict[int, Member] = {}
        for node, reply, _ in self._exchange("shares", contents):
            member = self._members[self._index[node]]
            others = [other for other in member.holders if other != member.index]
            sealed, promise = _byte_strings(reply.get("sealed")), reply.get("promise")
            if len(reply) != 2 or len(sealed) != len(others) or not (isinstance(promise, bytes) and len(promise) == 32):
                self._reasons[node] = "bad shares"
                continue
            member.promise, member.sealed = promise, dict(zip(others, sealed, strict=True))
            done[member.index] = member
        self._members = done
        return len(done) >= self._terms.needed

    def _collect_masked(self, backbone: Tensor) -> tuple[np.ndarray, list[int]]:
        base, terms = request_content(self._request, backbone), self._terms.to_values()
        contents: dict[int, RecordDict] = {}
        for node, index in self._index.items():
            sources = self._sources(index)
            if index in self._members and len(sources) + 1 >= threshold(len(self._members[index].holders)):
                sealed = [self._members[source].sealed[index] for source in sources]
                contents[node] = RecordDict(
                    {**base, SECURE: self._stage("masked", **terms, sources=sources, sealed=sealed)}
                )
            elif index in self._members:
                self._reasons[node] = TOO_FEW
        total, survivors = np.zeros(len(backbone), np.uint32), []
        for node, reply, array in self._exchange("masked", contents):
            if array is None or reply:
                self._reasons[node] = "wrong keys"
                continue
            words, reason = read_array(array, dtype="uint32", size=len(total))
            if words is None:
                self._reasons[node] = reason
                continue
            total += words
            survivors.append(self._index[node])
        return total, sorted(survivors)

    def _collect_openings(self, survivors: list[int]) -> None:
        arrived = set(survivors)
        contents = {
            node: RecordDict({SECURE: self._stage("open", survivors=survivors)})
            for node, index in self._index.items()
            if index in arrived
        }
        before = dict(self._reasons)
        for node, reply, _ in self._exchange("open", contents):
            about, shares = reply.get("about"), _byte_strings(reply.get("shares"))
            if not isinstance(about, list) or len(about) != len(shares):
                continue
            holder = self._index[node]
            for index, share in zip(about, shares, strict=True):
                member = self._members.get(index) if isinstance(index, int) else None
                if member is not None and share_fits(member, holder, share, arrived=index in arrived):
                    member.shares[holder] = share
        self._reasons = before  # a device whose update is in the sum was not dropped

    def _sources(self, index: int) -> list[int]:
        """Return the other holders of a device that handed out shares."""
        holders = self._members[index].holders if index in self._members else ()
        return [other for other in holders if other != index and other in self._members]

    def _stage(self, stage: str, **values: object) -> ConfigRecord:
        named = {"stage": stage, "attempt": self._terms.attempt, **values}
        return ConfigRecord(named)  # type: ignore[arg-type]

    def _exchange(
        self, stage: str, contents: Mapping[int, RecordDict]
    ) -> Iterator[tuple[int, dict[str, object], Array | None]]:
        """Send, and yield each right answer: device, the stage's own values, array. The rest gets a reason."""
        group, ttl_s = f"{self._request.round}-{stage}", self._limit_s + 60.0
        asked = send_each(self._grid, contents.items(), group=group, ttl_s=ttl_s)
        self._down += sum(_payload(contents[node]) for node in asked.values())
        self._reasons |= dict.fromkeys(contents.keys() - asked.values(), "not reached")
        seen: set[int] = set()
        for message in receive(self._grid, asked, limit_s=self._limit_s, timing=self._timing):
            node = asked.get(message.metadata.reply_to_message_id)
            if node is None or node in seen:
                continue
            seen.add(node)
            values, array, reason = self._read(message, node, stage)
            if values is None:
                self._reasons[node] = reason
            else:
                yield node, values, array
        self._reasons |= dict.fromkeys(set(asked.values()) - seen, "late")

    def _read(self, message: Message, node: int, stage: str) -> tuple[dict[str, object] | None, Array | None, str]:
        if message.has_error():
            return None, None, DECLINED.get(message.error.code, f"error {message.error.code}")
        if message.metadata.src_node_id != node:
            return None, None, "wrong sender"
        self._up += _payload(message.content)
        reply, arrays = message.content.get(REPLY), message.content.get(ARRAY)
        named = {
            "protocol": PROTOCOL,
            "run": self._request.run,
            "round": self._request.round,
            "stage": stage,
            "attempt": self._terms.attempt,
        }
        if not isinstance(reply, ConfigRecord) or set(message.content) - {REPLY, ARRAY}:
            return None, None, "wrong keys"
        values: dict[str, object] = dict(reply)
        if any(values.pop(key, None) != value for key, value in named.items()):
            return None, None, "another round"
        array = arrays.get(ARRAY) if isinstance(arrays, ArrayRecord) and set(arrays) == {ARRAY} else None
        return values, array, ""


def _byte_strings(value: object) -> list[bytes]:
    """Return a list of short byte strings from outside; empty if it is anything else."""
    items = value if isinstance(value, list) else []
    return items if all(isinstance(item, bytes) and len(item) <= _SEALED_LIMIT for item in items) else []


def _payload(content: RecordDict) -> int:
    """Count the bytes of arrays and of byte strings."""
    total = 0
    for record in content.values():  # not `array_records`, whose loop of references keeps a reply in memory
        if isinstance(record, ArrayRecord):
            total += sum(len(array.data) for array in record.values())
        for value in record.values() if isinstance(record, ConfigRecord) else ():
            items: Sequence[object] = value if isinstance(value, list) else [value]
            total += sum(len(item) for item in items if isinstance(item, bytes))
    return total
