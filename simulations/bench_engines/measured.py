"""One measured process: easel's engines or Flower's, a warm-up round, then the rounds that count.

It says when it starts and ends on its output, and waits each time for a line of input, so that whoever
measures can look at its processes while they are all there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator

import torch
from flwr.app import Array, ArrayRecord, Context, RecordDict
from flwr.serverapp import Grid, ServerApp

from server.admission import read_array
from server.aggregation import StreamingSum
from server.transport import Timing, receive, send
from shared_model.errors import FederationError
from simulations.allocator import keep_freed_memory
from simulations.bench_engines.work import ARRAY, app_of

__all__ = ["main"]


def main() -> None:
    """Measure one engine as the command line says."""
    parser = argparse.ArgumentParser()
    for name in ("clients", "side", "rounds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--engine", required=True)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    if parsed.engine == "flower":
        _flower(parsed.clients, parsed.side, parsed.work, parsed.rounds)
        return
    keep_freed_memory()  # as every simulation does
    with _grid(parsed.engine, parsed.clients, parsed.work) as grid:
        _timed(_streaming(grid, parsed.side, parsed.clients), parsed.rounds)


def _timed(one_round: Callable[[], None], rounds: int) -> None:
    one_round()  # warm-up
    _say(mark="start")
    began = time.perf_counter()
    for _ in range(rounds):
        one_round()
    _say(mark="end", seconds=time.perf_counter() - began)


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


@contextlib.contextmanager
def _grid(engine: str, clients: int, work: str) -> Iterator[Grid]:
    from simulations.grid import InProcessGrid
    from simulations.pooled_grid import PooledGrid

    configs: list[dict[str, str]] = [{} for _ in range(clients)]
    if engine == "in-process":
        yield InProcessGrid(app_of(work), configs)
    elif engine == "processes":
        from simulations.workers import processes

        with processes(app_of(work), count=2, threads=1) as pool:
            yield PooledGrid(pool, configs)
    else:
        from simulations.ray_workers import ray_workers

        with ray_workers(app_of(work), count=2, threads=1) as actors:
            yield PooledGrid(actors, configs)


def _streaming(grid: Grid, side: int, clients: int) -> Callable[[], None]:
    """Return a round of easel's server: requests out, replies added one by one."""
    vector = torch.zeros(side * side)
    turn = iter(range(1, 1 << 30))

    def one_round() -> None:
        nonlocal vector
        content = RecordDict({ARRAY: ArrayRecord({ARRAY: Array(vector.numpy())})})
        asked = send(grid, content, list(grid.get_node_ids()), group=str(next(turn)), ttl_s=3600.0)
        total = StreamingSum(len(vector))
        for reply in receive(grid, asked, limit_s=3600.0, timing=Timing()):
            if reply.has_error():
                raise FederationError(str(reply.error.reason))
            record = reply.content[ARRAY]  # not through `array_records`, whose loop of references keeps it in memory
            assert isinstance(record, ArrayRecord)
            values, reason = read_array(record[ARRAY], dtype="float32", size=len(vector))
            if values is None:
                raise FederationError(str(reason))
            total.add(values)
        vector = vector + (total.total / clients).float()

    return one_round


def _flower(clients: int, side: int, work: str, rounds: int) -> None:
    """Run Flower's own simulation, with its grid and its link; replies come as one list."""
    from flwr.simulation import run_simulation

    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < clients:
            time.sleep(0.1)
        vector = torch.zeros(side * side)

        def one_round() -> None:
            nonlocal vector
            content = RecordDict({ARRAY: ArrayRecord({ARRAY: Array(vector.numpy())})})
            messages = [grid.create_message(content, "train", node, "1") for node in grid.get_node_ids()]
            total = torch.zeros(len(vector), dtype=torch.float64)
            for reply in grid.send_and_receive(messages):
                total += torch.from_numpy(reply.content.array_records[ARRAY][ARRAY].numpy())
            vector = vector + (total / clients).float()

        _timed(one_round, rounds)

    run_simulation(
        server,
        app_of(work),
        clients,
        backend_config={"init_args": {"num_cpus": 2, "address": "local"}, "client_resources": {"num_cpus": 1}},
    )


if __name__ == "__main__":
    main()
