"""The page of a run: one self-contained HTML file with the pictures inside.

:func:`write_report` reads what a run left in its folder (``run.json``, ``rounds.csv``,
``privacy.json`` and pictures) and makes ``report.html`` from it, also long after the run. The page
asks for nothing from outside: styles, script and pictures are embedded, and its content policy
forbids the rest.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
from PIL import Image

from client.console import format_seconds
from shared_model.errors import MissingError, StorageError
from shared_model.files import read_bytes, write_atomic
from simulations import report_text
from simulations.charts import Series, line_chart
from simulations.run_folder import RunFolder, read_run

__all__ = ["embed", "read_rounds", "render", "resource", "write_report"]

SMALL_PX, MIDDLE_PX, LARGE_PX = 200, 420, 760
PHASE_NAMES = {
    "people": "Making the people and their pictures",
    "records": "Devices prepare their training pairs",
    "start": "Measuring the backbone at the start",
    "federate": "Training together, round by round",
    "heads": "Fitting private heads",
    "paintings": "Painting the held-out photos",
}

Facts = dict[str, Any]


def write_report(path: Path | str) -> Path:
    """Make ``report.html`` from the folder of a run.

    Parameters
    ----------
    path
        Folder with ``run.json``; phases that are not done yet are left out of the page.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    MissingError
        If the folder holds no run, or the run has not got as far as its people.
    StorageError
        If a file of the run is damaged or missing.
    """
    run = read_run(path)
    if not run.done("people"):
        raise MissingError(f"{run.path}: nothing to report yet", hint="run `easel-sim demo` with the same --out first")
    try:
        page = render("report.html", _context(run))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise StorageError(
            f"{run.path}: the files of this run do not fit together ({error!r})",
            hint="run `easel-sim demo --fresh` to start anew",
        ) from error
    return write_atomic(run.path / "report.html", page.encode())


def render(name: str, context: Mapping[str, Any]) -> str:
    """Return a page made of a template; a name that the template wants and the context lacks is a KeyError."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    try:
        return environment.from_string(resource(name)).render(context)
    except jinja2.UndefinedError as error:
        raise KeyError(str(error)) from error


