"""The pages of experiments: one run, or several side by side; self-contained HTML files.

A page asks for nothing from outside: styles and pictures are embedded, and its content policy forbids
the rest. There is no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import markupsafe

from shared_model.errors import StorageError
from shared_model.files import write_atomic
from simulations.experiment import words
from simulations.experiment.contrasts import Contrast, contrasts
from simulations.experiment.folder import Facts
from simulations.experiment.plots import Curve, Dot, Point, bars, curves, forest, scatter
from simulations.experiment.run import NOT_PRIVATE
from simulations.experiment.summary import Entry, Group, read_groups
from simulations.report import embed, render, resource

__all__ = ["colors_of", "page_of", "ranking", "write_experiment_report"]

_COLORS = 12
_PICTURE_PX = 300


def write_experiment_report(folder: Path | str) -> Path:
    """Make ``report.html`` from the folder of a run, also of one that is not finished.

    Raises
    ------
    MissingError
        If the folder holds no experiment, or no trial is finished yet.
    StorageError
        If a file of the run is damaged.
    """
    groups = read_groups([folder])
    return write_atomic(Path(folder) / "report.html", page_of(groups, title=groups[0].cell.config.name).encode())


def page_of(groups: Sequence[Group], *, title: str) -> str:
    """Return the page of runs that `read_groups` has read.

    Raises
    ------
    StorageError
        If a file of a run is damaged, or they do not fit together.
    """
    colors = colors_of(groups)
    shown = [group for group in groups if group.entries]
    try:
        return render(
            "experiment.html",
            {
                "css": markupsafe.Markup(resource("report.css") + resource("experiment.css")),
                "title": title,
                "warning": "" if all(group.cell.config.private for group in groups) else NOT_PRIVATE,
                "lead": words.lead(shown),
                "facts": words.facts(shown),
                "groups": [_group(group, colors) for group in shown],
                "papers": words.papers(shown),
                "methods_text": words.methods(shown),
                "footer": words.footer(shown),
            },
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"{groups[0].home}: the files of this run do not fit together ({error!r})",
            hint="resume the run, or begin it anew in another folder",
        ) from error


def colors_of(groups: Sequence[Group]) -> dict[str, int]:
    """Give every method its color, the same in all groups."""
    labels = dict.fromkeys(entry.label for group in groups for entry in group.entries)
    return {label: number % _COLORS for number, label in enumerate(labels)}


def _group(group: Group, colors: dict[str, int]) -> Facts:
    entries = group.entries
    asked = contrasts(group)
    return {
        "title": group.title,
        "rows": [{**words.row(entry), "color": colors[entry.label]} for entry in entries],
        "questions": [_question(kind, found, colors) for kind, found in asked.items() if found],
        "ranking": ranking(group, colors),
        "panels": _panels(group, colors),
        "held_out": _held_out(entries, colors),
        "privacy": _privacy(group, colors),
        "privacy_text": words.privacy(group),
        "bytes": _bytes(entries, colors),
        "devices": _devices(group, colors),
        "pictures": _pictures(group),
        "seeds": max(len(entry.results) for entry in entries),
        "quality": any(entry.quality for entry in entries),
    }


def _question(kind: str, found: Sequence[Contrast], colors: dict[str, int]) -> Facts:
    dots = [Dot(c.better, colors[c.better], c.gain.mean, c.gain.low, c.gain.high) for c in found]
    return {
        **words.question(kind, found),
        "plot": markupsafe.Markup(forest(dots, title=words.question(kind, found)["title"], line=0.0)),
    }


def ranking(group: Group, colors: dict[str, int]) -> str:
    """Draw what each method did to the personal loss, best first; empty where none was measured."""
    dots = [
        Dot(entry.label, colors[entry.label], value.mean, value.low, value.high)
        for entry in group.entries
        if (value := entry.change)
    ]
    if not dots:
        return ""
    return markupsafe.Markup(
        forest(
            sorted(dots, key=lambda dot: dot.mean),
            title="Change of personal loss after the last round",
            line=0.0,
        )
    )


def _panels(group: Group, colors: dict[str, int]) -> list[Facts]:
    """Return a small plot per method: what its rounds did to the personal loss, the others in gray."""
    lines = {
        entry.label: tuple((n, e.mean, e.low, e.high) for n, e in entry.curve("change")) for entry in group.entries
    }
    lines = {label: points for label, points in lines.items() if len(points) > 1}
    if not lines:
        return []
    span = (
        min(point[2] for points in lines.values() for point in points),
        max(point[3] for points in lines.values() for point in points),
    )
    panels = []
    for label, points in lines.items():
        others = [Curve(other, -1, theirs) for other, theirs in lines.items() if other != label]
        svg = curves(
            [Curve(label, colors[label], points), *others], title=f"Change of personal loss with {label}", span=span
        )
        panels.append({"label": label, "color": colors[label], "svg": markupsafe.Markup(svg)})
    return panels


def _held_out(entries: Sequence[Entry], colors: dict[str, int]) -> Facts | None:
    found = [
        Curve(entry.label, colors[entry.label], tuple((n, e.mean, e.mean, e.mean) for n, e in points))
        for entry in entries
        if entry.federated and len(points := entry.curve("loss")) > 1
    ]
    if not found:
        return None
    svg = curves(found, title="Loss of the shared backbone on held-out records", high=260)
    return {"svg": markupsafe.Markup(svg), "keys": [(curve.name, curve.color) for curve in found]}


def _privacy(group: Group, colors: dict[str, int]) -> Facts | None:
    points = [
        Point(entry.label, colors[entry.label], entry.epsilon or float("inf"), value.mean, value.low, value.high)
        for entry in group.entries
        if (value := entry.change) and entry.federated
    ]
    if not any(entry.protected for entry in group.entries) or not points:
        return None
    svg = scatter(points, title="Change of personal loss over epsilon", x_name="epsilon, logarithmic; whose: see above")
    return {"svg": markupsafe.Markup(svg), "keys": [(point.name, point.color) for point in points]}


def _bytes(entries: Sequence[Entry], colors: dict[str, int]) -> str:
    rows = [
        (entry.label, colors[entry.label], entry.bytes_up, words.size(entry.bytes_up))
        for entry in entries
        if entry.bytes_up
    ]
    return markupsafe.Markup(bars(rows, title="Uploaded bytes of all devices in all rounds")) if rows else ""


def _devices(group: Group, colors: dict[str, int]) -> list[Facts]:
    """Return each method's loss per device of the first seed, lowest start first, in a table of numbers."""
    first = group.cell.config.seeds[0]
    columns = [
        (entry.label, {device: loss for (seed, device), loss in entry.losses().items() if seed == first})
        for entry in group.entries
    ]
    starts = {
        device: float(loss)
        for entry in group.entries[:1]
        for facts in entry.results
        if facts["seed"] == first
        for device, loss in enumerate(facts["rows"][0].get("devices", ()))
        if loss is not None
    }
    return [
        {
            "device": device,
            "start": f"{starts[device]:.3f}",
            "cells": [
                {"label": label, "value": f"{losses[device]:.3f}" if device in losses else "-",
                 "best": device in losses and losses[device] == min(own[device] for _, own in columns if device in own)}
                for label, losses in columns
            ],
        }
        for device in sorted(starts)
    ]  # fmt: skip


def _pictures(group: Group) -> list[Facts]:
    """Return the same photos under every method: a row per photo and taste."""
    names = list(
        dict.fromkeys(name for entry in group.entries for facts in entry.results for name in facts["pictures"])
    )
    rows = []
    for name in names:
        photo, taste = name.removesuffix(".png").split("_")
        shots = [
            {"label": entry.label, "picture": _embedded(path)}
            for entry in group.entries
            if (path := _painting(entry, name)) is not None
        ]
        rows.append(
            {
                "photo": _embedded(group.home / "pictures" / f"{photo}.png"),
                "taste": _embedded(group.home / "pictures" / f"{taste}.png"),
                "shots": shots,
            }
        )
    return rows


def _painting(entry: Entry, name: str) -> Path | None:
    seeds = [facts["folder"] for facts in entry.results if name in facts["pictures"]]
    return entry.home / "trials" / seeds[0] / name if seeds else None


def _embedded(path: Path) -> str:
    return embed(path, _PICTURE_PX)
