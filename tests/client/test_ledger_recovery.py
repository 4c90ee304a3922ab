"""A restored backup never lets the budget be spent twice: the second memory, the server, the recovery."""

from __future__ import annotations

import json
import math
import shutil
import string
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from client.ledger import Ledger
from client.ledger_book import Book, Entry, Gap, Refusal, decode, encode, union
from client.paths import witness_folder
from shared_model.errors import BudgetError, LedgerError, MissingError
from shared_model.mechanism import Mechanism

STEP = Mechanism(2.0, 0.2, "example")


def per_step(history: Sequence[tuple[Mechanism, int]], *, delta: float) -> float:
    return float(sum(steps for _, steps in history))


class Device:
    """A device folder, a witness folder outside it, and backups of either."""

    def __init__(self, root: Path) -> None:
        self.folder, self.memory = root / "device", root / "state"
        self.path = self.folder / "ledger.json"
        self.round = 0

    def open(self, *, limit: float = 10.0) -> Ledger:
        return Ledger.open(self.path, max_epsilon=limit, delta=1e-5, account=per_step, witness=self.memory)

    def take_part(self, times: int = 1, *, run: str = "spring", limit: float = 10.0, seen: int = 0) -> None:
        for _ in range(times):
            self.round += 1
            reservation = self.open(limit=limit).reserve(run, self.round, mechanism=STEP, seen=seen)
            self.open(limit=limit).sent(reservation, bytes_sent=7)

    def recover(self) -> Ledger:
        return Ledger.recover(self.path, witness=self.memory, account=per_step)


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def restore(source: Path, target: Path) -> None:
    shutil.rmtree(target)
    shutil.copytree(source, target)


def test_ledger_and_seal_restored_together_are_noticed_and_nothing_is_spent_twice(
    device: Device, tmp_path: Path
) -> None:
    device.take_part(3)
    shutil.copytree(device.folder, tmp_path / "backup")
    device.take_part(4)
    restore(tmp_path / "backup", device.folder)
    with pytest.raises(LedgerError, match="old copy") as caught:
        device.take_part()
    assert "--recover" in caught.value.hint
    ledger = device.recover()
    assert ledger.spent() == 7.0
    assert [entry.round for entry in ledger.entries()] == list(range(1, 8))
    device.take_part(3)
    with pytest.raises(BudgetError):
        device.take_part()


def test_a_removed_ledger_is_not_a_new_budget(device: Device) -> None:
    device.take_part(3)
    shutil.rmtree(device.folder)
    with pytest.raises(LedgerError, match="there was one"):
        device.open()
    with pytest.raises(LedgerError, match="there was one"):
        Ledger.open(device.path, account=per_step, witness=device.memory)
    assert device.recover().spent() == 3.0


def test_two_copies_of_a_folder_on_one_machine_share_one_budget(device: Device, tmp_path: Path) -> None:
    device.take_part(2)
    twin = Device(tmp_path)
    twin.folder = tmp_path / "twin"
    twin.path, twin.round = twin.folder / "ledger.json", device.round
    shutil.copytree(device.folder, twin.folder)
    twin.take_part()
    with pytest.raises(LedgerError, match="old copy"):
        device.take_part()
    assert device.recover().spent() == 3.0
    with pytest.raises(LedgerError, match="old copy"):
        twin.take_part()


def test_copies_used_apart_are_added_up(device: Device, tmp_path: Path) -> None:
    """Restored with its witness (nothing on the device can tell), used, and then the newer one put back."""
    device.take_part(2)
    for name in ("device", "state"):
        shutil.copytree(tmp_path / name, tmp_path / f"old {name}")
    device.take_part(run="summer")
    newer = device.path.read_bytes()
    restore(tmp_path / "old device", device.folder)
    restore(tmp_path / "old state", device.memory)
    device.take_part(run="autumn")
    device.path.write_bytes(newer)
    with pytest.raises(LedgerError, match="used apart"):
        device.open()
    ledger = device.recover()
    assert sorted(entry.run for entry in ledger.entries()) == ["autumn", "spring", "spring", "summer"]
    assert ledger.spent() == 4.0


