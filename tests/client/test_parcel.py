"""Heads that travel: what is in the file, what is not, and what a made-up file can do (nothing)."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import stat
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from client import passphrase as sealing
from client.parcel import pack, suggest_name, target, unpack
from client.passphrase import MAGIC, open_sealed, seal
from client.store import MAX_HEAD_BYTES
from shared_model.backbone import Backbone
from shared_model.errors import CompatibilityError, EaselError, InputError, MissingError, StorageError
from shared_model.head import Head
from shared_model.images import to_tensor
from shared_model.stylize import stylize

pytest.importorskip("cryptography")
WORDS = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make keys with the lowest cost that is read: the tests seal often."""
    monkeypatch.setattr(sealing, "_COST", 15)


def never() -> str:
    raise AssertionError("nothing is sealed here")


def opened(data: bytes, folder: Path, *, ask: Callable[[], str] = never) -> Head:
    path = folder / "parcel.head"
    path.write_bytes(data)
    return unpack(path, ask=ask)


def test_a_parcel_is_the_head(tiny_head: Head, tmp_path: Path) -> None:
    head = opened(pack(tiny_head, name="mine"), tmp_path)
    assert (head.name, head.images, head.backbone) == ("mine", tiny_head.images, tiny_head.backbone)
    assert torch.equal(head.levels[0].patches, tiny_head.levels[0].patches)


def test_a_sealed_parcel_opens_with_its_passphrase_only(tiny_head: Head, tmp_path: Path) -> None:
    data = pack(tiny_head, name="mine", passphrase=WORDS)
    plain = pack(tiny_head, name="mine")
    assert data.startswith(MAGIC) and plain[200:400] not in data and len(data) == len(plain) + 55
    head = opened(data, tmp_path, ask=lambda: WORDS)
    assert torch.equal(head.modulation, tiny_head.modulation)
    with pytest.raises(InputError, match="passphrase is wrong"):
        opened(data, tmp_path, ask=lambda: WORDS + "!")


def test_the_same_parcel_is_never_sealed_alike() -> None:
    assert seal(b"x" * 100, WORDS)[20:] != seal(b"x" * 100, WORDS)[20:]


@pytest.mark.parametrize("at", [0, 9, 10, 11, 27, 40, -1])
def test_any_changed_byte_of_a_sealed_file_is_noticed(at: int) -> None:
    data = bytearray(seal(b"secret" * 10, WORDS))
    data[at] ^= 1
    with pytest.raises(EaselError):
        open_sealed(bytes(data), WORDS)


@pytest.mark.parametrize("cost", [0, 14, 18, 40, 255])
def test_a_file_cannot_ask_for_a_costly_key(cost: int) -> None:
    data = bytearray(seal(b"secret", WORDS))
    data[10] = cost
    with pytest.raises(StorageError, match="cost"):
        open_sealed(bytes(data), WORDS)


@pytest.mark.parametrize("length", [0, 9, 38, 54])
def test_a_sealed_file_that_was_cut_off(length: int) -> None:
    with pytest.raises(StorageError, match="cut off"):
        open_sealed(seal(b"", WORDS)[:length], WORDS)


def test_a_later_seal_says_so() -> None:
    data = bytearray(seal(b"secret", WORDS))
    data[9] = 2
    with pytest.raises(CompatibilityError, match="format 2"):
        open_sealed(bytes(data), WORDS)


@pytest.mark.parametrize("words", ["", "short", "x" * 5000])
def test_poor_passphrases_are_refused(words: str) -> None:
    with pytest.raises(InputError, match="passphrase"):
        seal(b"secret", words)


def test_without_cryptography_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(MissingError) as caught:
        seal(b"secret", WORDS)
    assert "easel[passphrase]" in caught.value.hint


# --- giving away less ---------------------------------------------------------------------------


