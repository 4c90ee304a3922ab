"""What a round says to a device: public settings only, the same for every device.

Server and client never import each other; this module holds the words they share. It knows no
transport: the settings become a flat mapping of plain values that any transport can carry.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared_model.adaptive_clip import update_noise
from shared_model.config import LossConfig, ModelConfig, parse, to_dict
from shared_model.errors import CompatibilityError, ConfigError, PrivacyError
from shared_model.factorization import MECHANISMS
from shared_model.mechanism import UNITS, Mechanism

__all__ = [
    "ARRAY",
    "DECLINED",
    "LONGEST_REST_S",
    "NOTICE",
    "PROTOCOL",
    "REPLY",
    "SETTINGS",
    "UPLOADS",
    "WITHIN",
    "RoundRequest",
]

#: Version of the conversation; both sides must speak the same one.
PROTOCOL = 1
#: Name of the one array in a message: the backbone on the way down, the clipped update on the way up.
ARRAY = "backbone"
#: Name of the settings in a request.
SETTINGS = "settings"
#: Name of what a request tells one device alone: ``seen``, how many of its participations the server has seen.
NOTICE = "notice"
#: Name of the few plain values in a reply: protocol, run, round, scale, and of the device's ledger its
#: name in this run (``ledger``) and which participation this is (``entry``).
REPLY = "reply"
#: Name of one more, with adaptive clipping only: one bit, whether the update was within the clip.
WITHIN = "within"
#: Error codes with which a device declines, and what they mean; nothing more of an error leaves it.
DECLINED = {
    101: "refused by policy",
    102: "budget used up",
    103: "failed on the device",
    104: "took part too recently",
    110: "answered before",
    111: "refused by its ledger",
}
#: Longest rest that a server may offer a device: a week.
LONGEST_REST_S = 604_800.0
#: Number formats of an update on the wire.
UPLOADS = ("float16", "int8")

Plain = str | int | float | bool


@dataclass(frozen=True)
class RoundRequest:
    """The settings of one round, as every device receives them.

    Parameters
    ----------
    run, round, rounds
        Which run this is, which round of it (from 1), and how many rounds it is planned to have.
    model, architecture
        The backbone's sizes and their hash (:func:`shared_model.weights.architecture_hash`).
    loss
        Weights of the training losses.
    unit
        ``"user"``: the server adds noise to the sum of whole clipped updates. ``"example"``: the
        device runs DP-SGD itself.
    clip
        L2 bound of the whole uploaded update.
    record_clip
        L2 bound of one record's gradient (unit ``"example"`` only).
    noise_multiplier
        Noise standard deviation over the clip: on the sum (user) or per local step (example). With
        adaptive clipping it is that of update and bit together; ``"factorized"``, that of the whole
        run, in units of the clip times the sensitivity.
    cohort, population
        Planned devices in a round, of how many; the *nominal* fleet's where ``simulated``.
    delta
        The delta of the promise.
    simulated
        The fleet is smaller than it claims and its noise is scaled down to match (a simulation):
        the promise is then the nominal fleet's, not this run's.
    local_steps, batch, learning_rate
        Local training.
    record_rate
        Probability that a record is in a local step (unit ``"example"`` only).
    upload
        Number format of the reply, one of :data:`UPLOADS`.
    top_k
        Share of the update's numbers that the reply holds, the largest ones, above 0; 1: all.
    seed
        Public; for draws that do not depend on data.
    adaptive_clip, count_noise
        Whether the device is to say in one bit if its update was within the clip, and the standard
        deviation of the noise on the sum of these bits (:mod:`shared_model.adaptive_clip`).
    mechanism, min_separation
        ``"sampled"``, or ``"factorized"``: noise that is correlated over the rounds and needs no
        sampling, but devices that take part at most once in ``min_separation`` rounds
        (:mod:`shared_model.factorization`).
    attempt
        How many rounds this run has begun, this one included: unlike ``round`` it never repeats, also
        when the server begins a round again after a crash. 0: the round's number.
    over_selection
        So many times the cohort is asked, at least 1; it raises the sampling rate that a device pays.
    rest_s
        The device is not needed for so many seconds after its upload.
    """

    run: str
    round: int
    rounds: int
    model: ModelConfig
    loss: LossConfig
    architecture: str
    unit: str
    clip: float
    record_clip: float
    noise_multiplier: float
    cohort: int
    population: int
    delta: float
    simulated: bool
    local_steps: int
    batch: int
    learning_rate: float
    record_rate: float
    upload: str
    seed: int
    protocol: int = PROTOCOL
    adaptive_clip: bool = False
    count_noise: float = 0.0
    mechanism: str = "sampled"
    min_separation: int = 1
    attempt: int = 0
    over_selection: float = 1.0
    rest_s: float = 0.0
    top_k: float = 1.0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")
        if self.upload not in UPLOADS:
            raise ConfigError(f"upload must be one of {', '.join(UPLOADS)}, not {self.upload!r}")
        if not 0.0 < self.top_k <= 1.0:
            raise ConfigError(f"top_k must be above 0 and at most 1, not {self.top_k}")
        if self.mechanism not in MECHANISMS:
            raise ConfigError(f"mechanism must be one of {', '.join(MECHANISMS)}, not {self.mechanism!r}")
        for name in ("round", "rounds", "cohort", "population", "local_steps", "batch", "min_separation"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("clip", "record_clip", "delta", "learning_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be positive and finite, not {value}")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise ConfigError(f"noise_multiplier must be 0 or more and finite, not {self.noise_multiplier}")
        if not 0 < self.record_rate <= 1:
            raise ConfigError(f"record_rate must be above 0 and at most 1, not {self.record_rate}")
        if self.cohort > self.population:
            raise ConfigError(f"cohort {self.cohort} is larger than population {self.population}")
        if not (math.isfinite(self.over_selection) and self.over_selection >= 1.0):
            raise ConfigError(f"over_selection must be 1 or more, not {self.over_selection}")
        if not 0.0 <= self.rest_s <= LONGEST_REST_S:
            raise ConfigError(f"rest_s must be from 0 to {LONGEST_REST_S:g}, not {self.rest_s}")
        if self.round > self.rounds:
            raise ConfigError(f"round {self.round} of only {self.rounds}")
        if self.attempt != 0 and self.attempt < self.round:
            raise ConfigError(f"round {self.round} cannot be attempt {self.attempt}")
        self._check_protection()

    def _check_protection(self) -> None:
        """Refuse settings that contradict each other: fail closed."""
        if not (math.isfinite(self.count_noise) and self.count_noise >= 0):
            raise ConfigError(f"count_noise must be 0 or more and finite, not {self.count_noise}")
        if (self.adaptive_clip or self.factorized) and self.unit != "user":
            raise ConfigError("adaptive clipping and factorized noise protect users, not examples")
        if self.adaptive_clip and self.factorized:
            raise ConfigError("factorized noise needs the same clip in every round")
        if self.adaptive_clip:
            try:
                update_noise(self.noise_multiplier, self.count_noise)
            except PrivacyError as error:
                raise ConfigError(error.message) from error
        if not self.adaptive_clip and self.count_noise:
            raise ConfigError("count_noise is for adaptive clipping only")

    @property
    def factorized(self) -> bool:
        """Whether the noise is correlated over the rounds."""
        return self.mechanism == "factorized"

    @property
    def sample_rate(self) -> float:
        """Probability that a device of the (nominal) fleet is asked in a round."""
        return min(1.0, self.over_selection * self.cohort / self.population)

    @property
    def price(self) -> Mechanism:
        """What a device pays for: one local step (example), one round (user) or the run (factorized)."""
        rate = self.record_rate if self.unit == "example" else 1.0 if self.factorized else self.sample_rate
        return Mechanism(self.noise_multiplier, rate, self.unit)

    def to_values(self) -> dict[str, Plain]:
        """Return the settings as a flat mapping of plain values; nested ones as JSON."""
        values: dict[str, Plain] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            values[item.name] = json.dumps(to_dict(value)) if dataclasses.is_dataclass(value) else value
        return values

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> RoundRequest:
        """Read what :meth:`to_values` wrote.

        Raises
        ------
        CompatibilityError
            If the other side speaks another version of the protocol.
        ConfigError
            If a setting is missing, unknown, of the wrong type or out of range.
        """
        if values.get("protocol") != PROTOCOL:
            raise CompatibilityError(
                f"the server speaks protocol {values.get('protocol')!r}, this device {PROTOCOL}",
                hint="update easel on the older side",
            )
        plain = dict(values)
        for name in ("model", "loss"):
            text = plain.get(name)
            try:
                plain[name] = json.loads(text) if isinstance(text, str) else text
            except json.JSONDecodeError as error:
                raise ConfigError(f"round settings: {name!r} is not JSON") from error
        return parse(plain, cls, source="round settings")
