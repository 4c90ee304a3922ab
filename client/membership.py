"""What a device remembers of its fleet, and which files of its folder are easel's to remove."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from shared_model.config import parse
from shared_model.errors import ConfigError, MissingError, StorageError
from shared_model.files import read_bytes, write_atomic

__all__ = ["Membership", "forget"]

_FILE = "membership.json"
_CA = "ca.pem"
_SIGNING = "signing.pub"
_KEY = "node.key"
_NODE = "node"
#: Everything that easel ever puts into a device folder, the ledger apart. Nothing else is touched.
_OURS = (
    "device.toml",
    "policy.toml",
    "records.safetensors",
    "rest.json",
    "secure.json",
    _KEY,
    _CA,
    _SIGNING,
    _FILE,
    ".easel-join.lock",
)
_LEDGER = ("ledger.json", "ledger.json.seal")


@dataclass(frozen=True)
class Membership:
    """The fleet that a device belongs to.

    Attributes
    ----------
    server
        ``HOST:PORT`` of its gate.
    name
        The operator's word for this device.
    """

    server: str
    name: str

    @staticmethod
    def ca(folder: Path) -> Path:
        """Where the authority's certificate lies."""
        return folder / _CA

    @staticmethod
    def key(folder: Path) -> Path:
        """Where the device's private key lies."""
        return folder / _KEY

    @staticmethod
    def node(folder: Path) -> Path:
        """Folder of the SuperNode: its log and Flower's own files."""
        return folder / _NODE

    @classmethod
    def load(cls, folder: Path) -> Membership:
        """Read what :meth:`save` wrote.

        Raises
        ------
        MissingError
            If this device has not joined.
        StorageError
            If the file is damaged.
        """
        path = folder / _FILE
        if not path.exists():
            raise MissingError(f"{folder} has joined no fleet", hint="easel join --server HOST:PORT --code CODE ...")
        try:
            values = json.loads(read_bytes(path, limit=1 << 16))
            if not isinstance(values, dict):
                raise ValueError("not an object")
            return parse(values, cls, source=str(path))
        except (ConfigError, ValueError) as error:
            raise StorageError(f"{path} is damaged", hint="easel leave, then join with a new code") from error

    def save(self, folder: Path, *, ca: str, signing_key: str) -> None:
        """Write it with the fleet's public keys; ``membership.json`` comes last and says that all is there."""
        write_atomic(folder / _CA, ca.encode(), mode=0o600)
        write_atomic(folder / _SIGNING, signing_key.encode(), mode=0o600)
        write_atomic(folder / _FILE, (json.dumps(dataclasses.asdict(self)) + "\n").encode(), mode=0o600)


def forget(folder: Path, *, ledger: bool) -> list[str]:
    """Remove everything that joining has put into a device folder; returns the names that are gone.

    Files that easel did not make stay, and so do photos and art that lie in the folder. The ledger
    stays unless ``ledger`` is True.

    Raises
    ------
    StorageError
        If something cannot be removed.
    """
    gone = []
    try:
        for name in (*_OURS, *(_LEDGER if ledger else ())):
            if (folder / name).is_file():
                (folder / name).unlink()
                gone.append(name)
        if (folder / _NODE).is_dir():
            shutil.rmtree(folder / _NODE)
            gone.append(f"{_NODE}/")
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise StorageError(f"cannot remove {error.filename}: {error.strerror}", hint="check the permissions") from error
    return gone


def forget_ledger(folder: Path) -> None:
    """Remove the ledger of a device folder for good, its second memory first, so that it is never missed."""
    from client.paths import witness_folder
    from client.witness import Witness

    Witness(witness_folder()).forget((folder / "ledger.json").resolve())
    for name in _LEDGER:
        (folder / name).unlink(missing_ok=True)
