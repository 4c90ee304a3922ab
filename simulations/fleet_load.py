"""How many polls one server answers: a real SuperLink, and devices that do nothing but ask for work.

A device of Flower asks every three seconds whether there is anything to do, and says every half a minute
that it lives. Here some processes do the same as fast as they can, and what each answer costs the
server's processor is read from the kernel: load and server share this machine, so the cost is what can be
carried over to another one, not the rate.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.deployment import Fleet, create
from server.devices import Registry
from server.enrolment import Enrolment
from server.gate import Gate, serve
from server.presence import utc_now
from server.registrar import Registrar
from server.superlink import superlink
from shared_model.errors import FederationError
from shared_model.invitation import enrol_message

__all__ = ["POLL_S", "Load", "measure"]

POLL_S = 3.0  # from one poll of a Flower SuperNode to its next
_PROCESSES = 2
_READY_S = 120.0


@dataclass(frozen=True)
class Load:
    """What was measured.

    Parameters
    ----------
    devices
        Devices that polled.
    polls, seconds
        Polls answered, and in which time.
    link_s, gate_s
        Processor seconds of the SuperLink and of the gate.
    """

    devices: int
    polls: int
    seconds: float
    link_s: float
    gate_s: float

    @property
    def rate(self) -> float:
        """Polls a second, with the load on the same machine."""
        return self.polls / self.seconds

    @property
    def cost_ms(self) -> float:
        """Processor milliseconds of the server for one poll."""
        return 1000.0 * (self.link_s + self.gate_s) / max(1, self.polls)

    @property
    def most_devices(self) -> int:
        """Idle devices that would keep the slower of both processes busy, each of which uses one core."""
        busiest = max(self.link_s, self.gate_s) / max(1, self.polls)
        return int(POLL_S / busiest) if busiest else 0


def measure(folder: Path, *, devices: int, seconds: float, secure: bool, gate: bool, database: bool) -> Load:
    """Start a SuperLink (and a gate before it), let devices poll, and stop all of it.

    Parameters
    ----------
    folder
        Empty; for keys, database and logs.
    devices
        How many poll.
    seconds
        For how long.
    secure
        TLS and node authentication, as a fleet has them; else neither.
    gate
        Through the gate, as devices of a fleet do; needs ``secure``.
    database
        SQLite file, or memory.
    """
    if gate and not secure:
        raise FederationError("the gate is for TLS")
    fleet = create(folder / "fleet", hosts=["127.0.0.1"], now=utc_now())
    registry = Registry(fleet.devices, clock=utc_now)
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(devices)]
    if secure:
        for number, key in enumerate(keys):
            _enrol(registry, f"device{number}", key)
    certificates = {"ca": fleet.ca, "cert": fleet.certificate, "key": fleet.key} if secure else None
    inner, outer = _free_port(), _free_port()
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(
            superlink(folder / "flower", port=inner, certificates=certificates, node_auth=secure, database=database)
        )
        if secure:
            registrar = Registrar(link.address, ca=fleet.ca, registry=registry)
            stack.callback(registrar.close)
            registrar.sync()
        if gate:
            door = Gate(_enrolment(fleet, registry), registry, upstream=f"https://{link.address}", ca=fleet.ca)
            stack.enter_context(serve(door, host="127.0.0.1", port=outer, certificate=fleet.certificate, key=fleet.key))
        address = f"127.0.0.1:{outer if gate else inner}"
        with _pollers(address, keys, ca=fleet.ca if secure else None) as lines:
            before, gate_before, started = _spent(link.process.pid), time.process_time(), time.monotonic()
            for line in lines:
                line.send(seconds)
            polls = sum(_receive(line, seconds + _READY_S) for line in lines)
            passed = time.monotonic() - started
            gate_s = time.process_time() - gate_before if gate else 0.0
            return Load(devices, polls, passed, _spent(link.process.pid) - before, gate_s)


def _enrolment(fleet: Fleet, registry: Registry) -> Enrolment:
    return Enrolment(fleet, registry, changed=lambda: None)


def _enrol(registry: Registry, name: str, key: ec.EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives import hashes

    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = key.public_key().public_bytes(*form).decode()
    invitation = registry.invite(name, authority=bytes(20), hours=1)
    proof = key.sign(enrol_message(invitation.secret, public), ec.ECDSA(hashes.SHA256()))
    registry.enrol(invitation.secret, public_key=public, proof=proof)


@contextlib.contextmanager
def _pollers(
    address: str, keys: Sequence[ec.EllipticCurvePrivateKey], *, ca: Path | None
) -> Iterator[list[Connection]]:
    """Start the processes that poll; each waits for a number of seconds and answers with its polls."""
    context = multiprocessing.get_context("spawn")
    processes, lines = [], []
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for number in range(min(_PROCESSES, len(keys))):
        mine, theirs = context.Pipe()
        own = [key.private_bytes(*form) for key in keys[number::_PROCESSES]]
        process = context.Process(target=_poll, args=(theirs, address, own, ca), daemon=True)
        process.start()
        processes.append(process)
        lines.append(mine)
    try:
        for line in lines:
            _receive(line, _READY_S)
        yield lines
    finally:
        for process in processes:
            process.terminate()
            process.join(10.0)


def _receive(line: Any, limit_s: float) -> int:
    if not line.poll(limit_s):
        raise FederationError("a process of devices gave no answer")
    found: int = line.recv()
    return found


def _poll(line: Any, address: str, keys: Sequence[bytes], ca: Path | None) -> None:
    """Be some devices: come online, then ask for work as fast as it is answered."""
    from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, RegisterNodeFleetRequest
    from flwr.proto.node_pb2 import Node
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes
    from flwr.supernode.fleet_http_client import FleetHttpClient
    from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

    clients = []
    for data in keys:
        key: Any = serialization.load_pem_private_key(data, password=None)
        public = public_key_to_bytes(key.public_key())
        client = FleetHttpClient.from_server_address(
            address,
            ca is None,
            ca.read_bytes() if ca is not None else None,
            interceptors=[NodeAuthHttpInterceptor(key, key.public_key())],
        )
        if ca is None:
            client.RegisterNode(RegisterNodeFleetRequest(public_key=public))
        answer = client.ActivateNode(ActivateNodeRequest(public_key=public, heartbeat_interval=600.0))
        clients.append((client, PullMessagesRequest(node=Node(node_id=answer.node_id))))
    line.send(len(clients))
    end = time.monotonic() + line.recv()
    polls = 0
    while time.monotonic() < end:
        client, request = clients[polls % len(clients)]
        client.PullMessages(request)
        polls += 1
    line.send(polls)


def _spent(pid: int) -> float:
    """Return the processor seconds of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    import socket

    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])
