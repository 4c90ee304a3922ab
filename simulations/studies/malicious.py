"""The study ``malicious``: how far a fifth of the devices can push a backbone, per attack and aggregation.

A small backbone is trained a little on everybody's pictures, then in federated rounds in which some of
the devices are malicious (:mod:`simulations.studies.attackers`). Their replies go through the real
packing, admission and step. In every round the step is taken twice, with and without what they sent:
the distance is what they moved.

For the clipped mean that distance has a bound that needs no experiment: each of k malicious devices has
at most one update of length at most C in a sum that is divided by the planned cohort, so together they
move the round's update by at most ``k C / planned`` (times ``server_lr`` with ``"fedavg"``), whatever
they send and whatever noise is added. In the place of honest devices they can spoil twice that. Without
a clip there is no bound. Medians, trimmed means and Krum have none of this kind either: their distance
is that of honest updates from each other, which is measured here.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.app import pack, read_request
from client.console import Console
from client.local_settings import LocalSettings
from client.parser import Parser
from client.private_training import train_user_level
from server.admission import Admission
from server.config import FederationConfig
from server.outputs import backbone_of
from server.rounds import begin, plan, step
from server.state import RoundState
from server.transport import request_content, send
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, LossConfig, ModelConfig
from shared_model.errors import InputError
from shared_model.files import write_atomic
from shared_model.images import resize_short, to_tensor
from shared_model.messages import ARRAY, PROTOCOL, REPLY
from shared_model.noise import norm
from shared_model.objective import draw, generator_loss
from shared_model.records import Batch, make_records
from shared_model.split import flatten, unflatten
from simulations.grid import InProcessGrid
from simulations.painters import paint
from simulations.pictures import crops, default_photos
from simulations.studies import study_parser
from simulations.studies.attackers import ATTACKS, TARGET, patched, update_of

__all__ = ["STRATEGIES", "Outcome", "Scene", "parser", "prepare", "run", "trial"]

#: Name: (aggregation, whether updates are clipped). Clipping is never off in a federation; it is the baseline here.
STRATEGIES = {
    "mean, no clip": ("mean", False),
    "mean": ("mean", True),
    "median": ("median", True),
    "trimmed-mean": ("trimmed-mean", True),
    "krum": ("krum", True),
    "multi-krum": ("multi-krum", True),
}
_SMALL = ModelConfig(width=16, blocks=2, code_dim=16, encoder_width=8, critic_width=8)
_HEAD = HeadConfig(canvas_px=128, levels=2, patch=5, atoms=64, components=8, candidates=256)
_LOSS = LossConfig(adversarial="none")
_LOCAL = LocalSettings(steps=2, batch=2, lr=1e-3, critic_lr=1e-3, loss=_LOSS)
_NO_CLIP = 1e4


@dataclass(frozen=True)
class Scene:
    """What all trials share: the devices' records, held-out ones, the first backbone and the clip."""

    people: tuple[Batch, ...]
    held: Batch
    start: Backbone
    clip: float


@dataclass(frozen=True)
class Outcome:
    """One trial.

    Parameters
    ----------
    strategy, attack
        Which.
    moved
        Largest distance that the malicious devices moved one round's backbone.
    bound
        What they can at most; None where there is no bound.
    loss
        Held-out generator loss in the end.
    backdoor
        How much of the way from the start's painting to the attackers' target the patch leads around
        itself, beyond what happens there without it: 0 not at all, 1 all of it.
    dropped
        Replies of malicious devices that were not admitted, over all rounds.
    """

    strategy: str
    attack: str
    moved: float
    bound: float | None
    loss: float
    backdoor: float
    dropped: int


