"""Large bytes go through files that are used again and never stay behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared_model.errors import FederationError
from simulations import slots
from simulations.pooled_grid import PooledGrid
from simulations.slots import LARGE, Slot, shared_folder
from simulations.workers import processes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, LARGE + 1, 1_000_003])
def test_what_comes_out_is_what_went_in(tmp_path: Path, size: int) -> None:
    here, there = Slot(tmp_path / "slot"), Slot(tmp_path / "slot")
    data = os.urandom(size)
    for value in ({"a": [data, data], "b": (1, "x", os.urandom(2 * LARGE))}, {"a": data}, [data[: LARGE + 7]]):
        packed = here.pack(value)
        assert len(packed) < 2 * LARGE + 200
        assert there.unpack(packed) == value
        here, there = there, here
    here.close()
    there.close()


def test_what_is_in_a_message_twice_is_written_once(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "slot")
    data = os.urandom(LARGE)
    assert len(slot.pack([data, data])) < 100
    assert slot.path.stat().st_size == LARGE
    slot.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_without_space_a_message_goes_through_the_pipe() -> None:
    slot = Slot(Path("/dev/full"))
    data = os.urandom(3 * LARGE)
    packed = slot.pack([data])
    assert packed == pickle.dumps([data], protocol=5) and slot.unpack(packed) == [data]
    slot.close()


def test_a_slot_that_was_cut_is_an_error(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "slot")
    packed = slot.pack(os.urandom(LARGE))
    os.truncate(slot.path, LARGE - 1)
    with pytest.raises(EOFError, match="65535 of 65536"):
        slot.unpack(packed)
    slot.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, FederationError("no"), SystemExit])
def test_the_folder_goes_whatever_ends_the_block(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises((KeyboardInterrupt, FederationError, SystemExit)), shared_folder(tmp_path) as folder:
        Slot(folder / "slot").close()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_only_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left, used, strange = (tmp_path / name for name in ("easel-slots-left", "easel-slots-used", "other-left"))
    for folder in (left, used, strange):
        folder.mkdir()
        (folder / "lock").touch()
        (folder / "slot-1").write_bytes(b"x")
    with (used / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with shared_folder(tmp_path) as first, shared_folder(tmp_path) as second:
            assert first.exists() and second.exists()
            assert not left.exists() and (used / "slot-1").exists() and (strange / "slot-1").exists()


def app(*, fatal: bool = False) -> ClientApp:
    made = ClientApp()

    @made.train()
    def train(message: Message, context: Context) -> Message:
        device = int(context.node_config["partition-id"])
        if fatal and device == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        values = message.content["in"]["x"].numpy()  # type: ignore[union-attr]
        kept = context.state.setdefault("kept", ArrayRecord({"y": Array(np.full(30_011, device, np.float64))}))
        kept["y"] = Array(kept["y"].numpy() + 0.5)  # type: ignore[index, union-attr]
        sizes = (0, 16_383 + device, 250_001 - device)
        arrays = {str(size): Array(values[:size] + np.float32(device)) for size in sizes}
        return Message(RecordDict({"out": ArrayRecord({**arrays, "y": kept["y"]})}), reply_to=message)  # type: ignore[index]

    return made


def rounds(app: ClientApp, method: str = "") -> list[dict[str, bytes]]:
    """Ask seven devices twice over two processes, and return all bytes."""
    found = []
    with processes(app, count=2, threads=1, method=method) as workers:
        grid = PooledGrid(workers, [{}] * 7)
        for turn in range(2):
            values = np.random.default_rng(turn).standard_normal(250_001).astype(np.float32)
            content = RecordDict({"in": ArrayRecord({"x": Array(values)})})
            for reply in grid.send_and_receive(Message(content, node, "train") for node in grid.get_node_ids()):
                assert not reply.has_error(), reply.error
                found.append({name: array.data for name, array in reply.content["out"].items()})  # type: ignore[union-attr]
    return found


def check_rounds(found: list[dict[str, bytes]]) -> None:
    assert len(found) == 14
    for at, arrays in enumerate(found):
        turn, device = divmod(at, 7)
        values = np.random.default_rng(turn).standard_normal(250_001).astype(np.float32)
        for size in (0, 16_383 + device, 250_001 - device):
            assert arrays[str(size)] == Array(values[:size] + np.float32(device)).data
        assert arrays["y"] == Array(np.full(30_011, device + 0.5 * (turn + 1))).data


def test_replies_of_any_size_come_back_whole_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_IN_MEMORY", tmp_path)
    check_rounds(rounds(app()))
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_when_a_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_IN_MEMORY", tmp_path)
    with pytest.raises(FederationError, match="a worker process died"):
        rounds(app(fatal=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_processes_that_are_spawned_do_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_IN_MEMORY", tmp_path)
    check_rounds(rounds(app(), "spawn"))
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import os, sys, time
from pathlib import Path
from simulations import slots
slots._IN_MEMORY = Path(sys.argv[1])
import test_slots as here
from simulations.workers import processes

def slow(message, context):
    print(os.getpid(), flush=True)
    time.sleep(600)

with processes(slow, count=2, threads=1) as workers:
    grid = here.PooledGrid(workers, [{}] * 4)
    content = here.RecordDict({"in": here.ArrayRecord({"x": here.Array(here.np.zeros(250_001))})})
    list(grid.send_and_receive(here.Message(content, node, "train") for node in grid.get_node_ids()))
"""


@contextlib.contextmanager
def running(script: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script of two workers that are busy, and end its processes if the test does not."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, str(place)]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "simulations")])
    with subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    ) as run:  # fmt: skip
        try:
            yield run
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("blow", ["kill", "terminate", "terminate all"])
def test_a_run_that_is_killed_leaves_neither_files_nor_processes(tmp_path: Path, blow: str) -> None:
    with running(SCRIPT, tmp_path) as run:
        assert run.stdout
        workers = [int(run.stdout.readline()) for _ in range(2)]
        assert len(list(tmp_path.glob("easel-slots-*/slot-*"))) >= 2
        if blow == "terminate all":
            os.killpg(run.pid, signal.SIGTERM)
        else:
            run.send_signal(signal.SIGKILL if blow == "kill" else signal.SIGTERM)
        run.wait(30)
        end = time.monotonic() + 30
        while (list(tmp_path.iterdir()) or any(map(runs, workers))) and time.monotonic() < end:
            time.sleep(0.1)
        assert list(tmp_path.iterdir()) == [] and not any(map(runs, workers))


def runs(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# Python listens to Ctrl-C unless it was started in the background of a script, as tests may be.
LISTENING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
INTERRUPTED = LISTENING + SCRIPT.replace("time.sleep(600)", "time.sleep(2)")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    with running(INTERRUPTED, tmp_path) as run:
        assert run.stdout and run.stderr
        run.stdout.readline()
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them
        assert run.wait(60) != 0
        errors = run.stderr.read()
    assert list(tmp_path.iterdir()) == []
    assert "KeyboardInterrupt" in errors and "resource_tracker" not in errors
