"""When a device takes part: the owner's conditions, and what the machine says about itself.

Reads files and clocks of the operating system only; whatever cannot be found out is settled by the
owner's word in the policy.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path

from shared_model.errors import ConfigError

__all__ = ["Machine", "When", "idle_s", "metered", "on_mains", "read_machine"]

_SUPPLIES = Path("/sys/class/power_supply")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_ANSWER_S = 5.0


@dataclass(frozen=True)
class When:
    """The owner's conditions: table ``[when]`` of ``policy.toml``.

    Parameters
    ----------
    charging
        Only while the machine has mains power (one without a battery always has).
    unmetered
        Only on a network that is not metered.
    assume_metered
        What to believe where the system does not say whether the network is metered.
    hours
        Only within these times of day, local time, for example ``["22:00-07:00"]``; empty for always.
    idle_minutes
        Only if nobody has typed for so long; 0 for always.
    max_load
        Only while the load per processor, averaged over a minute, is at most this; 0 for always.
    min_epsilon_left
        Only while more than this is left of the privacy budget.
    """

    charging: bool = True
    unmetered: bool = True
    assume_metered: bool = False
    hours: tuple[str, ...] = ()
    idle_minutes: float = 0.0
    max_load: float = 0.0
    min_epsilon_left: float = 0.0

    def __post_init__(self) -> None:
        for text in self.hours:
            if not _HOURS.fullmatch(text):
                raise ConfigError(f"hours must be like '22:00-07:00', not {text!r}")
        for name in ("idle_minutes", "max_load", "min_epsilon_left"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)}")

    def objections(self, machine: Machine) -> list[str]:
        """Say in a few words each why the device does not take part now; empty if it does."""
        found = []
        if self.charging and not machine.mains:
            found.append("on battery")
        is_metered = self.assume_metered if machine.metered is None else machine.metered
        if self.unmetered and is_metered:
            found.append("the network is metered")
        if self.hours and not any(_within(text, machine.now.time()) for text in self.hours):
            found.append(f"outside {', '.join(self.hours)}")
        if self.idle_minutes and machine.idle_s is not None and machine.idle_s < 60 * self.idle_minutes:
            found.append("somebody is working here")
        # A SuperNode in training is itself a load: an allowed device is not stopped by its own work.
        if self.max_load and not machine.taking_part and machine.load > self.max_load:
            found.append("the machine is busy")
        if machine.epsilon_left is not None and machine.epsilon_left <= self.min_epsilon_left:
            found.append("the privacy budget is used up")
        return found


@dataclass(frozen=True)
class Machine:
    """What the machine is doing now.

    Attributes
    ----------
    now
        Local time.
    mains
        Has mains power, or no battery.
    metered
        None where the system does not say.
    idle_s
        Seconds since somebody typed at a terminal; None where there is none.
    load
        Load per processor over a minute.
    epsilon_left
        What is left of the privacy budget; None for no limit.
    taking_part
        The SuperNode is running.
    """

    now: datetime
    mains: bool = True
    metered: bool | None = None
    idle_s: float | None = None
    load: float = 0.0
    epsilon_left: float | None = None
    taking_part: bool = False


def read_machine(*, epsilon_left: float | None, taking_part: bool) -> Machine:
    """Ask the operating system."""
    now = datetime.now().astimezone()
    return Machine(
        now=now,
        mains=on_mains(),
        metered=metered(),
        idle_s=idle_s(now.timestamp()),
        load=os.getloadavg()[0] / (os.cpu_count() or 1),
        epsilon_left=epsilon_left,
        taking_part=taking_part,
    )


def on_mains(folder: Path = _SUPPLIES) -> bool:
    """Read ``/sys/class/power_supply``: a supply is on line, a battery charges, or there is no battery of its own."""
    batteries = False
    for supply in sorted(folder.glob("*")):
        kind = _line(supply / "type")
        if kind in ("Mains", "USB", "Wireless") and _line(supply / "online") not in ("", "0"):
            return True
        if kind == "Battery" and _line(supply / "scope") != "Device":  # a mouse has a battery too
            batteries = True
            if _line(supply / "status") in ("Charging", "Full", "Not charging"):
                return True
    return not batteries


def metered(ask: Callable[[], str] | None = None) -> bool | None:
    """Ask NetworkManager; None where it is not there or does not know.

    Parameters
    ----------
    ask
        Returns what ``nmcli`` says about all devices, one ``GENERAL.METERED`` a line.
    """
    words = {line.rpartition(":")[2].strip().split(" ")[0] for line in (ask or _nmcli)().splitlines()}
    if "yes" in words:
        return True
    return False if "no" in words else None


def idle_s(now: float, terminals: Iterable[Path] | None = None) -> float | None:
    """Return seconds since the last key at any terminal, as ``w`` does; None without terminals."""
    places = (*Path("/dev/pts").glob("[0-9]*"), *Path("/dev").glob("tty[1-9]*")) if terminals is None else terminals
    last = [seen for place in places if (seen := _accessed(place)) is not None]
    return max(0.0, now - max(last)) if last else None


def _accessed(place: Path) -> float | None:
    try:
        return place.stat().st_atime
    except OSError:
        return None


def _within(text: str, now: time) -> bool:
    start, end = (time.fromisoformat(part) for part in text.split("-"))
    return start <= now < end if start < end else now >= start or now < end


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _nmcli() -> str:
    try:
        done = subprocess.run(
            ["nmcli", "-t", "-f", "GENERAL.METERED", "device", "show"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_S,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
