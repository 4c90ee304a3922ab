"""User-level privacy as an auditor would ask: whatever one device sends, how far does the release move?

Noise is off where the sensitivity is measured and on where its size is; the real rounds run.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from server.admission import SLACK, Admission
from server.config import FederationConfig
from server.rounds import begin, plan, step
from server.state import RoundState
from server.transport import request_content, send
from shared_model.backbone import Backbone
from shared_model.messages import ARRAY, REPLY, WITHIN, RoundRequest
from shared_model.split import flatten
from simulations.grid import InProcessGrid

Build = Callable[[RoundRequest, int], RecordDict]
NODES = 4


def nothing(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float64)


class Fleet:
    """Four devices whose replies a test writes; the server's own admission and step judge them."""

    def __init__(self, config: FederationConfig, backbone: Backbone) -> None:
        self.config = replace(config, quorum=0.01, rounds=1)
        self.state = begin(self.config, backbone).reserve()

    def round(self, replies: dict[int, Build], noise: Callable = nothing) -> RoundState:
        grid = InProcessGrid(lambda message, context: message, [{}] * NODES)
        nodes = sorted(grid.get_node_ids())
        current = plan(self.state, nodes, config=self.config)
        asked = send(grid, request_content(current.request, self.state.backbone), nodes, group="1", ttl_s=60.0)
        admission = Admission(current.request, size=len(self.state.backbone), asked=asked)
        messages = [grid._waiting[name] for name in asked]
        verdicts = [
            admission.judge(Message(build(current.request, len(self.state.backbone)), reply_to=messages[index]))
            for index, build in replies.items()
        ]
        return step(self.state, current, verdicts, config=self.config, noise=noise)


def upload(values: np.ndarray, scale: float, **more: object) -> Build:
    def build(request: RoundRequest, size: int) -> RecordDict:
        array = np.resize(values, size).astype(request.upload)
        reply = {"protocol": request.protocol, "run": request.run, "round": request.round, "scale": scale}
        reply |= {"ledger": secrets.token_hex(8), "entry": 1, **more}
        if request.adaptive_clip:
            reply.setdefault(WITHIN, False)
        return RecordDict({ARRAY: ArrayRecord({ARRAY: Array(array)}), REPLY: ConfigRecord(reply)})

    return build


def longest(request: RoundRequest, size: int) -> RecordDict:
    """The longest update that int8 carries within the clip."""
    return upload(np.array([127]), 0.999999 * request.clip / (127 * math.sqrt(size)))(request, size)


def spiky(request: RoundRequest, size: int) -> RecordDict:
    """The whole clip in one coordinate."""
    values = np.zeros(size, np.int8)
    values[7] = -127
    return upload(values, request.clip / 127 * 0.999999)(request, size)


ADVERSARIES: dict[str, Build] = {
    "the whole clip": longest,
    "one coordinate": spiky,
    "a thousand times the clip": upload(np.array([127]), 0.5),
    "largest scale": upload(np.array([1]), 0.4999),
    "not a number": upload(np.array([1]), math.nan),
    "negative scale": upload(np.array([1]), -0.1),
    "a count of a million examples": upload(np.array([1]), 1e-4, **{"num-examples": 10**6}),
    "a weight of its own": upload(np.array([1]), 1e-4, weight=1e6),
}


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("others", [0, 1, 3])
def test_one_device_moves_the_backbone_by_at_most_clip_over_planned(
    name: str, others: int, config: FederationConfig, backbone: Backbone
) -> None:
    fleet = Fleet(config, backbone)
    honest = {index: upload(np.arange(-50, 50), 1e-5) for index in range(others)}
    without = fleet.round(honest).backbone
    present = fleet.round({**honest, 3: ADVERSARIES[name]}).backbone
    moved = float((present - without).double().norm())
    limit = config.clip / config.planned
    assert moved <= limit * (1 + SLACK) + 1e-5  # float32 backbone
    if name in ("the whole clip", "one coordinate"):
        assert moved == pytest.approx(limit, rel=1e-2), "the bound should be tight here"


def test_devices_have_equal_weight_whoever_they_are(config: FederationConfig, backbone: Backbone) -> None:
    fleet = Fleet(config, backbone)
    alone = [fleet.round({index: longest}).backbone for index in range(NODES)]
    assert all(torch.equal(alone[0], other) for other in alone)
    together = fleet.round(dict.fromkeys(range(NODES), longest)).backbone
    start = flatten(backbone)
    assert torch.allclose(together - start, NODES * (alone[0] - start), atol=1e-6)


@pytest.mark.parametrize("replies", [1, 2, 4])
def test_dropouts_change_neither_the_noise_nor_the_divisor(
    replies: int, config: FederationConfig, backbone: Backbone
) -> None:
    deviations: list[float] = []

    def spy(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
        deviations.append(std)
        return torch.ones(shape, dtype=torch.float64)

    fleet = Fleet(replace(config, adaptive_clip=True), backbone)
    state = fleet.round(dict.fromkeys(range(replies), upload(np.array([0]), 0.0)), noise=spy)
    scale = config.simulated_cohort / config.cohort
    wanted = [(1.5**-2 - (2 * 500.0) ** -2) ** -0.5 * config.clip * scale, 500.0 * scale]
    assert deviations == pytest.approx(wanted)
    # The updates are zero, so the backbone moved by the noise on the sum over the planned cohort.
    moved = (state.backbone - flatten(backbone)).double()
    assert moved.numpy() == pytest.approx(1.0 / config.planned, abs=1e-6)


@pytest.mark.parametrize("bit", [True, False])
def test_one_device_moves_update_and_count_together_by_at_most_the_joint_sensitivity(
    bit: bool, config: FederationConfig, backbone: Backbone
) -> None:
    """In units of the noise that is added: sqrt((C / (z_delta C))^2 + (1/2 / sigma_b)^2) <= 1 / z."""
    fleet = Fleet(replace(config, adaptive_clip=True, count_noise=1.0), backbone)

    def full(request: RoundRequest, size: int) -> RecordDict:
        content = longest(request, size)
        content[REPLY][WITHIN] = bit
        return content

    base = {0: upload(np.array([1]), 1e-5)}
    without, present = fleet.round(base), fleet.round({**base, 2: full})
    planned, scale = config.planned, config.simulated_cohort / config.cohort
    update = float((present.backbone - without.backbone).double().norm()) * planned
    count = abs(present.reports[0].within - without.reports[0].within) * planned
    assert count == pytest.approx(0.5)
    update_std = (1.5**-2 - 0.25) ** -0.5 * config.clip * scale
    joint = math.hypot(update / update_std, count / (1.0 * scale))
    assert joint <= 1.0 / (1.5 * scale) * (1 + 1e-3)
    assert joint == pytest.approx(1.0 / (1.5 * scale), rel=1e-2)


def test_the_noise_on_a_real_round_is_gaussian_and_fresh(config: FederationConfig, backbone: Backbone) -> None:
    from shared_model.noise import secure_normal

    fleet = Fleet(replace(config, noise_multiplier=100.0), backbone)
    silent = {0: upload(np.array([0]), 0.0)}
    torch.manual_seed(3)
    first = fleet.round(silent, noise=secure_normal).backbone - flatten(backbone)
    torch.manual_seed(3)
    second = fleet.round(silent, noise=secure_normal).backbone - flatten(backbone)
    std = 100.0 * config.clip * (4 / 10_000) / 4
    assert float(first.std()) == pytest.approx(std, rel=0.05)
    assert float((first - second).std()) == pytest.approx(std * math.sqrt(2), rel=0.05)
