"""The engine of a simulation: runs the real server over the real client app, here or elsewhere.

One key, ``kind``, says where devices run; what they compute is the same everywhere.

Guarantees
    The same seed gives the same bits in process, over processes and on Ray, since replies are summed in
    the order in which devices were asked (:mod:`simulations.pooled_grid`) and torch runs with the same
    number of threads; operating-system noise excepted. Computers of another kind in a Ray cluster may
    round otherwise, and a GPU does: nothing is promised of its last bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from client.placement import COMPUTE, DEVICES, GPUS, dealt
from server.config import FederationConfig
from server.report import RoundReport
from server.rounds import begin, run
from server.state import RoundState, StateStore
from server.transport import Timing
from shared_model.backbone import Backbone
from shared_model.config import digest
from shared_model.errors import ConfigError
from shared_model.noise import secure_normal
from simulations.allocator import keep_freed_memory
from simulations.churn import ChurnGrid
from simulations.device_call import App
from simulations.grid import InProcessGrid
from simulations.pooled_grid import PooledGrid
from simulations.populations.config import ChurnConfig
from simulations.seeded_noise import SeededNoise

__all__ = ["KINDS", "EngineConfig", "OnRound", "federate", "open_grid", "torch_threads"]

#: Where devices can run.
KINDS = ("in-process", "processes", "ray")

#: Called with state and report after every round that was saved.
OnRound = Callable[[RoundState, RoundReport], None]


@dataclass(frozen=True)
class EngineConfig:
    """Where simulated devices run.

    Parameters
    ----------
    kind
        ``"in-process"``: in this process, one after the other. ``"processes"``: in worker processes of this
        computer. ``"ray"``: in Flower's Ray actors, here or on a cluster.
    workers
        Devices that run at once with ``"processes"``, and with ``"ray"`` where Ray is started here.
    threads
        Torch's threads for each device. Another number can change the last bits of what is computed.
    address
        Of a running Ray cluster, ``HOST:PORT``; empty starts Ray on this computer.
    device
        Where devices train: ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"`` for the fastest that there is.
        Workers get the GPUs in turn.
    churn
        How devices behave; by default each answers at once.
    seeded_noise
        FOR TESTS, NOT PRIVATE: a seed of the server's privacy noise, which whoever knows it can take off
        again; -1: noise comes from the operating system.
    """

    kind: str = "in-process"
    workers: int = 2
    threads: int = 1
    address: str = ""
    device: str = "cpu"
    churn: ChurnConfig = field(default_factory=ChurnConfig)
    seeded_noise: int = -1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"engine kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not 1 <= self.workers <= 1024:
            raise ConfigError(f"workers must be between 1 and 1024, not {self.workers}")
        if not 1 <= self.threads <= 256:
            raise ConfigError(f"threads must be between 1 and 256, not {self.threads}")
        if self.address and self.kind != "ray":
            raise ConfigError("address is that of a Ray cluster", hint='set kind = "ray"')
        if self.device not in DEVICES:
            raise ConfigError(f"device must be one of {', '.join(DEVICES)}, not {self.device!r}", hint=GPUS)

    def places(self) -> tuple[str, ...]:
        """Return the device of each worker, of this process alone where there are none; a cluster has its own.

        Raises
        ------
        MissingError
            If this computer has no such device.
        """
        if self.address:
            return ()
        return dealt(self.device, 1 if self.kind == "in-process" else self.workers)


def federate(
    client_app: App,
    devices: Sequence[Path],
    *,
    folder: Path,
    config: FederationConfig,
    start: Callable[[], Backbone],
    engine: EngineConfig | None = None,
    on_round: OnRound = lambda state, report: None,
) -> tuple[RoundState, tuple[str, ...]]:
    """Run all rounds of a federation, or those that are left, over device folders on this computer.

    Parameters
    ----------
    client_app
        What runs on each device; :data:`client.app.app` or one with another local trainer.
    devices
        Device folders, in order, with ledgers that are new to this run: the name of a run follows from its
        settings and weights, so a device refuses the same one twice.
    folder
        Where the server's state lives; a state found there is resumed.
    config
        The federation.
    start
        Gives the first backbone of a new run.
    engine
        Where devices run.
    on_round
        Called after each round is saved.

    Returns
    -------
    state
        After the last round.
    failures
        What went wrong on devices, first causes, one line each.

    Raises
    ------
    FederationError
        If a worker process dies, or Ray cannot be used.
    MissingError
        If the device that they are to compute on is not there.
    """
    chosen = engine or EngineConfig()
    with open_grid(client_app, devices, engine=chosen) as (grid, timing):
        store = StateStore(folder)
        _name_run(store, config, start)
        noise = None if chosen.seeded_noise < 0 else SeededNoise(chosen.seeded_noise)

        def go_on(state: RoundState) -> None:
            if noise is not None:
                noise.go_to(state.round)
            if isinstance(grid, ChurnGrid):
                grid.go_on(state)

        def after(state: RoundState, report: RoundReport) -> None:
            if noise is not None:
                noise.go_to(state.round)
            on_round(state, report)

        state = run(
            grid,
            store,
            config=config,
            start=start,
            on_start=go_on,
            on_round=after,
            timing=timing,
            noise=secure_normal if noise is None else noise.normal,
            entropy=os.urandom if noise is None else noise.entropy,
        )
        return state, tuple(grid.failures)


def _name_run(store: StateStore, config: FederationConfig, start: Callable[[], Backbone]) -> None:
    """Begin a new run under a name that follows from its settings: devices derive their minibatches from it."""
    with store.lock():
        if store.load() is None:
            state = begin(config, start())
            weights = state.backbone.numpy().tobytes()
            name = hashlib.sha256(digest(config).encode() + weights).hexdigest()[: len(state.run)]
            store.save(dataclasses.replace(state, run=name))


@contextlib.contextmanager
def open_grid(
    client_app: App, devices: Sequence[Path], *, engine: EngineConfig
) -> Iterator[tuple[InProcessGrid | ChurnGrid, Timing]]:
    """Open the grid of an engine, with the clock by which its devices live; both end with the block.

    Yields
    ------
    grid
        Any of them numbers devices from 1001 and keeps first causes in ``failures``.
    timing
        Virtual time where devices come and go; else a clock on which waiting takes no time, since a device
        answers when it is asked or never.
    """
    configs = [{"device-dir": str(home.resolve())} for home in devices]
    places = engine.places()
    keep_freed_memory()
    with contextlib.ExitStack() as stack:
        grid = stack.enter_context(_grid(client_app, configs, engine, places))
        if engine.churn.calm:
            yield grid, _no_waiting()
        else:
            restless = ChurnGrid(grid, engine.churn)
            yield restless, restless.timing


def _no_waiting() -> Timing:
    waited = [0.0]

    def wait(seconds: float) -> None:
        waited[0] += seconds

    return Timing(clock=lambda: time.monotonic() + waited[0], sleep=wait)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give torch so many threads within the block: another number can change the last bits of what is computed."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _grid(
    client_app: App, configs: Sequence[dict[str, str]], engine: EngineConfig, places: Sequence[str]
) -> Iterator[InProcessGrid]:
    with torch_threads(engine.threads):
        if engine.kind == "in-process":
            yield InProcessGrid(client_app, [{**config, COMPUTE: places[0]} for config in configs])
        elif engine.kind == "processes":
            from simulations.workers import processes

            with processes(client_app, count=engine.workers, threads=engine.threads, places=places) as local:
                yield PooledGrid(local, configs)
        else:
            from simulations.ray_workers import ray_workers

            with ray_workers(
                client_app,
                count=engine.workers,
                threads=engine.threads,
                address=engine.address,
                device=engine.device,
            ) as far:
                yield PooledGrid(far, configs)
