"""Buffered rounds (FedBuff, Nguyen et al. 2022): devices answer when they can, nobody waits for the slowest.

``concurrency`` devices train at any time; whoever answers makes room for another. As soon as
``cohort`` updates are accepted they are one release: summed with weights 1 / sqrt(1 + s), where s is
how many releases have been made since the backbone that the update was trained from, noised, divided by
the cohort, applied by the same :func:`server.steps.step`. ``deadline_s`` and ``quorum`` hold for each
release: a buffer that does not fill is released, or skipped, at the deadline.

Guarantees
    A weight is at most 1, so an update's norm stays within the clip. A device is asked at most once per
    attempt at a release, by its own ledger too. Privacy takes no credit for sampling, since there is none: user level
    is accounted with correlated noise and a separation between *releases* of ``min_separation -
    max_staleness``, since devices keep ``min_separation`` between the releases at which they are asked
    and an update may come up to ``max_staleness`` later. Every release is charged before its first
    request is sent. All other combinations with user-level noise are refused (:mod:`server.config_checks`).
Assumes
    When a device answers does not depend on its pictures: neighbors differ in what it sent, its updates
    or zeros, not in when. (Whoever takes a device *out* moves every later buffer by one update, which
    no noise of this size hides.)
Edge cases
    A crash loses the buffer, which released nothing, and what was under way: the release is repeated
    under its charge. Where noise is correlated it asks other devices, since those that answered would
    decline; else it may ask the same ones, as a repeated round does.
    Updates later than ``max_staleness`` are dropped as "too old", devices that never answer as "late".
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping

from flwr.app import Message, RecordDict

from server.admission import Admission, Verdict
from server.attempt import Tools, charge, finish, payload, present, reported, reserve
from server.cohort import choose_idle, remember
from server.ledger import Account
from server.state import RoundState
from server.steps import Plan, step
from server.transport import GROUP, request_content, send
from shared_model.messages import RoundRequest

__all__ = ["Flight"]


class Flight:
    """Who trains now, for which release they were asked, and what has come and was not looked at yet.

    Parameters
    ----------
    tools
        What the federation works with.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._open: dict[str, tuple[int, int]] = {}  # message: (node, release it was asked for)
        self._release: dict[str, int] = {}  # the same of all messages that an Admission below knows
        self._admissions: dict[int, Admission] = {}
        self._inbox: deque[Message] = deque()
        self._seen: dict[str, int] = {}  # participations of ledgers, over all releases

    def release(self, state: RoundState) -> RoundState:
        """Charge, ask, collect until the buffer is full, and return the state after its release."""
        tools = self._tools
        nodes = present(tools)
        started = tools.timing.clock()
        state, current = reserve(tools, self._forget_interrupted(state), ())
        first = self.idle(state, nodes)
        state, account = charge(tools, state, first)
        window = _Window(self, state, current.request, account)
        window.ask(first)
        verdicts = window.collect(self._give_up(state.round + 1))
        state = step(
            state,
            Plan(current.request, ()),
            verdicts,
            config=tools.config,
            noise=tools.noise,
            entropy=tools.entropy,
        )
        state = dataclasses.replace(state, asked=window.asked)
        seconds = tools.timing.clock() - started
        state = reported(state, asked=window.count, bytes_down=window.bytes_down, seconds=seconds)
        return finish(tools, state, window.replies)

    def _forget_interrupted(self, state: RoundState) -> RoundState:
        """Let devices be asked again that were asked before a crash, unless their ledgers forbid it."""
        if self._tools.config.factorization is not None:
            return state
        return dataclasses.replace(state, asked={n: r for n, r in state.asked.items() if r <= state.round})

    def idle(self, state: RoundState, nodes: tuple[int, ...]) -> tuple[int, ...]:
        """Choose among connected devices those that get the free places."""
        busy = {node for node, _ in self._open.values()}
        return choose_idle(nodes, round=state.round + 1, asked=state.asked, busy=busy, config=self._tools.config)

    def _give_up(self, number: int) -> list[Verdict]:
        """Forget requests that are too old for release ``number``, and say who never answered them."""
        oldest = number - self._tools.config.max_staleness
        came = {message.metadata.reply_to_message_id for message in self._inbox}
        gone = [name for name, (_, release) in self._open.items() if release < oldest and name not in came]
        verdicts = [Verdict(self._open.pop(name)[0], reason="late") for name in gone]
        self._release = {n: r for n, r in self._release.items() if r >= oldest or n in came}
        wanted = set(self._release.values())
        self._admissions = {r: a for r, a in self._admissions.items() if r in wanted}
        return verdicts

    def remember(self, participations: Mapping[str, int]) -> None:
        """Keep the highest participation of each ledger; all releases look into the same table."""
        for name, count in participations.items():
            self._seen[name] = max(count, self._seen.get(name, 0))

    def expect(self, request: RoundRequest, asked: dict[str, int], *, size: int) -> None:
        """Note who was asked for a release."""
        admission = self._admissions.get(request.round)
        if admission is None:
            admission = self._admissions[request.round] = Admission(
                request, size=size, asked={}, participations=self._seen
            )
        admission.expect(asked)
        self._open |= {name: (node, request.round) for name, node in asked.items()}
        self._release |= dict.fromkeys(asked, request.round)

    def fetch(self) -> bool:
        """Fetch one group of replies; say whether any came."""
        names = list(self._open)
        for start in range(0, len(names), GROUP):
            self._inbox.extend(self._tools.grid.pull_messages(names[start : start + GROUP]))
            if self._inbox:
                return True
        return False

    def judge(self, number: int) -> Verdict | None:
        """Return the verdict on the next reply for release ``number``; None if none has come."""
        if not self._inbox:
            return None
        message = self._inbox.popleft()
        name = message.metadata.reply_to_message_id
        release = self._release.get(name)
        if release is None:
            return Verdict(None, reason="not asked")
        self._open.pop(name, None)
        verdict = dataclasses.replace(self._admissions[release].judge(message), staleness=number - release)
        if verdict.update is not None and verdict.staleness > self._tools.config.max_staleness:
            return dataclasses.replace(verdict, update=None, reason="too old")
        return verdict


