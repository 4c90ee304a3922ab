"""How much each device may fetch: buckets that fill up with time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from shared_model.errors import ConfigError

__all__ = ["Allowance", "Limits"]

_REMEMBERED = 100_000  # devices; the one that was idle longest is forgotten, and so starts with full buckets


@dataclass(frozen=True)
class Limits:
    """What one device may do.

    Parameters
    ----------
    calls, calls_per_s
        Calls at once, and how fast that many come back.
    bytes, bytes_per_s
        Bytes at once, and how fast they come back; the default is a few releases at once, and then one in some minutes.
    streams
        Downloads at the same time.
    """

    calls: float = 30.0
    calls_per_s: float = 0.5
    bytes: float = float(64 << 20)
    bytes_per_s: float = float(64 << 10)
    streams: int = 2

    def __post_init__(self) -> None:
        for name in ("calls", "calls_per_s", "bytes", "bytes_per_s", "streams"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, not {getattr(self, name)}")


@dataclass
class _Bucket:
    """What is left for one device, and when that was."""

    calls: float
    bytes: float
    when: float
    streams: int = 0


class Allowance:
    """Counts what devices fetch.

    Parameters
    ----------
    limits
        For each device.
    clock
        Monotonic seconds.
    """

    def __init__(self, limits: Limits, *, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def call(self, device: str) -> float:
        """Take one call; return 0, or the seconds after which to try again (nothing is taken then)."""
        bucket = self._bucket(device)
        if bucket.calls < 1:
            return (1 - bucket.calls) / self._limits.calls_per_s
        bucket.calls -= 1
        return 0.0

    def take(self, device: str, count: int) -> float:
        """Take bytes, at most down to one piece of debt; return 0, or the seconds after which to try again."""
        bucket = self._bucket(device)
        if bucket.bytes <= 0:
            return (1 - bucket.bytes) / self._limits.bytes_per_s
        bucket.bytes -= count
        return 0.0

    def begin(self, device: str) -> bool:
        """Begin a download; ``False``: too many at the same time."""
        bucket = self._bucket(device)
        if bucket.streams >= self._limits.streams:
            return False
        bucket.streams += 1
        return True

    def end(self, device: str) -> None:
        """End a download."""
        self._bucket(device).streams -= 1

    def _bucket(self, device: str) -> _Bucket:
        now, limits = self._clock(), self._limits
        bucket = self._buckets.get(device)
        if bucket is None:
            bucket = self._buckets[device] = _Bucket(limits.calls, limits.bytes, now)
            idle = next(iter(self._buckets))
            if len(self._buckets) > _REMEMBERED and self._buckets[idle].streams == 0:
                del self._buckets[idle]
        self._buckets.move_to_end(device)
        bucket.calls = min(limits.calls, bucket.calls + (now - bucket.when) * limits.calls_per_s)
        bucket.bytes = min(limits.bytes, bucket.bytes + (now - bucket.when) * limits.bytes_per_s)
        bucket.when = now
        return bucket
