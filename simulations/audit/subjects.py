"""What is audited: the real step of a device and the real round of a server, with canaries in.

A *canary* is a contribution that an adversary would choose: ten clipping bounds long, all of it in
one coordinate. Everything it meets on its way out is the code that real contributions meet.

``plant`` puts one of :data:`BUGS` into a subject, so that the audits can show that they would see it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from client.app import pack
from client.joint_step import JointStep, parts
from client.local_settings import LocalSettings
from server.admission import Admission, Verdict
from server.aggregation import Noise
from server.config import FederationConfig
from server.rounds import begin, plan, step
from server.transport import Timing, receive, request_content, send
from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.errors import InputError
from shared_model.messages import ARRAY, PROTOCOL, REPLY, RoundRequest
from shared_model.noise import clip, secure_normal
from shared_model.records import Batch
from shared_model.split import flatten, unflatten
from simulations.grid import InProcessGrid

__all__ = ["BUGS", "CONTROL", "LENGTH", "RoundSubject", "StepSubject", "Subject", "seeded_normal"]

#: What can be planted, the positive control first.
CONTROL = "no noise"
BUGS = (CONTROL, "half noise", "clipping off", "clipped apart", "re-seeded", "predictable")
#: Length of a canary before the clip, in clipping bounds.
LENGTH = 10.0

_NO_CLIP = 1e6


class Subject(Protocol):
    """A mechanism with sensitivity 1 and noise of deviation ``noise_multiplier`` per coordinate, it claims."""

    name: str
    unit: str
    noise_multiplier: float

    @property
    def size(self) -> int:
        """How many coordinates it releases."""

    def release(self, coordinates: Tensor) -> Tensor:
        """Run once with a canary in each of these coordinates, (k,) int64.

        Returns
        -------
        Tensor
            The released noisy sum in units of the clipping bound, (size,) float64.
        """


def seeded_normal(shape: tuple[int, ...], *, std: float, seed: int) -> Tensor:
    """Draw noise that anybody who knows the seed can subtract again: the bug to be caught."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * std


@dataclass(frozen=True)
class _Crowd(Batch):
    """Records followed by canaries, which have no pictures but a coordinate each."""

    canaries: Tensor

    @staticmethod
    def of(records: Batch, canaries: Tensor) -> _Crowd:
        """Put canaries behind records."""
        r = records
        return _Crowd(r.photo, r.colored, r.draft, r.reference, r.real, r.restyle, canaries)

    def __len__(self) -> int:
        return len(self.restyle) + len(self.canaries)

    def select(self, indices: Any) -> _Crowd:
        """Return these records and canaries; records must come first."""
        index = torch.as_tensor(list(indices), dtype=torch.long)
        real = index < len(self.restyle)
        return _Crowd.of(self.records(index[real]), self.canaries[index[~real] - len(self.restyle)])

    def records(self, indices: Tensor) -> Batch:
        """Return the records among them."""
        return Batch(*(tensor[indices] for tensor in self.tensors()[:6]))


class _CanaryStep(JointStep):
    """The joint step; canaries enter where per-record gradients do, ahead of the real clip."""

    bug = ""
    bound = 1.0

    def record_gradients(self, batch: Batch, draws: objective.Draws, *, penalty: bool = False) -> list[Tensor]:
        """Return the records' own gradients and, below them, those of the canaries."""
        if not isinstance(batch, _Crowd):
            raise InputError("an audited step takes records with canaries")
        real = batch.records(torch.arange(len(batch.restyle)))
        rows = super().record_gradients(real, draws, penalty=penalty)
        sizes = [row[0].numel() if len(row) else row.shape[1:].numel() for row in rows]
        planted = torch.zeros(len(batch.canaries), sum(sizes))
        planted[torch.arange(len(batch.canaries)), batch.canaries] = LENGTH * self.bound
        extra = planted.split(sizes, dim=1)
        rows = [torch.cat([row, more.view(-1, *row.shape[1:])]) for row, more in zip(rows, extra, strict=True)]
        if self.bug == "clipped apart":  # two backward passes, as if for real and for fake pictures: two rows each
            rows = [torch.cat([row / 2, row / 2]) for row in rows]
        return rows