class _Window:
    """The time until one release."""

    def __init__(self, flight: Flight, state: RoundState, request: RoundRequest, account: Account) -> None:
        self._flight, self._request, self._state = flight, request, state
        self._tools = flight._tools
        self._content: RecordDict = request_content(request, state.backbone)
        self._seen_nodes = account.seen(state.run)
        flight.remember(account.participations.get(state.run, {}))
        self.replies: list[tuple[int, str, int]] = []
        self.asked = state.asked
        self.count = self.bytes_down = 0

    def ask(self, nodes: tuple[int, ...]) -> None:
        """Send the request of this release."""
        config, number = self._tools.config, self._request.round
        ttl_s = config.deadline_s * (config.max_staleness + 1) + 60.0
        sent = send(self._tools.grid, self._content, nodes, group=str(number), ttl_s=ttl_s, seen=self._seen_nodes)
        self._flight.expect(self._request, sent, size=len(self._state.backbone))
        self.asked = remember(self.asked, nodes, round=number, config=config)
        self.count += len(nodes)
        self.bytes_down += payload(self._content) * len(sent)

    def collect(self, late: list[Verdict]) -> Iterator[Verdict]:
        """Yield verdicts until the buffer is full or the deadline has passed, and keep all places taken."""
        config, timing = self._tools.config, self._tools.timing
        yield from late
        accepted, end, pause = 0, timing.clock() + config.deadline_s, timing.first_s
        while accepted < config.planned and timing.clock() < end:
            verdict = self._flight.judge(self._request.round)
            if verdict is not None:
                if verdict.node is not None and verdict.ledger:
                    self.replies.append((verdict.node, verdict.ledger, verdict.entry))
                accepted += verdict.update is not None
                yield verdict
                continue
            came, asked = self._flight.fetch(), self._fill()
            if came or asked:
                pause = timing.first_s
            else:
                timing.sleep(min(pause, max(0.0, end - timing.clock())))
                pause = min(2 * pause, timing.longest_s)

    def _fill(self) -> bool:
        """Give free places to idle devices; say whether there were any of both."""
        present = tuple(self._tools.grid.get_node_ids())
        free = self._flight.idle(dataclasses.replace(self._state, asked=self.asked), present)
        if free:
            self.ask(free)
        return bool(free)
