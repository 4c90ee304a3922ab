"""Runs side by side: one page, its tables, and plots as files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from shared_model.files import write_atomic
from simulations.experiment.folder import Facts, plain
from simulations.experiment.markdown import to_markdown
from simulations.experiment.page import colors_of, page_of, ranking
from simulations.experiment.plots import standalone
from simulations.experiment.summary import Group, read_groups

__all__ = ["compare_runs", "figures"]


def compare_runs(folders: Sequence[Path | str], out: Path | str) -> Facts:
    """Make ``compare.html``, its tables (CSV and Markdown) and a plot per group of runs in the folder ``out``.

    Returns
    -------
    dict
        Where they are, and the rows of the table.

    Raises
    ------
    MissingError
        If a folder holds no experiment, or no trial is finished yet.
    StorageError
        If a file of a run is damaged.
    """
    groups, home = read_groups(folders), Path(out)
    names = [Path(folder).name for folder in folders]
    title = f"Comparison of {', '.join(names)}" if len(names) > 1 else groups[0].cell.config.name
    page = write_atomic(home / "compare.html", page_of(groups, title=title).encode())
    rows = [row for group in groups for row in figures(group)]
    table = write_atomic(home / "compare.csv", _csv(rows).encode())
    text = write_atomic(home / "compare.md", to_markdown(groups).encode())
    for number, group in enumerate(groups):
        if plot := ranking(group, colors_of(groups)):
            write_atomic(home / f"change-{number}.svg", standalone(plot).encode())
    return {"page": str(page), "table": str(table), "text": str(text), "rows": plain(rows)}


def figures(group: Group) -> list[Facts]:
    """Return the figures of every method as plain numbers: a row each."""
    rows = []
    for entry in group.entries:
        row: Facts = {"run": group.title, "method": entry.label, "seeds": len(entry.results)}
        for key in ("personal", "change", "worst", "held_out", "quality"):
            value = getattr(entry, key)
            row |= {key: value and value.mean, f"{key}_low": value and value.low, f"{key}_high": value and value.high}
        row |= {"epsilon": entry.epsilon, "run_epsilon": entry.run_epsilon, "protected": entry.protected}
        row |= {"bytes_up": entry.bytes_up, "cpu_seconds": entry.seconds}
        rows.append(row)
    return rows


def _csv(rows: Sequence[Facts]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{key: "" if value is None else value for key, value in row.items()} for row in rows])
    return stream.getvalue()
