"""May this device use what a server offers? Pure rules, the same for every device, tested one by one.

Guarantees, whoever sends the offer
    Only what the trusted key has signed is accepted. A release is accepted only if a signed order names this very
    manifest. The sequence of accepted orders only grows, so neither an old order nor an old release can be put
    forward again. Only a ``rollback`` leads to an older version. A key that has been replaced signs nothing any more.
Assumes
    The first key came to the device by a trusted way, and nobody else has the private one.
Edge cases
    The order that the device knows already is accepted again, which lets a broken download go on. A device that has
    seen no order yet (sequence 0) accepts any signed one: it cannot know what is newer. A server that withholds new
    orders is not noticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared_model.errors import ReleaseError
from shared_model.release_manifest import MAX_WEIGHTS, KeyChange, Manifest, Order, decode
from shared_model.signatures import Signed, key_id, verify

__all__ = ["MAX_KEY_CHANGES", "Accepted", "Offer", "Trust", "accept", "follow"]

MAX_KEY_CHANGES = 64


@dataclass(frozen=True)
class Offer:
    """What a server sends; nothing in it is believed yet."""

    order: Signed
    manifest: Signed
    rotations: tuple[Signed, ...] = ()


@dataclass(frozen=True)
class Trust:
    """What a device remembers between two fetches.

    Attributes
    ----------
    key
        The public key that it trusts, 64 hex digits.
    sequence, order
        Number and SHA-256 of the last accepted order; 0 and empty before the first.
    version
        The release that this order named; 0 before the first.
    """

    key: str
    sequence: int = 0
    order: str = ""
    version: int = 0

    @property
    def key_id(self) -> str:
        """Short name of the key."""
        return key_id(bytes.fromhex(self.key))


@dataclass(frozen=True)
class Accepted:
    """An offer that passed: the documents, and what to remember."""

    order: Order
    manifest: Manifest
    trust: Trust


def follow(key: str, changes: Sequence[Signed]) -> str:
    """Return the key (64 hex digits) that is trusted after ``changes``, of which earlier ones are known already.

    Raises
    ------
    ReleaseError
        If there are too many, or one is not signed by the key before it.
    """
    if len(changes) > MAX_KEY_CHANGES:
        raise ReleaseError(f"more than {MAX_KEY_CHANGES} changes of the key", reason="malformed")
    for signed in changes:
        public = bytes.fromhex(key)
        if signed.key != key_id(public):
            continue  # an older one, or a foreign one, which leads nowhere
        change = decode(verify(signed, kind="key", public=public), KeyChange)
        if change.old != signed.key:
            raise ReleaseError("a change of the key names another old key than its signer", reason="mismatch")
        key = change.key
    return key


def accept(offer: Offer, trust: Trust, *, architecture: str, max_bytes: int = MAX_WEIGHTS) -> Accepted:
    """Decide whether a device may use an offer.

    Parameters
    ----------
    offer
        What the server sent.
    trust
        What the device remembers.
    architecture
        Of the backbones that this easel can run.
    max_bytes
        Largest weights file that the device takes.

    Raises
    ------
    ReleaseError
        With the reason for which it may not.
    """
    key = follow(trust.key, offer.rotations)
    public = bytes.fromhex(key)
    order = decode(verify(offer.order, kind="order", public=public), Order)
    manifest = decode(verify(offer.manifest, kind="manifest", public=public), Manifest)
    _check_sequence(offer.order, order, trust)
    if order.manifest != offer.manifest.digest or order.version != manifest.version:
        raise ReleaseError(
            f"the order names another release than manifest {manifest.version}",
            hint="the server mixes up its releases, or is not honest",
            reason="mismatch",
        )
    if manifest.architecture != architecture:
        raise ReleaseError(
            f"release {manifest.version} is for networks {manifest.architecture}, this easel has {architecture}",
            hint="install the version of easel that your fleet uses",
            reason="foreign-architecture",
        )
    if manifest.size > max_bytes:
        raise ReleaseError(
            f"release {manifest.version} has {manifest.size} bytes, more than the {max_bytes} that are accepted",
            reason="oversize",
        )
    known = Trust(key=key, sequence=order.sequence, order=offer.order.digest, version=order.version)
    return Accepted(order, manifest, known)


def _check_sequence(signed: Signed, order: Order, trust: Trust) -> None:
    if order.sequence < trust.sequence:
        raise ReleaseError(
            f"order {order.sequence} is older than order {trust.sequence}, which this device knows",
            hint="the server is out of date, or somebody replays an old order",
            reason="replayed-order",
        )
    if order.sequence == trust.sequence:
        if signed.digest != trust.order:
            raise ReleaseError(
                f"there are two orders with number {order.sequence}",
                hint="the fleet's operator must make a new one",
                reason="replayed-order",
            )
        return
    if order.action == "promote" and order.version < trust.version:
        raise ReleaseError(
            f"release {order.version} is older than {trust.version}, and the order is no rollback",
            hint="only a signed rollback leads to an older release",
            reason="older-version",
        )
