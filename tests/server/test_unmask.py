"""Who shares secrets with whom, and that wrong shares and keys are told from right ones."""

import os
import random

import numpy as np
import pytest
from flwr.common.secure_aggregation.crypto.shamir import create_shares
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from hypothesis import given
from hypothesis import strategies as st

from server import unmask as module
from server.config import FederationConfig
from server.secure import check_secure, secure_terms
from server.unmask import Member, check_primitives, is_key, neighborhoods, share_fits, unmask
from shared_model.errors import ConfigError, MissingError, PrivacyError
from shared_model.secure_sum import commitment, expand
from shared_model.secure_terms import SecureTerms, threshold


@given(st.integers(3, 60), st.sampled_from([0, 4, 6, 10]), st.integers(0, 2**32))
def test_neighborhoods_are_mutual_and_as_large_as_wanted(count: int, neighbors: int, seed: int) -> None:
    groups = neighborhoods(count, neighbors=neighbors, shuffle=random.Random(seed).shuffle)
    wanted = count if neighbors == 0 or neighbors >= count - 1 else neighbors + 1
    for index, group in enumerate(groups):
        assert len(group) == len(set(group)) == wanted
        assert index in group
        assert list(group) == sorted(group)
        assert all(index in groups[other] for other in group)


@given(st.integers(3, 1000))
def test_more_than_half_of_the_holders_are_needed(holders: int) -> None:
    assert holders / 2 < threshold(holders) <= holders
    assert threshold(3) == 2


def member(seed: bytes, holders: int = 5, context: str = "c") -> Member:
    shares = create_shares(seed, threshold(holders), holders)
    group = tuple(range(holders))
    return Member(
        0,
        b"",
        b"",
        holders=group,
        promise=commitment(seed, context=context),
        shares=dict(zip(group, shares, strict=True)),
    )


def test_a_seed_is_restored_from_enough_right_shares_and_no_others() -> None:
    seed = os.urandom(32)
    total = expand(seed, "c/self", size=16)
    right = member(seed)
    assert not unmask(total, {0: right}, [0], context="c").any()
    lied = member(seed)
    lied.shares[1] = lied.shares[1][:4] + bytes(48)
    assert not unmask(total, {0: lied}, [0], context="c").any()
    few = member(seed)
    few.shares = {index: few.shares[index] for index in range(threshold(5) - 1)}
    assert unmask(total, {0: few}, [0], context="c") is None
    other = member(seed)
    other.promise = commitment(os.urandom(32), context="c")
    assert unmask(total, {0: other}, [0], context="c") is None


def test_shares_have_one_size_and_the_holders_number() -> None:
    one = member(os.urandom(32))
    assert share_fits(one, 2, one.shares[2], arrived=True)
    assert not share_fits(one, 1, one.shares[2], arrived=True)
    assert not share_fits(one, 2, one.shares[2], arrived=False)
    assert not share_fits(one, 9, one.shares[2], arrived=True)


def test_keys_from_outside_are_checked() -> None:
    assert is_key(public_key_to_bytes(generate_key_pairs()[1]))
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    assert not is_key(public_key_to_bytes(ec.generate_private_key(ec.SECP256R1()).public_key()))
    assert not is_key(public_key_to_bytes(rsa.generate_private_key(65537, 2048).public_key()))  # type: ignore[arg-type]
    assert not is_key(b"")
    assert not is_key(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")


def test_missing_primitives_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import client.secure

    monkeypatch.setitem(__import__("sys").modules, "flwr.common.secure_aggregation.crypto", None)
    with pytest.raises(MissingError, match="not installed") as found:
        check_primitives()
    assert found.value.hint == "pip install 'easel[server]'"
    with pytest.raises(MissingError, match="not installed"):
        client.secure._flower()


def test_a_cohort_that_does_not_fit_is_refused_with_numbers() -> None:
    config = FederationConfig(cohort=50_000, noise_multiplier=1.0, secure_aggregation=True)
    with pytest.raises(PrivacyError, match=r"50000 devices are too many .* of 630000 numbers"):
        check_secure(config, size=630_000, std=1.0)
    check_secure(FederationConfig(secure_aggregation=True), size=630_000, std=1.0)
    check_secure(FederationConfig(cohort=50_000), size=630_000, std=1.0)


def test_noise_shares_are_sized_for_the_quorum_without_the_colluding() -> None:
    config = FederationConfig(cohort=1000, quorum=0.8, secure_aggregation=True, secure_collusion=0.25)
    terms = secure_terms(config, asked=1000, std=2.0)
    assert terms is not None
    assert (terms.needed, terms.colluding) == (800, 200)
    assert terms.share_std == pytest.approx(2.0 / 600**0.5)
    assert secure_terms(config, asked=799, std=2.0) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attempt": "short"}, "attempt"),
        ({"attempt": "../../../etc/passwd"}, "attempt"),
        ({"needed": 2}, "3 devices or more"),
        ({"needed": 11}, "3 devices or more"),
        ({"colluding": 4}, "nobody to hide among"),
        ({"colluding": -1}, "nobody to hide among"),
        ({"sum_noise": float("inf")}, "sum_noise"),
        ({"sum_noise": "1"}, "sum_noise"),
        ({"extra": 1}, "unknown key"),
    ],
)
def test_terms_out_of_range_are_refused(changes: dict[str, object], message: str) -> None:
    values = {"attempt": "0123456789abcdef", "capacity": 10, "needed": 5, "colluding": 1, "sum_noise": 1.0}
    SecureTerms.from_values(values)
    with pytest.raises(ConfigError, match=message):
        SecureTerms.from_values({**values, **changes})


def test_dropping_a_devices_masks_needs_its_real_key() -> None:
    private, public = generate_key_pairs()
    scalar = private.private_numbers().private_value.to_bytes(48, "big")
    seed = os.urandom(32)
    survivor = member(seed, 3)
    lost = Member(1, public_key_to_bytes(public), b"", holders=(0, 1, 2))
    survivor.mask_key = public_key_to_bytes(generate_key_pairs()[1])
    lost.shares = dict(enumerate(create_shares(scalar, 2, 3)))
    total = np.zeros(4, np.uint32)
    assert unmask(total, {0: survivor, 1: lost}, [0], context="c") is not None
    lost.mask_key = public_key_to_bytes(generate_key_pairs()[1])
    assert unmask(total, {0: survivor, 1: lost}, [0], context="c") is None
    assert module.threshold(3) == 2
