"""The benchmark of engines: the same work everywhere, and processes measured with all that they started."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, RecordDict

from simulations.bench_engines.measured import _streaming
from simulations.bench_engines.processes import Watch, cpu_seconds, family
from simulations.bench_engines.table import Cell, measure
from simulations.bench_engines.work import ARRAY, RATE, app_of, side_of
from simulations.cli import main
from simulations.grid import InProcessGrid

LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux' /proc")


@pytest.mark.parametrize("work", ["vector", "step"])
def test_clients_return_what_they_should(work: str) -> None:
    grid = InProcessGrid(app_of(work), [{}, {}])
    start = torch.full((16,), 0.5)
    content = RecordDict({ARRAY: ArrayRecord({ARRAY: Array(start.numpy())})})
    replies = list(grid.send_and_receive(Message(content, node, "train") for node in grid.get_node_ids()))
    vectors = [torch.from_numpy(reply.content.array_records[ARRAY][ARRAY].numpy()) for reply in replies]
    assert torch.equal(vectors[0], vectors[1]) and vectors[0].shape == (16,)
    if work == "vector":
        assert torch.equal(vectors[0], start)
    else:
        assert 0.0 < vectors[0].norm() < 10 * RATE
    assert grid.failures == [] and side_of(1_000_000) == 1000


@pytest.mark.parametrize("work", ["vector", "step"])
def test_replies_do_not_pile_up_until_garbage_is_collected(work: str) -> None:
    """A model's bytes go with the last name for them, so the next client finds them in the cache."""
    one_round = _streaming(InProcessGrid(app_of(work), [{}] * 10), 300, 10)
    one_round()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        one_round()
        assert tracemalloc.get_traced_memory()[1] < 8 * 300 * 300 * 4, "a sum of 8 bytes, and a few vectors of 4"
    finally:
        tracemalloc.stop()
        gc.enable()


@LINUX
def test_a_family_of_processes_is_found_and_weighed() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(1 << 26); input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as parent, Watch(parent.pid) as watch:
        assert parent.stdin
        for _ in range(600):
            if watch.peak_mib > 64:
                break
            watch._stop.wait(0.1)
        assert len(family(parent.pid)) == 2
        assert cpu_seconds(parent.pid) > 0.0
        parent.stdin.write(b"\n")
        parent.stdin.close()
    assert watch.peak_mib > 64
    assert os.getpid() not in family(parent.pid)


@LINUX
@pytest.mark.slow
def test_an_engine_is_measured() -> None:
    found = measure(Cell("in-process", "vector", clients=3, parameters=100, rounds=2))
    assert found.rate > 0 and found.cpu_ms >= 0 and found.peak_mib > 50


def test_an_unknown_engine_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "engines", "--engines", "warp"]) == 2
    assert "there is no engine 'warp'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--clients", "0"], "at least 1"),
        (["--parameters", "-5"], "at least 1"),
        (["--pfl-python", "/no/python"], "/no/python is not a program"),
    ],
)
def test_a_mistake_is_one_line(wrong: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "engines", "--engines", "pfl", *wrong]) == 2
    assert words in capsys.readouterr().err
