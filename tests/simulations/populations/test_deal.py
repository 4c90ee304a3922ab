"""Who gets which pictures: nothing twice, nothing held out, and each kind is uneven as it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import ConfigError, InputError
from simulations.populations.config import KINDS, ChurnConfig, PopulationConfig
from simulations.populations.deal import Deal, deal, quantities
from simulations.populations.sources import Group, Sources
from simulations.populations.statistics import entropy_bits, gini, skew, statistics


def sources(*, styles: int = 6, works: int = 8, photos: int = 60, domains: int = 1) -> Sources:
    def files(kind: str, count: int) -> tuple[Path, ...]:
        return tuple(Path(f"/{kind}/{number}.png") for number in range(count))

    return Sources(
        tuple(Group(f"place {at}", files(f"place{at}", photos // domains)) for at in range(domains)),
        tuple(Group(f"style {at}", files(f"style{at}", works)) for at in range(styles)),
        files("held_photos", 3),
        files("held_art", 3),
    )


@settings(max_examples=30)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(0, 2),
    st.integers(0, 99),
    st.sampled_from([1, 3]),
)
def test_nobody_gets_what_another_has_or_what_is_held_out(
    kind: str, devices: int, photos: int, art: int, tests: int, seed: int, domains: int
) -> None:
    config = PopulationConfig(
        kind=kind, devices=devices, photos_each=photos, art_each=art, test_photos=tests, seed=seed
    )
    dealt = deal(sources(domains=domains), config)
    owned = [
        path for share in dealt.shares for path in (*share.photos, *share.art, *share.test_photos, *share.test_art)
    ]
    assert len(owned) == len(set(owned))
    assert not set(owned) & {*dealt.held_photos, *dealt.held_art}
    for share in dealt.shares:
        assert share.photos and share.art and len(share.styles) == len(share.art)
        assert len(share.test_photos) == tests
    assert dealt == deal(sources(domains=domains), config)
    if kind != "quantity" and devices * (photos + tests) <= 60 // domains:
        assert {len(share.photos) for share in dealt.shares} == {photos}


def test_one_hand_a_device_is_as_skewed_as_can_be() -> None:
    dealt = deal(sources(), PopulationConfig(kind="natural", devices=6))
    counted = statistics(dealt.shares)
    assert counted.entropy_bits == 0.0 and counted.styles == 6
    assert counted.skew > counted.skew_even + 0.1
    with pytest.raises(InputError, match="6 hands are left for 7"):
        deal(sources(), PopulationConfig(kind="natural", devices=7))


def test_a_small_alpha_is_skewed_and_a_large_one_is_not() -> None:
    def skewed(alpha: float) -> float:
        config = PopulationConfig(kind="dirichlet", devices=8, art_each=5, alpha=alpha, test_records=0)
        return statistics(deal(sources(styles=4, works=40), config).shares).skew

    assert skewed(0.05) > 0.6 > 0.45 > skewed(1000.0)


def test_quantities_keep_their_sum_and_are_skewed() -> None:
    config = PopulationConfig(kind="quantity", devices=8, photos_each=10, alpha=0.3, seed=1)
    sizes = quantities(config)
    assert sum(sizes) == 80 and min(sizes) >= 1 and gini(sizes) > 0.3
    even = PopulationConfig(kind="quantity", devices=8, photos_each=10, alpha=1e6)
    assert gini(quantities(even)) < 0.05
    dealt = deal(sources(photos=200), config)
    assert [len(share.photos) for share in dealt.shares] == list(sizes)
    assert all(share.records == max(2, round(12 * len(share.photos) / 10)) for share in dealt.shares)


def test_domains_are_folders_or_else_kinds_of_light() -> None:
    config = PopulationConfig(kind="domain", devices=4, photos_each=4, domains=3)
    lights = [share.light for share in deal(sources(), config).shares]
    assert lights == ["day", "dusk", "fog", "day"]
    shares = deal(sources(domains=2), config).shares
    assert [share.domain for share in shares] == ["place 0", "place 1"] * 2 or [s.domain for s in shares] == [
        "place 1",
        "place 0",
    ] * 2
    assert all({path.parent.name for path in s.photos} == {s.domain.replace(" ", "")} for s in shares)
    assert {share.light for share in shares} == {"day"}


def test_too_few_pictures_are_named() -> None:
    with pytest.raises(InputError, match="4 photos are left for 6"):
        deal(sources(photos=4), PopulationConfig(kind="iid", devices=6))
    with pytest.raises(InputError, match="2 artworks are left for 6"):
        deal(sources(styles=1, works=2), PopulationConfig(kind="iid", devices=6))


def test_a_hand_with_one_work_tests_on_new_photos_alone() -> None:
    dealt: Deal = deal(sources(works=1), PopulationConfig(kind="natural", devices=3, photos_each=3))
    counted = statistics(dealt.shares)
    assert (counted.own_tests, counted.borrowed_tests) == (0, 3)


def test_numbers_of_unevenness() -> None:
    assert entropy_bits("aabb") == 1.0 and entropy_bits("a") == 0.0
    assert skew(["ab", "ba"]) == 0.0 and skew(["aa", "bb"]) == 0.5
    assert gini([1, 1]) == 0.0 and gini([0, 0, 0, 9]) == 0.75


@pytest.mark.parametrize(
    "wrong", [{"kind": "odd"}, {"devices": 0}, {"alpha": 0.0}, {"record_px": 50}, {"domains": 9}, {"seed": -1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        PopulationConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="availability"):
        ChurnConfig(availability="sometimes")
