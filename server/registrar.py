"""Keeps the nodes that Flower's SuperLink accepts equal to the devices that are enrolled.

Talks to the SuperLink's control interface, which listens on the loopback interface only.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from server.devices import Registry
from shared_model.errors import FederationError
from shared_model.files import read_bytes

if TYPE_CHECKING:
    from flwr.supercore.control import ControlHttpClient

__all__ = ["Registrar", "Synced", "pem_of"]

_GONE = "unregistered"


@dataclass(frozen=True)
class Synced:
    """What the SuperLink knew, and what was changed.

    Attributes
    ----------
    states
        Flower's word for each enrolled device, by name: ``online``, ``offline`` or ``registered``.
    added, removed
        How many nodes were registered and unregistered.
    """

    states: dict[str, str]
    added: int = 0
    removed: int = 0


class Registrar:
    """Registers enrolled keys and unregisters all others.

    Parameters
    ----------
    address
        ``host:port`` of the SuperLink.
    ca
        Certificate of the authority that it must show.
    registry
        The truth.
    """

    def __init__(self, address: str, *, ca: Path, registry: Registry) -> None:
        self._address = address
        self._ca = ca
        self._registry = registry
        self._lock = threading.Lock()
        self._client: ControlHttpClient | None = None

    def sync(self, *, change: bool = True) -> Synced:
        """Compare, and change the SuperLink's list where it differs (unless ``change`` is False).

        Raises
        ------
        FederationError
            If the SuperLink does not answer or refuses; the next call tries again.
        """
        import httpx
        from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest

        with self._lock:
            try:
                client = self._connect()
                wanted = {pem_of(key): name for key, name in self._registry.keys().items()}
                nodes = {
                    node.public_key: node
                    for node in client.ListNodes(ListNodesRequest()).nodes_info
                    if node.status != _GONE
                }
                missing = [key for key in wanted if key not in nodes] if change else []
                for key in missing:
                    client.RegisterNode(RegisterNodeRequest(public_key=key, name=wanted[key]))
                surplus = [node.node_id for key, node in nodes.items() if key not in wanted] if change else []
                for node_id in surplus:
                    client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))
            except (httpx.HTTPError, ValueError) as error:
                raise FederationError(f"the SuperLink does not keep the devices: {error}") from error
        states = {name: str(nodes[key].status) if key in nodes else "registered" for key, name in wanted.items()}
        return Synced(states, added=len(missing), removed=len(surplus))

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connect(self) -> ControlHttpClient:
        from flwr.supercore.control import ControlHttpClient

        if self._client is None:
            self._client = ControlHttpClient.from_server_address(
                self._address, insecure=False, root_certificates=read_bytes(self._ca), interceptors=[]
            )
        return self._client


@functools.lru_cache(maxsize=100_000)
def pem_of(public_key: str) -> bytes:
    """Return a public key (OpenSSH, one line) as Flower keeps it: PEM."""
    return serialization.load_ssh_public_key(public_key.encode()).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
