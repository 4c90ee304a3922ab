"""``easel-sim bench engines``: client-rounds a second, processor seconds and memory, all in one run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from client.console import Console
from shared_model.errors import EaselError, InputError
from simulations.bench_engines.processes import Watch, cpu_seconds
from simulations.bench_engines.work import WORKS, side_of

__all__ = ["ENGINES", "Cell", "Measured", "bench_engines", "measure"]

#: What can be measured: easel's engines, Flower's simulation on Ray, pfl-research.
ENGINES = ("in-process", "processes", "ray", "flower", "pfl")
_ENVIRONMENT = {
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True)
class Cell:
    """One measurement to make.

    Parameters
    ----------
    engine
        One of `ENGINES`.
    work
        One of :data:`simulations.bench_engines.work.WORKS`.
    clients, parameters, rounds
        Clients in a round, about how long a vector is, and rounds after the warm-up.
    """

    engine: str
    work: str
    clients: int
    parameters: int
    rounds: int


@dataclass(frozen=True)
class Measured:
    """What was found.

    Parameters
    ----------
    cell
        What was measured.
    rate
        Client-rounds a second, by the clock.
    cpu_ms
        Processor milliseconds for each, of all processes.
    peak_mib
        Most memory of all processes together, what they share counted once.
    """

    cell: Cell
    rate: float
    cpu_ms: float
    peak_mib: float


def measure(cell: Cell, *, python: str = sys.executable) -> Measured:
    """Measure one engine in a process of its own.

    Raises
    ------
    EaselError
        If it fails; its last words are in the message.
    """
    here = Path(__file__).parent
    command = [python, str(here / "pfl_peer.py")] if cell.engine == "pfl" else [sys.executable, "-m", _MEASURED]
    command += ["--engine", cell.engine, "--clients", str(cell.clients), "--side", str(side_of(cell.parameters))]
    command += ["--rounds", str(cell.rounds), "--work", cell.work]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, **_ENVIRONMENT}
    environment = environment if cell.engine == "pfl" else {**environment, "PYTHONPATH": paths}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment) as process,
        Watch(process.pid) as watch,
    ):
        assert process.stdin and process.stdout
        before, after, seconds = 0.0, 0.0, 0.0
        for line in process.stdout:
            if not line.startswith('{"mark"'):
                continue
            fact = json.loads(line)
            if fact["mark"] == "start":
                before = cpu_seconds(process.pid)
            else:
                after, seconds = cpu_seconds(process.pid), float(fact["seconds"])
            process.stdin.write("\n")
            process.stdin.flush()
        process.wait()
        log.seek(0)
        words = log.read().strip().splitlines()
    if not seconds:
        raise EaselError(f"{cell.engine} could not be measured: {words[-1] if words else 'no output'}")
    done = cell.clients * cell.rounds
    return Measured(cell, done / seconds, (after - before) / done * 1000, watch.peak_mib)


_MEASURED = "simulations.bench_engines.measured"


def bench_engines(
    console: Console, *, engines: Sequence[str], sizes: Sequence[tuple[int, int]], pfl_python: str = ""
) -> list[dict[str, object]]:
    """Measure engines side by side, say the table, and return its rows.

    Parameters
    ----------
    console
        Where the table goes.
    engines
        Some of `ENGINES`; pfl is left out with a note where there is no ``pfl_python``.
    sizes
        Clients and parameters of each comparison.
    pfl_python
        The interpreter of an environment that has pfl-research.

    Raises
    ------
    InputError
        For an unknown engine, nothing to do, an interpreter that is none, or where ``/proc`` is not there to
        measure with.
    """
    unknown = [name for name in engines if name not in ENGINES]
    if unknown:
        raise InputError(f"there is no engine {unknown[0]!r}", hint=f"choose from {', '.join(ENGINES)}")
    if not engines or not sizes or min(min(size) for size in sizes) < 1:
        raise InputError("clients and parameters must be at least 1")
    if pfl_python and shutil.which(pfl_python) is None:
        raise InputError(f"{pfl_python} is not a program", hint="--pfl-python names the python of an environment")
    if not Path("/proc/self/smaps_rollup").exists():
        raise InputError("the engines' processes are measured through Linux' /proc, which is not here")
    chosen = [name for name in engines if name != "pfl" or pfl_python]
    if len(chosen) < len(engines):
        console.note("pfl-research is left out: name its interpreter with --pfl-python")
    rows = []
    for clients, parameters in sizes:
        for work in WORKS:
            for engine in chosen:
                cell = Cell(engine, work, clients, parameters, _rounds(clients, parameters))
                rows.append(measure(cell, python=pfl_python))
                console.note(_words(rows[-1]))
    console.table([_line(row) for row in rows], header=_HEADER)
    return [{**asdict(row.cell), "rate": row.rate, "cpu_ms": row.cpu_ms, "peak_mib": row.peak_mib} for row in rows]


_HEADER = ("clients", "parameters", "work", "engine", "client-rounds/s", "CPU ms each", "peak MiB")


def _rounds(clients: int, parameters: int) -> int:
    """Return enough rounds for some seconds of work, and not many more."""
    wanted = 300 if parameters > 100_000 else 3000
    return max(1, min(30, wanted // clients))


def _line(row: Measured) -> tuple[str, ...]:
    cell = row.cell
    size = f"{side_of(cell.parameters) ** 2:,}"
    return (
        str(cell.clients),
        size,
        cell.work,
        cell.engine,
        f"{row.rate:.0f}",
        f"{row.cpu_ms:.2f}",
        f"{row.peak_mib:.0f}",
    )


def _words(row: Measured) -> str:
    cell = row.cell
    return f"{cell.engine}, {cell.work}, {cell.clients} x {cell.parameters}: {row.rate:.0f} client-rounds/s"
