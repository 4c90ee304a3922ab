"""What a device makes of releases, over gRPC with TLS: fetch, verify, use, roll back, follow another key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from client.models import Models
from server import candidate
from shared_model.backbone import Backbone
from shared_model.release_manifest import KeyChange, canonical
from shared_model.release_rules import Trust, accept
from shared_model.signatures import Signed, Signer
from shared_model.weights import architecture_hash, backbone_id
from tests.integration.releases.conftest import (
    CONFIG,
    NOW,
    Fleet,
    Launch,
    easel,
)


def test_a_device_fetches_verifies_and_uses_a_release(
    fleet: Fleet, launch: Launch, member: Path, own_home: Path, real_time: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.promote(fleet.release(1))
    launch()
    code, facts, _ = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert (code, facts["version"], facts["in_use"]) == (0, 1, False)
    assert facts["bytes_received"] == fleet.releases.release(1).manifest.size
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["bytes_received"] == 0
    assert easel("verify", capsys=capsys)[1] == {"default": "ok", "1": "ok"}
    code, facts, _ = easel("use", "1", capsys=capsys)
    assert (code, facts["backbone"]) == (0, backbone_id(Backbone(CONFIG, seed=1)))
    code, facts, _ = easel("list", capsys=capsys)
    assert [item["in_use"] for item in facts["releases"]] == [True]
    release = Models(own_home / "models").in_use()
    assert release is not None
    release.weights.write_bytes(release.weights.read_bytes()[:-1] + b"\0")
    code, _, err = easel("verify", "1", capsys=capsys)
    assert code == 5 and "damaged" in err
    assert easel("use", "1", capsys=capsys)[0] == 5
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["bytes_received"] > 0  # mended
    assert easel("verify", "1", capsys=capsys)[0] == 0
    assert easel("use", "default", capsys=capsys)[1]["in_use"] == "default"


def test_rollback_and_replay(
    fleet: Fleet, launch: Launch, member: Path, real_time: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.promote(fleet.release(1))
    first = (fleet.folder / "releases" / "log.jsonl").read_bytes()
    fleet.promote(fleet.release(2))
    launch()
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["version"] == 2
    candidate.rollback(fleet.releases, 1, signer=fleet.signer, reason="faces look wrong")
    code, facts, _ = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert (code, facts["version"], facts["action"], facts["sequence"]) == (0, 1, "rollback", 3)
    assert facts["reason"] == "faces look wrong"
    (fleet.folder / "releases" / "log.jsonl").write_bytes(first)  # a server that puts an old order forward
    code, facts, err = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert code == 7 and facts is None and "order 1 is older than order 3" in err


def test_a_changed_signing_key_is_followed(
    fleet: Fleet, launch: Launch, member: Path, real_time: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.promote(fleet.release(1))
    launch()
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[0] == 0
    fleet.rotate()  # nothing is signed with the new key yet: devices stay with the old one
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[0] == 0
    assert fleet.releases.resign(fleet.signer)
    assert not fleet.releases.resign(fleet.signer)
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["bytes_received"] == 0
    fleet.rotate()
    fleet.promote(fleet.release(2))
    assert easel("fetch", "--server", fleet.address, capsys=capsys)[1]["version"] == 2
    assert easel("verify", capsys=capsys)[0] == 0  # the older release still verifies with the key of its time
    fleet.signer = Signer.new()  # somebody else's key, without a signed change
    fleet.releases.resign(fleet.signer)
    code, _, err = easel("fetch", "--server", fleet.address, capsys=capsys)
    assert code == 7 and "is trusted" in err


def test_nothing_is_released_before_a_promotion(fleet: Fleet, launch: Launch) -> None:
    fleet.release(1)
    launch()
    with fleet.client() as server, pytest.raises(Exception, match="no release was promoted yet"):
        server.offer()


def test_a_killed_rotation_does_not_lock_devices_out(fleet: Fleet, launch: Launch) -> None:
    fleet.promote(fleet.release(1))
    body = canonical(KeyChange(fleet.signer.key, Signer.new().public.hex(), NOW.isoformat()))
    unfinished = fleet.signer.sign(body, kind="key")
    (fleet.folder / "signing-rotations.json").write_text(json.dumps([unfinished.to_dict()]))
    launch()
    with fleet.client() as server:
        offer = server.offer()
    assert offer.rotations == ()
    assert accept(offer, Trust(fleet.signer.public.hex()), architecture=architecture_hash(CONFIG)).trust.version == 1
    shutil.rmtree(fleet.folder / "releases")
    assert isinstance(offer.order, Signed)
