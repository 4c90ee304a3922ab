"""Central training: generator and discriminator in turn, on a pool of self-supervised records.

:class:`Trainer` holds everything that changes; it steps, averages, validates, saves and resumes.
Files, progress bars and TensorBoard belong to the caller (``easel train``).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from shared_model import objective, split
from shared_model.backbone import Backbone
from shared_model.config import TrainConfig, digest
from shared_model.errors import CompatibilityError, EaselError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.pool import Pool, visit
from shared_model.records import Batch

__all__ = ["Trainer", "validation_records"]

_FORMAT = "easel-training-1"
_WARM_UP = 30  # steps over which the step size rises
_PENALTY_EVERY = 4  # lazy regularisation (Karras et al. 2020, Appendix B)
_GRADIENT_NORM = 3.0


class Trainer:
    """Alternating training of one backbone.

    Parameters
    ----------
    config
        Everything that shapes the run.
    photos, paintings
        Training pictures, ``(1, 3, H, W) float in [0, 1]`` each.
    device
        Where networks run; records are drafted on the CPU.
    start
        Weights to begin from; a fresh backbone if absent.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        photos: Sequence[Tensor],
        paintings: Sequence[Tensor],
        device: torch.device | str = "cpu",
        start: Backbone | None = None,
    ) -> None:
        self.config, self.photos, self.paintings = config, photos, paintings
        self.device = torch.device(device)
        self.backbone = Backbone(config.model, seed=config.seed)
        if start is not None:
            split.unflatten(self.backbone, split.flatten(start))
        self.backbone.to(self.device)
        self.averaged = split.flatten(self.backbone)
        self.step_count, self.visit_count = 0, 0
        self.pool = Pool(config.pool)
        self.random = random.Random(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        critic = list(self.backbone.discriminator.parameters())
        painter = [*self.backbone.generator.parameters(), *self.backbone.style_encoder.parameters()]
        self.painter = torch.optim.AdamW(
            painter, config.learning_rate, betas=(0.5, 0.99), weight_decay=config.weight_decay
        )
        self.critic = torch.optim.AdamW(critic, config.critic_rate, betas=(0.5, 0.99), weight_decay=config.weight_decay)

    def replenish(self, visits: int) -> None:
        """Visit the next ``visits`` paintings, in an order shuffled anew in every round, and pool their records."""
        for _ in range(visits):
            turn, place = divmod(self.visit_count, len(self.paintings))
            order = random.Random(self.config.seed * 1009 + turn).sample(
                range(len(self.paintings)), len(self.paintings)
            )
            painting = self.paintings[order[place]]
            self.pool.add(visit(painting, self.photos, self.config, self.random))
            self.visit_count += 1

    def step(self) -> dict[str, float]:
        """Take one generator step and one discriminator step; return the batch means of all terms."""
        config = self.config
        self._set_step_size()
        batch = self.pool.sample(
            config.batch,
            restyles=round(config.batch * config.restyle_share),
            size_px=config.crop_px,
            random_state=self.random,
        ).to(self.device)
        draws = objective.draw(self.generator, size_px=config.crop_px).to(self.device)
        terms, output = objective.generator_terms(self.backbone, batch, draws, loss=config.loss)
        total = torch.stack(list(terms.values())).sum(0).mean()
        self.painter.zero_grad(set_to_none=True)
        total.backward()
        painters = [p for group in self.painter.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(painters, _GRADIENT_NORM)
        self.painter.step()
        result = {name: float(value.detach().mean()) for name, value in terms.items()}
        if config.loss.adversarial != "none":
            result["critic"] = self._critic_step(batch, output.detach(), draws)
        result["total"] = float(total.detach())
        if not all(value == value and abs(value) < 1e6 for value in result.values()):
            raise EaselError(
                f"training diverged at step {self.step_count}",
                hint="resume from the last checkpoint with a lower learning_rate or critic_rate (wasserstein-gp: 1e-4)",
            )
        self.step_count += 1
        self._average()
        return result

    def _critic_step(self, batch: Batch, output: Tensor, draws: objective.Draws) -> float:
        penalty = self.config.loss.adversarial == "wasserstein-gp" or self.step_count % _PENALTY_EVERY == 0
        loss = objective.discriminator_loss(
            self.backbone, batch, output, draws, loss=self.config.loss, penalty=penalty
        ).mean()
        self.critic.zero_grad(set_to_none=True)
        loss.backward()
        self.critic.step()
        return float(loss.detach())

    def _set_step_size(self) -> None:
        done = self.step_count / self.config.steps
        factor = min(1.0, (self.step_count + 1) / _WARM_UP)
        if self.config.fade > 0:
            factor *= min(1.0, max(0.02, (1 - done) / self.config.fade))
        for optimizer, rate in ((self.painter, self.config.learning_rate), (self.critic, self.config.critic_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def _average(self) -> None:
        """Exponential moving average of the weights, with a short memory at the start."""
        decay = min(self.config.ema, (1 + self.step_count) / (10 + self.step_count))
        self.averaged.lerp_(split.flatten(self.backbone), 1 - decay)

    def averaged_backbone(self) -> Backbone:
        """Return the averaged weights as a backbone in evaluation mode on the CPU."""
        backbone = Backbone(self.config.model)
        split.unflatten(backbone, self.averaged.clone())
        return backbone.eval()

    @torch.no_grad()
    def validate(self, records: Batch) -> tuple[dict[str, float], Tensor]:
        """Return mean terms of the averaged backbone on fixed records, and its outputs."""
        backbone = self.averaged_backbone()
        draws = objective.draw(torch.Generator().manual_seed(0), size_px=records.size_px)
        terms, output = objective.generator_terms(backbone, records, draws, loss=self.config.loss)
        means = {name: float(value.mean()) for name, value in terms.items()}
        means["total"] = sum(value for name, value in means.items() if name != "adversarial")
        return means, output.clamp(0, 1)

    def save(self, path: Path | str) -> None:
        """Write a checkpoint: weights, averages, optimiser moments, counters and random states."""
        tensors = {"averaged": self.averaged, "generator": self.generator.get_state()}
        tensors |= {f"model.{k}": v.detach().cpu() for k, v in self.backbone.state_dict().items()}
        for name, optimizer in (("painter", self.painter), ("critic", self.critic)):
            for index, entry in optimizer.state_dict()["state"].items():
                tensors |= {f"{name}.{index}.{key}": value.detach().cpu() for key, value in entry.items()}
        facts = {
            "step": self.step_count,
            "visit": self.visit_count,
            "config": digest(self.config),
            "random": self.random.getstate(),
        }
        data = safetensors.torch.save(tensors, metadata={"format": _FORMAT, "state": json.dumps(facts)})
        write_atomic(path, data)

    def restore(self, path: Path | str) -> None:
        """Continue from a checkpoint of the same configuration; the pool is drafted anew.

        Raises
        ------
        StorageError
            If the checkpoint is damaged.
        CompatibilityError
            If it belongs to another configuration.
        """
        data = read_bytes(path, limit=1 << 30)
        try:
            length = int.from_bytes(data[:8], "little")
            facts = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])
            tensors = safetensors.torch.load(data)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise StorageError(f"damaged checkpoint {path}", hint="start the run anew in another folder") from error
        if facts["config"] != digest(self.config):
            raise CompatibilityError(
                f"{path} was made with another configuration", hint="resume with the configuration of that run"
            )
        self.backbone.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.averaged = tensors["averaged"]
        self.generator.set_state(tensors["generator"])
        for name, optimizer in (("painter", self.painter), ("critic", self.critic)):
            state = optimizer.state_dict()
            state["state"] = _moments(tensors, name)
            optimizer.load_state_dict(state)
        version, internal, gauss = facts["random"]
        self.random.setstate((version, tuple(internal), gauss))
        self.step_count, self.visit_count = facts["step"], facts["visit"]


def _moments(tensors: dict[str, Tensor], name: str) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{name}."):
            _, index, part = key.split(".")
            state.setdefault(int(index), {})[part] = value
    return state


def validation_records(photos: Sequence[Tensor], paintings: Sequence[Tensor], config: TrainConfig) -> Batch:
    """Make a fixed set of held-out records: up to four paintings, two photo records and a restyle record each."""
    random_state = random.Random(config.seed + 1)
    plain = TrainConfig(
        record_px=config.record_px, crop_px=config.crop_px, head=config.head, photos_per_visit=2, restyles_per_visit=1
    )
    chosen = [record for painting in paintings[:4] for record in visit(painting, photos, plain, random_state)]
    return Batch.stack(chosen)