class StepSubject:
    """The example-level step on a device: :class:`client.joint_step.JointStep` and what it steps.

    What is observed is the change of the weights under plain descent with step size 1, which is
    all that leaves: no part of the step is looked into.

    Parameters
    ----------
    backbone, records
        Trained on, as a device would; the backbone is put back after each release.
    settings
        The claim: bound and noise.
    bug
        One of :data:`BUGS`, or empty for the code as it is.
    """

    name, unit = "device step", "example"

    def __init__(self, backbone: Backbone, records: Batch, *, settings: LocalSettings, bug: str = "") -> None:
        self._backbone, self._records = backbone, records
        self._start = flatten(backbone)
        self._parameters = [p for part in parts(backbone) for p in part]
        self._settings, self.noise_multiplier = settings, settings.noise_multiplier
        claimed = dataclasses.replace(settings, noise_multiplier=0.0) if bug == CONTROL else settings
        self._step = _CanaryStep(backbone, torch.optim.SGD(self._parameters, lr=1.0), settings=claimed)
        self._step.bug, self._step.bound = bug, settings.bound
        self._draws = objective.draw(torch.Generator().manual_seed(0), size_px=records.size_px)
        self._releases = 0
        self._sabotage(bug)

    @property
    def size(self) -> int:
        """How many coordinates it releases."""
        return len(self._start)

    def release(self, coordinates: Tensor) -> Tensor:
        """See :class:`Subject`."""
        before = torch.cat([p.detach().flatten().double() for p in self._parameters])
        self._step(_Crowd.of(self._records, coordinates), self._draws)
        after = torch.cat([p.detach().flatten().double() for p in self._parameters])
        unflatten(self._backbone, self._start)
        self._releases += 1
        return (before - after) * (self._settings.batch / self._settings.bound)

    def _sabotage(self, bug: str) -> None:
        optimizer = self._step._optimizer
        if bug == "half noise":
            optimizer.noise_multiplier /= 2
        elif bug == "clipping off":
            optimizer.max_grad_norm *= _NO_CLIP
            optimizer.noise_multiplier /= _NO_CLIP
        elif bug in ("re-seeded", "predictable"):
            optimizer.add_noise = functools.partial(self._seeded_noise, optimizer, moving=bug == "predictable")

    def _seeded_noise(self, optimizer: Any, *, moving: bool) -> None:
        """Do what the real ``add_noise`` does, with a generator that starts from a known seed."""
        generator = torch.Generator().manual_seed(self._releases if moving else 0)
        for parameter in optimizer.params:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            noise = noise * optimizer.noise_multiplier * optimizer.max_grad_norm
            parameter.grad = (parameter.summed_grad.double().view_as(parameter) + noise).to(parameter.dtype)
            parameter.summed_grad._processed = True


