"""Local training: the plain way is reproducible; the private way is clipped, noised and accounted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from client.joint_step import JointStep, parts
from client.local_settings import LocalSettings
from client.private_training import poisson_sample, train_example_level, train_user_level
from shared_model import objective
from shared_model.backbone import Backbone
from shared_model.config import ADVERSARIAL, LossConfig, ModelConfig, parse
from shared_model.errors import ConfigError, PrivacyError
from shared_model.privacy import Mechanism, private_optimizer
from shared_model.records import Batch
from shared_model.split import flatten, shared_parameters

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=6, critic_width=8)
SIDE = 64
PLAIN = LocalSettings(steps=3, batch=2)
PRIVATE = LocalSettings(steps=3, batch=4, noise_multiplier=1.0, bound=0.5)


def records(count: int, *, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    pictures = [torch.rand(count, 3, SIDE, SIDE, generator=generator) for _ in range(5)]
    return Batch(*pictures, torch.tensor([float(i % 3 == 2) for i in range(count)]))


def draws(seed: int = 0) -> objective.Draws:
    return objective.draw(torch.Generator().manual_seed(seed), size_px=SIDE)


@pytest.fixture
def backbone() -> Backbone:
    return Backbone(TINY, seed=1)


def summing_step(backbone: Backbone, **changes: object) -> JointStep:
    """Make a step whose parameters move by exactly minus the released sum: SGD with step size 1."""
    settings = LocalSettings(**{"batch": 1, "bound": 0.5, "balance": 0.25, **changes})  # type: ignore[arg-type]
    return JointStep(backbone, torch.optim.SGD(backbone.parameters(), lr=1.0), settings=settings)


def released(rows: Batch, *, penalty: bool = False, **changes: object) -> Tensor:
    """Return the sum that one step releases, (P,) float64, on a fresh backbone."""
    backbone = Backbone(TINY, seed=1)
    before = flatten(backbone).double()
    summing_step(backbone, **changes)(rows, draws(), penalty=penalty)
    return before - flatten(backbone).double()


def reference_gradient(backbone: Backbone, batch: Batch, *, loss: LossConfig, balance: float, penalty: bool) -> Tensor:
    """Joint gradient of a batch of one by ordinary backward passes, in JointStep's parameter order."""
    assert len(batch) == 1
    painters, critics = parts(backbone)
    backbone.zero_grad(set_to_none=True)
    value, output = objective.generator_loss(backbone, batch, draws(), loss=loss)
    value.sum().backward()
    first = [torch.zeros_like(p) if p.grad is None else balance * p.grad.clone() for p in painters]
    backbone.zero_grad(set_to_none=True)
    value = objective.discriminator_loss(backbone, batch, output.detach(), draws(), loss=loss, penalty=penalty)
    if value.requires_grad:
        value.sum().backward()
    second = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in critics]
    backbone.zero_grad(set_to_none=True)
    return torch.cat([g.reshape(-1) for g in first + second])


# ---- per-record gradients ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adversarial", "penalty"), [*((kind, False) for kind in ADVERSARIAL), ("hinge", True), ("wasserstein-gp", True)]
)
def test_record_gradients_match_a_batch_of_one(backbone: Backbone, adversarial: str, penalty: bool) -> None:
    loss = LossConfig(adversarial=adversarial)
    batch = records(3).select([0, 2])
    step = summing_step(backbone, loss=loss, balance=0.3)
    together = step.record_gradients(batch, draws(), penalty=penalty)
    for index in range(len(batch)):
        one = batch.select([index])
        wanted = reference_gradient(backbone, one, loss=loss, balance=0.3, penalty=penalty)
        single = torch.cat([row.flatten() for row in step.record_gradients(one, draws(), penalty=penalty)])
        chunked = torch.cat([row[index].flatten() for row in together])
        assert float((single - wanted).norm()) <= 1e-6 * float(wanted.norm())
        assert float((chunked - wanted).norm()) <= 1e-4 * float(wanted.norm())
    assert all(p.grad is None for p in backbone.parameters())


def test_balance_scales_only_the_generator(backbone: Backbone) -> None:
    batch, count = records(1), len(parts(backbone)[0])
    full = summing_step(backbone, balance=1.0).record_gradients(batch, draws())
    quarter = summing_step(backbone, balance=0.25).record_gradients(batch, draws())
    for index, (a, b) in enumerate(zip(full, quarter, strict=True)):
        torch.testing.assert_close(b, a * (0.25 if index < count else 1.0))


