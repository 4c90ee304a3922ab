"""Noise that must be drawn again later: a random key per round, expanded by a stream cipher.

Correlated noise (:mod:`shared_model.factorization`) needs the noise vectors of all earlier rounds.
Keeping them would take rounds times model; a key of 32 bytes per round takes nothing, and ChaCha20
(Bernstein 2008; RFC 8439) turns it into as many random bytes as the vector needs, the same ones
every time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared_model.errors import MissingError, PrivacyError
from shared_model.noise import Entropy, secure_normal

__all__ = ["KEY_BYTES", "correlated_normal", "key_stream", "new_key"]

KEY_BYTES = 32


def new_key(*, entropy: Entropy = os.urandom) -> bytes:
    """Draw the key of one round from the operating system."""
    return entropy(KEY_BYTES)


def key_stream(key: bytes) -> Entropy:
    """Return a source of random bytes that depends on the key alone; it goes on where it stopped.

    Guarantees
    ----------
    The same key gives the same bytes on every machine. To whoever does not know the key they
    cannot be told from random ones (ChaCha20).

    Assumes
    -------
    A key comes from :func:`new_key`, is secret, and belongs to ONE noise vector of one run.

    Edge cases
    ----------
    256 GiB is the end of a stream; a vector of 20 million numbers takes less than one.

    Raises
    ------
    PrivacyError
        If the key is not 32 bytes long.
    MissingError
        If the package cryptography is not installed.
    """
    if len(key) != KEY_BYTES:
        raise PrivacyError(f"a noise key has {KEY_BYTES} bytes, not {len(key)}")
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
    except ImportError as error:
        raise MissingError(
            "correlated noise needs the package cryptography", hint="pip install cryptography"
        ) from error
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return lambda count: encryptor.update(bytes(count))


def correlated_normal(
    keys: Sequence[bytes], lags: npt.NDArray[np.float64], *, shape: Sequence[int], std: float
) -> Tensor:
    """Return the noise of the newest round: ``std * sum_j lags[j] * z(keys[-1 - j])``.

    Guarantees
    ----------
    ``std * z(key)`` is the vector of :func:`shared_model.noise.secure_normal` drawn from the key's
    stream, always the same one, so the releases of all rounds fit together after any number of
    restarts. Memory is that of two vectors; time grows with the number of rounds so far.

    Assumes
    -------
    ``keys`` holds the key of every round so far, oldest first, skipped rounds included; ``std`` is
    the same in every round. What is taken back of earlier noise is added in floating point: that no
    low bits betray the sum (Mironov 2012) is not proved for correlated noise.

    Edge cases
    ----------
    ``std=0`` gives exact zeros and expands nothing.

    Parameters
    ----------
    keys
        One per round so far, at least one.
    lags
        :meth:`shared_model.factorization.Factorization.lags`, at least as long.
    shape
        Shape of the result.
    std
        Standard deviation, >= 0 and finite.

    Returns
    -------
    Tensor
        float64 on the CPU.

    Raises
    ------
    PrivacyError
        If there is no key, one is used twice, or there are more keys than planned rounds.
    """
    if not 1 <= len(keys) <= len(lags):
        raise PrivacyError(f"{len(keys)} noise keys for {len(lags)} planned rounds")
    if len(set(keys)) != len(keys):
        raise PrivacyError("two rounds have the same noise key")
    total = torch.zeros(tuple(shape), dtype=torch.float64)
    if std == 0.0:
        return total
    for lag, key in zip(lags, reversed(keys), strict=False):
        total += secure_normal(shape, std=std, entropy=key_stream(key)) * float(lag)
    return total
