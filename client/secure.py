"""A device's side of secure aggregation: keys, shares, one masked vector, and what it tells afterwards.

Flower supplies key agreement (elliptic-curve Diffie-Hellman, HKDF), sealing (Fernet) and Shamir's
secret sharing; the rest is :mod:`shared_model.secure_sum`. Nothing is sent here: each function
takes and returns plain values, and `client.app` builds the messages.

Guarantees
    Whatever the server does, what leaves is clipped, carries this device's share of the noise, and
    lies under masks. Of every device either the own mask or the mask key is told, never both, once
    per attempt, and nothing while fewer than ``needed`` updates arrived.
Assumes
    The server relays the public keys that devices sent (honest but curious): one that invents keys
    can take the masks off, and then faces a clipped update with one share of the noise.
Edge cases
    Shares that cannot be unsealed are left out: a bad device cannot make an honest one drop out.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from torch import Tensor

from client.secure_state import Memory, SecureState
from shared_model.errors import FederationError, MissingError, PrivacyError
from shared_model.messages import RoundRequest
from shared_model.noise import Entropy
from shared_model.secure_sum import Normal, Ring, Words, add_pair_mask, commitment, encode, expand
from shared_model.secure_terms import SecureTerms
from shared_model.secure_terms import threshold as needed_shares

__all__ = ["Hello", "hand_out", "mask", "offer", "open_round"]


@dataclasses.dataclass(frozen=True)
class Hello:
    """What the server tells a device about its neighbors in the stage ``shares``.

    Attributes
    ----------
    index
        This device's number in the round.
    holders
        Numbers of all devices that will hold shares of its secrets, itself included, sorted.
    mask_keys, seal_keys
        Their public keys, in the same order.
    """

    index: int
    holders: Sequence[int]
    mask_keys: Sequence[bytes]
    seal_keys: Sequence[bytes]


def offer(memory: Memory, request: RoundRequest, terms: SecureTerms, *, digest: str) -> tuple[bytes, bytes]:
    """Draw two fresh key pairs and return their public halves: for masks, and for sealing shares.

    Raises
    ------
    FederationError
        If this attempt was answered before.
    """
    flower = _flower()
    state = memory.load()
    if state is not None and state.attempt == terms.attempt:
        raise FederationError("this attempt was answered before")
    (mask_key, mask_public), (seal_key, seal_public) = flower.new_key(), flower.new_key()
    memory.save(
        SecureState(
            run=request.run,
            round=request.round,
            attempt=terms.attempt,
            stage="keys",
            digest=digest,
            needed=terms.needed,
            mask_private=_number(mask_key).hex(),
            seal_private=_number(seal_key).hex(),
        )
    )
    return flower.to_bytes(mask_public), flower.to_bytes(seal_public)


def hand_out(memory: Memory, hello: Hello, *, attempt: str, least_peers: int) -> tuple[list[bytes], bytes]:
    """Draw the seed of the own mask, and share it and the mask key among the holders.

    Parameters
    ----------
    least_peers
        The owner's least number of other holders.

    Returns
    -------
    sealed
        One message per other holder, in their order, that only that holder can read.
    promise
        Commitment to the seed.

    Raises
    ------
    FederationError
        If this is not the stage for it, or the server's values contradict each other.
    PrivacyError
        If there are too few holders.
    """
    flower = _flower()
    state = memory.expect("keys", attempt=attempt)
    _check_hello(state, hello, flower)
    if len(hello.holders) - 1 < least_peers:
        raise PrivacyError(f"only {len(hello.holders) - 1} other devices would hide this one; its owner wants more")
    seed, needed = os.urandom(32), needed_shares(len(hello.holders))
    seed_shares = flower.split(seed, needed, len(hello.holders))
    key_shares = flower.split(bytes.fromhex(state.mask_private), needed, len(hello.holders))
    private = _private(state.seal_private)
    sealed, own = [], ("", "")
    for holder, public, one, two in zip(hello.holders, hello.seal_keys, seed_shares, key_shares, strict=True):
        if holder == hello.index:
            own = (one.hex(), two.hex())
            continue
        secret = flower.agree(private, flower.from_bytes(public))
        text = _header(state, hello.index, holder) + len(one).to_bytes(4, "big") + one + two
        sealed.append(flower.seal(secret, text))
    memory.save(
        dataclasses.replace(
            state,
            stage="shares",
            index=hello.index,
            holders=tuple(hello.holders),
            mask_keys=tuple(key.hex() for key in hello.mask_keys),
            seal_keys=tuple(key.hex() for key in hello.seal_keys),
            threshold=needed,
            self_seed=seed.hex(),
            own_shares=own,
        )
    )
    return sealed, commitment(seed, context=_context(state))


def mask(
    memory: Memory,
    ring: Ring,
    *,
    attempt: str,
    digest: str,
    sources: Sequence[int],
    sealed: Sequence[bytes],
    least_peers: int,
    train: Callable[[], Tensor],
    normal: Normal | None = None,
    coins: Entropy = os.urandom,
) -> Words:
    """Train, and return the clipped update with its noise share under all masks.

    Parameters
    ----------
    ring
        The round's grid.
    sources, sealed
        The other holders whose shares arrived, and those shares.
    train
        Pays for and makes the update; called only when everything else is right.
    normal
        Where the noise comes from; the operating system by default.
    coins
        By which the update is rounded to the grid; protection does not rest on them.

    Raises
    ------
    FederationError, PrivacyError
        As for :func:`hand_out`. Nothing was trained then.
    """
    flower = _flower()
    state = memory.expect("shares", attempt=attempt)
    peers = dict(zip(state.holders, state.mask_keys, strict=True))
    peers.pop(state.index)
    if digest != state.digest or len(sources) != len(sealed) or not set(sources) <= set(peers):
        raise FederationError("the server contradicts itself")
    if len(set(sources)) != len(sources) or len(sources) < max(least_peers, state.threshold - 1):
        raise PrivacyError(f"only {len(set(sources))} other devices would hide this one; too few")
    delta = train()
    words = encode(delta, ring, entropy=coins) if normal is None else encode(delta, ring, entropy=coins, normal=normal)
    private = _private(state.mask_private)
    for source in sources:
        secret = flower.agree(private, flower.from_bytes(bytes.fromhex(peers[source])))
        words = add_pair_mask(words, secret, context=_context(state), own=state.index, other=source)
    words = words + expand(bytes.fromhex(state.self_seed), f"{_context(state)}/self", size=ring.size)
    texts = tuple(item.decode("ascii", errors="replace") for item in sealed)
    memory.save(dataclasses.replace(state, stage="masked", sources=tuple(sources), sealed=texts))
    return np.asarray(words, dtype=np.uint32)


def open_round(
    memory: Memory, *, attempt: str, survivors: Sequence[int], least_peers: int
) -> tuple[list[int], list[bytes]]:
    """Tell shares: of the own mask of devices whose update arrived, of the mask key of the others.

    Parameters
    ----------
    survivors
        Numbers of all devices whose masked update arrived.

    Returns
    -------
    about, shares
        Devices, and one share of each.

    Raises
    ------
    FederationError
        If this is not the stage for it; a second call for one attempt always is not.
    PrivacyError
        If so few updates arrived that the sum would hide nobody.
    """
    flower = _flower()
    state = memory.expect("masked", attempt=attempt)
    arrived = set(survivors)
    if len(arrived) < state.needed or len(arrived & set(state.sources)) < least_peers or state.index not in arrived:
        raise PrivacyError(f"{len(arrived)} updates are too few to be opened")
    memory.save(dataclasses.replace(state, stage="open").without_secrets())
    private = _private(state.seal_private)
    public = dict(zip(state.holders, state.seal_keys, strict=True))
    about, shares = [state.index], [bytes.fromhex(state.own_shares[0])]
    for source, text in zip(state.sources, state.sealed, strict=True):
        secret = flower.agree(private, flower.from_bytes(bytes.fromhex(public[source])))
        try:
            plain = flower.unseal(secret, text.encode("ascii"))
        except Exception:  # whatever Fernet objects to: this share does not exist
            continue
        head = _header(state, source, state.index)
        length = int.from_bytes(plain[len(head) : len(head) + 4], "big")
        both = plain[len(head) + 4 :]
        if plain.startswith(head) and len(both) > length > 0:
            about.append(source)
            shares.append(both[:length] if source in arrived else both[length:])
    return about, shares


def _check_hello(state: SecureState, hello: Hello, flower: _Primitives) -> None:
    holders = list(hello.holders)
    own = {
        name: flower.to_bytes(_private(text).public_key())
        for name, text in (("mask", state.mask_private), ("seal", state.seal_private))
    }
    alike = len(holders) == len(hello.mask_keys) == len(hello.seal_keys)
    if not alike or holders != sorted(set(holders)) or hello.index not in holders:
        raise FederationError("the server's list of devices contradicts itself")
    place = holders.index(hello.index)
    if (hello.mask_keys[place], hello.seal_keys[place]) != (own["mask"], own["seal"]):
        raise FederationError("the server changed this device's keys")
    if len(set(hello.mask_keys) | set(hello.seal_keys)) != 2 * len(holders):
        raise FederationError("two devices have the same key")


def _header(state: SecureState, source: int, target: int) -> bytes:
    """Bind a sealed share to its attempt, sender and receiver."""
    return f"{_context(state)}/{source}/{target}\0".encode()


def _context(state: SecureState) -> str:
    return f"{state.run}/{state.round}/{state.attempt}"


def _number(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(48, "big")


def _private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(text, 16), ec.SECP384R1())


@dataclasses.dataclass(frozen=True)
class _Primitives:
    """What Flower supplies."""

    new_key: Callable[[], tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]]
    to_bytes: Callable[[ec.EllipticCurvePublicKey], bytes]
    from_bytes: Callable[[bytes], ec.EllipticCurvePublicKey]
    agree: Callable[[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey], bytes]
    seal: Callable[[bytes, bytes], bytes]
    unseal: Callable[[bytes, bytes], bytes]
    split: Callable[[bytes, int, int], list[bytes]]


def _flower() -> _Primitives:
    try:
        from flwr.common.secure_aggregation.crypto import shamir, symmetric_encryption
        from flwr.supercore.primitives import asymmetric
    except ImportError as error:
        raise MissingError(
            f"secure aggregation needs a part that is not installed: {error}", hint="pip install 'easel[client]'"
        ) from error
    return _Primitives(
        new_key=asymmetric.generate_key_pairs,
        to_bytes=asymmetric.public_key_to_bytes,
        from_bytes=asymmetric.bytes_to_public_key,
        agree=symmetric_encryption.generate_shared_key,
        seal=symmetric_encryption.encrypt,
        unseal=symmetric_encryption.decrypt,
        split=shamir.create_shares,
    )
