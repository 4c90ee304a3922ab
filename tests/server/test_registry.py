"""The registry of releases, the gate and the orders: crashes, edits, refusals with their numbers."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from server import candidate
from server.allowance import Allowance, Limits
from server.candidate import Candidate, create, from_public, from_run, promote, rollback
from server.cli import main
from server.config import FederationConfig
from server.registry import LOG, Releases
from server.state import RoundState, StateStore
from server.trial import Pair, Trial
from server.verdict import GateConfig, objections
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig, ModelConfig, to_dict
from shared_model.errors import ConfigError, InputError, MissingError, ReleaseError, StorageError
from shared_model.head import Head
from shared_model.images import to_uint8
from shared_model.metrics import Painting
from shared_model.release_manifest import Manifest
from shared_model.samples import sample_photos
from shared_model.signatures import Signer, verify
from shared_model.split import flatten, unflatten
from shared_model.weights import architecture_hash, save_backbone

TINY = ModelConfig(width=8, blocks=1, code_dim=8, encoder_width=4, critic_width=4)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SIGNER = Signer.new()
GOOD = {"quality": 0.8, "content": 0.8, "style": 0.8, "checker_db": 1.0, "finite": 1.0}


class Figures:
    """Stands in for the trial: says one thing of the candidate, then another of the parent."""

    def __init__(self, own: dict[str, float], parent: dict[str, float]) -> None:
        self._answers = [own, parent]

    def measure(self, backbone: Backbone) -> dict[str, float]:
        return dict(self._answers.pop(0))


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Releases:
    path = save_backbone(tmp_path / "shipped.safetensors", Backbone(TINY))
    monkeypatch.setattr("shared_model.weights.default_backbone_path", lambda: path)
    return Releases(tmp_path / "releases", clock=lambda: NOW)


def made(releases: Releases, seed: int = 1, *, run: str = "c" * 12, epsilon: float | None = 1.0, **own: float) -> int:
    what = Candidate(Backbone(TINY, seed=seed), run, seed, "user", epsilon, 1e-7)
    trial: Any = Figures(GOOD | own, GOOD)
    return create(what, releases, signer=SIGNER, now=NOW, trial=trial).manifest.version


def used(releases: Releases, version: int) -> None:
    promote(releases, version, signer=SIGNER)


def test_releases_are_numbered_signed_and_not_in_use_until_promoted(releases: Releases) -> None:
    assert (releases.versions(), releases.in_use, releases.log()) == ([], 0, [])
    assert made(releases) == 1
    release = releases.release(1)
    assert verify(release.signed, kind="manifest", public=SIGNER.public) == release.signed.body
    assert (release.manifest.parent, releases.in_use) == (0, 0)
    with pytest.raises(MissingError, match="no release was promoted"):
        releases.offer()
    used(releases, 1)
    assert made(releases, 2) == 2
    assert (releases.in_use, releases.release(2).manifest.parent) == (1, 1)
    with pytest.raises(MissingError, match="no release 3"):
        releases.release(3)
    assert releases.folder.stat().st_mode & 0o077 == 0


def test_orders_are_numbered_over_promotions_and_rollbacks(releases: Releases) -> None:
    for seed in (1, 2):
        used(releases, made(releases, seed))
    order = rollback(releases, 1, signer=SIGNER, reason="faces look wrong")
    assert (order.sequence, order.action, order.version, order.previous) == (3, "rollback", 1, 2)
    assert releases.in_use == 1
    used(releases, 2)  # mended elsewhere: it was compared with 1, which is in use again
    assert releases.in_use == 2
    made(releases, 3)
    for version in (3, 2, 7):
        with pytest.raises(InputError, match="not one that was in use before"):
            rollback(releases, version, signer=SIGNER)
    assert [entry["event"] for entry in releases.log()].count("ordered") == 4


def test_a_torn_line_and_a_half_made_release_are_swept(releases: Releases) -> None:
    used(releases, made(releases))
    log = releases.folder / LOG
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"n": 3, "event": "ordered", "ord')
    (releases.folder / ".new-left").mkdir()
    assert releases.in_use == 1
    made(releases, 2)
    assert log.read_bytes().startswith(whole)
    assert [entry["n"] for entry in releases.log()] == [1, 2, 3]
    assert not list(releases.folder.glob(".new-*"))


@pytest.mark.parametrize("line", [0, 1])
def test_an_edited_log_is_noticed(releases: Releases, line: int) -> None:
    used(releases, made(releases))
    used(releases, made(releases, 2))
    lines = (releases.folder / LOG).read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"2026", b"2025", 1)
    (releases.folder / LOG).write_bytes(b"".join(lines))
    with pytest.raises(StorageError, match=f"line {line + 2} is damaged or was edited"):
        releases.order()
    (releases.folder / LOG).write_bytes(b"".join(lines[1:]))
    with pytest.raises(StorageError, match="line 1"):
        releases.order()


def test_damaged_weights_are_not_promoted(releases: Releases) -> None:
    version = made(releases)
    path = releases.release(version).weights
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ReleaseError, match="damaged"):
        used(releases, version)
    assert releases.in_use == 0


def test_the_gate_refuses_with_numbers_and_says_so_in_the_log(releases: Releases) -> None:
    version = made(releases, quality=0.79, checker_db=3.5, epsilon=9.0)
    with pytest.raises(ReleaseError) as caught:
        used(releases, version)
    assert caught.value.reason == "gate"
    for words in ("0.7900 is below the parent's 0.8000", "3.50 dB", "epsilon 9 over all runs, the budget is 8"):
        assert words in caught.value.message
    assert releases.in_use == 0
    assert releases.log()[-1]["event"] == "refused"
    assert "0.7900" in releases.log()[-1]["why"]


def manifest(**changes: Any) -> Manifest:
    figures = GOOD | {"parent_quality": 0.8} | changes.pop("evaluation", {})
    base = Manifest(
        version=3,
        parent=2,
        backbone="b" * 12,
        architecture="a" * 12,
        run="c" * 12,
        round=1,
        unit="user",
        epsilon=1.0,
        delta=1e-7,
        total_epsilon=2.0,
        total_delta=1e-7,
        sha256="0" * 64,
        size=1000,
        created=NOW.isoformat(),
        evaluation=figures,
    )
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"evaluation": {"quality": 0.8001}}, ""),
        ({"evaluation": {"quality": 0.7999}}, "quality 0.7999 is below the parent's 0.8000"),
        ({"evaluation": {"checker_db": 3.0}}, ""),
        ({"evaluation": {"checker_db": 3.01}}, "grid artifacts of 3.01 dB, allowed 3 dB"),
        ({"evaluation": {"finite": 0.0}}, "no numbers"),
        ({"total_epsilon": None}, "epsilon is unbounded"),
        ({"total_epsilon": 8.0}, ""),
        ({"total_epsilon": 8.01}, "epsilon 8.01 over all runs, the budget is 8"),
        ({"total_delta": 2e-5}, "delta 2e-05 over all runs"),
        ({"architecture": "d" * 12}, "its networks are dddddddddddd"),
        ({"size": 65 << 20}, "devices take"),
        ({"version": 2, "parent": 1}, ""),
        ({"version": 1, "parent": 0}, "version 1 is older than 2"),
        ({"parent": 1}, "compared with version 1, but 2 is in use"),
    ],
)
def test_each_objection(changes: dict[str, Any], words: str) -> None:
    found = objections(manifest(**changes), GateConfig(), in_use=2, architecture="a" * 12)
    assert (len(found) == 1 and words in found[0]) if words else not found


def test_what_was_never_tried_is_not_promoted() -> None:
    bare = replace(manifest(), evaluation={"finite": 1.0})
    assert objections(bare, GateConfig(), in_use=2, architecture="a" * 12) == ["it was never tried"]


def test_limits_come_from_a_file_and_have_limits(releases: Releases) -> None:
    version = made(releases, epsilon=3.0, quality=0.79)
    (releases.folder / "releases.toml").write_text("max_epsilon = 2.5\nquality_tolerance = 0.02\n")
    with pytest.raises(ReleaseError, match=r"epsilon 3 over all runs, the budget is 2\.5") as caught:
        used(releases, version)
    assert "quality" not in caught.value.message
    (releases.folder / "releases.toml").write_text("max_epsilon = 3.0\nquality_tolerance = 0.02\n")
    used(releases, version)
    for wrong in ("force = true", "quality_tolerance = 0.06", "max_checker_db = 13.0", "max_delta = 0.1"):
        (releases.folder / "releases.toml").write_text(wrong)
        with pytest.raises(ConfigError):
            used(releases, version)


def test_epsilon_adds_up_over_runs_and_not_over_rounds_of_one(releases: Releases) -> None:
    totals = []
    for run, epsilon in (("c" * 12, 1.0), ("c" * 12, 1.5), ("d" * 12, 2.0), ("c" * 12, 1.7), ("e" * 12, None)):
        totals.append(releases.release(made(releases, run=run, epsilon=epsilon)).manifest.total_epsilon)
    assert totals == [1.0, 1.5, 3.5, 3.7, None]


def test_a_release_of_a_run_states_what_the_run_has_spent(
    releases: Releases, tmp_path: Path, config: FederationConfig, backbone: Backbone
) -> None:
    state = RoundState(
        run="f" * 12,
        round=1,
        reserved=2,  # the second round is charged already
        config=to_dict(config),
        model=TINY,
        architecture=architecture_hash(TINY),
        noise_multiplier=1.5,
        backbone=flatten(backbone),
        moments={},
        clip=0.5,
    )
    store = StateStore(tmp_path / "run")
    with pytest.raises(MissingError, match="no finished round"):
        from_run(tmp_path / "run")
    store.save(state)
    found = from_run(tmp_path / "run")
    assert (found.run, found.round, found.unit) == ("f" * 12, 1, "user")
    # A simulation's own epsilon, not that of the fleet it stands for.
    assert found.epsilon is None or found.epsilon > 8
    trial: Any = Figures(GOOD, GOOD)
    release = create(found, releases, signer=SIGNER, now=NOW, trial=trial)
    with pytest.raises(ReleaseError, match="the budget is 8"):
        used(releases, release.manifest.version)


def test_public_weights_cost_nothing_and_fleet_weights_are_not_public(releases: Releases, tmp_path: Path) -> None:
    path = save_backbone(tmp_path / "b.safetensors", Backbone(TINY, seed=5))
    trial: Any = Figures(GOOD, GOOD)
    release = create(from_public(path), releases, signer=SIGNER, now=NOW, trial=trial)
    assert (release.manifest.unit, release.manifest.total_epsilon, release.manifest.run) == ("public", 0.0, "")
    path = save_backbone(tmp_path / "f.safetensors", Backbone(TINY, seed=5), manifest={"run": "f" * 12})
    with pytest.raises(InputError, match="federated run"):
        from_public(path)


def small_trial() -> Trial:
    photo, art = sample_photos()[0][:, :, :96, :96], sample_photos()[1][:, :, :96, :96]
    config = HeadConfig(canvas_px=48, levels=2, patch=5, atoms=16, components=4, candidates=64)
    return Trial((Pair(photo, art, Painting.of(to_uint8(art)), Head.fit([art], config=config)),))


def test_the_trial_repeats_and_sees_what_is_no_picture(backbone: Backbone) -> None:
    trial = small_trial()
    first = trial.measure(backbone)
    assert first == trial.measure(backbone)
    assert first["finite"] == 1.0 and 0.0 <= first["quality"] <= 1.0
    unflatten(backbone, torch.full_like(flatten(backbone), 3e38))
    broken = trial.measure(backbone)
    assert (broken["finite"], broken["quality"]) == (0.0, 0.0)


def test_the_embedded_trial_is_there() -> None:
    from shared_model.assets import find_asset
    from shared_model.images import load_picture

    assert load_picture(find_asset("data/paintings.jpg")).rgb.shape == (320, 1280, 3)


def test_buckets_fill_up_with_time_and_never_over() -> None:
    time = [0.0]
    allowance = Allowance(Limits(calls=2, calls_per_s=0.5, bytes=100, bytes_per_s=10, streams=1), clock=lambda: time[0])
    assert [allowance.call("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    assert allowance.call("b") == 0.0
    time[0] = 1000.0
    assert [allowance.call("a") for _ in range(3)] == [0.0, 0.0, 2.0]
    assert [allowance.take("a", 150), allowance.take("a", 1)] == [0.0, 5.1]
    assert allowance.begin("a") and not allowance.begin("a")
    allowance.end("a")
    assert allowance.begin("a")
    with pytest.raises(ConfigError):
        Limits(calls=0)


def test_the_command_line(
    releases: Releases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    SIGNER.save(tmp_path / "signing.key")
    monkeypatch.setattr("server.trial.Trial", lambda: Figures(GOOD, GOOD))
    weights = save_backbone(tmp_path / "b.safetensors", Backbone(TINY, seed=5))
    folder = ["--folder", str(tmp_path), "--json"]

    def call(*words: str) -> tuple[int, Any, str]:
        code = main(["release", *words, *folder])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    for version in (1, 2):
        assert call("create", "--public", str(weights))[1]["version"] == version
        assert call("promote", str(version))[1]["sequence"] == version
    assert call("rollback", "1", "--reason", "grain")[1]["action"] == "rollback"
    code, facts, _ = call("list")
    assert (code, facts["in_use"], len(facts["releases"]), facts["order"]["reason"]) == (0, 1, 2, "grain")
    assert call("show", "2")[1]["evaluation"]["quality"] == 0.8
    assert call("show", "9")[0] == 3
    assert main(["release", "list", "--folder", str(tmp_path)]) == 0
    assert "in use" in capsys.readouterr().out
    monkeypatch.setattr("server.trial.Trial", lambda: Figures(GOOD | {"quality": 0.5}, GOOD))
    call("create", "--public", str(weights))
    code, facts, err = call("promote", "3")
    assert (code, facts) == (7, None) and "quality 0.5000 is below" in err
    with pytest.raises(SystemExit):
        main(["release", "promote", "3", "--force", *folder])
    assert candidate.gate_config(releases) == GateConfig()
