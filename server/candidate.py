"""From a backbone to a release in use: where it is from, its trial, its manifest, the gate, the order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from server.registry import Release, Releases
from server.verdict import GateConfig, judge, objections
from shared_model.backbone import Backbone
from shared_model.config import load_toml, parse
from shared_model.errors import InputError, MissingError
from shared_model.files import read_bytes
from shared_model.release_manifest import MAX_WEIGHTS, Manifest, Order
from shared_model.weights import (
    architecture_hash,
    backbone_id,
    default_backbone,
    load_backbone,
    read_manifest,
    save_backbone,
)

if TYPE_CHECKING:
    from server.trial import Trial
    from shared_model.signatures import Signer

__all__ = ["Candidate", "create", "from_public", "from_run", "promote", "rollback"]


@dataclass(frozen=True)
class Candidate:
    """A backbone and where it comes from; fields as in :class:`shared_model.release_manifest.Manifest`."""

    backbone: Backbone
    run: str
    round: int
    unit: str
    epsilon: float | None
    delta: float


def from_run(run_dir: Path) -> Candidate:
    """Take the newest state of a run, with what this very run has spent (a simulation's nominal epsilon is no promise).

    Raises
    ------
    MissingError
        If there is no run, or no round of it is done.
    """
    from server.config import FederationConfig
    from server.outputs import backbone_of, privacy_facts
    from server.state import StateStore

    state = StateStore(run_dir).load()
    if state is None or state.round < 1:
        raise MissingError(f"there is no finished round in {run_dir}", hint="easel-server run makes some")
    config = parse(state.config, FederationConfig, source=str(run_dir))
    facts = privacy_facts(state, config)
    return Candidate(backbone_of(state), state.run, state.round, config.unit, facts["run_epsilon"], facts["delta"])


def from_public(path: Path) -> Candidate:
    """Take weights that were trained on public pictures only.

    Raises
    ------
    InputError
        If the file says that a federated run made it.
    """
    backbone = load_backbone(path)
    if read_manifest(path).get("run"):
        raise InputError(f"{path} was made by a federated run", hint="use --run-dir, which counts what it has spent")
    return Candidate(backbone, "", 0, "public", 0.0, 0.0)


def create(
    candidate: Candidate,
    releases: Releases,
    *,
    signer: Signer,
    now: datetime,
    trial: Trial | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Release:
    """Try a backbone beside the one in use, and put it into the registry as the next version.

    Parameters
    ----------
    trial
        Prepared; default: the one of :mod:`server.trial`, about half a minute on one core.
    """
    from server.trial import Trial

    parent = releases.in_use
    if trial is None:
        say("trying the backbone on sample photos ...")
        trial = Trial()
    figures = trial.measure(candidate.backbone)
    before = trial.measure(_reference(releases))
    figures |= {f"parent_{name}": before[name] for name in ("quality", "content", "style", "checker_db")}
    data = _file(candidate)
    epsilon, delta = _spent(candidate, releases)

    def describe(version: int) -> Manifest:
        return Manifest(
            version=version,
            parent=parent,
            backbone=backbone_id(candidate.backbone),
            architecture=architecture_hash(candidate.backbone.config),
            run=candidate.run,
            round=candidate.round,
            unit=candidate.unit,
            epsilon=candidate.epsilon,
            delta=candidate.delta,
            total_epsilon=epsilon,
            total_delta=delta,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            created=now.isoformat(timespec="seconds"),
            evaluation=figures,
        )

    return releases.add(data, describe, signer=signer)


def promote(releases: Releases, version: int, *, signer: Signer, reason: str = "") -> Order:
    """Let devices use a release, if nothing stands against it.

    Raises
    ------
    ReleaseError
        With all objections and their numbers.
    """

    def check() -> None:
        config, manifest = gate_config(releases), releases.release(version).manifest
        architecture = architecture_hash(_reference(releases).config)
        judge(version, objections(manifest, config, in_use=releases.in_use, architecture=architecture))

    return releases.command("promote", version, signer=signer, reason=reason, check=check)


def rollback(releases: Releases, version: int, *, signer: Signer, reason: str = "") -> Order:
    """Lead devices back to a release that was in use before.

    Raises
    ------
    InputError
        If it never was, or is not older than the one in use.
    """
    in_use = releases.in_use
    used = {entry["version"] for entry in releases.log() if entry["event"] == "ordered"}
    if version not in used or version >= in_use:
        raise InputError(
            f"release {version} is not one that was in use before {in_use or 'any'}",
            hint=f"a rollback leads to one of: {', '.join(str(v) for v in sorted(used) if v < in_use) or 'none'}",
        )
    return releases.command("rollback", version, signer=signer, reason=reason)


def gate_config(releases: Releases) -> GateConfig:
    """Read ``releases.toml``, or take the defaults."""
    path = releases.folder / "releases.toml"
    return load_toml(path, GateConfig) if path.exists() else GateConfig()


def _reference(releases: Releases) -> Backbone:
    """Return the backbone in use, or the one that easel ships."""
    return load_backbone(releases.release(releases.in_use).weights) if releases.in_use else default_backbone()


def _spent(candidate: Candidate, releases: Releases) -> tuple[float | None, float]:
    """Add up epsilon and delta over this run and all that were ever released here (basic composition).

    Whoever keeps every release sees all of them, whichever of them these weights descend from; of each run, its most
    expensive release counts.
    """
    runs: dict[str, tuple[float | None, float]] = {candidate.run: (candidate.epsilon, candidate.delta)}
    for version in releases.versions():
        manifest = releases.release(version).manifest
        epsilon, delta = runs.get(manifest.run, (0.0, 0.0))
        most = None if epsilon is None or manifest.epsilon is None else max(epsilon, manifest.epsilon)
        runs[manifest.run] = (most, max(delta, manifest.delta))
    parts = [epsilon for epsilon, _ in runs.values()]
    total = None if None in parts else sum(part for part in parts if part is not None)
    return total, sum(delta for _, delta in runs.values())


def _file(candidate: Candidate) -> bytes:
    """Return the weights file."""
    with TemporaryDirectory() as folder:
        path = save_backbone(Path(folder) / "backbone.safetensors", candidate.backbone)
        return read_bytes(path, limit=MAX_WEIGHTS)
