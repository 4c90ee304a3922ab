"""When a device that has done its part need not be there: the server's hint, kept by the device itself.

Ten thousand devices that stay connected ask the server ten thousand times every few seconds whether
there is work. One that has just taken part is told with its request how long it will not be needed
(pace steering, Bonawitz et al. 2019), adds a little chance of its own so that not all come back at the
same moment, and signs off for that long.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from shared_model.errors import StorageError
from shared_model.files import read_bytes, write_atomic
from shared_model.messages import LONGEST_REST_S

__all__ = ["FILE", "GRACE_S", "note_rest", "rest_objections", "resting"]

FILE = "rest.json"
#: The rest begins so long after the answer was made, which must still be sent.
GRACE_S = 120.0
_SPREAD = 0.5


def note_rest(folder: Path, *, seconds: float, now: float, chance: float) -> None:
    """Note that the device need not be there for a while.

    Parameters
    ----------
    folder
        The device's.
    seconds
        What the server offers, at most :data:`shared_model.messages.LONGEST_REST_S`.
    now
        Seconds since 1970.
    chance
        In [0, 1]; the rest is up to half as long again.
    """
    length = min(seconds, LONGEST_REST_S) * (1.0 + _SPREAD * chance)
    write_atomic(folder / FILE, json.dumps({"from": now + GRACE_S, "until": now + length}).encode(), mode=0o600)


def resting(folder: Path, *, now: float) -> float | None:
    """Return until when the device rests, seconds since 1970; None if it does not.

    It is a hint: a file that cannot be read, or that says more than any server may (a clock that was
    put back), is no rest.
    """
    path = folder / FILE
    try:
        found = json.loads(read_bytes(path)) if path.exists() else {}
        begin, end = float(found["from"]), float(found["until"])
    except (KeyError, OSError, StorageError, TypeError, ValueError):
        return None
    longest = LONGEST_REST_S * (1.0 + _SPREAD)
    sane = math.isfinite(begin) and math.isfinite(end) and now - longest <= begin <= now and end - now <= longest
    return end if sane and now < end else None


def rest_objections(folder: Path, *, now: float) -> list[str]:
    """Say in a few words why the device does not take part now; empty if it does not rest."""
    until = resting(folder, now=now)
    return [] if until is None else [f"not needed until {time.strftime('%H:%M', time.localtime(until))}"]
