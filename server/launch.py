"""Runs one federation from the command line: a SuperLink of its own, the run, and its progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from server.budget import Budget, solve_noise
from server.bundle import run_config
from server.config import FederationConfig
from server.events import Say
from server.places import SERVERAPP, resolve_backbone
from server.state import RoundState, StateStore
from server.superlink import SuperLink, superlink
from shared_model.errors import FederationError, InputError
from shared_model.processes import alive, end_marked
from shared_model.weights import load_backbone

__all__ = ["Where", "certificates", "launch"]


_AGAIN = "finished rounds are saved; run the same command again to go on"


def _all_told(state: RoundState) -> int:
    return state.round


@dataclass(frozen=True)
class Where:
    """Where a SuperLink listens, and with which certificates (``None``: unencrypted, loopback only).

    With ``node_auth`` it accepts registered devices only, and ``beside`` (what registers them and lets
    them in) runs as long as the SuperLink does.
    """

    host: str
    port: int
    certificates: Mapping[str, Path] | None
    node_auth: bool = False
    beside: Callable[[SuperLink], contextlib.AbstractContextManager[None]] | None = None


def certificates(host: str, port: int, *, ca: Path | None, cert: Path | None, key: Path | None) -> Where:
    """Check that the three certificate files belong together and exist.

    Raises
    ------
    InputError
        If only some are given, or one is missing.
    """
    given = {name: path for name, path in (("ca", ca), ("cert", cert), ("key", key)) if path is not None}
    if given and len(given) < 3:
        raise InputError("--ca, --cert and --key belong together", hint="give all three, or none on 127.0.0.1")
    for name, path in given.items():
        if not path.is_file():
            raise InputError(f"there is no file {path}", hint=f"--{name} must name a PEM file")
    absolute = {name: path.resolve() for name, path in given.items()}
    return Where(host, port, absolute or None)


def launch(
    config_path: Path,
    *,
    run_dir: Path,
    backbone: str,
    where: Where,
    say: Say,
    told: Callable[[RoundState], int] = _all_told,
) -> RoundState:
    """Run all rounds that are left and return the final state.

    What can be refused is refused before any process starts: a changed configuration, missing or
    damaged weights, a fleet that noise would drown.

    Parameters
    ----------
    config_path, run_dir, backbone, where
        What to run, where its state goes, the weights it starts from, and where it listens.
    say
        Hears about every round.
    told
        How many rounds of a state that is resumed have been told already; those after them are told
        first. Default: all.

    Raises
    ------
    FederationError
        If the run ended early; finished rounds are saved and the message names the cause.
    """
    config = FederationConfig.load(config_path)
    folder = run_dir.resolve()
    store = StateStore(folder)
    state = store.load()
    if state is not None:
        state.check_config(config)
        noise, parameters = state.noise_multiplier, len(state.backbone)
    else:
        start = load_backbone(resolve_backbone(backbone))
        noise, parameters = solve_noise(config), sum(p.numel() for p in start.parameters())
    warning = Budget(config, noise).warning(parameters=parameters)
    if warning:
        say(f"note: {warning}")
    with store.lock(wait_s=10.0):
        (folder / SERVERAPP).unlink(missing_ok=True)  # of one that was killed
    path = str(resolve_backbone(backbone).resolve()) if state is None else backbone
    with contextlib.ExitStack() as stack:
        stack.callback(end_marked, folder / SERVERAPP)  # it outlives a SuperExec that was killed
        link = stack.enter_context(
            superlink(
                folder / "flower",
                host=where.host,
                port=where.port,
                certificates=where.certificates,
                node_auth=where.node_auth,
            )
        )
        if where.beside is not None:
            stack.enter_context(where.beside(link))
        say(f"SuperLink on {link.address}; waiting for {max(config.min_nodes, config.simulated_population)} devices")
        run = link.submit(run_config(config, run_dir=folder, backbone=path))
        _follow(link, run, store, config=config, say=say, told=told)
    state = store.load()
    if state is None:
        raise FederationError("the run left no state", hint=f"see {folder / 'flower' / 'superlink.log'}")
    return state


def _follow(
    link: SuperLink,
    run: str,
    store: StateStore,
    *,
    config: FederationConfig,
    say: Say,
    told: Callable[[RoundState], int] = _all_told,
) -> None:
    """Say each round as it is saved, until Flower says that the run has ended."""
    shown: int | None = None
    next_look = time.monotonic() + 10.0
    while True:
        if link.process.poll() is not None:
            raise FederationError(
                f"the SuperLink died (exit code {link.process.returncode}): see {link.folder / 'superlink.log'}",
                hint=_AGAIN,
            )
        if alive(store.folder / SERVERAPP) is False:
            raise FederationError("the ServerApp was killed", hint=_AGAIN)
        state = store.load()
        if state is not None:
            shown = _tell(state, told(state) if shown is None else shown, config=config, say=say)
        if (state is not None and state.round >= config.rounds) or time.monotonic() >= next_look:
            status = link.status(run)
            if status == "finished:completed":
                state = store.load()  # the last round may have ended while Flower was asked
                if state is not None:
                    _tell(state, told(state) if shown is None else shown, config=config, say=say)
                return
            if status.startswith("finished"):
                raise FederationError(_cause(link.run_log(run)) or f"the run ended as {status}", hint=_AGAIN)
            next_look = time.monotonic() + 10.0
        time.sleep(1.0)


def _tell(state: RoundState, shown: int, *, config: FederationConfig, say: Say) -> int:
    """Say the rounds after so many; return how many there are."""
    for report in state.reports[shown:]:
        say(report.line(rounds=config.rounds), event="round", facts={"run": state.run, **report.to_dict()})
    return state.round


def _cause(log: str) -> str:
    """Return the last line of a traceback that names an error, without its class."""
    lines = [line.strip() for line in log.splitlines() if "Error: " in line or "Interrupted: " in line]
    return lines[-1].split(": ", 1)[1] if lines else ""
