"""Flower's Ray actors as workers: the simulation runtime of Flower, here or on a cluster.

The actors and their pool are Flower's (``flwr[simulation]``). Its in-memory link, which looks through
all messages for every node ten times a second, is left out: the grid hands requests to the actors
itself. A round's backbone is put into Ray's object store once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Error, Message

from client.placement import COMPUTE
from shared_model.errors import ConfigError, FederationError, MissingError
from simulations.device_call import App, become_task, call_device, said
from simulations.pooled_grid import Answer
from simulations.workers import Shelf

__all__ = ["RayWorkers", "ray_workers"]

_CAUSE = "\x00"  # parts an error's reason from its first cause on the way here
_GPU = ("auto", "cuda")
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


class RayWorkers:
    """Actors of a Ray cluster.

    Parameters
    ----------
    backend
        Flower's Ray backend, built.
    threads
        One for each actor; they wait for its answers.
    """

    def __init__(self, backend: Any, threads: ThreadPoolExecutor) -> None:
        import ray

        self._backend, self._threads = backend, threads
        self._shelf = Shelf(ray.put)

    @property
    def count(self) -> int:
        """How many devices run at once."""
        return int(self._backend.num_workers)

    def submit(self, message: Message, context: Context) -> Future[Answer]:
        """Begin one call of the app in an actor that is free."""
        light, tickets = self._shelf.lighten(message)
        light.__dict__["easel_tickets"] = tickets
        return self._threads.submit(self._call, light, context)

    def _call(self, light: Message, context: Context) -> Answer:
        node = light.metadata.dst_node_id
        try:
            reply, after = self._backend.process_message(light, context)
        except Exception as error:
            raise FederationError(
                f"Ray lost node {node}: {said(error)}", hint="the same command goes on; look at Ray's own logs"
            ) from error
        if not reply.has_error():
            return reply, "", after
        reason, _, cause = reply.error.reason.partition(_CAUSE)
        reply.error = Error(code=reply.error.code, reason=reason)
        return reply, cause, after


class _RayDevice:
    """The app as it runs in an actor; what goes wrong travels with the reply."""

    def __init__(self, app: App, *, threads: int, device: str) -> None:
        self._app, self._threads, self._device = app, threads, device

    def __call__(self, message: Message, context: Context) -> Message:
        import ray

        torch.set_num_threads(self._threads)
        become_task()
        context.node_config[COMPUTE] = self._device  # of several GPUs Ray shows an actor only its own
        for name, ticket in message.__dict__.pop("easel_tickets", {}).items():
            record: ArrayRecord = ray.get(ticket)
            message.content[name] = record
        reply, cause = call_device(self._app, message, context)
        if reply.has_error():
            reply.error = Error(code=reply.error.code, reason=f"{reply.error.reason}{_CAUSE}{cause}")
        return reply


@contextlib.contextmanager
def ray_workers(app: App, *, count: int, threads: int, address: str = "", device: str = "cpu") -> Iterator[RayWorkers]:
    """Start Flower's actors for an app, and stop them in the end.

    Parameters
    ----------
    app
        May hold functions that are defined in other functions.
    count
        CPUs, and so actors, of a Ray that is started here; a cluster is used as a whole.
    threads
        Torch's threads in each.
    address
        Of a running cluster's head, ``HOST:PORT``; empty starts Ray on this computer alone.
    device
        Where actors compute: one of :data:`client.placement.DEVICES`.

    Raises
    ------
    ConfigError
        If the address is none.
    MissingError
        If Ray is not installed.
    FederationError
        If there is no cluster at the address, or it offers no CPU, or no GPU where one is asked for.
    """
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    try:
        from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
    except ImportError as error:
        raise MissingError("Ray is not installed", hint="pip install 'easel[sim]'") from error
    if address:
        _check_address(address)
    init: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    init |= {"address": address} if address else {"num_cpus": count, "address": "local"}
    if not address and device in _GPU:
        init["num_gpus"] = torch.cuda.device_count()
    backend = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                backend = RayBackend({"init_args": init, "client_resources": {"num_cpus": 1}})
                share = _gpu_share(device)
                backend.client_resources["num_gpus"] = share
                placed = _RayDevice(app, threads=threads, device="cuda" if share else device)
                backend.build(lambda: placed)  # type: ignore[arg-type, return-value]
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise FederationError(f"Ray cannot be used: {said(error)}", hint="see docs/simulation.md") from error
        with ThreadPoolExecutor(max(1, backend.num_workers)) as pool:
            yield RayWorkers(backend, pool)
    finally:
        if backend is not None:
            backend.terminate()


def _gpu_share(device: str) -> float:
    """Return how much of a GPU each actor gets: as many actors as a node has CPUs share its GPUs evenly."""
    import ray

    if device not in _GPU:
        return 0.0
    nodes = [node["Resources"] for node in ray.nodes()]  # type: ignore[no-untyped-call]
    crowds: list[int] = [math.ceil(node["CPU"] / node["GPU"]) for node in nodes if node.get("GPU") and node.get("CPU")]
    if crowds:
        return math.floor(1e4 / max(crowds)) / 1e4  # Ray counts in ten-thousandths
    if device == "cuda":
        raise FederationError("the Ray cluster offers no GPU", hint='set device = "cpu" or "auto"')
    return 0.0


def _check_address(address: str) -> None:
    """Refuse an address where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"a Ray address is HOST:PORT, not {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=10.0).close()
    except (OSError, OverflowError) as error:
        raise FederationError(
            f"Ray cannot be used: nobody answers at {address}", hint="is `ray start --head` running there?"
        ) from error
