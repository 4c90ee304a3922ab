"""What a device's owner lets a server ask for; checked on the device, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from client.conditions import When
from shared_model.config import load_toml
from shared_model.errors import ConfigError, PrivacyError
from shared_model.factorization import MECHANISMS
from shared_model.mechanism import LARGEST_DELTA, UNITS
from shared_model.messages import RoundRequest
from shared_model.secure_terms import LEAST, SecureTerms

__all__ = ["FILE", "Policy", "load_policy"]

FILE = "policy.toml"


@dataclass(frozen=True)
class Policy:
    """The limits of one device.

    Guarantees
    ----------
    A request that asks for less noise, a larger clip, more work, another unit or another mechanism
    than these limits allow is refused before training, whatever the server says elsewhere. With
    adaptive clipping :attr:`max_clip` bounds the clip of every round, however it came about.

    Assumes
    -------
    User level: the noise is the server's to add; a device can only refuse a server that announces
    too little. Example level: the device adds it itself.

    Edge cases
    ----------
    Rescaled noise (a simulation) is refused unless :attr:`simulation` is set, since a real device
    would not get what it was promised.

    Parameters
    ----------
    min_noise_multiplier
        Least noise, in units of the clip; 0 lets a server train without any.
    max_clip
        Largest L2 bound of an update, and of a record's gradient.
    max_delta
        Largest delta of the promise.
    max_local_steps, max_batch
        Most work per round.
    max_parameters
        Largest backbone.
    units
        Privacy units that are accepted.
    mechanisms
        Kinds of noise that are accepted, of :data:`shared_model.factorization.MECHANISMS`.
    min_separation
        Least separation that a run with correlated noise may state; the ledger enforces what it
        states.
    adaptive_clip
        Accept to say in one bit whether an update was within the clip.
    simulation
        Accept rescaled noise.
    require_secure_aggregation
        Never send an update that the server could see by itself.
    min_secure_peers
        Least number of other devices among whose masks an update is hidden.
    when
        When the device takes part at all; kept by :mod:`client.supervisor`.
    """

    min_noise_multiplier: float = 0.3
    max_clip: float = 10.0
    max_delta: float = LARGEST_DELTA
    max_local_steps: int = 1000
    max_batch: int = 256
    max_parameters: int = 20_000_000
    units: tuple[str, ...] = UNITS
    mechanisms: tuple[str, ...] = MECHANISMS
    min_separation: int = 1
    adaptive_clip: bool = True
    simulation: bool = False
    require_secure_aggregation: bool = False
    min_secure_peers: int = LEAST - 1
    when: When = field(default_factory=When)

    def __post_init__(self) -> None:
        if not self.min_noise_multiplier >= 0.0:
            raise ConfigError(f"min_noise_multiplier must be 0 or more, not {self.min_noise_multiplier}")
        if not self.max_clip > 0.0:
            raise ConfigError(f"max_clip must be positive, not {self.max_clip}")
        if not 0.0 < self.max_delta < 1.0:
            raise ConfigError(f"max_delta must be between 0 and 1, not {self.max_delta}")
        for name in ("max_local_steps", "max_batch", "max_parameters", "min_separation"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.min_secure_peers < LEAST - 1:
            raise ConfigError(f"min_secure_peers must be at least {LEAST - 1}, not {self.min_secure_peers}")
        for name, known in (("units", UNITS), ("mechanisms", MECHANISMS)):
            chosen = getattr(self, name)
            if not chosen or set(chosen) - set(known):
                raise ConfigError(f"{name} must be some of {', '.join(known)}, not {list(chosen)}")

    def check(self, request: RoundRequest, *, parameters: int, secure: SecureTerms | None = None) -> None:
        """Refuse a request that goes beyond the limits.

        Parameters
        ----------
        request, parameters
            The round's settings, and the backbone's size.
        secure
            The terms of secure aggregation, where it is used.

        Raises
        ------
        PrivacyError
            Naming the limit; the message holds nothing but public settings.
        """
        objections = [
            (request.unit not in self.units, f"unit {request.unit!r} is not accepted here"),
            (
                request.noise_multiplier < self.min_noise_multiplier,
                f"noise multiplier {request.noise_multiplier:g} is below {self.min_noise_multiplier:g}",
            ),
            (request.clip > self.max_clip, f"clip {request.clip:g} is above {self.max_clip:g}"),
            (request.delta > self.max_delta, f"delta {request.delta:g} is above {self.max_delta:g}"),
            (request.mechanism not in self.mechanisms, f"mechanism {request.mechanism!r} is not accepted here"),
            (
                request.factorized and request.min_separation < self.min_separation,
                f"separation {request.min_separation} is below {self.min_separation}",
            ),
            (request.adaptive_clip and not self.adaptive_clip, "adaptive clipping is not accepted here"),
            (request.record_clip > self.max_clip, f"record clip {request.record_clip:g} is above {self.max_clip:g}"),
            (
                request.local_steps > self.max_local_steps,
                f"{request.local_steps} local steps are more than {self.max_local_steps}",
            ),
            (request.batch > self.max_batch, f"batch {request.batch} is above {self.max_batch}"),
            (parameters > self.max_parameters, f"{parameters} parameters are more than {self.max_parameters}"),
            (request.simulated and not self.simulation, "noise rescaled for a simulation is not accepted here"),
            (secure is None and self.require_secure_aggregation, "only secure aggregation is accepted here"),
        ]
        if secure is not None:
            objections += self._objections(request, secure)
        for objects, why in objections:
            if objects:
                raise PrivacyError(f"this device refuses: {why}", hint=f"its owner sets the limits in {FILE}")

    def _objections(self, request: RoundRequest, secure: SecureTerms) -> list[tuple[bool, str]]:
        promised = request.noise_multiplier * request.clip if request.unit == "user" else 0.0
        short = secure.sum_noise < promised * (1.0 - 1e-9) and not request.simulated
        return [
            (short, f"noise of {secure.sum_noise:g} on the secure sum is below the promised {promised:g}"),
            (
                secure.needed - 1 < self.min_secure_peers,
                f"a secure sum of {secure.needed} devices is too small: {self.min_secure_peers} others are wanted",
            ),
        ]


def load_policy(folder: Path, *, simulated: bool) -> Policy:
    """Read ``policy.toml`` of a device folder; without one the defaults hold.

    Parameters
    ----------
    folder
        The device folder.
    simulated
        The device is itself simulated: without a file, rescaled noise and a run without noise are
        then accepted (its budget still refuses the latter unless it is infinite).
    """
    path = folder / FILE
    if path.exists():
        return load_toml(path, Policy)
    return Policy(simulation=True, min_noise_multiplier=0.0) if simulated else Policy()
