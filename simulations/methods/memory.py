"""What a device remembers for a method from round to round: its own layers, its own model, a control variate.

It is in the device's folder, private, and never uploaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from shared_model.errors import StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["Memory"]

_FORMAT = "easel-memory-1"
_NAME = re.compile(r"(?P<run>.+)-(?P<round>\d{6,})\.safetensors")


@dataclass(frozen=True)
class Memory:
    """Tensors of one method on one device, one file for each round that it took part in, the last two kept.

    Guarantees
    ----------
    Writing is atomic. A round that is repeated, because the server crashed before it was saved, starts
    from what was remembered before that round and not from what its first attempt wrote.

    Assumes
    -------
    A server goes back by one round at most, which is what a crash does to it. If an older state was put
    back, the device may find nothing that is old enough, and starts anew.

    Parameters
    ----------
    folder
        Of the device.
    name
        Of the method.
    """

    folder: Path
    name: str

    def recall(self, run: str, *, before: int) -> Mapping[str, Tensor] | None:
        """Return what was remembered last in a run, before round ``before``; ``None``: nothing.

        Raises
        ------
        StorageError
            If the file is damaged or another method's.
        """
        rounds = [number for number in self.rounds(run) if number < before]
        return self._read(run, max(rounds)) if rounds else None

    def keep(self, run: str, number: int, tensors: Mapping[str, Tensor], *, attempt: int = 0) -> None:
        """Remember tensors after round ``number``; what a later round had left is forgotten."""
        metadata = {"format": _FORMAT, "method": self.name, "run": run, "round": str(number), "attempt": str(attempt)}
        data = safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}, metadata=metadata)
        write_atomic(self._path(run, number), data, mode=0o600)
        earlier = [other for other in self.rounds(run) if other < number]
        for other in self.rounds(run):
            if other > number or other < max(earlier, default=number):
                self._path(run, other).unlink(missing_ok=True)

    def rounds(self, run: str) -> list[int]:
        """Return the rounds of a run after which something was remembered, in order."""
        found = (_NAME.fullmatch(path.name) for path in self._home.glob("*.safetensors"))
        return sorted(int(match["round"]) for match in found if match and match["run"] == run)

    @property
    def _home(self) -> Path:
        return self.folder / "memory" / self.name

    def _path(self, run: str, number: int) -> Path:
        return self._home / f"{run}-{number:06d}.safetensors"

    def _read(self, run: str, number: int) -> Mapping[str, Tensor]:
        path = self._path(run, number)
        data = read_bytes(path, ordinary=True)
        try:
            tensors: dict[str, Tensor] = safetensors.torch.load(data)
            facts = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise StorageError(f"{path} is damaged", hint="remove it; the device then starts anew") from error
        expected = {"format": _FORMAT, "method": self.name, "run": run, "round": str(number)}
        if {key: facts.get(key) for key in expected} != expected:
            raise StorageError(f"{path} was written for something else", hint="remove it")
        return tensors
