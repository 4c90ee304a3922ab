"""Every error that easel raises on purpose.

Each carries a one-line message, a hint that says what to do next, and the exit code of the
command line::

    EaselError                      1
    ├── InputError                  2   something the user gave cannot be used
    │   ├── PictureError            2   unreadable, truncated, too large or not a picture
    │   └── ConfigError             2   unknown key, wrong type, value out of range
    ├── MissingError                3   no such head, run, weights or optional package
    ├── CompatibilityError          4   made for another backbone, format or version
    ├── StorageError                5   disk full, no permission, damaged file
    ├── PrivacyError                6   anything that would break a privacy promise
    │   ├── BudgetError             6   the owner's budget would be passed
    │   ├── TooSoonError            6   a device took part in a run too recently
    │   └── LedgerError             6   a ledger is damaged, foreign or older than the run
    ├── FederationError             7   a round, reply or server is not usable
    │   └── ReleaseError            7   a release or an order must not be used
    └── Interrupted               130   stopped by the user; says how to go on
"""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "CompatibilityError",
    "ConfigError",
    "EaselError",
    "FederationError",
    "InputError",
    "Interrupted",
    "LedgerError",
    "MissingError",
    "PictureError",
    "PrivacyError",
    "ReleaseError",
    "StorageError",
    "TooSoonError",
]


class EaselError(Exception):
    """A mistake or condition that a person can act on; never shown as a traceback.

    Parameters
    ----------
    message
        One line, no trailing full stop needed.
    hint
        What to do about it, one line; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(EaselError):
    """Something the user gave cannot be used."""

    exit_code = 2


class PictureError(InputError):
    """A picture is unreadable, truncated, too large or not a picture."""


class ConfigError(InputError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class MissingError(EaselError):
    """No such head, run, weights or optional package."""

    exit_code = 3


class CompatibilityError(EaselError):
    """Made for another backbone, format or version."""

    exit_code = 4


class StorageError(EaselError):
    """Disk full, no permission, or a damaged file."""

    exit_code = 5


class PrivacyError(EaselError):
    """Anything that would break a privacy promise; the caller stops, nothing is sent."""

    exit_code = 6


class BudgetError(PrivacyError):
    """The owner's privacy budget would be passed."""


class TooSoonError(PrivacyError):
    """A device took part in a run too recently: fewer rounds ago than the run's separation."""


class LedgerError(PrivacyError):
    """A ledger is damaged, foreign, or older than the run it belongs to."""


class FederationError(EaselError):
    """A round, reply or server is not usable."""

    exit_code = 7


class ReleaseError(FederationError):
    """A release or an order must not be used.

    Parameters
    ----------
    message, hint
        See :class:`EaselError`.
    reason
        One of ``malformed``, ``bad-signature``, ``unknown-key``, ``replayed-order``, ``older-version``, ``mismatch``,
        ``foreign-architecture``, ``oversize``, ``gate``.
    """

    def __init__(self, message: str, *, hint: str = "", reason: str) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class Interrupted(EaselError):
    """Stopped by the user; the message says what was saved and how to go on."""

    exit_code = 130
