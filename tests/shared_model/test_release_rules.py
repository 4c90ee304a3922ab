"""What a device accepts from a server: every reason to refuse, one by one."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.errors import ConfigError, InputError, ReleaseError, StorageError
from shared_model.release_manifest import KeyChange, Manifest, Order, canonical, decode
from shared_model.release_rules import MAX_KEY_CHANGES, Accepted, Offer, Trust, accept, follow
from shared_model.signatures import Signed, Signer, key_id, read_public, verify

NOW = "2026-11-24T12:00:00+00:00"
ARCHITECTURE = "a" * 12
OLD, NEW, FOREIGN = Signer.new(), Signer.new(), Signer.new()


def manifest(version: int = 1, **changes: Any) -> Manifest:
    facts: dict[str, Any] = {
        "version": version,
        "parent": version - 1,
        "backbone": "b" * 12,
        "architecture": ARCHITECTURE,
        "run": "c" * 12,
        "round": 10,
        "unit": "user",
        "epsilon": 1.5,
        "delta": 1e-6,
        "total_epsilon": 2.5,
        "total_delta": 2e-6,
        "sha256": f"{version:064x}",
        "size": 1000,
        "created": NOW,
        "evaluation": {"quality": 0.8, "checker_db": 1.0},
    }
    return Manifest(**(facts | changes))


def offer(
    sequence: int = 1, *, version: int = 1, action: str = "promote", signer: Signer = OLD, **changes: Any
) -> Offer:
    signed = signer.sign(canonical(manifest(version, **changes)), kind="manifest")
    order = Order(sequence, action, version, signed.digest, max(0, version - 1), NOW)
    return Offer(signer.sign(canonical(order), kind="order"), signed)


def after(made: Offer, trust: Trust | None = None) -> Trust:
    return take(made, trust or Trust(OLD.public.hex())).trust


def take(made: Offer, trust: Trust, **limits: Any) -> Accepted:
    return accept(made, trust, **({"architecture": ARCHITECTURE} | limits))


def rotation(old: Signer, new: Signer) -> Signed:
    return old.sign(canonical(KeyChange(old.key, new.public.hex(), NOW)), kind="key")


@pytest.fixture
def refused() -> Callable[..., None]:
    def check(reason: str, made: Offer, trust: Trust, **limits: Any) -> None:
        with pytest.raises(ReleaseError) as caught:
            take(made, trust, **limits)
        assert caught.value.reason == reason
        assert caught.value.exit_code == 7

    return check


def test_a_signed_release_is_accepted_and_remembered() -> None:
    made = offer(3, version=2)
    accepted = take(made, Trust(OLD.public.hex()))
    assert accepted.manifest == manifest(2)
    assert accepted.trust == Trust(OLD.public.hex(), 3, made.order.digest, 2)
    assert take(made, accepted.trust).trust == accepted.trust  # a broken download goes on


@pytest.mark.parametrize("document", ["order", "manifest"])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), where=st.sampled_from(["body", "signature"]))
def test_any_changed_bit_is_noticed(document: str, place: int, bit: int, where: str) -> None:
    made = offer()
    signed: Signed = getattr(made, document)
    data = bytearray(getattr(signed, where))
    data[place % len(data)] ^= 1 << bit
    changed = replace(made, **{document: replace(signed, **{where: bytes(data)})})
    with pytest.raises(ReleaseError) as caught:
        take(changed, Trust(OLD.public.hex()))
    assert caught.value.reason == "bad-signature"


def test_a_signature_is_for_one_kind_of_document(refused: Callable[..., None]) -> None:
    made = offer()
    as_order = replace(made, order=OLD.sign(made.order.body, kind="manifest"))
    refused("bad-signature", as_order, Trust(OLD.public.hex()))
    with pytest.raises(ValueError, match="unknown kind"):
        OLD.sign(b"x", kind="else")


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 63, b"x" * 1000])
def test_garbage_is_no_signature(signature: bytes, refused: Callable[..., None]) -> None:
    made = offer()
    refused("bad-signature", replace(made, order=replace(made.order, signature=signature)), Trust(OLD.public.hex()))


def test_an_unknown_key_is_refused_even_under_a_known_name(refused: Callable[..., None]) -> None:
    refused("unknown-key", offer(signer=FOREIGN), Trust(OLD.public.hex()))
    made = offer(signer=FOREIGN)
    lied = Offer(replace(made.order, key=OLD.key), replace(made.manifest, key=OLD.key))
    refused("bad-signature", lied, Trust(OLD.public.hex()))


def test_an_older_release_needs_a_rollback(refused: Callable[..., None]) -> None:
    trust = after(offer(5, version=3))
    refused("older-version", offer(6, version=2), trust)
    assert take(offer(6, version=2, action="rollback"), trust).trust.version == 2
    assert take(offer(6, version=3), trust).trust.sequence == 6  # the same again is not older


def test_old_orders_cannot_be_replayed(refused: Callable[..., None]) -> None:
    bad, back = offer(5, version=3), offer(6, version=2, action="rollback")
    trust = after(back, after(bad))
    refused("replayed-order", bad, trust)
    refused("replayed-order", offer(1, version=1, action="rollback"), trust)
    forward = after(offer(7, version=4), trust)
    refused("replayed-order", back, forward)
    refused("replayed-order", offer(7, version=4, round=11), forward)  # another order under the same number


def test_an_order_is_for_one_manifest(refused: Callable[..., None]) -> None:
    first, other = offer(1, version=1), offer(1, version=1, round=11)
    refused("mismatch", replace(first, manifest=other.manifest), Trust(OLD.public.hex()))
    lying = Order(1, "promote", 2, first.manifest.digest, 1, NOW)
    refused("mismatch", replace(first, order=OLD.sign(canonical(lying), kind="order")), Trust(OLD.public.hex()))


def test_foreign_networks_and_huge_files_are_refused(refused: Callable[..., None]) -> None:
    refused("foreign-architecture", offer(), Trust(OLD.public.hex()), architecture="d" * 12)
    refused("oversize", offer(size=2000), Trust(OLD.public.hex()), max_bytes=1999)
    assert take(offer(size=2000), Trust(OLD.public.hex()), max_bytes=2000)


def test_a_new_key_is_accepted_from_the_old_one_alone(refused: Callable[..., None]) -> None:
    trust = Trust(OLD.public.hex())
    made = replace(offer(2, signer=NEW), rotations=(rotation(OLD, NEW),))
    assert take(made, trust).trust.key == NEW.public.hex()
    refused("unknown-key", replace(made, rotations=()), trust)
    refused("unknown-key", replace(made, rotations=(rotation(FOREIGN, NEW),)), trust)
    forged = replace(rotation(FOREIGN, NEW), key=OLD.key)
    refused("bad-signature", replace(made, rotations=(forged,)), trust)
    wrong = OLD.sign(canonical(KeyChange(FOREIGN.key, NEW.public.hex(), NOW)), kind="key")
    refused("mismatch", replace(made, rotations=(wrong,)), trust)


def test_a_replaced_key_signs_nothing_any_more(refused: Callable[..., None]) -> None:
    trust = after(replace(offer(2, signer=NEW), rotations=(rotation(OLD, NEW),)))
    refused("unknown-key", offer(3, version=2, signer=OLD), trust)
    refused("unknown-key", replace(offer(3, version=2, signer=OLD), rotations=(rotation(OLD, NEW),)), trust)
    refused("unknown-key", replace(offer(3, signer=FOREIGN), rotations=(rotation(OLD, FOREIGN),)), trust)


def test_a_device_that_slept_follows_the_whole_chain() -> None:
    signers = [Signer.new() for _ in range(6)]
    chain = [rotation(old, new) for old, new in itertools.pairwise(signers)]
    for known in signers:
        assert follow(known.public.hex(), chain) == signers[-1].public.hex()
    assert follow(FOREIGN.public.hex(), chain) == FOREIGN.public.hex()
    with pytest.raises(ReleaseError, match="more than"):
        follow(signers[0].public.hex(), chain * (MAX_KEY_CHANGES // 5 + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"parent": 1},
        {"parent": -1},
        {"backbone": "B" * 12},
        {"backbone": "b" * 12 + "\n"},
        {"architecture": ""},
        {"run": "../../etc"},
        {"run": ""},
        {"unit": "public"},
        {"unit": "household"},
        {"round": -1},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"epsilon": -1.0},
        {"total_epsilon": float("inf")},
        {"delta": 1.0},
        {"sha256": "1" * 63},
        {"size": 0},
        {"created": "yesterday"},
        {"created": "2026-11-24T12:00:00"},
        {"evaluation": {"quality": float("nan")}},
        {"evaluation": {"quality": "good"}},
        {"evaluation": {"quality": True}},
        {"format": "easel-release-2"},
    ],
)
def test_manifests_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        replace(manifest(), **changes)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        canonical(manifest()).replace(b",", b", ", 1),
        canonical(manifest()).replace(b'"version":1', b'"version":1,"version":1'),
        canonical(manifest()).replace(b'"version":1', b'"version":"1"'),
        canonical(manifest()).replace(b'"version":1', b'"version":true'),
        canonical(manifest()).replace(b'"delta":1e-06', b'"delta":NaN'),
        canonical(manifest())[:-1] + b',"zzz":1}',
        canonical(manifest()) + b"\n",
        canonical(manifest(evaluation={f"figure{n}": 0.5 for n in range(9000)})),
    ],
)
def test_a_signed_document_must_also_make_sense(body: bytes, refused: Callable[..., None]) -> None:
    with pytest.raises(ReleaseError, match="manifest cannot be read") as caught:
        decode(body, Manifest)
    assert caught.value.reason == "malformed"
    refused("malformed", replace(offer(), manifest=OLD.sign(body, kind="manifest")), Trust(OLD.public.hex()))


@pytest.mark.parametrize(
    "changes",
    [
        {"sequence": 0},
        {"action": "delete"},
        {"version": 0},
        {"manifest": "x"},
        {"reason": "x" * 201},
        {"reason": "\033"},
    ],
)
def test_orders_that_make_no_sense(changes: dict[str, Any]) -> None:
    good = Order(1, "promote", 1, "0" * 64, 0, NOW)
    assert decode(canonical(good), Order) == good
    with pytest.raises(ConfigError):
        replace(good, **changes)


def test_one_document_has_one_spelling() -> None:
    text = canonical(manifest())
    assert decode(text, Manifest) == manifest()
    assert text == canonical(decode(text, Manifest))
    assert b" " not in text
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_keys_survive_their_files(tmp_path: Path) -> None:
    path = OLD.save(tmp_path / "signing.key")
    assert path.stat().st_mode & 0o777 == 0o600
    again = Signer.load(path)
    signed = again.sign(b"text", kind="order")
    assert verify(signed, kind="order", public=OLD.public) == b"text"
    (tmp_path / "signing.pub").write_text(OLD.public.hex() + "\n")
    assert key_id(read_public(tmp_path / "signing.pub")) == OLD.key
    (tmp_path / "bad").write_text("no key")
    with pytest.raises(StorageError):
        read_public(tmp_path / "bad")
    with pytest.raises(InputError):
        Signer.load(tmp_path / "bad")


def test_signed_documents_survive_their_files(tmp_path: Path) -> None:
    signed = offer().manifest
    (tmp_path / "manifest.json").write_bytes(signed.body)
    (tmp_path / "manifest.sig").write_bytes(signed.to_bytes())
    assert Signed.of_files(tmp_path / "manifest.json", tmp_path / "manifest.sig") == signed
    assert Signed.from_dict(json.loads(json.dumps(signed.to_dict()))) == signed
    for damage in ("", "[]", '{"key": 3}', '{"key": "a", "signature": "zz"}'):
        (tmp_path / "manifest.sig").write_text(damage)
        with pytest.raises(ReleaseError):
            Signed.of_files(tmp_path / "manifest.json", tmp_path / "manifest.sig")
