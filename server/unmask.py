"""Takes the masks off a sum: restores secrets from shares, checks each one, subtracts what it explains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from shared_model.errors import MissingError
from shared_model.secure_sum import Words, add_pair_mask, commitment, expand
from shared_model.secure_terms import threshold

__all__ = ["Member", "check_primitives", "is_key", "neighborhoods", "share_fits", "unmask"]

_TRIES = 200
#: Bytes of a share: a number of four bytes, and the secret padded to 16 (Flower's format).
_SEED_SHARE, _KEY_SHARE = 52, 68


@dataclass
class Member:
    """One device of a round, as far as the server knows it.

    Attributes
    ----------
    index
        Its number in the round.
    mask_key, seal_key
        Its public keys.
    holders
        Who holds shares of its secrets, itself included, sorted.
    promise
        Its commitment to the seed of its own mask; empty until it handed out shares.
    sealed
        Its sealed shares by receiver.
    shares
        Shares of one of its two secrets by the holder that told it.
    """

    index: int
    mask_key: bytes
    seal_key: bytes
    holders: tuple[int, ...] = ()
    promise: bytes = b""
    sealed: dict[int, bytes] = field(default_factory=dict)
    shares: dict[int, bytes] = field(default_factory=dict)


def neighborhoods(count: int, *, neighbors: int, shuffle: Callable[[list[int]], None]) -> list[tuple[int, ...]]:
    """Return whom each of ``count`` devices shares secrets with, itself included, sorted.

    Parameters
    ----------
    count
        Devices.
    neighbors
        How many others, an even number: those next to it on a shuffled circle (Bell et al. 2020).
        0, or as many as there are others: everybody.
    shuffle
        Shuffles a list in place, secretly.
    """
    order = list(range(count))
    if neighbors == 0 or neighbors >= count - 1:
        return [tuple(order)] * count
    shuffle(order)
    reach = range(-(neighbors // 2), neighbors // 2 + 1)
    found: list[tuple[int, ...]] = [()] * count
    for place, index in enumerate(order):
        found[index] = tuple(sorted(order[(place + offset) % count] for offset in reach))
    return found


def is_key(data: bytes) -> bool:
    """Say whether bytes from outside are a public key of the right curve."""
    try:
        key: object = _flower().from_bytes(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)


def share_fits(member: Member, holder: int, share: bytes, *, arrived: bool) -> bool:
    """Say whether a share has the size and number that this holder of this member's secret must have."""
    if holder not in member.holders:
        return False
    length = _SEED_SHARE if arrived else _KEY_SHARE
    return len(share) == length and int.from_bytes(share[:4], "little") == member.holders.index(holder) + 1


def unmask(total: Words, members: Mapping[int, Member], survivors: Iterable[int], *, context: str) -> Words | None:
    """Take all masks off the sum of the survivors' masked vectors.

    Guarantees
    ----------
    Every restored seed was checked against its device's commitment and every restored key against
    its device's public key, so a wrong share cannot spoil the sum unseen.

    Edge cases
    ----------
    Wrong shares among enough right ones are found out by trying other ones (up to 200 ways).

    Parameters
    ----------
    total
        Sum modulo 2^32, uint32.
    members
        All devices that handed out shares, with the shares that were told.
    survivors
        Those whose vectors are in the sum; the others' masks are in it too, but not taken off by them.

    Returns
    -------
    Words or None
        The sum of the encoded vectors; ``None`` if a secret cannot be restored.
    """
    flower, arrived = _flower(), set(survivors)
    plain = np.array(total, dtype=np.uint32)
    for index, member in members.items():
        if index in arrived:
            seed = _restore(member, partial(_is_seed, member.promise, context))
            if seed is None:
                return None
            plain -= expand(seed, f"{context}/self", size=len(plain))
            continue
        secret = _restore(member, partial(_is_private, member.mask_key))
        if secret is None:
            return None
        private = _private(secret)
        for other in arrived.intersection(member.holders):
            shared = flower.agree(private, flower.from_bytes(members[other].mask_key))
            # What `other` added for this pair is what `index` would have taken off again.
            plain = add_pair_mask(plain, shared, context=context, own=index, other=other)
    return plain


def check_primitives() -> None:
    """Raise an error with a hint if a part of Flower is missing."""
    _flower()


def _restore(member: Member, right: Callable[[bytes], bool]) -> bytes | None:
    needed = threshold(len(member.holders))
    shares: Sequence[bytes] = [member.shares[holder] for holder in sorted(member.shares)]
    for chosen in itertools.islice(itertools.combinations(shares, needed), _TRIES):
        try:
            secret = _flower().combine(list(chosen))
        except ValueError:
            continue
        if right(secret):
            return secret
    return None


def _private(secret: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP384R1())


def _is_seed(promise: bytes, context: str, secret: bytes) -> bool:
    return commitment(secret, context=context) == promise


def _is_private(public: bytes, secret: bytes) -> bool:
    try:
        return _flower().to_bytes(_private(secret).public_key()) == public
    except ValueError:
        return False


@dataclass(frozen=True)
class _Primitives:
    """What Flower supplies."""

    to_bytes: Callable[[ec.EllipticCurvePublicKey], bytes]
    from_bytes: Callable[[bytes], ec.EllipticCurvePublicKey]
    agree: Callable[[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey], bytes]
    combine: Callable[[list[bytes]], bytes]


def _flower() -> _Primitives:
    try:
        from flwr.common.secure_aggregation.crypto import shamir, symmetric_encryption
        from flwr.supercore.primitives import asymmetric
    except ImportError as error:
        raise MissingError(
            f"secure aggregation needs a part that is not installed: {error}", hint="pip install 'easel[server]'"
        ) from error
    return _Primitives(
        to_bytes=asymmetric.public_key_to_bytes,
        from_bytes=asymmetric.bytes_to_public_key,
        agree=symmetric_encryption.generate_shared_key,
        combine=shamir.combine_shares,
    )