def test_a_server_tells_a_device_that_it_went_back_in_time(device: Device, tmp_path: Path) -> None:
    device.take_part(2)
    for name in ("device", "state"):
        shutil.copytree(tmp_path / name, tmp_path / f"old {name}")
    device.take_part(3)
    newer = device.path.read_bytes()
    restore(tmp_path / "old device", device.folder)  # with its witness: a restored disk
    restore(tmp_path / "old state", device.memory)
    assert device.open().spent() == 2.0
    with pytest.raises(LedgerError, match="more often than is written") as caught:
        device.take_part(seen=5)
    assert caught.value.exit_code == 6
    # Whatever else was forgotten cannot have been more than the limit allowed.
    assert device.open().spent() == 10.0
    assert device.open().summary()["complete"] is False
    with pytest.raises(LedgerError):
        device.take_part(run="another run, another server")
    assert device.recover().spent() == 10.0, "recovering without a newer copy brings nothing back"
    device.path.write_bytes(newer)
    ledger = device.recover()
    assert (ledger.spent(), ledger.summary()["complete"]) == (5.0, True)
    device.take_part(seen=5)


def test_an_honest_count_is_accepted(device: Device) -> None:
    device.take_part(2)
    device.take_part(seen=2)
    device.take_part(seen=1)  # the server missed one
    assert device.open().spent() == 4.0


def test_writes_that_are_in_no_copy_cost_the_whole_limit(device: Device) -> None:
    device.take_part(2)
    old = device.path.read_bytes()
    device.take_part(3)
    device.path.write_bytes(old)
    shutil.rmtree(device.memory)
    with pytest.raises(LedgerError, match="old copy"):
        device.open()
    ledger = device.recover()
    assert ledger.spent() == 10.0 and not ledger.summary()["complete"]
    with pytest.raises(LedgerError, match="counts as spent"):
        device.take_part()


def test_an_infinite_limit_goes_on_and_says_that_the_loss_is_unknown(device: Device) -> None:
    device.take_part(2, limit=math.inf)
    device.take_part(limit=math.inf, seen=9)
    assert device.open(limit=math.inf).summary()["epsilon"] is None