# ---- clipping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2])
def test_without_noise_the_release_is_the_sum_of_clipped_gradients(backbone: Backbone, chunk: int) -> None:
    batch, bound = records(3), 0.5
    order = [id(p) for part in parts(backbone) for p in part]
    names = {id(p): name for name, p in backbone.named_parameters()}
    total = torch.zeros_like(flatten(backbone))
    for index in range(3):
        gradient = reference_gradient(backbone, batch.select([index]), loss=LossConfig(), balance=0.25, penalty=False)
        total += gradient * min(1.0, bound / float(gradient.norm()))
    sizes = [p.numel() for part in parts(backbone) for p in part]
    pieces = dict(zip((names[key] for key in order), total.split(sizes), strict=True))
    wanted = torch.cat([pieces[name] for name in sorted(pieces)])
    found = released(batch, chunk=chunk).float()
    assert float((found - wanted).norm()) <= 1e-4 * float(wanted.norm())


def outlier(kind: str) -> Batch:
    plain = records(1, seed=9)
    value = {"huge": 1e6, "negative": -1e5, "nan": math.nan, "inf": math.inf}[kind]
    return dataclasses.replace(plain, colored=torch.full_like(plain.colored, value), real=plain.real * 50)


@pytest.mark.parametrize(
    ("kind", "chunk"), [("plain", 1), ("huge", 1), ("negative", 1), ("nan", 1), ("inf", 1), ("plain", 3), ("nan", 3)]
)
def test_one_record_moves_the_release_by_at_most_the_bound(kind: str, chunk: int) -> None:
    base, bound = records(2), 0.5
    extra = records(1, seed=5) if kind == "plain" else outlier(kind)
    without = released(base, chunk=chunk)
    with_extra = released(Batch.stack([base, extra]), chunk=chunk)
    replaced = released(Batch.stack([base.select([0]), extra]), chunk=chunk)
    tolerance = 1e-4  # float32 parameters
    assert bool(torch.isfinite(with_extra).all())
    moved = float((with_extra - without).norm())
    assert moved <= bound + tolerance
    assert float((replaced - without).norm()) <= 2 * bound + tolerance
    if kind == "plain":
        assert moved == pytest.approx(bound, abs=1e-3), "the bound should be tight here"
    if kind in ("nan", "inf"):
        assert moved <= tolerance


# ---- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 2])
def test_noise_has_the_stated_deviation_on_every_part(count: int) -> None:
    batch = records(2).select(range(count))
    quiet = released(batch, batch=2)
    noisy = released(batch, batch=2, noise_multiplier=40.0)
    noise = noisy - quiet
    expected = 40.0 * 0.5 / 2
    backbone = Backbone(TINY)
    named = dict(backbone.named_parameters())
    start, seen = 0, {"generator": [], "style_encoder": [], "discriminator": []}  # type: dict[str, list[Tensor]]
    for name in sorted(named):
        seen[name.split(".")[0]].append(noise[start : start + named[name].numel()])
        start += named[name].numel()
    for chunks in seen.values():
        values = torch.cat(chunks)
        assert float(values.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(values)))
        assert abs(float(values.mean())) <= 4 * expected / math.sqrt(len(values))


def test_noise_ignores_seeds_and_everything_else_obeys_them(backbone: Backbone) -> None:
    def run(settings: LocalSettings) -> Tensor:
        torch.manual_seed(0)
        np.random.seed(0)
        return train_example_level(backbone, records(4), settings=settings, seed=3, sampling_seed=4)[0]

    half = dataclasses.replace(PRIVATE, sample_rate=0.5)
    silent = dataclasses.replace(half, noise_multiplier=0.0)
    assert not torch.equal(run(half), run(half))
    assert torch.equal(run(silent), run(silent))


def test_without_noise_or_clip_a_private_step_equals_a_plain_joint_step(backbone: Backbone) -> None:
    batch = records(3)
    private = released(batch, bound=1e5, balance=1.0, batch=3)
    painters, _ = parts(backbone)
    values, output = objective.generator_loss(backbone, batch, draws(), loss=LossConfig())
    values.mean().backward(inputs=painters)
    loss = objective.discriminator_loss(backbone, batch, output.detach(), draws(), loss=LossConfig())
    loss.mean().backward(inputs=parts(backbone)[1])
    named = dict(backbone.named_parameters())
    wanted = torch.cat([g.reshape(-1) for name in sorted(named) if (g := named[name].grad) is not None])
    assert float((private.float() - wanted).norm()) <= 1e-3 * float(wanted.norm())


