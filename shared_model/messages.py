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

from shared_model.config import LossConfig, ModelConfig, parse, to_dict
from shared_model.errors import CompatibilityError, ConfigError
from shared_model.mechanism import UNITS

__all__ = ["ARRAY", "DECLINED", "NOTICE", "PROTOCOL", "REPLY", "SETTINGS", "UPLOADS", "RoundRequest"]

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
#: Error codes with which a device declines, and what they mean; nothing more of an error leaves it.
DECLINED = {101: "refused by policy", 102: "budget used up", 103: "failed on the device", 104: "refused by its ledger"}
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
        Noise standard deviation over the clip: on the sum (user) or per local step (example).
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
    seed
        Public; for draws that do not depend on data.
    attempt
        How many rounds this run has begun, this one included: unlike ``round`` it never repeats, also
        when the server begins a round again after a crash. 0: the round's number.
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
    attempt: int = 0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ConfigError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")
        if self.upload not in UPLOADS:
            raise ConfigError(f"upload must be one of {', '.join(UPLOADS)}, not {self.upload!r}")
        for name in ("round", "rounds", "cohort", "population", "local_steps", "batch"):
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
        if self.round > self.rounds:
            raise ConfigError(f"round {self.round} of only {self.rounds}")
        if self.attempt != 0 and self.attempt < self.round:
            raise ConfigError(f"round {self.round} cannot be attempt {self.attempt}")

    @property
    def sample_rate(self) -> float:
        """Probability that a device of the (nominal) fleet is asked in a round."""
        return self.cohort / self.population

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
