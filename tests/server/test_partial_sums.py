"""Three aggregators in a tree give the round of one server, to the bit; whatever does not add up is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from flwr.app import Message
from hypothesis import given
from hypothesis import strategies as st

from server.admission import Admission, Verdict
from server.budget import Budget
from server.config import FederationConfig
from server.partial_sums import PartialSum, decode, encode, fold, merge
from server.rounds import Plan, begin, plan, step
from server.state import RoundState
from server.transport import request_content, send
from shared_model.backbone import Backbone
from shared_model.discrete import lattice, to_lattice
from shared_model.errors import FederationError, StorageError
from simulations.grid import InProcessGrid

DEVICES = 11


class Drawn:
    """Noise from a seed, on the lattice, that counts how often it is drawn."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        self.calls += 1
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * std
        return to_lattice(drawn, step=lattice(std))


@pytest.fixture
def charged(config: FederationConfig, backbone: Backbone) -> tuple[FederationConfig, RoundState, Plan]:
    many = replace(config, simulated_population=DEVICES, simulated_cohort=DEVICES, adaptive_clip=True, quorum=0.3)
    state = begin(many, backbone).reserve()
    return many, state, plan(state, range(1001, 1001 + DEVICES), config=many)


def replies(
    state: RoundState, current: Plan, make_client: Callable, reply: Callable
) -> tuple[dict[str, int], list[Message]]:
    """Ask all devices once: some bad, one late, one twice."""
    size = len(state.backbone)

    def act(message: Message, index: int) -> Message:
        delta = torch.randn(size, generator=torch.Generator().manual_seed(index)) / 100 * (index + 1)
        changes = {3: {"scale": float("nan")}, 5: {"round": 9}, 6: {"ledger": f"{1007 + 3:016d}"}}
        return reply(message, delta, **changes.get(index, {}))

    grid = InProcessGrid(make_client(act), [{}] * DEVICES)
    asked = send(grid, request_content(current.request, state.backbone), current.nodes, group="1", ttl_s=60.0)
    late = next(name for name, node in asked.items() if node == 1008)
    found = list(grid.pull_messages([name for name in asked if name != late]))
    return asked, [*found, found[2]]


def judged(asked: dict[str, int], found: list[Message], current: Plan, nodes: set[int], *, size: int) -> list[Verdict]:
    part = {name: node for name, node in asked.items() if node in nodes}
    admission = Admission(current.request, size=size, asked=part)
    verdicts = [admission.judge(m) for m in found if asked[m.metadata.reply_to_message_id] in nodes]
    return [*verdicts, *(Verdict(node, reason="late") for node in admission.missing())]


def test_a_tree_of_three_equals_one_server_to_the_bit(
    charged: tuple[FederationConfig, RoundState, Plan], make_client: Callable, reply: Callable
) -> None:
    config, state, current = charged
    asked, found = replies(state, current, make_client, reply)
    size, grid_step = len(state.backbone), Budget(config, state.noise_multiplier).step(state.clip)
    everybody = set(current.nodes)
    noise = Drawn()
    alone = step(state, current, judged(asked, found, current, everybody, size=size), config=config, noise=noise)
    # Admission of the whole drops the second update of one ledger; so that both sides see it, it is in one part here.
    groups = [{1001, 1004, 1007, 1010, 1011}, {1002, 1005, 1008}, {1003, 1006, 1009}]
    parts = [
        fold(judged(asked, found, current, group, size=size), current.request, size=size, step=grid_step)
        for group in groups
    ]
    middle = decode(encode(merge([parts[2], parts[0]])))
    root = merge([decode(encode(parts[1])), middle])
    tree_noise = Drawn()
    summed = root.summed(current.request, current.nodes, size=size, step=grid_step)
    tree = step(state, current, (), config=config, noise=tree_noise, summed=summed)
    assert torch.equal(alone.backbone, tree.backbone) and not torch.equal(alone.backbone, state.backbone)
    assert alone.reports == tree.reports and alone.clip == tree.clip
    report = tree.reports[0]
    dropped = {"another round": 1, "bad scale": 1, "duplicate": 1, "its ledger went back": 1, "late": 1}
    assert (report.accepted, report.reasons) == (7, dropped)
    assert noise.calls == tree_noise.calls == 2, "one draw for the sum and one for the count, at the root alone"
    unnoised = step(state, current, (), config=config, noise=lambda s, std: torch.zeros(s).double(), summed=summed)
    assert not torch.equal(unnoised.backbone, tree.backbone)


@given(st.permutations(range(8)), st.lists(st.integers(0, 3), min_size=8, max_size=8), st.integers(0, 2**31))
def test_order_and_grouping_change_no_bit(order: list[int], owner: list[int], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    updates = [torch.randn(50, generator=draw) * 10.0 ** (index - 4) for index in range(8)]
    grid_step = lattice(0.37)

    def part(members: list[int]) -> PartialSum:
        verdicts = [Verdict(i, update=updates[i], ledger=str(i), within=i % 3 == 0) for i in members]
        request = type("Request", (), {"run": "r", "round": 1, "attempt": 1})()
        return fold(verdicts, request, size=50, step=grid_step)

    whole = part(list(range(8)))
    parts = [part([i for i in order if owner[i] == group]) for group in range(4)]
    merged = merge([merge(parts[:2]), merge(parts[2:])])
    assert torch.equal(merged.total.total, whole.total.total)
    assert (merged.total.count, merged.total.within, merged.judged) == (8, whole.total.within, whole.judged)


def test_what_does_not_add_up_is_refused(charged: tuple[FederationConfig, RoundState, Plan]) -> None:
    config, state, current = charged
    size, grid_step = len(state.backbone), Budget(config, state.noise_multiplier).step(state.clip)

    def part(node: int, ledger: str, *, at: float = grid_step, length: int = size, attempt: int = 1) -> PartialSum:
        request = replace(current.request, attempt=attempt)
        verdict = Verdict(node, update=torch.full((length,), 1e-4), ledger=ledger)
        return fold([verdict], request, size=length, step=at)

    mine = part(1001, "a")
    for other, why in (
        (part(1001, "b"), "in two of these"),
        (part(1002, "a"), "in two of these"),
        (part(1002, "b", attempt=2), "one attempt"),
        (part(1002, "b", at=grid_step * 2), "one lattice"),
        (part(1002, "b", length=size - 1), "one lattice"),
    ):
        with pytest.raises(FederationError, match=why):
            merge([mine, other])
    with pytest.raises(FederationError, match="no sums"):
        merge([])
    for wrong, why in (
        (part(1001, "a", attempt=2), "attempt 2"),
        (part(1001, "a", at=grid_step / 2), "lattice"),
        (part(9999, "a"), "not asked"),
    ):
        with pytest.raises(FederationError, match=why):
            wrong.summed(current.request, current.nodes, size=size, step=grid_step)
    assert float(mine.total.total[0]) == float(part(1001, "a").total.total[0]), "merging changes no part"


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_one_changed_byte_is_noticed(position: int, flip: int) -> None:
    request = type("Request", (), {"run": "r", "round": 1, "attempt": 1})()
    verdict = Verdict(1, update=torch.ones(5), ledger="x", within=True)
    data = bytearray(encode(fold([verdict], request, size=5, step=2.0**-20)))
    good = decode(bytes(data))
    assert good.total.count == 1 and good.total.within == 0.5 and good.ledgers == {"x"}
    data[position % len(data)] ^= flip
    try:
        again = decode(bytes(data))
    except StorageError:
        return
    assert torch.equal(again.total.total, good.total.total) and again.judged == good.judged  # padding
