"""Runs the fleet of a folder: SuperLink on loopback, gate outside, registrar between."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from server.deployment import Fleet
from server.enrolment import Enrolment
from server.events import EventLog, Say
from server.gate import Gate, serve
from server.launch import Where, launch
from server.places import SERVERAPP
from server.presence import only_one, registry, utc_now
from server.registrar import Registrar
from server.standing import Standing
from server.state import RoundState, StateStore
from server.status_service import serve_status
from server.superlink import SuperLink, end_orphan
from shared_model.errors import EaselError, FederationError, MissingError
from shared_model.processes import end_marked

__all__ = ["operate"]

EVENTS = "events.jsonl"
_SYNC_S = 5.0
_LINGER_S = 120.0
_EXPIRES_SOON_DAYS = 30


def operate(fleet: Fleet, *, backbone: str, resume: bool, say: Say) -> RoundState:
    """Run all rounds that are left, for the devices of this fleet.

    Parameters
    ----------
    backbone
        Weights to start from, empty for those that easel ships; not used where there is a state.
    resume
        Insist on a state to go on from.

    Raises
    ------
    MissingError
        If there is nothing to resume.
    FederationError
        If another process runs this fleet, a port is taken, or the run ended early.
    """
    config = fleet.config()
    if resume and StateStore(fleet.run).load() is None:
        raise MissingError(f"there is no run in {fleet.run}", hint=f"easel-server run {fleet.folder} starts one")
    days = fleet.facts(now=utc_now())["certificate_days_left"]
    if days < _EXPIRES_SOON_DAYS:
        say(f"note: the server's certificate ends in {days} days; easel-server init {fleet.folder} --renew-certificate")
    with only_one(fleet):
        if end_orphan(fleet.run / "flower"):
            say("ended the SuperLink of an earlier start")
        _require_free(config.listen, config.port)
        if end_marked(fleet.run / SERVERAPP):
            say("ended the ServerApp of an earlier start")
        fleet.run.mkdir(mode=0o700, exist_ok=True)
        with StateStore(fleet.run).lock(wait_s=_LINGER_S):  # a ServerApp outlives a killed SuperLink for a while
            pass
        where = Where(
            "127.0.0.1",
            config.control_port,
            {"ca": fleet.ca, "cert": fleet.certificate, "key": fleet.key},
            node_auth=True,
            beside=lambda link: _beside(fleet, link, say=say),
        )
        log = EventLog(fleet.run / EVENTS, clock=utc_now)

        def tell(text: str, *, event: str = "note", facts: Mapping[str, Any] | None = None) -> None:
            say(text, event=event, facts=facts)
            if event == "round":
                log.write(event, facts)

        def told(state: RoundState) -> int:
            """Look it up: a ServerApp may have gone on while no launcher was there to tell of its rounds."""
            found = log.rounds_told(state.run)
            return state.round if found is None else found

        return launch(fleet.federation, run_dir=fleet.run, backbone=backbone, where=where, say=tell, told=told)


@contextlib.contextmanager
def _beside(fleet: Fleet, link: SuperLink, *, say: Say) -> Iterator[None]:
    """Keep the SuperLink's list of devices, and let devices in through the gate."""
    config, known = fleet.config(), registry(fleet)
    registrar = Registrar(link.address, ca=fleet.ca, registry=known)
    log = EventLog(fleet.run / EVENTS, clock=utc_now)
    latest: list[dict[str, str]] = [{}]  # replaced, never changed: the page is served by other threads

    def follow() -> None:
        done = registrar.sync()
        latest[0] = done.states
        if done.added or done.removed:
            log.write("devices", {"added": done.added, "removed": done.removed, "enrolled": len(done.states)})

    standing = Standing(fleet, clock=utc_now, states=lambda: latest[0])
    gate = Gate(Enrolment(fleet, known, changed=follow), known, upstream=f"https://{link.address}", ca=fleet.ca)
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(follow, ended, log), name="registrar", daemon=True)
    follow()
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            serve(gate, host=config.listen, port=config.port, certificate=fleet.certificate, key=fleet.key)
        )
        log.write("started", {"port": config.port})
        say(
            f"devices come to port {config.port} ({', '.join(fleet.facts(now=utc_now())['hosts'])})",
            event="started",
            facts={"port": config.port},
        )
        if config.status_port:
            try:
                port = stack.enter_context(serve_status(standing.facts, port=config.status_port))
                say(f"status: http://127.0.0.1:{port}")
            except FederationError as error:
                say(f"note: {error.message}; {error.hint}")
        keeper.start()
        try:
            yield
        finally:
            ended.set()
            keeper.join(30.0)
            registrar.close()
            log.write("stopped")


def _keep(follow: Callable[[], None], ended: threading.Event, log: EventLog) -> None:
    """Follow the registry until the end; a SuperLink that does not answer is asked again."""
    well = True
    while not ended.wait(_SYNC_S):
        try:
            follow()
            well = True
        except EaselError as error:
            if well and not ended.is_set():
                log.write("trouble", {"text": error.message})
            well = False


def _require_free(host: str, port: int) -> None:
    """Find out before anything starts that the gate's port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            line.bind((host, port))
    except OSError as error:
        raise FederationError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="server.toml names the address and the port"
        ) from error