# ---- sampling and accounting -------------------------------------------------------------------


def test_empty_samples_are_noise_only_steps_and_accounted(backbone: Backbone) -> None:
    settings = dataclasses.replace(PRIVATE, sample_rate=1e-9, steps=4)
    delta, mechanism, steps = train_example_level(backbone, records(2), settings=settings, sampling_seed=0)
    assert (mechanism, steps) == (Mechanism(1.0, 1e-9, "example"), 4)
    assert float(delta.norm()) > 0.0


def test_cost_is_what_the_accountant_counted(backbone: Backbone) -> None:
    step = summing_step(backbone, noise_multiplier=2.0, sample_rate=0.25)
    for count in (2, 0, 1):
        step(records(2).select(range(count)), draws())
    assert step.accounted() == [(Mechanism(2.0, 0.25, "example"), 3)]


def test_a_miscounted_run_is_refused(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JointStep, "accounted", lambda self: [(PRIVATE.mechanism, 1)])
    with pytest.raises(PrivacyError, match="counted"):
        train_example_level(backbone, records(1), settings=PRIVATE)


def test_poisson_sampling_is_independent_per_record() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([len(poisson_sample(20, rate=0.3, generator=generator)) for _ in range(2000)]).double()
    assert float(sizes.mean()) == pytest.approx(6.0, abs=0.2)
    assert float(sizes.var()) == pytest.approx(20 * 0.3 * 0.7, rel=0.15)
    assert poisson_sample(7, rate=1.0, generator=None).tolist() == list(range(7))
    assert poisson_sample(7, rate=1.0, generator=generator).tolist() == list(range(7))
    chosen = {tuple(poisson_sample(40, rate=0.5, generator=None).tolist()) for _ in range(5)}
    assert len(chosen) == 5


def test_one_sum_is_never_released_twice() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = private_optimizer(
        torch.optim.SGD([weight], lr=1.0), mechanism=Mechanism(1.0, 1.0, "example"), bound=1.0, expected_batch=1
    )
    weight.grad_sample = torch.ones(1, 3)  # type: ignore[attr-defined]
    optimizer.step()
    with pytest.raises(ValueError, match="zero_grad"):
        optimizer.step()
    for bound, batch in ((0.0, 1.0), (1.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(PrivacyError):
            private_optimizer(
                torch.optim.SGD([weight], lr=1.0),
                mechanism=Mechanism(1.0, 1.0, "example"),
                bound=bound,
                expected_batch=batch,
            )


# ---- plain training ----------------------------------------------------------------------------


def test_user_level_is_reproducible_and_leaves_the_backbone_alone(backbone: Backbone) -> None:
    before = flatten(backbone)
    first = train_user_level(backbone, records(3), settings=PLAIN, seed=1)
    torch.manual_seed(99)
    second = train_user_level(backbone, records(3), settings=PLAIN, seed=1)
    assert torch.equal(first, second)
    assert not torch.equal(first, train_user_level(backbone, records(3), settings=PLAIN, seed=2))
    assert torch.equal(before, flatten(backbone))
    assert first.shape == before.shape and first.dtype == torch.float32


def test_user_level_training_learns_and_trains_every_part(backbone: Backbone) -> None:
    batch = records(3)
    settings = LocalSettings(steps=6, batch=3, lr=4e-3, critic_lr=4e-3)
    delta = train_user_level(backbone, batch, settings=settings)

    def loss(model: Backbone) -> float:
        with torch.no_grad():
            return float(
                objective.generator_loss(model, batch, draws(7), loss=LossConfig(adversarial="none"))[0].mean()
            )

    trained = Backbone(TINY, seed=1)
    moved = {"generator": 0.0, "style_encoder": 0.0, "discriminator": 0.0}
    start = 0
    named = dict(trained.named_parameters())
    with torch.no_grad():
        for name in sorted(named):
            part = delta[start : start + named[name].numel()].view_as(named[name])
            moved[name.split(".")[0]] += float(part.abs().sum())
            named[name] += part
            start += part.numel()
    assert all(distance > 0 for distance in moved.values())
    assert loss(trained) < 0.97 * loss(backbone)


@pytest.mark.parametrize("adversarial", ["none", "wasserstein-gp"])
def test_user_level_with_other_losses(backbone: Backbone, adversarial: str) -> None:
    settings = dataclasses.replace(PLAIN, steps=1, loss=LossConfig(adversarial=adversarial))
    delta = train_user_level(backbone, records(2), settings=settings)
    critics = sorted(dict(backbone.discriminator.named_parameters()))
    size = sum(dict(backbone.discriminator.named_parameters())[name].numel() for name in critics)
    assert bool(delta[:size].any()) == (adversarial != "none")


def test_fewer_records_than_a_batch(backbone: Backbone) -> None:
    settings = dataclasses.replace(PLAIN, batch=16, steps=1)
    assert float(train_user_level(backbone, records(1), settings=settings).norm()) > 0


def test_no_records_and_divergence_are_refused(backbone: Backbone) -> None:
    empty = records(1).select([])
    with pytest.raises(PrivacyError, match="no training records"):
        train_user_level(backbone, empty, settings=PLAIN)
    with pytest.raises(PrivacyError, match="no training records"):
        train_example_level(backbone, empty, settings=PRIVATE)
    with pytest.raises(PrivacyError, match="diverged"):
        train_user_level(backbone, outlier("nan"), settings=PLAIN)


# ---- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0),
        ("batch", 0),
        ("chunk", 0),
        ("lr", 0.0),
        ("critic_lr", 1.0),
        ("beta1", 1.0),
        ("weight_decay", -0.1),
        ("noise_multiplier", -1.0),
        ("noise_multiplier", math.nan),
        ("sample_rate", 0.0),
        ("sample_rate", 1.1),
        ("bound", 0.0),
        ("balance", math.inf),
    ],
)
def test_settings_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=key):
        LocalSettings(**{key: value})  # type: ignore[arg-type]


