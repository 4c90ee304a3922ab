"""The audits find every planted bug in both mechanisms, and nothing in the code as it is.

Coins, coordinates and pictures are seeded; noise is not, so this test could fail by chance: right
code is found guilty with probability at most 5e-7 (``AuditConfig.alarm``, a union bound over its ten
checks). A bug is missed with a smaller one: doubling the signal moves the true positive rate six
standard errors past what its bound needs.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from client.local_settings import LocalSettings
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import ConfigError, InputError
from shared_model.records import Batch
from simulations.audit.one_run import refuted_epsilon
from simulations.audit.subjects import BUGS, CONTROL, LENGTH, RoundSubject, StepSubject
from simulations.audit.suite import SUBJECTS, AuditConfig, Verdict, audit

TINY = ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2)


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], Verdict]:
    config = AuditConfig.quick()
    assert config.alarm < 1e-6 and config.alarm_each * 5 * len(SUBJECTS) <= config.alarm
    return {(verdict.subject, verdict.bug): verdict for verdict in audit(config)}


def test_the_code_as_it_is_passes(verdicts: dict[tuple[str, str], Verdict]) -> None:
    for subject in SUBJECTS:
        verdict = verdicts[subject, ""]
        assert verdict.caught == () and verdict.as_it_should_be
        canaries = verdict.findings[0]
        assert 1.0 < canaries.measured < canaries.claimed, "the bound must be below the claim and worth something"
        assert {finding.alarm for finding in verdict.findings} == {5e-8}


def test_without_noise_both_kinds_of_canaries_see_the_leak(verdicts: dict[tuple[str, str], Verdict]) -> None:
    for subject in SUBJECTS:
        assert {"canaries", "one run"} <= set(verdicts[subject, CONTROL].caught)


@pytest.mark.parametrize(
    ("bug", "by"),
    [
        ("half noise", {"canaries", "noise strength"}),
        ("clipping off", {"canaries"}),
        ("clipped apart", {"canaries"}),
        ("re-seeded", {"noise repeats"}),
        ("predictable", {"noise repeats"}),
    ],
)
def test_every_planted_bug_is_caught(verdicts: dict[tuple[str, str], Verdict], bug: str, by: set[str]) -> None:
    for subject in SUBJECTS:
        assert set(verdicts[subject, bug].caught) == by
        assert verdicts[subject, bug].as_it_should_be


def test_all_bugs_are_tried(verdicts: dict[tuple[str, str], Verdict]) -> None:
    assert {bug for _, bug in verdicts} == {"", *BUGS}
    assert verdicts[SUBJECTS[0], ""].to_dict()["as_it_should_be"] is True


def nothing() -> Batch:
    empty = torch.zeros(0, 3, 48, 48)
    return Batch(empty, empty, empty, empty, empty, torch.zeros(0))


@pytest.mark.parametrize("bug", ["", "clipping off", "clipped apart"])
def test_a_canary_weighs_what_it_should(bug: str) -> None:
    """Without noise a clipped canary is worth exactly one bound; unclipped ten, clipped in two parts two."""
    settings = LocalSettings(batch=3, bound=0.25, noise_multiplier=0.0)
    weight = {"": 1.0, "clipping off": LENGTH, "clipped apart": 2.0}[bug]
    places = torch.tensor([5, 70, 900])
    if bug != "clipping off":  # that bug moves the noise into the multiplier, which is 0 here
        released = StepSubject(Backbone(TINY), nothing(), settings=settings, bug=bug).release(places)
        assert torch.allclose(released[places], torch.full((3,), weight, dtype=torch.float64), rtol=1e-4)
    subject = RoundSubject(Backbone(TINY), noise_multiplier=1e-4, devices=6, bound=0.25, bug=bug)
    released = subject.release(places)
    assert torch.allclose(released[places], torch.full((3,), weight, dtype=torch.float64), atol=1e-3)
    assert float(released.abs().sum()) == pytest.approx(3 * weight + 0.8e-4 * subject.size, rel=0.2)


def test_a_release_leaves_the_subject_as_it_was() -> None:
    settings = LocalSettings(batch=1, noise_multiplier=1.0)
    backbone = Backbone(TINY)
    before = [p.clone() for p in backbone.parameters()]
    StepSubject(backbone, nothing(), settings=settings).release(torch.zeros(0, dtype=torch.long))
    assert all(torch.equal(old, new) for old, new in zip(before, backbone.parameters(), strict=True))


def test_more_canaries_than_devices_are_refused() -> None:
    with pytest.raises(InputError, match="more than 2 devices"):
        RoundSubject(Backbone(TINY), noise_multiplier=1.0, devices=2).release(torch.tensor([1, 2]))


def test_unknown_bugs_are_refused() -> None:
    with pytest.raises(ConfigError, match="gremlins"):
        list(audit(AuditConfig.quick(), bugs=("gremlins",)))


def test_one_run_refutes_no_true_claim() -> None:
    """300 audits of an ideal mechanism with mu = 1, whose epsilon is 4.38 at delta 1e-5."""
    dice = np.random.default_rng(2)
    found = []
    for _ in range(300):
        coins = dice.random(400) < 0.5
        found.append(refuted_epsilon(coins + dice.normal(size=400), coins, delta=1e-5, alpha=0.05))
    assert max(found) < 4.38
    assert np.median(found) > 0.2