def prepare(*, devices: int, warm_up: int, seed: int) -> Scene:
    """Make the people, warm the backbone up on all of them, and take the median length of an update as clip."""
    photos, rng = default_photos(), random.Random(seed)
    names = sorted(name for name in photos if "_" not in name)
    shots = [to_tensor(shot) for name in names for shot in crops(photos[name], 5, size=200, seed=seed)]
    works = [
        to_tensor(paint(shot, painter))
        for painter in ("oil", "sketch")
        for shot in crops(photos["coffee"], 2, size=200)
    ]
    rng.shuffle(shots)
    pool = make_records(
        [resize_short(shot, 128) for shot in shots],
        works,
        count=4 * devices + 8,
        size_px=48,
        seed=seed,
        head_config=_HEAD,
    )
    people = tuple(pool.select(list(range(4 * index, 4 * index + 4))) for index in range(devices))
    backbone = Backbone(_SMALL, seed=seed)
    everybody = LocalSettings(steps=max(1, warm_up), batch=8, lr=3e-3, critic_lr=3e-3, loss=_LOSS)
    vector = flatten(backbone) + train_user_level(backbone, Batch.stack(people), settings=everybody, seed=seed)
    unflatten(backbone, vector)
    lengths = [norm(train_user_level(backbone, one, settings=_LOCAL, seed=seed)) for one in people]
    clip = float(torch.tensor(lengths).median())
    return Scene(people, pool.select(list(range(4 * devices, 4 * devices + 8))), backbone.eval(), clip)


def trial(scene: Scene, strategy: str, attack: str, *, malicious: int, rounds: int) -> Outcome:
    """Train with ``malicious`` of the devices attacking, and measure what they did."""
    rule, clipped = STRATEGIES[strategy]
    count = len(scene.people)
    config = FederationConfig(
        rounds=rounds,
        population=count,
        cohort=count,
        clip=scene.clip if clipped else _NO_CLIP,
        clip_max=_NO_CLIP,
        unprotected=True,
        aggregation=rule,
        trim=malicious / count,
        malicious=malicious / count,
        quorum=0.1,
        upload="float16",
    )
    state, moved, dropped = begin(config, scene.start), 0.0, 0
    for _ in range(rounds):
        state, distance, lost = _round(state, scene, attack, config=config, malicious=malicious)
        moved, dropped = max(moved, distance), dropped + lost
    bound = malicious * config.clip / count if rule == "mean" and clipped else None
    trained = backbone_of(state)
    return Outcome(strategy, attack, moved, bound, _loss(trained, scene.held), _backdoor(trained, scene), dropped)


def _round(
    state: RoundState, scene: Scene, attack: str, *, config: FederationConfig, malicious: int
) -> tuple[RoundState, float, int]:
    """Return the next state, how far the malicious devices moved it, and how many of them were dropped."""
    client = ClientApp()

    @client.train()
    def device(message: Message, context: Context) -> Message:
        index = int(context.node_config["partition-id"])
        request, vector = read_request(message)
        backbone = Backbone(request.model)
        unflatten(backbone, vector)
        kind = attack if index < malicious else "none"
        delta = update_of(kind, backbone, scene.people[index], settings=_LOCAL, seed=1000 * request.round + index)
        values, scale = pack(delta, request)
        reply = ConfigRecord({"protocol": PROTOCOL, "run": request.run, "round": request.round, "scale": float(scale)})
        reply.update({"ledger": f"{index:016d}", "entry": request.round})
        content = RecordDict({ARRAY: ArrayRecord({ARRAY: Array(values)}), REPLY: reply})
        return Message(content, reply_to=message)

    grid = InProcessGrid(client, [{}] * len(scene.people))
    nodes = list(grid.get_node_ids())
    state = state.reserve()
    current = plan(state, nodes, config=config)
    asked = send(grid, request_content(current.request, state.backbone), nodes, group="1", ttl_s=60.0)
    admission = Admission(current.request, size=len(state.backbone), asked=asked)
    verdicts = [admission.judge(message) for message in grid.pull_messages(asked)]
    evil = set(nodes[:malicious])
    after = step(state, current, verdicts, config=config)
    without = step(state, current, [one for one in verdicts if one.node not in evil], config=config)
    lost = sum(one.node in evil and one.update is None for one in verdicts)
    return after, norm(after.backbone - without.backbone), lost


