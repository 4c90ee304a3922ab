"""The ledger's files: private, never believed when damaged or copied back, whole whatever is killed or run twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from client.ledger import Ledger
from shared_model.errors import BudgetError, LedgerError, StorageError
from shared_model.mechanism import Mechanism
from tests.client.accounts import USER, make, per_step

ROOT = Path(__file__).resolve().parents[2]


def test_files_are_private(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    ledger.reserve("spring", 1, mechanism=USER)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["ledger.json", "ledger.json.seal"]
    assert all(item.stat().st_mode & 0o777 == 0o600 for item in tmp_path.iterdir())


def spoil_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_edit(path: Path) -> None:
    path.write_text(path.read_text().replace('"round": 2', '"round": 1'))


def spoil_drop_entry(path: Path) -> None:
    content = json.loads(path.read_text())
    content["entries"].pop()
    path.write_text(json.dumps(content))


def spoil_version(path: Path) -> None:
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))


def spoil_format(path: Path) -> None:
    path.write_text('{"format": "shopping list"}')


def spoil_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00garbage")


def spoil_remove(path: Path) -> None:
    path.unlink()


def spoil_seal(path: Path) -> None:
    path.with_name("ledger.json.seal").write_text("???")


def spoil_lose_seal(path: Path) -> None:
    path.with_name("ledger.json.seal").unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_truncate,
        spoil_empty,
        spoil_edit,
        spoil_drop_entry,
        spoil_version,
        spoil_format,
        spoil_binary,
        spoil_remove,
        spoil_seal,
        spoil_lose_seal,
    ],
)
def test_damage_fails_closed(tmp_path: Path, spoil: object) -> None:
    ledger = make(tmp_path)
    ledger.reserve("spring", 2, mechanism=USER)
    assert callable(spoil)
    spoil(tmp_path / "ledger.json")
    for attempt in (lambda: make(tmp_path), ledger.spent, lambda: ledger.reserve("spring", 3, mechanism=USER)):
        with pytest.raises(LedgerError):
            attempt()


def test_a_restored_backup_is_detected(tmp_path: Path) -> None:
    ledger = make(tmp_path)
    ledger.reserve("spring", 1, mechanism=USER)
    backup = (tmp_path / "ledger.json").read_bytes()
    ledger.reserve("spring", 2, mechanism=USER)
    (tmp_path / "ledger.json").write_bytes(backup)
    with pytest.raises(LedgerError, match="old copy"):
        make(tmp_path)


def test_a_foreign_ledger_is_detected(tmp_path: Path) -> None:
    mine, other = make(tmp_path / "mine"), make(tmp_path / "other")
    mine.reserve("spring", 9, mechanism=USER)
    other.reserve("spring", 1, mechanism=USER)
    (tmp_path / "mine" / "ledger.json").write_bytes((tmp_path / "other" / "ledger.json").read_bytes())
    with pytest.raises(LedgerError, match="does not belong"):
        mine.spent()


def test_a_full_disk_refuses_the_round_and_keeps_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make(tmp_path)
    ledger.reserve("spring", 1, mechanism=USER)

    def full(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> Path:
        raise StorageError("cannot write: no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("client.ledger_file.write_atomic", full)
        with pytest.raises(StorageError):
            ledger.reserve("spring", 2, mechanism=USER)
    assert ledger.spent() == 1.0
    assert ledger.reserve("spring", 3, mechanism=USER).epsilon_after == 3.0


def test_threads_cannot_both_spend(tmp_path: Path) -> None:
    ledger = make(tmp_path, max_epsilon=5.0)
    mechanism = Mechanism(2.0, 0.2, "example")
    outcomes: list[str] = []

    def spend(name: str) -> None:
        try:
            ledger.reserve(name, 1, mechanism=mechanism)
            outcomes.append("spent")
        except BudgetError:
            outcomes.append("refused")

    workers = [threading.Thread(target=spend, args=(f"run {number}",)) for number in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["spent"] * 5
    assert ledger.spent() == 5.0


PREAMBLE = """
import os, signal, sys
from pathlib import Path
from client.ledger import Ledger
from client.witness import Witness
from shared_model.errors import BudgetError
from shared_model.mechanism import Mechanism
assert "torch" not in sys.modules
ONE = Mechanism(2.0, 0.2, "example")
def account(history, *, delta):
    return float(sum(steps for _, steps in history))
def ledger(path, limit=1000.0):
    witness = Path(sys.argv[1]) / "witness"
    return Ledger.open(path, max_epsilon=limit, delta=1e-5, account=account, witness=witness)
"""

KILLS = (
    PREAMBLE
    + """
folder = Path(sys.argv[1])
NAMES = ("open", "pwrite", "fsync", "replace", "close", "fdopen", "fchmod")
def die_at(call):
    '''Kill this process, uncatchably, just before its call-th system call of interest.'''
    left = [call]
    def wrap(real):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return wrapped
    for name in NAMES:
        setattr(os, name, wrap(getattr(os, name)))
deaths = 0
for call in range(1, 400):
    path, granted = folder / str(call) / "ledger.json", folder / f"granted{call}"
    child = os.fork()
    if child == 0:
        die_at(call)
        book = ledger(path)
        for number in (1, 2):
            reservation = book.reserve("run", number, mechanism=ONE)
            with granted.open("a") as note:
                note.write("x")
            book.sent(reservation, bytes_sent=1)
            book.commit(reservation)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    promised = len(granted.read_text()) if granted.exists() else 0
    again = ledger(path)
    spent = again.spent()
    assert promised <= spent <= promised + 1, (call, promised, spent)
    assert again.summary()["complete"]
    memory = Path(sys.argv[1]) / "witness"
    if deaths % 9 == 0 and Witness(memory).at(path.resolve()):  # alone it knows as much, or one write less
        kept = path.read_bytes(), path.with_name("ledger.json.seal").read_bytes()
        path.unlink()
        path.with_name("ledger.json.seal").unlink()
        rescued = Ledger.recover(path, witness=memory, account=account)
        assert spent - 1 <= rescued.spent() <= spent, (call, rescued.spent(), spent)
        for other in path.parent.iterdir():
            other.unlink()
        for other in memory.glob("*.json"):
            other.unlink()
        path.write_bytes(kept[0])
        path.with_name("ledger.json.seal").write_bytes(kept[1])
    again.reserve("run", 3, mechanism=ONE)
    assert again.spent() == spent + 1
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0 and promised == 2, status
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    deaths += 1
print(deaths)
"""
)

RACE = (
    PREAMBLE
    + """
path = Path(sys.argv[1]) / "ledger.json"
ledger(path, 10.0)
children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        spent = 0
        for turn in range(4):
            try:
                ledger(path, 10.0).reserve(f"run {os.getpid()}", turn + 1, mechanism=ONE)
                spent += 1
            except BudgetError:
                pass
        os._exit(spent)
    children.append(child)
print(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""
)


def run_script(script: str, folder: Path) -> int:
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def test_killed_between_any_two_writes_nothing_granted_is_forgotten(tmp_path: Path) -> None:
    assert run_script(KILLS, tmp_path) > 30


def test_processes_cannot_both_spend(tmp_path: Path) -> None:
    assert run_script(RACE, tmp_path) == 10
    assert Ledger.open(tmp_path / "ledger.json", account=per_step).spent() == 10.0