@pytest.mark.parametrize("redaction", ["blur", "drop-patches"])
def test_a_redacted_head_paints_and_holds_no_literal_piece(
    redaction: str, tiny_head: Head, backbone: Backbone, tmp_path: Path, smooth: Callable[..., object]
) -> None:
    assert tiny_head.thumbnails and tiny_head.levels[0].origin is not None
    tuned = dataclasses.replace(tiny_head, change=torch.ones(5).half())
    head = opened(pack(tuned, name="mine", redaction=redaction), tmp_path)
    assert not head.thumbnails and head.change is None
    own = {patch.numpy().tobytes() for level in tiny_head.levels for patch in level.patches}
    for level in head.levels:
        assert level.origin is None
        assert not own & {patch.numpy().tobytes() for patch in level.patches}
    photo = to_tensor(smooth(5))  # type: ignore[arg-type]
    painted = stylize(photo, head=head, backbone=backbone)
    before = stylize(photo, head=tiny_head, backbone=backbone)
    assert float((painted - photo).abs().mean()) > 0.02
    assert float((painted.mean((2, 3)) - before.mean((2, 3))).abs().max()) < 0.1, "the palette stays"


def test_dropped_patches_have_the_colors_of_the_owners(tiny_head: Head, tmp_path: Path) -> None:
    head = opened(pack(tiny_head, name="mine", redaction="drop-patches"), tmp_path)
    for level, own in zip(head.levels, tiny_head.levels, strict=True):
        assert torch.allclose(level.values.mean((0, 2, 3)), own.values.mean((0, 2, 3)), atol=0.12)
        assert len(level.price) == len(own.price)


# --- where it goes ------------------------------------------------------------------------------


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    file = tmp_path / "x.head"
    assert target(tmp_path, name="mine") == tmp_path / "mine.head"
    file.write_bytes(b"theirs")
    with pytest.raises(InputError, match="already"):
        target(file, name="mine")
    assert target(file, name="mine", overwrite=True) == file
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError):
        target(link, name="mine", overwrite=True)


@pytest.mark.parametrize(
    ("inner", "file", "expected"),
    [("monet", "a.head", "monet"), ("../../etc/passwd", "a.head", "a"), ("", "b.head", "b"), ("con", "c.head", "c")],
)
def test_names_inside_a_file_are_suggestions(inner: str, file: str, expected: str, tiny_head: Head) -> None:
    assert suggest_name(dataclasses.replace(tiny_head, name=inner), Path("folder") / file) == expected


def test_without_any_usable_name_one_is_asked_for(tiny_head: Head) -> None:
    with pytest.raises(InputError, match="no name"):
        suggest_name(dataclasses.replace(tiny_head, name="../x"), Path("a b.head"))


# --- files made to harm -------------------------------------------------------------------------


def split(data: bytes) -> tuple[dict[str, object], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def join(header: object, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def test_random_damage_is_one_error_and_little_memory(tiny_head: Head, tmp_path: Path) -> None:
    data, rng = tiny_head.to_bytes(), random.Random(1)
    header = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    tracemalloc.start()
    for trial in range(160):
        changed = bytearray(data)
        if trial % 4 == 0:
            changed = changed[: rng.randrange(len(data))]
        reach = header if trial % 4 < 3 else len(data)
        for _ in range(rng.randrange(1, 6)):
            if changed:
                changed[rng.randrange(min(reach, len(changed)))] = rng.randrange(256)
        try:
            head = opened(bytes(changed), tmp_path)
            suggest_name(dataclasses.replace(head, name="x"), Path("y"))
        except EaselError as error:
            refused += 1
            assert "\n" not in error.message
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 80
    assert peak < 16 << 20


@pytest.mark.parametrize(
    "config",
    [
        {"atoms": 1},  # fewer than there are
        {"levels": 6},
        {"patch": 7},
        {"levels": 10**9},
        {"levels": 2.5},
        {"canvas_px": 4096},  # more than a foreign head may ask for
        {"canvas_px": float("inf")},
        {"stroke": 64},
        {"roughness": float("nan")},
        {"unknown": 1},
        {"tone": "0.1"},
    ],
)
def test_settings_that_do_not_fit_are_refused(config: dict[str, object], tiny_head: Head, tmp_path: Path) -> None:
    header, body = split(tiny_head.to_bytes())
    facts = json.loads(header["__metadata__"]["head"])  # type: ignore[index]
    facts["config"] |= config
    header["__metadata__"]["head"] = json.dumps(facts)  # type: ignore[index]
    with pytest.raises(EaselError):
        opened(join(header, body), tmp_path)


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "a\nb"},
        {"name": ["x"]},
        {"name": "x" * 300},
        {"backbone": "\x1b[2J"},
        {"images": 10**30},
        {"images": -1},
        {"images": True},
        {"created": None},
        {"config": []},
    ],
)
def test_facts_that_could_harm_are_refused(facts: dict[str, object], tiny_head: Head, tmp_path: Path) -> None:
    header, body = split(tiny_head.to_bytes())
    header["__metadata__"]["head"] = json.dumps(json.loads(header["__metadata__"]["head"]) | facts)  # type: ignore[index]
    with pytest.raises(StorageError):
        opened(join(header, body), tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 200_000,
        b'{"__metadata__":' * 5_000,
        b"{}",
        b"null",
        b'{"x":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,4]}}',
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}',
    ],
)
def test_headers_made_to_harm_are_refused(header: bytes, tmp_path: Path) -> None:
    with pytest.raises(EaselError):
        opened(join(header, b"\0" * 64), tmp_path)


