"""The rounds of a run as TensorBoard curves: one event file per run, complete and without doubles after a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.report import RoundReport
from server.state import RoundState

__all__ = ["FOLDER", "Curves"]

FOLDER = "tensorboard"


class Curves:
    """Writes what :class:`server.report.RoundReport` says, round by round.

    Nothing is in the curves that is not in ``rounds.csv``: counts, bytes, and numbers that are private
    already. A start writes all finished rounds of the state into a new file and then removes the old
    ones, so a run that was killed between saving a round and drawing it is complete again.

    Parameters
    ----------
    folder
        The run's folder; the curves go into ``tensorboard/RUN`` in it.
    state
        What the run starts or goes on from.
    """

    def __init__(self, folder: Path, state: RoundState) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = folder / FOLDER / state.run
        old = list(place.glob("events.out.tfevents.*"))
        self._writer: Any = SummaryWriter(str(place))
        for report in state.reports:
            self._draw(report)
        self._writer.flush()
        for path in old:
            path.unlink(missing_ok=True)

    def add(self, report: RoundReport) -> None:
        """Draw a round that was just saved."""
        self._draw(report)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()

    def _draw(self, report: RoundReport) -> None:
        values: dict[str, float | None] = {
            "devices/asked": report.asked,
            "devices/accepted": report.accepted,
            "devices/dropped": report.dropped,
            "privacy/epsilon": report.epsilon,
            "privacy/epsilon of this run": report.run_epsilon,
            "privacy/clip": report.clip,
            "update/within the clip": report.within,
            "update/norm": report.update_norm if report.released else None,
            "traffic/bytes down": report.bytes_down,
            "traffic/bytes up": report.bytes_up,
            "time/seconds": report.seconds,
        }
        values |= {f"dropped/{reason}": count for reason, count in report.reasons.items()}
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, report.round)