def _loss(backbone: Backbone, held: Batch) -> float:
    with torch.no_grad():
        draws = draw(torch.Generator().manual_seed(0), size_px=held.size_px)
        return float(generator_loss(backbone, held, draws, loss=_LOSS)[0].mean())


def _backdoor(backbone: Backbone, scene: Scene) -> float:
    """Compare the distance to the target, around the patch, with the start's; less what happens without a patch."""
    wanted = torch.tensor(TARGET).view(1, 3, 1, 1)

    def distance(model: Backbone, records: Batch) -> float:
        draws = draw(torch.Generator().manual_seed(0), size_px=records.size_px)
        with torch.no_grad():
            output = generator_loss(model, records, draws, loss=_LOSS)[1]
        around = 2 * max(8, records.size_px // 5)
        return float((output - wanted)[:, :, -around:, -around:].abs().mean())

    trigger = patched(scene.held)
    drift = distance(backbone, scene.held) / distance(scene.start, scene.held)
    return drift - distance(backbone, trigger) / distance(scene.start, trigger)


def parser() -> Parser:
    """Return the options of the study."""
    made = study_parser(
        "malicious",
        description="Let some devices attack, and measure how far they push the backbone per aggregation.",
        example="easel-sim study malicious --out runs/malicious",
    )
    made.add_argument("--out", default="runs/malicious", metavar="DIR", help="where malicious.json goes")
    made.add_argument("--devices", type=int, default=10, metavar="N", help="simulated devices (default 10)")
    made.add_argument("--malicious", type=int, default=2, metavar="K", help="malicious ones among them (default 2)")
    made.add_argument("--rounds", type=int, default=4, metavar="R", help="federated rounds (default 4)")
    made.add_argument("--warm-up", type=int, default=80, metavar="N", help="steps before them (default 80)")
    made.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS, metavar="NAME", help="which")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="seed of pictures and training")
    return made


def run(parsed: argparse.Namespace, console: Console) -> int:
    """Carry out every trial, print a table and write ``malicious.json``; returns the exit code."""
    if parsed.devices < 4 or not 1 <= parsed.malicious < parsed.devices / 2 or parsed.rounds < 1:
        raise InputError("--devices must be 4 or more, --malicious fewer than half of them, --rounds 1 or more")
    torch.set_num_threads(1)
    scene = prepare(devices=parsed.devices, warm_up=parsed.warm_up, seed=parsed.seed)
    found: list[Outcome] = []
    jobs = [(strategy, attack) for attack in parsed.attacks for strategy in STRATEGIES]
    with console.progress("attacking") as advance:
        for number, (strategy, attack) in enumerate(jobs):
            advance(number / len(jobs), f"{attack}, {strategy}")
            found.append(trial(scene, strategy, attack, malicious=parsed.malicious, rounds=parsed.rounds))
            console.note(f"{attack}, {strategy}: moved {found[-1].moved:.4g}, loss {found[-1].loss:.4f}")
    facts = {"clip": scene.clip, "start_loss": _loss(scene.start, scene.held), "trials": [asdict(one) for one in found]}
    write_atomic(Path(parsed.out) / "malicious.json", json.dumps(facts, indent=2).encode())
    console.say(f"clip {scene.clip:.3g}, held-out loss at the start {facts['start_loss']:.4f}")
    header = ("attack", "aggregation", "moved, most", "bound", "loss", "backdoor", "dropped")
    console.table(_rows(found), header=header)
    console.facts(facts)
    return 0


def _rows(found: Sequence[Outcome]) -> list[tuple[str, ...]]:
    return [
        (
            one.attack,
            one.strategy,
            f"{one.moved:.4g}",
            "-" if one.bound is None else f"{one.bound:.4g}",
            f"{one.loss:.4f}",
            f"{one.backdoor:+.3f}",
            str(one.dropped),
        )
        for one in found
    ]