@pytest.mark.parametrize("length", [2**63, 2**40, 10**7])
def test_a_declared_header_of_any_length_costs_nothing(length: int, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        opened(struct.pack("<Q", length) + b"{}" * 50, tmp_path)


def test_tensors_that_would_multiply_into_huge_tables_are_refused(tiny_head: Head, tmp_path: Path) -> None:
    from safetensors.torch import save

    header, _ = split(tiny_head.to_bytes())
    metadata = header["__metadata__"]
    from safetensors.torch import load

    tensors = load(tiny_head.to_bytes())
    wide = dict(tensors) | {"levels.0.basis": torch.zeros(75, 20_000), "levels.0.center": torch.zeros(1)}
    many = dict(tensors) | {
        "levels.0.patches": torch.zeros(60_000, 3, 5, 5, dtype=torch.uint8),
        "levels.0.price": torch.ones(60_000),
    }
    odd = dict(tensors) | {"color.mean": torch.zeros(3, dtype=torch.int64)}
    free = dict(tensors) | {"levels.0.price": -tensors["levels.0.price"]}
    copies = dict(tensors) | {"thumbnails.0": torch.zeros(3, 4000, 4, dtype=torch.uint8)}
    for changed in (wide, many, odd, free, copies):
        with pytest.raises(StorageError, match="damaged"):
            opened(save(changed, metadata=metadata), tmp_path)  # type: ignore[arg-type]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.head"
    with path.open("wb") as stream:
        stream.truncate(MAX_HEAD_BYTES + (1 << 20))
    with pytest.raises(StorageError, match="larger than"):
        unpack(path, ask=never)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file here")
def test_a_file_without_end_is_not_read_for_ever() -> None:
    with pytest.raises(StorageError, match="larger than"):
        unpack(Path("/dev/zero"), ask=never)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harm"),)

    with pytest.raises(EaselError):
        opened(__import__("pickle").dumps(Harm()), tmp_path)
    assert not (tmp_path / "harm").exists()


def test_what_is_unknown_in_a_file_is_not_kept(tiny_head: Head, tmp_path: Path) -> None:
    from safetensors.torch import load, save

    data = tiny_head.to_bytes()
    metadata = dict(split(data)[0]["__metadata__"]) | {"extra": "x"}  # type: ignore[call-overload]
    head = opened(save(load(data) | {"stowaway": torch.zeros(1000)}, metadata=metadata), tmp_path)
    assert b"stowaway" not in head.to_bytes() and b"extra" not in head.to_bytes()


def test_only_the_owner_can_read_a_parcel(tmp_path: Path) -> None:
    from client.parcel import write

    assert stat.S_IMODE(write(b"x", tmp_path / "a.head").stat().st_mode) == 0o600