@pytest.mark.parametrize("damage", ["empty", "half", "other"])
def test_a_damaged_second_memory_is_refused_and_made_good(device: Device, damage: str) -> None:
    device.take_part(2)
    (copy,) = device.memory.glob("*.json")
    data = copy.read_bytes()
    copy.write_bytes({"empty": b"", "half": data[: len(data) // 2], "other": b"[1, 2]"}[damage])
    with pytest.raises(LedgerError):
        device.open()
    with pytest.raises(LedgerError):
        device.recover()
    copy.unlink()
    assert device.open().spent() == 2.0
    device.take_part()
    assert copy.exists()


def test_a_damaged_or_foreign_ledger_is_made_good_from_the_second_memory(device: Device, tmp_path: Path) -> None:
    device.take_part(3)
    stranger = Device(tmp_path / "stranger")
    stranger.take_part(1)
    for content in (b"", device.path.read_bytes()[:-30], stranger.path.read_bytes()):
        device.path.write_bytes(content)
        with pytest.raises(LedgerError):
            device.open()
        assert device.recover().spent() == 3.0
    device.path.write_bytes(stranger.path.read_bytes())
    (device.folder / "ledger.json.seal").write_text("???")
    device.recover()
    device.open()


def test_without_any_copy_recovery_says_what_to_do(device: Device, tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        device.recover()
    device.take_part(1)
    device.path.write_bytes(b"")
    shutil.rmtree(device.memory)
    with pytest.raises(LedgerError, match="no readable copy") as caught:
        device.recover()
    assert "backup" in caught.value.hint


def test_recovery_never_raises_a_limit(device: Device) -> None:
    device.take_part(2)
    old = device.path.read_bytes()
    device.open(limit=4.0)
    device.path.write_bytes(old)
    assert device.recover().book().max_epsilon == 4.0


def test_a_moved_folder_stays_valid(device: Device, tmp_path: Path) -> None:
    device.take_part(2)
    device.folder.rename(tmp_path / "moved")
    moved = Ledger.open(tmp_path / "moved" / "ledger.json", account=per_step, witness=device.memory)
    assert moved.spent() == 2.0


def test_names_of_a_ledger_differ_between_runs(device: Device) -> None:
    tags = [device.open().reserve(run, 1, mechanism=STEP).tag for run in ("spring", "summer")]
    assert tags[0] != tags[1]
    assert device.open().reserve("spring", 2, mechanism=STEP).tag == tags[0]
    assert all(device.open().book().identity not in tag and len(tag) == 16 for tag in tags)


def test_the_witness_folder_follows_the_environment() -> None:
    assert witness_folder(environ={"EASEL_STATE": "/s", "EASEL_HOME": "/h"}) == Path("/s/ledgers")
    assert witness_folder(environ={"EASEL_HOME": "/h"}) == Path("/h/ledgers")
    assert witness_folder(environ={}).parts[-2:] == ("easel", "ledgers")


# ---- the parser --------------------------------------------------------------------------------

WORDS = st.text(string.ascii_letters + ' é\u2028"\\', min_size=1, max_size=12)
ENTRIES = st.builds(
    Entry,
    id=st.just(1),
    run=WORDS,
    round=st.integers(1, 5),
    attempt=st.integers(5, 9),
    unit=st.sampled_from(("user", "example")),
    noise_multiplier=st.floats(0.0, 1e6),
    sample_rate=st.floats(0.0, 1.0),
    steps=st.integers(1, 99),
    state=st.sampled_from(("reserved", "sent", "committed")),
    bytes_sent=st.integers(0, 2**60),
    kind=WORDS,
)
BOOKS = st.builds(
    Book,
    identity=st.text("0123456789abcdef", min_size=1, max_size=16),
    sequence=st.integers(0, 2**60),
    max_epsilon=st.floats(0.001, math.inf),
    delta=st.floats(1e-12, 0.5),
    entries=st.lists(ENTRIES, max_size=1).map(tuple),
    refusals=st.lists(st.builds(Refusal, WORDS, st.integers(1, 9), WORDS, st.integers(1, 9), WORDS, WORDS)).map(tuple),
    place=WORDS,
    lost=st.integers(0, 3),
    gaps=st.lists(st.builds(Gap, WORDS, st.integers(1, 9)), max_size=2).map(tuple),
)


@given(BOOKS)
def test_every_book_survives_its_file(book: Book) -> None:
    assert decode(encode(book), Path("ledger.json")) == book
    assert union(book, [book]) == book


@given(BOOKS, st.integers(0, 10**6), st.integers(0, 255))
def test_one_changed_byte_is_refused_or_changes_nothing(book: Book, position: int, byte: int) -> None:
    data = bytearray(encode(book))
    data[position % len(data)] = byte
    try:
        found = decode(bytes(data), Path("ledger.json"))
    except LedgerError as error:
        assert "\n" not in error.message and error.hint
    else:
        assert found == book


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
@example(b"[" * 100_000)
@example(b'{"format": "easel-ledger", "version": 2, "checksum": NaN, "x": "\\ud800"}')
@example(b'{"format": "easel-ledger", "version": [2]}')
def test_whatever_the_file_holds_the_answer_is_one_line(data: bytes) -> None:
    with pytest.raises(LedgerError) as caught:
        decode(data, Path("ledger.json"))
    assert "\n" not in caught.value.message and caught.value.hint and caught.value.exit_code == 6


VALUES = st.sampled_from([None, -1, 0, 1.5, "x", "", True, [], {}, [1], math.inf, 10**400])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["identity", "sequence", "max_epsilon", "delta", "entries", "lost", "gaps", "place"]), VALUES)
def test_wrong_values_under_a_right_checksum_are_refused(key: str, value: object) -> None:
    from shared_model import checked

    book = Book("ab", 3, 4.0, 1e-5, (Entry(1, "spring", 1, 1, "user", 1.0, 0.1, 1),))
    content = json.loads(encode(book))
    for name in ("format", "version", "checksum"):
        content.pop(name)
    content[key] = value
    try:
        data = checked.encode(content, format="easel-ledger", version=2)
    except ValueError:  # infinity is not JSON
        return
    try:
        found = decode(data, Path("ledger.json"))
    except LedgerError:
        return
    assert encode(found) == encode(decode(encode(found), Path("ledger.json")))
    assert found.delta > 0 and found.sequence >= 0 and found.max_epsilon > 0
