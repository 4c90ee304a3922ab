"""The rounds of a federation: plan, step, and a loop that a crash cannot make forget.

Flower carries the messages and nothing else. ``plan`` and ``step`` are pure but for noise and secret
sampling; :func:`run` saves the state before and after every round.

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

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from flwr.app import RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from server.admission import Admission, Verdict
from server.aggregation import Noise, StreamingSum, server_optimizer
from server.budget import Budget, solve_noise
from server.charges import check_charge, price_of
from server.cohort import choose, remember
from server.config import FederationConfig
from server.ledger import ServerLedger
from server.release import Release, release
from server.report import RoundReport, bounded
from server.secure import Summed, check_secure, secure_sum, secure_terms
from server.state import RoundState, StateStore, new_run_name
from server.transport import Timing, receive, request_content, send, wait_for_nodes
from shared_model.backbone import Backbone
from shared_model.config import LossConfig, to_dict
from shared_model.correlated import new_key
from shared_model.errors import CompatibilityError, Interrupted, PrivacyError
from shared_model.messages import ARRAY, RoundRequest
from shared_model.noise import Entropy, secure_normal
from shared_model.split import flatten
from shared_model.weights import architecture_hash

__all__ = ["Plan", "begin", "plan", "run", "step"]


@dataclass(frozen=True)
class Plan:
    """Whom a round asks, and what.

    Parameters
    ----------
    request
        The settings that every one of them receives.
    nodes
        The devices, sorted.
    """

    request: RoundRequest
    nodes: tuple[int, ...]


def begin(config: FederationConfig, backbone: Backbone) -> RoundState:
    """Return the state before the first round: a new run's name, and its noise solved once.

    Raises
    ------
    PrivacyError
        If noise would drown the fleet and the configuration does not accept that.
    """
    vector = flatten(backbone)
    budget = Budget(config, solve_noise(config))
    budget.warning(parameters=len(vector))
    check_secure(config, size=len(vector), std=budget.std(config.clip))
    return RoundState(
        run=new_run_name(),
        round=0,
        reserved=0,
        config=to_dict(config),
        model=backbone.config,
        architecture=architecture_hash(backbone.config),
        noise_multiplier=budget.noise_multiplier,
        backbone=vector,
        moments=server_optimizer(config.optimizer, rate=config.server_lr).start(vector),
        clip=config.clip,
    )


def plan(state: RoundState, nodes: Sequence[int], *, config: FederationConfig) -> Plan:
    """Choose the devices of the next round (:func:`server.cohort.choose`) and write its request."""
    number = state.round + 1
    chosen = choose(nodes, round=number, asked=state.asked, config=config)
    request = RoundRequest(
        run=state.run,
        round=number,
        rounds=config.rounds,
        model=state.model,
        loss=LossConfig(adversarial=config.adversarial),
        architecture=state.architecture,
        unit=config.unit,
        clip=state.clip,
        record_clip=config.record_clip,
        noise_multiplier=state.noise_multiplier,
        adaptive_clip=config.adaptive_clip,
        count_noise=Budget(config, state.noise_multiplier).count_noise,
        mechanism=config.mechanism,
        min_separation=config.min_separation,
        cohort=config.cohort,
        population=config.population,
        delta=config.effective_delta,
        simulated=config.simulated,
        local_steps=config.local_steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        record_rate=min(1.0, config.batch / config.records),
        upload=config.upload,
        seed=config.seed,
        attempt=max(number, state.attempt),
    )
    return Plan(request, chosen)


def step(
    state: RoundState,
    current: Plan,
    verdicts: Iterable[Verdict],
    *,
    config: FederationConfig,
    noise: Noise = secure_normal,
    entropy: Entropy = os.urandom,
    summed: Summed | None = None,
) -> RoundState:
    """Fold the verdicts on a round's replies into the next state; its last report tells what happened.

    Parameters
    ----------
    state
        With the round's privacy charged (:meth:`server.state.RoundState.reserve`).
    current
        The round's plan.
    verdicts
        Consumed one at a time; memory does not grow with their number.
    config
        The federation.
    noise
        Where fresh noise comes from.
    entropy
        Where the keys of correlated noise come from.
    summed
        A finished sum, instead of verdicts: of secure aggregation, whose devices have added the noise, or
        of several aggregators (:mod:`server.partial_sums`).

    Raises
    ------
    PrivacyError
        If the round was not charged first.
    """
    number = state.round + 1
    if state.reserved != number:
        raise PrivacyError(f"round {number} was not charged before it was run")
    budget = Budget(config, state.noise_multiplier)
    if summed is None:
        exact = StreamingSum(len(state.backbone), step=budget.step(state.clip))
        total, reasons, nbytes = _collect(verdicts, exact, asked=len(current.nodes))
    else:
        total, reasons, nbytes = summed.total, summed.reasons, summed.bytes_up
        noise = _no_more_noise if summed.noised else noise
    keys = (*state.noise_keys, new_key(entropy=entropy)) if config.factorization else ()
    enough = total.count >= config.needed
    done = release(state, total, config=config, keys=keys, noise=noise) if enough else Release(state, 0.0)
    report = RoundReport(
        round=number,
        asked=len(current.nodes),
        accepted=total.count,
        reasons=dict(sorted(reasons.items())),
        released=enough,
        epsilon=bounded(budget.epsilon(state.charged)),
        run_epsilon=bounded(budget.run_epsilon(state.charged)),
        clip=state.clip,
        within=done.within,
        update_norm=done.length,
        bytes_up=nbytes,
    )
    return dataclasses.replace(
        done.state,
        round=number,
        reports=(*state.reports, report),
        noise_keys=keys if number < config.rounds else (),
    )


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
    patience = timing or Timing()
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
        try:
            while state.round < config.rounds:
                state = _one_round(
                    grid, store, ledger, state, config=config, timing=patience, noise=noise, entropy=entropy
                )
                on_round(state, state.reports[-1])
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"stopped in round {state.round + 1} of {config.rounds}; {state.round} finished rounds are saved",
                hint="run the same command again to go on from there",
            ) from error
        return state


def _one_round(
    grid: Grid,
    store: StateStore,
    ledger: ServerLedger,
    state: RoundState,
    *,
    config: FederationConfig,
    timing: Timing,
    noise: Noise,
    entropy: Entropy,
) -> RoundState:
    enough = max(config.min_nodes, config.simulated_population)
    nodes = wait_for_nodes(grid, enough, limit_s=config.wait_s, timing=timing)
    started = timing.clock()
    state = state.reserve()
    check_charge(state, config)
    current = plan(state, nodes, config=config)
    number = current.request.round
    state = dataclasses.replace(state, asked=remember(state.asked, current.nodes, round=number, config=config))
    store.save(state)
    account = ledger.charge(state, price=price_of(state, config))
    if config.secure_aggregation:
        state = _secure_round(grid, state, current, config=config, timing=timing, started=started)
        store.save(state)
        ledger.finish(state, ())
        return state
    content = request_content(current.request, state.backbone)
    asked = send(
        grid,
        content,
        current.nodes,
        group=str(number),
        ttl_s=config.deadline_s + 60.0,
        seen=account.seen(state.run),
    )
    admission = Admission(
        current.request,
        size=len(state.backbone),
        asked=asked,
        participations=account.participations.get(state.run, {}),
    )
    replies: list[tuple[int, str, int]] = []
    verdicts = _judge(grid, admission, replies, limit_s=config.deadline_s, timing=timing)
    state = step(state, current, verdicts, config=config, noise=noise, entropy=entropy)
    report = dataclasses.replace(
        state.reports[-1], bytes_down=_payload(content) * len(asked), seconds=timing.clock() - started
    )
    state = dataclasses.replace(state, reports=(*state.reports[:-1], report))
    store.save(state)
    ledger.finish(state, replies)
    return state


def _secure_round(
    grid: Grid,
    state: RoundState,
    current: Plan,
    *,
    config: FederationConfig,
    timing: Timing,
    started: float,
) -> RoundState:
    """Return a charged round finished by secure aggregation; interrupted, it is asked again under the same charge.

    A device masks one update per round at most, so a repetition never gives a second sum of the same
    devices: those that had answered decline, and with too few others the round is skipped. What the
    devices' ledgers count is not told here: single replies say nothing.
    """
    std = Budget(config, state.noise_multiplier).std(state.clip)
    summed = secure_sum(
        grid,
        current.request,
        current.nodes,
        state.backbone,
        terms=secure_terms(config, asked=len(current.nodes), std=std),
        neighbors=config.secure_neighbors,
        limit_s=config.deadline_s,
        timing=timing,
    )
    state = step(state, current, (), config=config, summed=summed)
    report = dataclasses.replace(state.reports[-1], bytes_down=summed.bytes_down, seconds=timing.clock() - started)
    return dataclasses.replace(state, reports=(*state.reports[:-1], report))


def _no_more_noise(shape: tuple[int, ...], *, std: float) -> Tensor:
    """Add nothing: the devices have added the noise."""
    return torch.zeros(shape, dtype=torch.float64)


def _judge(
    grid: Grid, admission: Admission, replies: list[tuple[int, str, int]], *, limit_s: float, timing: Timing
) -> Iterator[Verdict]:
    """Judge replies as they come, and note in ``replies`` what the devices' ledgers say."""
    for message in receive(grid, admission.asked, limit_s=limit_s, timing=timing):
        verdict = admission.judge(message)
        if verdict.node is not None and verdict.ledger:
            replies.append((verdict.node, verdict.ledger, verdict.entry))
        yield verdict
    for node in admission.missing():
        yield Verdict(node, reason="late")


def _collect(verdicts: Iterable[Verdict], total: StreamingSum, *, asked: int) -> tuple[StreamingSum, Counter[str], int]:
    reasons, nbytes, judged = Counter[str](), 0, set[int]()
    for verdict in verdicts:
        nbytes += verdict.nbytes
        if verdict.node is not None:
            judged.add(verdict.node)
        if verdict.update is None:
            reasons[verdict.reason] += 1
        else:
            total.add(verdict.update, within=verdict.within)
    if len(judged) < asked:
        reasons["not reached"] += asked - len(judged)
    return total, reasons, nbytes


def _payload(content: RecordDict) -> int:
    return len(content.array_records[ARRAY][ARRAY].data)


def _check_architecture(state: RoundState) -> None:
    if state.architecture != architecture_hash(state.model):
        raise CompatibilityError(
            "the saved run is of another backbone architecture", hint="finish it with the easel version that began it"
        )