def test_settings_come_from_a_mapping() -> None:
    settings = parse({"steps": 2, "noise_multiplier": 1, "loss": {"adversarial": "bce"}}, LocalSettings, source="round")
    assert settings.mechanism == Mechanism(1.0, 1.0, "example")
    assert settings.betas == (0.5, 0.99)
    assert settings.loss.adversarial == "bce"


# ---- what methods of federated learning put in -----------------------------------------------------


def test_only_the_named_parameters_move(backbone: Backbone) -> None:
    kept = {"generator.leave.weight", "generator.leave.bias"}
    delta = train_user_level(backbone, records(3), settings=PLAIN, only=kept)
    at = 0
    for name in shared_parameters(backbone):
        count = backbone.get_parameter(name).numel()
        part, at = delta[at : at + count], at + count
        assert bool(part.any()) == (name in kept), name
    nothing = train_user_level(backbone, records(3), settings=PLAIN, only=())
    assert not nothing.any()


def test_what_comes_after_a_step_sees_what_moved_and_by_which_rate(backbone: Backbone) -> None:
    seen: list[tuple[set[str], float]] = []

    def look(moved: Mapping[str, torch.nn.Parameter], rate: float) -> None:
        seen.append((set(moved), rate))

    settings = dataclasses.replace(PLAIN, critic_lr=3e-4, steps=1)
    watched = train_user_level(backbone, records(3), settings=settings, after_step=look)
    assert torch.equal(watched, train_user_level(backbone, records(3), settings=settings))
    (painters, first), (critics, second) = seen
    assert (first, second) == (settings.lr, settings.critic_lr)
    assert not painters & critics and painters | critics == set(shared_parameters(backbone))


def test_plain_steps_move_by_rate_times_gradient(backbone: Backbone) -> None:
    """Two step sizes from the same place: without momentum one step is proportional to its size."""
    one = dataclasses.replace(PLAIN, steps=1, solver="sgd", lr=1e-4, critic_lr=1e-4)
    two = dataclasses.replace(one, lr=2e-4, critic_lr=2e-4)
    loss = LossConfig(adversarial="none")  # the critic's step would see the generator's
    first, second = (
        train_user_level(backbone, records(2), settings=dataclasses.replace(settings, loss=loss))
        for settings in (one, two)
    )
    assert torch.allclose(2 * first, second, atol=1e-6) and first.abs().max() > 1e-6
    with pytest.raises(ConfigError, match="solver must be one of adamw, sgd"):
        LocalSettings(solver="adam")
