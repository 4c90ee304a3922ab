"""A tiny fleet: a small backbone and a ClientApp that answers without training."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from server.config import FederationConfig
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.messages import ARRAY, PROTOCOL, REPLY, SETTINGS, WITHIN, RoundRequest
from shared_model.privacy import clip, quantize

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)


@pytest.fixture
def backbone() -> Backbone:
    return Backbone(TINY)


@pytest.fixture
def config() -> FederationConfig:
    """A simulated fleet of four that stands for a hundred thousand."""
    return FederationConfig(
        rounds=2,
        population=100_000,
        cohort=10_000,
        noise_multiplier=1.5,
        simulated_population=4,
        simulated_cohort=4,
        rescale_noise=True,
        clip=0.5,
        min_nodes=4,
        wait_s=1.0,
        deadline_s=30.0,
    )


def answer(message: Message, delta: torch.Tensor, **changes: object) -> Message:
    """Reply with a clipped int8 update, as an honest device does, save for the changes."""
    request = RoundRequest.from_values(dict(message.content.config_records[SETTINGS]))
    packed = quantize(clip(delta, bound=request.clip), bound=request.clip)
    values = {"protocol": PROTOCOL, "run": request.run, "round": request.round, "scale": packed.scale}
    name = f"{message.metadata.dst_node_id:016d}"  # an honest ledger counts; these devices take part in every attempt
    values |= {"ledger": name, "entry": max(request.round, request.attempt)}
    if request.adaptive_clip:
        values[WITHIN] = float(delta.norm()) <= request.clip
    array = Array(packed.values.numpy())
    content = RecordDict({ARRAY: ArrayRecord({ARRAY: array}), REPLY: ConfigRecord({**values, **changes})})
    return Message(content, reply_to=message)


@pytest.fixture
def make_client() -> Callable[..., ClientApp]:
    """Return a factory of ClientApps: ``make_client(act)`` calls ``act(message, index)``."""

    def make(act: Callable[[Message, int], Message]) -> ClientApp:
        client = ClientApp()

        @client.train()
        def train(message: Message, context: Context) -> Message:
            return act(message, int(context.node_config["partition-id"]))

        return client

    return make


def constant(message: Message, index: int) -> Message:
    """An honest device whose update is the same number everywhere."""
    size = message.content.array_records[ARRAY][ARRAY].shape[0]
    return answer(message, torch.full((size,), 0.01 * (index + 1)))


@pytest.fixture
def fake_client(make_client: Callable[..., ClientApp]) -> ClientApp:
    return make_client(constant)


@pytest.fixture
def reply() -> Callable[..., Message]:
    return answer


@pytest.fixture
def honest() -> Callable[[Message, int], Message]:
    return constant


@pytest.fixture
def with_changes() -> Callable[..., FederationConfig]:
    return replace


@pytest.fixture
def array() -> Callable[[np.ndarray], Array]:
    return Array
