"""All audits of both mechanisms: the code as it is, the control without noise, and planted bugs.

An audit that finds nothing proves little unless it would have found something: so every bug of
:data:`simulations.audit.subjects.BUGS` is planted in turn and must be caught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from client.local_settings import LocalSettings
from shared_model.backbone import Backbone
from shared_model.config import ModelConfig
from shared_model.errors import ConfigError
from shared_model.images import to_tensor
from shared_model.records import Batch, make_records
from simulations.audit.canaries import Claim, audit_canaries, observe
from simulations.audit.findings import Finding
from simulations.audit.freshness import audit_noise, noise_of
from simulations.audit.one_run import audit_one_run
from simulations.audit.subjects import BUGS, CONTROL, RoundSubject, StepSubject, Subject
from simulations.pictures import default_photos

__all__ = ["SUBJECTS", "AuditConfig", "Verdict", "audit", "judge"]

#: What is audited.
SUBJECTS = (StepSubject.name, RoundSubject.name)

_TINY = ModelConfig(width=4, blocks=1, code_dim=4, encoder_width=2, critic_width=2)
_CHECKS = 5  # findings per subject
_RUN_DELTA = 1e-12  # of the one-run claim: theorem 5.2 refutes nothing at an error below about canaries * delta


@dataclass(frozen=True)
class AuditConfig:
    """How thorough an audit is.

    Parameters
    ----------
    steps, canaries
        Releases of the per-step audit and canaries in each (half of them take part).
    noise_multiplier
        What the audited step claims.
    run_steps, run_canaries, run_noise_multiplier
        Of the one-run audit.
    run_on_bugs
        Whether the one-run audit, which is too loose for most bugs, is tried on all of them or on
        the right code and the control alone.
    noise_steps
        Noise-only releases per repeat; there are two repeats.
    records
        Ordinary records in every audited device step.
    small
        Audit a small backbone in the device's step instead of one of the shipped size; the code is the same.
    alarm
        Probability that right code is found guilty, over all its checks together.
    seed
        Of coins, coordinates and pictures; never of noise.
    """

    steps: int = 8
    canaries: int = 400
    noise_multiplier: float = 1.0
    run_steps: int = 4
    run_canaries: int = 600
    run_noise_multiplier: float = 8.0
    run_on_bugs: bool = True
    noise_steps: int = 3
    records: int = 4
    small: bool = False
    alarm: float = 5e-7
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "canaries", "run_steps", "run_canaries", "noise_steps", "records"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("noise_multiplier", "run_noise_multiplier"):
            if not getattr(self, name) > 0.0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0.0 < self.alarm < 0.1:
            raise ConfigError(f"alarm must be above 0 and below 0.1, not {self.alarm}")

    @classmethod
    def quick(cls, seed: int = 0) -> AuditConfig:
        """Return settings that take well under a minute."""
        return cls(steps=8, canaries=240, run_canaries=400, run_on_bugs=False, records=2, small=True, seed=seed)

    @property
    def alarm_each(self) -> float:
        """What each check of right code may contribute to :attr:`alarm`."""
        return self.alarm / (_CHECKS * len(SUBJECTS))


@dataclass(frozen=True)
class Verdict:
    """What became of one variant of one subject.

    Parameters
    ----------
    subject, bug
        Which; no bug is the code as it is.
    findings
        One per check.
    """

    subject: str
    bug: str
    findings: tuple[Finding, ...]

    @property
    def caught(self) -> tuple[str, ...]:
        """Names of the audits that found a violation."""
        return tuple(finding.audit for finding in self.findings if finding.violation)

    @property
    def as_it_should_be(self) -> bool:
        """Whether right code passed, or the bug was caught; the control by both kinds of canaries."""
        if self.bug == CONTROL:
            return {"canaries", "one run"} <= set(self.caught)
        return bool(self.caught) == bool(self.bug)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "subject": self.subject,
            "bug": self.bug,
            "caught_by": list(self.caught),
            "as_it_should_be": self.as_it_should_be,
            "findings": [asdict(finding) for finding in self.findings],
        }


def audit(
    config: AuditConfig,
    *,
    backbone: Backbone | None = None,
    subjects: Sequence[str] = SUBJECTS,
    bugs: Sequence[str] = ("", *BUGS),
    follow: Callable[[float, str], None] = lambda fraction, text: None,
) -> Iterator[Verdict]:
    """Audit every subject with every bug, the code as it is first; yield each verdict as it comes.

    Parameters
    ----------
    config
        How thorough.
    backbone
        What the device trains unless ``config.small``; one of the shipped size by default.
    subjects, bugs
        Which; ``""`` is the code as it is.
    follow
        Told the fraction done and what is being audited.
    """
    unknown = (set(subjects) - set(SUBJECTS)) | (set(bugs) - {"", *BUGS})
    if unknown:
        raise ConfigError(f"nothing to audit is called {', '.join(sorted(unknown))}")
    records = _records(config)
    small = Backbone(_TINY)
    trained = small if config.small else (backbone or Backbone())
    total = len(subjects) * len(bugs)
    for number, (subject, bug) in enumerate((s, b) for b in bugs for s in subjects):
        follow(number / total, f"{subject}{', ' + bug if bug else ''}")
        if subject == StepSubject.name:
            make = _step_maker(trained, records, bug)
        else:
            make = _round_maker(small, max(config.canaries, config.run_canaries) + 1, bug)
        yield judge(make, config=config, bug=bug)


class Maker(Protocol):
    """Makes new subjects."""

    def __call__(self, noise_multiplier: float, *, bare: bool = False) -> Subject:
        """Return a subject that claims this noise; a bare one has no records besides canaries."""


def judge(make: Maker, *, config: AuditConfig, bug: str = "") -> Verdict:
    """Run every check on one subject.

    Parameters
    ----------
    make
        Makes the subject, again and again.
    config
        How thorough.
    bug
        What is planted in it, for the record.
    """
    subject, alarm = make(config.noise_multiplier), config.alarm_each
    scores = observe(subject, steps=config.steps, canaries=config.canaries, seed=config.seed)
    findings = [audit_canaries(subject, scores, claim=Claim(), bug=bug, alarm=alarm)]
    if config.run_on_bugs or bug in ("", CONTROL):
        run = make(config.run_noise_multiplier)
        steps, canaries = config.run_steps, config.run_canaries
        findings.append(
            audit_one_run(run, steps=steps, canaries=canaries, seed=config.seed, delta=_RUN_DELTA, bug=bug, alarm=alarm)
        )
    noise = noise_of(lambda: make(config.noise_multiplier, bare=True), steps=config.noise_steps, seed=config.seed)
    findings.extend(audit_noise(subject, noise, bug=bug, alarm=alarm))
    return Verdict(subject.name, bug, tuple(findings))


def _records(config: AuditConfig) -> Batch:
    photos = default_photos()
    return make_records(
        [to_tensor(photos["camera_man"]), to_tensor(photos["chelsea_face"])],
        [to_tensor(photos["coffee_cup"])],
        count=config.records,
        size_px=48,
        seed=config.seed,
    )


def _step_maker(backbone: Backbone, records: Batch, bug: str) -> Maker:
    def make(noise_multiplier: float, *, bare: bool = False) -> Subject:
        settings = LocalSettings(batch=1, noise_multiplier=noise_multiplier, chunk=32)
        mine = records.select([]) if bare else records
        return StepSubject(backbone, mine, settings=settings, bug=bug)

    return make


def _round_maker(backbone: Backbone, devices: int, bug: str) -> Maker:
    def make(noise_multiplier: float, *, bare: bool = False) -> Subject:
        return RoundSubject(backbone, noise_multiplier=noise_multiplier, devices=devices, bug=bug)

    return make