def resource(name: str) -> str:
    """Return the text of a template or style sheet."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _context(run: RunFolder) -> Facts:
    people = [_person(run.path, person) for person in run.facts("people")["people"]]
    by_id = {person["id"]: person for person in people}
    photos: dict[str, str] = {}
    shots = [_shot(run.path, shot, by_id, photos) for shot in _facts(run, "paintings").get("paintings", ())]
    rounds = read_rounds(run.path)
    privacy = _json(run.path / "privacy.json")
    shown = _by_turns(shots)
    return {
        "css": markupsafe.Markup(resource("report.css")),
        **report_text.opening(run, rounds, privacy),
        "people": people,
        "people_text": report_text.people(run),
        "shots": shown,
        "photos": photos,
        "steps": _steps(shown, photos),
        "easels": _easels(run, shots),
        "gallery_text": report_text.gallery(run),
        "charts": _charts(rounds, privacy) if rounds else [],
        "rounds": [_round_row(row) for row in rounds],
        "rounds_text": report_text.rounds(run, rounds),
        "traffic": report_text.traffic(run, people),
        "privacy": report_text.privacy(privacy) if privacy else None,
        "times": _times(run),
        "limits": report_text.limits(run, rounds),
        "commands": report_text.commands(run),
        "footer": report_text.footer(run),
    }


def read_rounds(folder: Path) -> list[dict[str, float]]:
    """Read ``rounds.csv``: one row per round, row 0 before the first; empty if there is none yet."""
    path = folder / "rounds.csv"
    if not path.is_file():
        return []
    text = read_bytes(path, limit=1 << 24).decode("utf-8")
    return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(io.StringIO(text))]


def _facts(run: RunFolder, phase: str) -> Facts:
    return run.facts(phase) if run.done(phase) else {}


def _json(path: Path) -> Facts:
    return dict(json.loads(read_bytes(path, limit=1 << 24))) if path.is_file() else {}


def _person(folder: Path, person: Mapping[str, Any]) -> Facts:
    return {
        **person,
        "art": [
            embed(folder / name, MIDDLE_PX if first == 0 else SMALL_PX) for first, name in enumerate(person["art"][:3])
        ],
        "photos": [embed(folder / name, 96) for name in person["photos"][:4]],
    }


def _shot(folder: Path, shot: Mapping[str, Any], people: Mapping[int, Facts], photos: dict[str, str]) -> Facts:
    key = str(shot["photo"])
    if key not in photos:
        photos[key] = embed(folder / key, LARGE_PX)
    pictures = {name: embed(folder / shot[name], LARGE_PX) for name in ("before", "after")}
    return {
        **shot,
        **pictures,
        "draft": embed(folder / shot["draft"], MIDDLE_PX),
        "person": people[shot["person"]],
        "photo": photos[key],
        "photo_key": key,
    }


def _by_turns(shots: Sequence[Facts]) -> list[Facts]:
    """Order paintings so that neighbors differ in person and, where they can, in photo."""
    by_person: dict[int, list[Facts]] = {}
    for shot in shots:
        by_person.setdefault(shot["person"]["id"], []).append(shot)
    rows = [row[start % len(row) :] + row[: start % len(row)] for start, row in enumerate(by_person.values())]
    return [row[turn] for turn in range(max(map(len, rows), default=0)) for row in rows if turn < len(row)]


def _steps(shots: Sequence[Facts], photos: Mapping[str, str]) -> list[Facts]:
    if not shots:
        return []
    first = shots[0]
    pictures = (first["photo"], first["person"]["art"][0], first["draft"], first["after"])
    return [
        {"picture": picture, **text}
        for picture, text in zip(pictures, report_text.steps(first["person"]["name"]), strict=True)
    ]


def _easels(run: RunFolder, shots: Sequence[Facts]) -> list[Facts]:
    heads = {head["person"]: head for head in _facts(run, "heads").get("heads", ())}
    easels: dict[int, Facts] = {}
    for shot in shots:
        person = shot["person"]
        easel = easels.setdefault(
            person["id"], {"person": person, "shots": [], "text": report_text.head(heads.get(person["id"]))}
        )
        easel["shots"].append(shot)
    return list(easels.values())


def _charts(rounds: Sequence[Mapping[str, float]], privacy: Mapping[str, Any]) -> list[Facts]:
    labels = ["start", *(f"{row['round']:.0f}" for row in rounds[1:])]
    charts: list[Facts] = []

    def add(title: str, text: str, series: list[Series], **options: Any) -> None:
        svg = line_chart(series, labels=labels, title=title, **options)
        charts.append({"title": title, "text": text, "series": [item.name for item in series], "svg": svg})

    def column(name: str, key: str) -> Series:
        return Series(name, tuple(row[key] for row in rounds))

    add("Loss on held-out records", report_text.LOSS, [column("loss", "loss")])
    parts = [column("overall", "quality"), column("content", "content"), column("style", "style")]
    if any(math.isfinite(row["quality"]) for row in rounds):
        add("Picture quality, 0 to 1", report_text.QUALITY, parts)
    if privacy:
        target = privacy["nominal"]["target_epsilon"]
        limit = ("budget", float(target)) if target else None
        add(
            "Privacy spent (ε, nominal fleet)",
            report_text.EPSILON,
            [column("ε", "epsilon")],
            limit=limit,
            from_zero=True,
        )
    return charts


def _round_row(row: Mapping[str, float]) -> Facts:
    started = row["round"] == 0
    return {
        "name": "start" if started else f"{row['round']:.0f}",
        "loss": report_text.figure(row["loss"]),
        "quality": report_text.figure(row["quality"]),
        "epsilon": "0" if started else f"{row['epsilon']:.2f}",
        "answers": "" if started else f"{row['accepted']:.0f} of {row['asked']:.0f}",
        "time": format_seconds(row["seconds"]),
    }


def _times(run: RunFolder) -> list[Facts]:
    seconds = {name: float(run.facts(name)["seconds"]) for name in PHASE_NAMES if run.done(name)}
    longest, total = max(seconds.values(), default=1.0), sum(seconds.values())
    rows = [
        {"what": PHASE_NAMES[name], "time": format_seconds(value), "share": round(100 * value / max(longest, 1e-9), 1)}
        for name, value in seconds.items()
    ]
    return [*rows, {"what": "All of it", "time": format_seconds(total), "share": 0}]


def embed(path: Path, side: int) -> str:
    """Return a picture as a JPEG data URI, its long side at most ``side`` pixels."""
    try:
        with Image.open(io.BytesIO(read_bytes(path))) as image:
            small = image.convert("RGB")
    except OSError as error:
        raise StorageError(f"{path} is damaged", hint="run `easel-sim demo --fresh` to start anew") from error
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=86, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
