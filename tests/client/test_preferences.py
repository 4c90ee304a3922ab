from __future__ import annotations

import dataclasses
import json
import math
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.preferences import KNOBS, MAX_ANSWERS, Answer, Manner, Preferences
from shared_model.errors import InputError, StorageError

Utility = Callable[[Manner], float]
CHOICES, OWNERS, NOISE = 15, 40, 0.35


def place(manner: Manner) -> NDArray[np.float64]:
    return np.array([knob.encode(float(getattr(manner, knob.name))) for knob in KNOBS])


def owner(seed: int, *, near: bool = False) -> Utility:
    """A hidden taste: an ideal setting, knobs that matter more or less, and knobs that act together.

    Utilities over all settings have a standard deviation of about 0.7; ``near``: the ideal is close to the defaults.
    """
    rng = np.random.default_rng(seed)
    count = len(KNOBS)
    ideal = np.clip(place(Manner()) + 0.2 * rng.normal(size=count), 0, 1) if near else rng.random(count)
    ideal[2] = round(float(ideal[2]))
    weights, together = rng.dirichlet(np.ones(count)), 0.15 * rng.normal(size=(count, count))

    def utility(manner: Manner) -> float:
        away = place(manner) - ideal
        return float(-6 * (weights * away**2).sum() - np.square(away @ together).sum())

    return utility


def learn(utility: Utility, *, seed: int, choices: int = CHOICES, noise: float = NOISE) -> Preferences:
    """Let an owner choose among four candidates again and again, with noisy judgement (Gumbel)."""
    rng = np.random.default_rng(seed)
    known = Preferences(partner="other")
    for _ in range(choices):
        shown = known.propose(4, seed=seed)
        felt = [utility(manner) + noise * rng.gumbel() for manner in shown]
        known = known.choose(shown, (int(np.argmax(felt)),))
    return known


def wilson(wins: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share."""
    share, spread = wins / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return middle - half, middle + half


def test_after_fifteen_choices_the_suggestion_beats_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    gains = []
    for seed in range(OWNERS):
        utility = owner(seed)
        gains.append(utility(learn(utility, seed=seed).best()) - utility(Manner()))
    wins = sum(gain > 0 for gain in gains)
    low, high = wilson(wins, OWNERS)
    with capsys.disabled():
        print(f"\n  {wins} of {OWNERS} simulated owners like the suggestion better ({low:.2f} to {high:.2f})")
    assert low > 0.75, gains
    assert float(np.median(gains)) > 0.5  # in units of which judgement has a noise of 0.35 x 1.28


def test_owners_who_like_the_defaults_lose_little() -> None:
    losses = []
    for seed in range(8):
        utility = owner(100 + seed, near=True)
        losses.append(utility(Manner()) - utility(learn(utility, seed=seed).best()))
    assert max(losses) < 0.6 and float(np.mean(losses)) < 0.15, losses


def test_random_answers_teach_nothing_with_confidence() -> None:
    confidence = [learn(lambda manner: 0.0, seed=seed, noise=1.0).confidence() for seed in range(4)]
    assert all(0.0 <= value <= 0.995 for value in confidence)


def test_what_is_liked_every_time_is_learned() -> None:
    known = learn(lambda manner: 8 * float(manner.keep_color) - 8 * manner.detail, seed=0, noise=0.01)
    best = known.best()
    assert best.keep_color and best.detail < 0.3
    assert known.confidence() > 0.9


def test_same_state_and_seed_propose_the_same_and_another_seed_others() -> None:
    known = learn(owner(3), seed=3, choices=4)
    again = Preferences(answers=known.answers, partner=known.partner)
    assert known.propose(4, seed=5) == again.propose(4, seed=5)
    assert known.propose(4, seed=5) != known.propose(4, seed=6)
    assert known.best() == again.best()


@pytest.mark.parametrize("count", [2, 4, 12])
def test_candidates_differ_and_the_first_is_the_best_guess(count: int) -> None:
    fresh = Preferences()
    shown = fresh.propose(count)
    assert len(set(shown)) == count and shown[0] == Manner()
    assert all(manner.share == 0 for manner in shown), "no partner, nothing to mix in"
    places = np.array([place(manner) for manner in shown])
    apart = np.sqrt(np.square(places[:, None] - places[None]).mean(2)) + np.eye(count)
    assert apart.min() > 0.08


def test_a_partner_is_tried_in_shares() -> None:
    shown = Preferences(partner="other").propose(6)
    assert len({manner.share for manner in shown}) > 2
    assert all(0 <= manner.share <= 0.7 for manner in shown)


def test_the_state_is_never_changed_in_place() -> None:
    known = Preferences()
    shown = known.propose(3)
    after = known.choose(shown, (2, 0))
    assert known == Preferences() and len(after.answers) == 1
    assert after.answers[0] == Answer(shown, (2, 0))


@pytest.mark.parametrize("order", [(), (4,), (-1,), (1, 1)])
def test_senseless_choices_are_refused(order: tuple[int, ...]) -> None:
    known = Preferences()
    with pytest.raises(InputError):
        known.choose(known.propose(4), order)


@pytest.mark.parametrize("count", [1, 13])
def test_too_few_or_too_many_candidates_are_refused(count: int) -> None:
    with pytest.raises(InputError):
        Preferences().propose(count)


def test_old_choices_make_room() -> None:
    known = Preferences()
    shown = known.propose(2)
    for _ in range(MAX_ANSWERS + 3):
        known = known.choose(shown, (0,))
    assert len(known.answers) == MAX_ANSWERS


# --- the file -----------------------------------------------------------------------------------


def test_what_is_saved_comes_back_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "preferences" / "oil.json"
    assert Preferences.load(path) == Preferences()
    known = learn(owner(1), seed=1, choices=2)
    known = dataclasses.replace(known, pending=known.propose(3), defaults=known.best())
    known.save(path)
    assert Preferences.load(path) == known
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(st.binary(max_size=200))
def test_garbage_is_a_damaged_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("p") / "oil.json"
    path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        Preferences.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "easel-preferences-9"},
        {"partner": 7},
        {"partner": "x" * 65},
        {"answers": 3},
        {"answers": [{"shown": [], "order": [0]}]},
        {"answers": [{"shown": [{"strength": 2.0}, {}], "order": [0]}]},
        {"answers": [{"shown": [{}, {}], "order": [5]}]},
        {"pending": [{"unknown": 1}]},
        {"pending": [{}] * 50},
        {"defaults": {"brush": float("nan")}},
        {"defaults": []},
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "oil.json"
    known = Preferences()
    known.choose(known.propose(2), (1,)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StorageError, match="damaged"):
        Preferences.load(path)


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "oil.json"
    path.write_text("[" * 100_000)
    with pytest.raises(StorageError, match="damaged"):
        Preferences.load(path)
