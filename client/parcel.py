"""A head as one file to carry: packed, optionally sealed with a passphrase, and opened with mistrust.

A parcel is a head file (safetensors, nothing in it is executed), or the same sealed by :mod:`client.passphrase`.
Whoever opens one made elsewhere trusts nothing in it: sizes are bounded before anything is computed, what is unknown
is left out, and its name is only a suggestion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from client.passphrase import is_sealed, open_sealed, seal
from client.store import MAX_HEAD_BYTES, check_name
from shared_model.errors import CompatibilityError, EaselError, InputError, StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.head import Head
from shared_model.redact import blur, drop_patches

__all__ = ["REDACTIONS", "pack", "suggest_name", "target", "unpack", "write"]

REDACTIONS: dict[str, Callable[[Head], Head]] = {"blur": blur, "drop-patches": drop_patches}
# What a head made elsewhere may ask of the device that paints with it; easel's own ask for half or less.
_MOST = {"canvas_px": 1024, "stroke": 32, "atoms": 4096}
_SEAL_BYTES = 1024


def pack(head: Head, *, name: str, passphrase: str | None = None, redaction: str = "") -> bytes:
    """Return the bytes of a parcel.

    Parameters
    ----------
    name
        What the owner calls the head; it travels along.
    passphrase
        Seals the parcel; ``None`` leaves it open.
    redaction
        A key of :data:`REDACTIONS`, or nothing for the head as it is.

    Raises
    ------
    InputError
        If the passphrase is too short.
    MissingError
        If sealing is not installed.
    """
    given = REDACTIONS[redaction](head) if redaction else head
    data = replace(given, name=name).to_bytes()
    return data if passphrase is None else seal(data, passphrase)


def target(path: Path, *, name: str, overwrite: bool = False) -> Path:
    """Return the file that a parcel goes to: ``path``, or ``NAME.head`` in the folder ``path``.

    Raises
    ------
    InputError
        If it is there already and ``overwrite`` is false.
    """
    file = path / f"{name}.head" if path.is_dir() else path
    if file.is_symlink() or (file.exists() and not (overwrite and file.is_file())):
        raise InputError(f"{file} is there already", hint="choose another name, or add --overwrite to replace it")
    return file


def write(data: bytes, file: Path) -> Path:
    """Write a parcel atomically, readable by its owner alone."""
    return write_atomic(file, data, mode=0o600)


def unpack(file: Path, *, ask: Callable[[], str]) -> Head:
    """Read a parcel.

    Parameters
    ----------
    ask
        Returns the passphrase; called only if the parcel is sealed.

    Raises
    ------
    StorageError
        If it is damaged, too large or cannot be read.
    CompatibilityError
        If it is something else, of another format, or asks for more than easel grants.
    InputError
        If the passphrase is wrong.
    """
    data = read_bytes(file, limit=MAX_HEAD_BYTES + _SEAL_BYTES)
    if is_sealed(data):
        data = open_sealed(data, ask())
    try:
        head = Head.from_bytes(data)
    except (StorageError, CompatibilityError) as error:
        hint = "is it a head that easel exported? copy it again"
        raise type(error)(f"{file} cannot be imported: {error.message}", hint=hint) from error
    for name, most in _MOST.items():
        if getattr(head.config, name) > most:
            raise CompatibilityError(
                f"{file} cannot be imported: its {name} is {getattr(head.config, name)}, more than {most}",
                hint="a head made by easel asks for less; do you trust where it is from?",
            )
    return head


def suggest_name(head: Head, file: Path) -> str:
    """Return what to call an imported head: its own name, else the file's, if either can be one.

    Raises
    ------
    InputError
        If neither can.
    """
    for name in (head.name, file.stem):
        try:
            return check_name(name)
        except EaselError:
            continue
    raise InputError("this head has no name that can be used", hint="give it one with --name NAME")
