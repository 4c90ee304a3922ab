"""An experiment's tables: ``rounds.csv`` (a row per trial and round) and ``devices.csv`` (a row per device)."""

from __future__ import annotations

import csv as csv_files
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared_model.errors import MissingError
from shared_model.files import write_atomic
from simulations.experiment.folder import Facts

__all__ = ["device_rows", "require_parquet", "round_rows", "write_tables"]

_ROUND = (
    "method seed round loss ema_loss personal worst epsilon run_epsilon clip update_norm asked accepted "
    "bytes_down bytes_up seconds"
).split()
_DEVICE = "method seed device start loss".split()


def write_tables(folder: Path, results: Sequence[Facts], *, csv: bool, parquet: bool) -> None:
    """Write the tables of all finished trials.

    Raises
    ------
    MissingError
        If Parquet is asked for and pyarrow is not installed.
    """
    for name, columns, rows in (
        ("rounds", _ROUND, round_rows(results)),
        ("devices", _DEVICE, device_rows(results)),
    ):
        if csv:
            write_atomic(folder / f"{name}.csv", _csv(columns, rows).encode())
        if parquet:
            write_atomic(folder / f"{name}.parquet", _parquet(columns, rows))


def round_rows(results: Sequence[Facts]) -> list[dict[str, Any]]:
    """Return a row per trial and round; what was not measured is None."""
    return [
        {**{name: row.get(name) for name in _ROUND}, "method": facts["method"], "seed": facts["seed"]}
        for facts in results
        for row in facts["rows"]
    ]


def device_rows(results: Sequence[Facts]) -> list[dict[str, Any]]:
    """Return a row per trial and device: its loss at the start and at the end, each with its own network."""
    return [
        {"method": facts["method"], "seed": facts["seed"], "device": device, "start": start, "loss": loss}
        for facts in results
        for device, (start, loss) in enumerate(
            zip(facts["rows"][0].get("devices", ()), facts["final"].get("devices", ()), strict=True)
        )
    ]


def _csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv_files.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if row[name] is None else row[name] for name in columns])
    return stream.getvalue()


def require_parquet() -> None:
    """Refuse to go on without what writes Parquet.

    Raises
    ------
    MissingError
        If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise MissingError(
            "parquet = true needs pyarrow, which is not installed", hint="pip install pyarrow, or use csv"
        ) from error


def _parquet(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> bytes:
    require_parquet()
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: [row[name] for row in rows] for name in columns})
    stream = io.BytesIO()
    pyarrow.parquet.write_table(table, stream)
    return stream.getvalue()
