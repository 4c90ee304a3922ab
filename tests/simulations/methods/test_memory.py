"""What a device remembers: atomic, private, and never from the future."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import torch

from shared_model.errors import StorageError
from simulations.methods.memory import Memory


def test_a_round_that_is_repeated_starts_from_what_was_before_it(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "ditto")
    assert memory.recall("run", before=1) is None
    for number in (1, 2, 4):
        memory.keep("run", number, {"own": torch.tensor(float(number))}, attempt=number)
    assert memory.rounds("run") == [2, 4], "the last two are kept"
    assert float(memory.recall("run", before=5)["own"]) == 4
    # The server crashed and asks for round 4 again: the first attempt at it never happened.
    assert float(memory.recall("run", before=4)["own"]) == 2
    memory.keep("run", 4, {"own": torch.tensor(40.0)}, attempt=5)
    assert float(memory.recall("run", before=9)["own"]) == 40
    # It went back further: what is later is forgotten once the earlier round is done again.
    memory.keep("run", 3, {"own": torch.tensor(30.0)}, attempt=6)
    assert memory.rounds("run") == [2, 3]


def test_runs_and_methods_do_not_see_each_other(tmp_path: Path) -> None:
    Memory(tmp_path, "ditto").keep("a", 1, {"own": torch.zeros(2)})
    Memory(tmp_path, "ditto").keep("b", 3, {"own": torch.ones(2)})
    assert Memory(tmp_path, "ditto").rounds("a") == [1]
    assert Memory(tmp_path, "apfl").recall("a", before=9) is None


def test_only_the_owner_reads_it_and_damage_is_said(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "ditto")
    memory.keep("run", 1, {"own": torch.zeros(2)})
    (path,) = (tmp_path / "memory" / "ditto").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.rename(path.with_name("other-000001.safetensors"))
    with pytest.raises(StorageError, match="written for something else"):
        memory.recall("other", before=2)
    path.write_bytes(b"half a file")
    with pytest.raises(StorageError, match="damaged"):
        memory.recall("run", before=2)
