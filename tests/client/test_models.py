"""Releases on a device: what is in use, what is damaged, and what becomes of heads."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from client.carry import carry, carry_shipped, survey
from client.cli import main
from client.models import Installed, Models, backbone_in_use
from client.shelf import Shelf
from client.store import Home
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.errors import CompatibilityError, InputError, MissingError, ReleaseError, StorageError
from shared_model.head import Head
from shared_model.images import save_picture, to_tensor
from shared_model.release_manifest import Manifest, Order, canonical
from shared_model.release_rules import Accepted, Offer, Trust
from shared_model.signatures import Signer
from shared_model.stylize import check_match
from shared_model.weights import architecture_hash, backbone_id, save_backbone

SIGNER = Signer.new()
NOW = "2026-11-24T12:00:00+00:00"
TINY = HeadConfig(canvas_px=48, levels=2, patch=5, atoms=16, components=4, candidates=64)


def offered(path: Path, backbone: Backbone, version: int = 1) -> tuple[Accepted, Offer]:
    save_backbone(path, backbone)
    data = path.read_bytes()
    manifest = Manifest(
        version=version,
        parent=version - 1,
        backbone=backbone_id(backbone),
        architecture=architecture_hash(backbone.config),
        run="c" * 12,
        round=1,
        unit="user",
        epsilon=1.0,
        delta=1e-7,
        total_epsilon=1.0,
        total_delta=1e-7,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        created=NOW,
    )
    signed = SIGNER.sign(canonical(manifest), kind="manifest")
    order = Order(version, "promote", version, signed.digest, version - 1, NOW)
    trust = Trust(SIGNER.public.hex(), version, "0" * 64, version)
    return Accepted(order, manifest, trust), Offer(SIGNER.sign(canonical(order), kind="order"), signed)


@pytest.fixture
def shelf(easel_home: Path) -> Shelf:
    return Shelf(easel_home / "models", root=SIGNER.public)


@pytest.fixture
def other(backbone: Backbone) -> Backbone:
    return Backbone(backbone.config, seed=9).eval()


def install(shelf: Shelf, backbone: Backbone, version: int = 1) -> Installed:
    path = shelf.partial("0" * 64)
    accepted, offer = offered(path, backbone, version)
    return shelf.install(path, accepted, offer)


@pytest.fixture
def mine(easel_home: Path, backbone: Backbone, smooth: Callable[..., np.ndarray]) -> Head:
    head = Head.fit([to_tensor(smooth(4))], backbone=backbone, name="mine", config=TINY)
    size = sum(p.numel() for p in backbone.generator.parameters())
    tuned = replace(head, change=torch.full((size,), 0.01).half())
    Home.default().save_head(tuned, name="mine")
    return tuned


def test_the_shipped_backbone_is_the_default(easel_home: Path, backbone: Backbone) -> None:
    assert Models(easel_home / "models").in_use() is None
    assert backbone_id(backbone_in_use()) == backbone_id(backbone)


def test_a_release_paints_once_it_is_chosen(shelf: Shelf, easel_home: Path, other: Backbone) -> None:
    release, models = install(shelf, other), Models(easel_home / "models")
    assert models.in_use() is None
    models.use(release)
    assert backbone_id(backbone_in_use()) == backbone_id(other)
    assert models.find("1") == models.find(f"{shelf.fleet}/1") == release
    assert models.find("default") is None
    with pytest.raises(MissingError, match="no release 7"):
        models.find("7")
    with pytest.raises(InputError):
        models.find("../1")


@pytest.mark.parametrize("damage", ["weights", "manifest", "gone", "choice"])
def test_a_damaged_release_is_never_replaced_in_silence(
    shelf: Shelf, easel_home: Path, other: Backbone, damage: str
) -> None:
    release, models = install(shelf, other), Models(easel_home / "models")
    models.use(release)
    if damage == "weights":
        release.weights.write_bytes(release.weights.read_bytes()[:-4] + b"\0\0\0\0")
    elif damage == "manifest":
        (release.folder / "manifest.json").write_bytes(b"{}")
    elif damage == "gone":
        release.folder.rename(easel_home / "elsewhere")
    else:
        (easel_home / "models" / "in-use.json").write_text("{")
    with pytest.raises(StorageError) as caught:
        backbone_in_use()
    assert "easel models use default" in caught.value.hint
    models.use(None)
    assert backbone_in_use()


def test_changed_manifests_do_not_verify(shelf: Shelf, other: Backbone) -> None:
    release = install(shelf, other)
    assert release.verify().version == 1
    better = replace(release.manifest(), total_epsilon=0.1)
    (release.folder / "manifest.json").write_bytes(canonical(better))
    with pytest.raises(ReleaseError) as caught:
        release.verify()
    assert caught.value.reason == "bad-signature"


def test_what_is_not_the_release_is_not_installed(shelf: Shelf, other: Backbone, backbone: Backbone) -> None:
    path = shelf.partial("0" * 64)
    accepted, offer = offered(path, other)
    lying = replace(accepted, manifest=replace(accepted.manifest, backbone="0" * 12))
    with pytest.raises(ReleaseError, match="another backbone"):
        shelf.install(path, lying, offer)
    assert not path.exists()
    path.write_bytes(b"half")
    with pytest.raises(ReleaseError, match="size or SHA-256"):
        shelf.install(path, accepted, offer)
    assert not Models(shelf.folder.parent).installed()


def test_a_damaged_memory_is_refused_and_not_begun_anew(shelf: Shelf) -> None:
    assert shelf.trust() == Trust(SIGNER.public.hex())
    with shelf.lock():
        shelf.remember(Trust(SIGNER.public.hex(), 5, "0" * 64, 3))
        with pytest.raises(InputError, match="another"), shelf.lock():
            pass
    assert shelf.trust().sequence == 5
    for damage in ("", "{}", "[]", '{"key": "zz"}'):
        (shelf.folder / "trust.json").write_text(damage)
        with pytest.raises(StorageError):
            shelf.trust()


def test_heads_of_another_backbone_are_named_and_refused(
    shelf: Shelf, other: Backbone, mine: Head, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(shelf, other)
    assert main(["models", "use", "1"]) == 0
    captured = capsys.readouterr()
    assert "mine" in captured.err and "--keep-heads" in captured.err
    assert main(["stylize", str(photos / "a.png"), "--head", "mine"]) == 4
    assert "another backbone" in capsys.readouterr().err
    assert main(["stylize", str(photos / "a.png"), "--head", "tiny"]) == 0  # shipped heads are made ready


def test_heads_are_carried_over_and_come_back_as_they_were(
    shelf: Shelf, easel_home: Path, other: Backbone, backbone: Backbone, mine: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    install(shelf, other)
    before = Home.default().find("mine").path.read_bytes()
    assert main(["models", "use", "1", "--keep-heads", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["heads"] == [{"name": "mine", "state": "refit", "tuned": True}]
    assert "without their tuning" in captured.err
    carried = Home.default().load_head("mine")
    check_match(carried, other)
    assert carried.change is None
    assert [head.name for head in Home.default().heads()] == ["mine", "tiny"]
    assert main(["models", "use", "default", "--keep-heads"]) == 0
    assert Home.default().find("mine").path.read_bytes() == before
    assert [found.state for found in survey(Home.default(), other)] == ["kept"]


def test_what_a_head_says_of_its_backbone_names_no_file(easel_home: Path, other: Backbone, mine: Head) -> None:
    home = Home.default()
    home.save_head(replace(mine, backbone="../../escaped"), name="mine", overwrite=True)
    carry(home, other)
    assert sorted(path.name for path in home.heads_folder.iterdir()) == ["mine.head", "mine.head.unknown"]
    check_match(home.load_head("mine"), other)


def test_nothing_of_a_deleted_head_stays(easel_home: Path, other: Backbone, mine: Head) -> None:
    home = Home.default()
    carry(home, other)
    assert len(list(home.heads_folder.iterdir())) == 2
    home.rename_head("mine", "ours")
    assert list(home.previous("ours")) == [mine.backbone]
    home.delete_head("ours")
    assert list(home.heads_folder.iterdir()) == []


def test_a_head_that_is_made_again_forgets_its_past(easel_home: Path, other: Backbone, mine: Head) -> None:
    home = Home.default()
    carry(home, other)
    home.save_head(mine, name="mine", overwrite=True)
    assert home.previous("mine") == {}


def test_damaged_heads_are_left_alone(easel_home: Path, other: Backbone, mine: Head) -> None:
    home = Home.default()
    home.find("mine").path.write_bytes(b"broken")
    assert [found.state for found in carry(home, other)] == ["damaged"]
    assert home.find("mine").path.read_bytes() == b"broken"


def test_shipped_heads_are_made_ready_once(easel_home: Path, other: Backbone, tmp_path: Path) -> None:
    carry_shipped(tmp_path, other)
    (path,) = tmp_path.glob("*.head")
    check_match(Head.from_bytes(path.read_bytes()), other)
    stamp = path.stat().st_mtime_ns
    carry_shipped(tmp_path, other)
    assert path.stat().st_mtime_ns == stamp


def test_nothing_to_fetch_from(easel_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch"]) == 3
    assert "has joined no fleet" in capsys.readouterr().err
    (easel_home / "device").mkdir()
    for name in ("node.key", "ca.pem", "signing.pub"):
        (easel_home / "device" / name).write_text("")
    (easel_home / "device" / "membership.json").write_text('{"server": "fleet.example.org:39300", "name": "a"}')
    assert main(["models", "fetch", "--server", "nowhere"]) == 2
    assert "HOST:PORT" in capsys.readouterr().err


def test_a_head_fits_the_release_it_is_made_with(
    shelf: Shelf, easel_home: Path, other: Backbone, smooth: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(CompatibilityError):
        check_match(Head.fit([to_tensor(smooth(4))], backbone=other, config=TINY), backbone_in_use())
    Models(easel_home / "models").use(install(shelf, other))
    picture = tmp_path / "p.png"
    save_picture(picture, smooth(4))
    assert main(["personalize", "new", str(picture), "--budget", "0"]) == 0
    check_match(Home.default().load_head("new"), other)


def test_leaving_takes_what_was_fetched_and_keeps_what_paints(
    shelf: Shelf, easel_home: Path, other: Backbone, backbone: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = install(shelf, other), install(shelf, backbone, version=2)
    elsewhere = install(Shelf(easel_home / "models", root=bytes(32)), other)
    (shelf.folder / "partial").mkdir(exist_ok=True)
    assert main(["models", "use", f"{shelf.fleet}/2"]) == 0
    assert "when they are started again" in capsys.readouterr().out
    assert shelf.forget(keep=Models(easel_home / "models").in_use()) == [1]
    assert not first.folder.exists() and not (shelf.folder / "partial").exists()
    assert second.load() is not None and elsewhere.folder.exists(), "and another fleet's stay"
    assert main(["models", "remove", f"{shelf.fleet}/2"]) == 2
    assert "is in use" in capsys.readouterr().err
    assert main(["models", "use", "default"]) == 0 and main(["models", "remove", "default"]) == 2
    assert main(["models", "remove", f"{shelf.fleet}/2"]) == 0
    assert [item.fleet for item in Models(easel_home / "models").installed()] == [elsewhere.fleet]
    assert shelf.forget(keep=None) == [] and not shelf.folder.exists() and shelf.forget(keep=None) == []
