"""The rounds of a federation: a loop that a crash cannot make forget.

Flower carries the messages and nothing else. What a round is: :mod:`server.steps`; when it ends early:
:mod:`server.closing`; rounds that never wait for each other: :mod:`server.buffered`. :func:`run` saves
the state before and after every round.

Guarantees
    A round's privacy is charged in the saved state, then in the server's own ledger, before its
    request is sent. Noise is added before anything of a round is saved or reported. A round that a
    crash interrupted has released nothing, so its repetition uses the same charge, as a new attempt; a
    finished round is never repeated. Where state and ledger disagree the larger charge counts
    (:class:`server.ledger.ServerLedger`), and no more rounds are run than the noise was solved for.
Assumes
    Nobody reads the memory of a running server; nobody restores state AND ledger of an earlier moment.
Edge cases
    An older state that was put back goes on under the charge of all rounds that were ever run; where
    noise is correlated over the rounds it does not go on at all.
    Below quorum the round is skipped: backbone and clip stay, the charge stays. No reply at all is
    such a round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from flwr.serverapp import Grid

from server.admission import Admission, Verdict
from server.aggregation import Noise
from server.attempt import Tools, charge, finish, payload, present, reported, reserve
from server.budget import Budget
from server.buffered import Flight
from server.charges import price_of
from server.closing import Closing, moments
from server.config import FederationConfig
from server.ledger import ServerLedger
from server.report import RoundReport
from server.secure import secure_sum, secure_terms
from server.state import RoundState, StateStore
from server.steps import Plan, begin, plan, step
from server.transport import Timing, receive, request_content, send
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, Interrupted
from shared_model.noise import Entropy, secure_normal
from shared_model.weights import architecture_hash

__all__ = ["Plan", "begin", "plan", "run", "step"]


def run(
    grid: Grid,
    store: StateStore,
    *,
    config: FederationConfig,
    start: Callable[[], Backbone],
    on_start: Callable[[RoundState], None] = lambda state: None,
    on_round: Callable[[RoundState, RoundReport], None] = lambda state, report: None,
    timing: Timing | None = None,
    noise: Noise = secure_normal,
    entropy: Entropy = os.urandom,
) -> RoundState:
    """Run all rounds, or those that are left of a run that was interrupted.

    Parameters
    ----------
    grid
        Any Flower grid: in-process, simulation engine or SuperLink.
    store
        Where the state lives; a state found there is resumed.
    config
        Must be the one the run was started with.
    start
        Gives the first backbone; called for a new run only.
    on_start
        Called once with the state that the run starts or goes on from.
    on_round
        Called after each round is saved.
    timing
        Clock and pauses.
    noise, entropy
        Where fresh noise, and the keys of correlated noise, come from.

    Raises
    ------
    ConfigError
        If the configuration differs from the saved run's.
    LedgerError
        If the folder's ledger is malformed, truncated or edited.
    PrivacyError
        If an older state was put back and all rounds that the noise pays for are charged already.
    FederationError
        If too few devices connect, or another server uses the same folder.
    Interrupted
        On Ctrl-C; finished rounds are saved.
    """
    with store.lock():
        state = store.load()
        if state is None:
            state = begin(config, start())
            store.save(state)
        state.check_config(config)
        _check_architecture(state)
        ledger = ServerLedger(store.folder)
        state = ledger.reconcile(state, price=price_of(state, config))
        store.save(state)
        on_start(state)
        tools = Tools(grid, store, ledger, config, timing or Timing(), noise, entropy)
        one_more = Flight(tools).release if config.buffered else _rounds(tools)
        try:
            while state.round < config.rounds:
                state = one_more(state)
                on_round(state, state.reports[-1])
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"stopped in round {state.round + 1} of {config.rounds}; {state.round} finished rounds are saved",
                hint="run the same command again to go on from there",
            ) from error
        return state


def _rounds(tools: Tools) -> Callable[[RoundState], RoundState]:
    """Return what runs one round after the other."""
    return lambda state: _one_round(tools, state)


def _one_round(tools: Tools, state: RoundState) -> RoundState:
    config, timing = tools.config, tools.timing
    nodes = present(tools)
    started = timing.clock()
    interrupted = state.reserved > state.round
    state, current = reserve(tools, state, nodes)
    state, account = charge(tools, state, current.nodes)
    if config.secure_aggregation:
        return finish(tools, _secure_round(tools, state, current, started=started), ())
    content = request_content(current.request, state.backbone)
    asked = send(
        tools.grid,
        content,
        current.nodes,
        group=str(current.request.round),
        ttl_s=config.deadline_s + 60.0,
        seen=account.seen(state.run),
    )
    admission = Admission(
        current.request,
        size=len(state.backbone),
        asked=asked,
        participations=dict(account.participations.get(state.run, {})),
    )
    replies: list[tuple[int, str, int]] = []
    verdicts = _judge(tools, admission, _closing(tools, state, interrupted=interrupted), replies)
    state = step(state, current, verdicts, config=config, noise=tools.noise, entropy=tools.entropy)
    state = reported(state, bytes_down=payload(content) * len(asked), seconds=timing.clock() - started)
    return finish(tools, state, replies)


def _secure_round(tools: Tools, state: RoundState, current: Plan, *, started: float) -> RoundState:
    """Return a charged round finished by secure aggregation; interrupted, it is asked again under the same charge.

    A device masks one update per round at most, so a repetition never gives a second sum of the same
    devices: those that had answered decline, and with too few others the round is skipped. What the
    devices' ledgers count is not told here: single replies say nothing.
    """
    config, timing = tools.config, tools.timing
    std = Budget(config, state.noise_multiplier).std(state.clip)
    summed = secure_sum(
        tools.grid,
        current.request,
        current.nodes,
        state.backbone,
        terms=secure_terms(config, asked=len(current.nodes), std=std),
        neighbors=config.secure_neighbors,
        limit_s=config.deadline_s,
        timing=timing,
    )
    state = step(state, current, (), config=config, summed=summed)
    return reported(state, bytes_down=summed.bytes_down, seconds=timing.clock() - started)


def _closing(tools: Tools, state: RoundState, *, interrupted: bool) -> Closing | None:
    """Return what may end the round early; None where it has to wait.

    A round that was ``interrupted`` may have looked at noised counts already, and they are paid for once.
    """
    config, budget = tools.config, Budget(tools.config, state.noise_multiplier)
    if not config.close_early or (interrupted and budget.looks):
        return None
    at = moments(config.deadline_s, budget.looks)
    return Closing(config.planned, at=at, std=budget.look_std, noise=tools.noise)


def _judge(
    tools: Tools, admission: Admission, closing: Closing | None, replies: list[tuple[int, str, int]]
) -> Iterator[Verdict]:
    """Judge replies as they come, and note in ``replies`` what the devices' ledgers say."""
    accepted, limit_s = 0, tools.config.deadline_s

    def enough(elapsed_s: float) -> bool:
        return closing is not None and closing.look(accepted, elapsed_s)

    for message in receive(tools.grid, admission.asked, limit_s=limit_s, timing=tools.timing, enough=enough):
        verdict = admission.judge(message)
        if verdict.node is not None and verdict.ledger:
            replies.append((verdict.node, verdict.ledger, verdict.entry))
        accepted += verdict.update is not None
        yield verdict
        if closing is not None and closing.full(accepted):
            break
    reason = "not needed" if closing is not None and closing.closed else "late"
    for node in admission.missing():
        yield Verdict(node, reason=reason)


def _check_architecture(state: RoundState) -> None:
    if state.architecture != architecture_hash(state.model):
        raise CompatibilityError(
            "the saved run is of another backbone architecture", hint="finish it with the easel version that began it"
        )
