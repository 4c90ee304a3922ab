"""May a release be promoted? Its manifest against what the operator allows; pure, and without a way around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared_model.errors import ConfigError, ReleaseError
from shared_model.release_manifest import MAX_WEIGHTS, Manifest

__all__ = ["GateConfig", "judge", "objections"]


@dataclass(frozen=True)
class GateConfig:
    """``releases.toml``: what a release must keep to.

    Parameters
    ----------
    max_epsilon, max_delta
        Largest epsilon and delta over all runs that the fleet has released.
    quality_tolerance
        How far the quality may be below the parent's, at most 0.05. With 0 nothing is given away; with more, many
        releases in a row may lose as much each.
    max_checker_db
        Largest grid artifact, in dB above the painting's own.
    """

    max_epsilon: float = 8.0
    max_delta: float = 1e-5
    quality_tolerance: float = 0.0
    max_checker_db: float = 3.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_epsilon <= 1e6 or not 0.0 <= self.max_delta < 1e-3:
            raise ConfigError("max_epsilon must be 0 to 1e6, max_delta 0 to below 1e-3")
        if not 0.0 <= self.quality_tolerance <= 0.05:
            raise ConfigError(f"quality_tolerance must be between 0 and 0.05, not {self.quality_tolerance}")
        if not 0.0 <= self.max_checker_db <= 12.0:
            raise ConfigError(f"max_checker_db must be between 0 and 12, not {self.max_checker_db}")


def objections(manifest: Manifest, config: GateConfig, *, in_use: int, architecture: str) -> list[str]:
    """Say what stands against a promotion, each with its numbers; nothing: it may be promoted.

    Parameters
    ----------
    manifest
        The release.
    config
        What is allowed.
    in_use
        The version in use; 0: none yet.
    architecture
        Of the release in use, or of the backbone that easel ships.
    """
    figures = manifest.evaluation
    found = []
    if manifest.version < in_use:
        found.append(f"version {manifest.version} is older than {in_use}, which is in use (a rollback leads back)")
    elif manifest.parent != in_use and manifest.version != in_use:
        found.append(f"it was compared with version {manifest.parent}, but {in_use} is in use: create it again")
    if manifest.architecture != architecture:
        found.append(f"its networks are {manifest.architecture}, those of devices {architecture}")
    if manifest.size > MAX_WEIGHTS:
        found.append(f"it has {manifest.size} bytes, devices take {MAX_WEIGHTS}")
    if figures.get("finite") != 1.0:
        found.append("it paints values that are no numbers in [0, 1]")
    if not {"quality", "parent_quality", "checker_db"} <= set(figures):
        return [*found, "it was never tried"]
    quality, parent = figures["quality"], figures["parent_quality"]
    if quality < parent - config.quality_tolerance:
        limit = f" - {config.quality_tolerance:g}" if config.quality_tolerance else ""
        found.append(f"quality {quality:.4f} is below the parent's {parent:.4f}{limit}")
    if figures["checker_db"] > config.max_checker_db:
        found.append(f"grid artifacts of {figures['checker_db']:.2f} dB, allowed {config.max_checker_db:g} dB")
    return [*found, *_privacy(manifest, config)]


def _privacy(manifest: Manifest, config: GateConfig) -> list[str]:
    found = []
    if manifest.total_epsilon is None:
        found.append(f"its epsilon is unbounded, the budget is {config.max_epsilon:g}")
    elif manifest.total_epsilon > config.max_epsilon:
        found.append(f"epsilon {manifest.total_epsilon:.4g} over all runs, the budget is {config.max_epsilon:g}")
    if manifest.total_delta > config.max_delta:
        found.append(f"delta {manifest.total_delta:.3g} over all runs, allowed {config.max_delta:g}")
    return found


def judge(version: int, found: Sequence[str]) -> None:
    """Refuse a promotion that something stands against.

    Raises
    ------
    ReleaseError
        With all objections and their numbers.
    """
    if found:
        raise ReleaseError(
            f"release {version} is not promoted: {'; '.join(found)}",
            hint="limits are in releases.toml of the releases' folder; train on, or create another release",
            reason="gate",
        )