class RoundSubject:
    """The user-level round: devices that clip and quantise, admission, sum, noise, optimizer.

    Each canary is a device; its update is packed by :func:`client.app.pack`, crosses the in-process
    grid as a message, is judged by the real admission, summed, noised and applied.

    Parameters
    ----------
    backbone
        Where the rounds start.
    noise_multiplier, bound
        The claim.
    devices
        Devices of a round: the largest number of canaries, and the planned cohort.
    bug
        One of :data:`BUGS`, or empty for the code as it is.
    """

    name, unit = "server round", "user"

    def __init__(
        self, backbone: Backbone, *, noise_multiplier: float, devices: int, bound: float = 1.0, bug: str = ""
    ) -> None:
        self.noise_multiplier, self._bug, self._devices = noise_multiplier, bug, devices
        self._config = FederationConfig(
            rounds=1_000_000,
            population=devices,
            cohort=devices,
            clip=bound,
            noise_multiplier=noise_multiplier,
            accept_loud_noise=True,
            optimizer="fedavg",
            server_lr=1.0,
            quorum=1e-9,
        )
        self._state = begin(self._config, backbone)
        self._updates: list[Tensor] = []
        self._requests: list[RoundRequest] = []
        self._grid = InProcessGrid(self._client_app(), [{} for _ in range(devices)])

    @property
    def size(self) -> int:
        """How many coordinates it releases."""
        return len(self._state.backbone)

    def release(self, coordinates: Tensor) -> Tensor:
        """See :class:`Subject`."""
        if len(coordinates) >= self._devices:
            raise InputError(f"{len(coordinates)} canaries and a bystander are more than {self._devices} devices")
        state, config = self._state.reserve(), self._config
        self._updates = [self._canary(int(where)) for where in coordinates] + [torch.zeros(self.size)]
        # Exactly these devices take part: the coins of sampling are not what is audited here.
        nodes = tuple(self._grid.get_node_ids())[: len(self._updates)]
        current = dataclasses.replace(plan(state, nodes, config=config), nodes=nodes)
        self._requests = [current.request]
        content = request_content(current.request, state.backbone)
        asked = send(self._grid, content, current.nodes, group="audit", ttl_s=600.0)
        admission = Admission(current.request, size=self.size, asked=asked)
        verdicts: list[Verdict] = []
        for message in receive(self._grid, asked, limit_s=600.0, timing=Timing()):
            verdicts.extend(self._corrupted(admission.judge(message)))
        after = step(state, current, verdicts, config=config, noise=self._noise(state.round))
        moved = (after.backbone.double() - state.backbone.double()) * (config.planned / config.clip)
        self._state = dataclasses.replace(after, backbone=state.backbone, reports=())
        return moved

    def _canary(self, coordinate: int) -> Tensor:
        update = torch.zeros(self.size)
        update[coordinate] = LENGTH * self._config.clip
        return update

    def _client_app(self) -> ClientApp:
        """Return a device that sends what it is given, through the real packing."""
        client = ClientApp()

        @client.train()
        def train(message: Message, context: Context) -> Message:
            request = self._requests[-1]
            device = int(context.node_config["partition-id"])
            values, scale = pack(self._updates[device], request)
            words: dict[str, int | float | str] = {
                "protocol": PROTOCOL,
                "run": request.run,
                "round": request.round,
                "scale": float(scale),
                "ledger": f"{device:016x}",
                "entry": 1,
            }
            content = RecordDict({ARRAY: ArrayRecord({ARRAY: Array(values)}), REPLY: ConfigRecord({**words})})
            return Message(content, reply_to=message)

        return client

    def _corrupted(self, verdict: Verdict) -> list[Verdict]:
        """Undo what the bug would have left out; the real code's verdict where there is no bug."""
        if verdict.node is None or self._bug not in ("clipping off", "clipped apart"):
            return [verdict]
        update = self._updates[list(self._grid.get_node_ids()).index(verdict.node)]
        if self._bug == "clipping off":
            return [dataclasses.replace(verdict, update=update)]
        half = clip(update / 2, bound=self._config.clip)  # two updates of one device, each clipped
        return [dataclasses.replace(verdict, update=half), dataclasses.replace(verdict, update=half)]

    def _noise(self, number: int) -> Noise:
        bugs: dict[str, Callable[..., Tensor]] = {
            CONTROL: lambda shape, std: torch.zeros(shape, dtype=torch.float64),
            "half noise": lambda shape, std: secure_normal(shape, std=std / 2),
            "re-seeded": lambda shape, std: seeded_normal(shape, std=std, seed=0),
            "predictable": lambda shape, std: seeded_normal(shape, std=std, seed=number),
        }
        return bugs.get(self._bug, secure_normal)
