"""Flower's list of nodes follows the registry: added, removed, nothing else touched, trouble named."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.proto.control_pb2 import ListNodesResponse, RegisterNodeResponse, UnregisterNodeResponse
from flwr.proto.node_pb2 import NodeInfo

from client.node_key import NodeKey
from server.devices import Registry
from server.registrar import Registrar, pem_of
from shared_model.errors import FederationError
from shared_model.invitation import enrol_message


class Control:
    """Stands for the SuperLink's control interface."""

    def __init__(self) -> None:
        self.nodes: dict[int, NodeInfo] = {}
        self.away = False

    def ListNodes(self, _: Any) -> ListNodesResponse:
        if self.away:
            raise httpx.ConnectError("refused")
        return ListNodesResponse(nodes_info=list(self.nodes.values()))

    def RegisterNode(self, request: Any) -> RegisterNodeResponse:
        number = len(self.nodes) + 1
        self.nodes[number] = NodeInfo(node_id=number, public_key=request.public_key, status="registered")
        return RegisterNodeResponse(node_id=number)

    def UnregisterNode(self, request: Any) -> UnregisterNodeResponse:
        self.nodes[request.node_id].status = "unregistered"
        return UnregisterNodeResponse()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "devices.json", clock=lambda: datetime.now(UTC))
    for name in ("anna", "ben"):
        key, invitation = NodeKey.open(tmp_path / name), registry.invite(name, authority=bytes(20), hours=1)
        proof = key.sign(enrol_message(invitation.secret, key.public))
        registry.enrol(invitation.secret, public_key=key.public, proof=proof)
    registry.invite("carl", authority=bytes(20), hours=1)
    return registry


def test_nodes_follow_devices(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control, registrar = Control(), Registrar("127.0.0.1:1", ca=tmp_path / "ca.pem", registry=registry)
    monkeypatch.setattr(registrar, "_connect", lambda: control)
    stranger = NodeKey.open(tmp_path / "stranger")
    control.nodes[1] = NodeInfo(node_id=1, public_key=pem_of(stranger.public), status="online")
    looked = registrar.sync(change=False)
    assert looked.states == {"anna": "registered", "ben": "registered"} and len(control.nodes) == 1
    done = registrar.sync()
    assert (done.added, done.removed) == (2, 1)
    assert control.nodes[1].status == "unregistered"
    keys = {node.public_key for node in control.nodes.values() if node.status == "registered"}
    assert keys == {pem_of(key) for key in registry.keys()}
    control.nodes[2].status = "online"
    again = registrar.sync()
    assert (again.added, again.removed) == (0, 0) and sorted(again.states.values()) == ["online", "registered"]
    registry.revoke("anna")
    assert registrar.sync().removed == 1
    assert [node.status for node in control.nodes.values()].count("unregistered") == 2


def test_a_superlink_that_is_away_is_named(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control, registrar = Control(), Registrar("127.0.0.1:1", ca=tmp_path / "ca.pem", registry=registry)
    monkeypatch.setattr(registrar, "_connect", lambda: control)
    control.away = True
    with pytest.raises(FederationError, match="does not keep the devices"):
        registrar.sync()
    control.away = False
    assert registrar.sync().added == 2
