"""Noise from keys: the same again, uncorrelated once undone, never from a seed."""

import os

import numpy as np
import pytest
import torch
from scipy import stats

from shared_model.correlated import KEY_BYTES, correlated_normal, key_stream, new_key
from shared_model.errors import PrivacyError
from shared_model.factorization import factor, inverse
from shared_model.noise import secure_normal

KEYS = [bytes([number]) * KEY_BYTES for number in range(1, 6)]
GOLDEN = [1.0736284852027893, 1.4244226217269897, -0.08600455522537231, 1.6460263133049011, 1.1938281059265137]


def test_the_stream_is_chacha20_of_the_standard() -> None:
    """RFC 8439, A.1, test vector 1: key, counter and nonce of zeros."""
    assert key_stream(bytes(32))(16).hex() == "76b8e0ada0f13d90405d6ae55386bd28"


def test_a_stream_goes_on_and_starts_again() -> None:
    stream = key_stream(KEYS[0])
    first, second = stream(1000), stream(24)
    assert key_stream(KEYS[0])(1024) == first + second
    assert key_stream(KEYS[1])(1000) != first


def test_keys_come_from_the_operating_system_and_differ() -> None:
    torch.manual_seed(0)
    np.random.default_rng(0)
    first = new_key()
    torch.manual_seed(0)
    assert len(first) == KEY_BYTES
    assert new_key() != first
    assert new_key(entropy=lambda count: b"k" * count) == b"k" * KEY_BYTES
    assert new_key.__kwdefaults__ == {"entropy": os.urandom}


def test_expansion_never_changes_since_states_on_disk_rely_on_it() -> None:
    """If this fails, runs with correlated noise cannot be resumed: raise server.state.FORMAT."""
    drawn = secure_normal((5,), std=1.0, entropy=key_stream(KEYS[0]))
    assert drawn.tolist() == pytest.approx(GOLDEN, abs=1e-12)


def test_undoing_the_correlation_gives_fresh_noise_of_the_stated_size() -> None:
    size, std, rounds = 40_000, 3.0, len(KEYS)
    lags = inverse(rounds)
    rows = [correlated_normal(KEYS[: t + 1], lags, shape=(size,), std=std) for t in range(rounds)]
    column = factor(rounds)
    for t in range(rounds):
        fresh = sum(column[t - j] * rows[j] for j in range(t + 1))
        assert torch.allclose(fresh, secure_normal((size,), std=std, entropy=key_stream(KEYS[t])), atol=1e-8)
        assert stats.kstest(fresh.numpy() / std, "norm").pvalue > 1e-6
    found = np.cov(torch.stack(rows).numpy()) / std**2
    matrix = np.array([[lags[i - j] if i >= j else 0.0 for j in range(rounds)] for i in range(rounds)])
    assert np.allclose(found, matrix @ matrix.T, atol=0.03)


def test_later_rounds_take_noise_back() -> None:
    keys = [new_key() for _ in range(30)]
    lags = inverse(30)
    rows = torch.stack([correlated_normal(keys[: t + 1], lags, shape=(2000,), std=1.0) for t in range(30)])
    assert float(rows.sum(0).std()) < 1.8 < np.sqrt(30) / 3


def test_without_noise_nothing_is_expanded_and_shapes_are_kept() -> None:
    assert not correlated_normal([b"not a key"], inverse(1), shape=(3, 2), std=0.0).any()
    assert correlated_normal(KEYS[:1], inverse(4), shape=(3, 2), std=1.0).shape == (3, 2)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([], "0 noise keys"),
        (KEYS, "5 noise keys for 4"),
        ([KEYS[0], KEYS[0]], "same noise key"),
        ([b"short"], "32 bytes"),
    ],
)
def test_wrong_keys_are_refused(keys: list[bytes], message: str) -> None:
    with pytest.raises(PrivacyError, match=message):
        correlated_normal(keys, inverse(4), shape=(2,), std=1.0)
