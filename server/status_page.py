"""The status of a fleet as one page: no script, no outside request, light and dark, phone and desktop."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from server.chart import bars, line
from server.reasons import explain
from server.report import shown

__all__ = ["page"]

_TEMPLATE = Path(__file__).with_name("templates") / "status.html"
_REFRESH_S = 30
_ROWS = 50

Facts = Mapping[str, Any]


def page(facts: Facts, *, live: bool) -> str:
    """Return the page.

    Parameters
    ----------
    facts
        What :meth:`server.standing.Standing.facts` returns.
    live
        Whether it is served by a running fleet: it then loads itself again every half a minute.
    """
    run, fleet = facts["run"], facts["fleet"]
    parts = [_heading(fleet, run), _cards(facts)]
    if run is None:
        parts.append('<p class="told">No round was started yet.</p>')
    else:
        parts += [_privacy(run), _charts(run), _dropped(run), _table(run)]
    title = "easel fleet" if run is None else f"easel fleet: round {run['rounds_done']} of {run['rounds_planned']}"
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        refresh=f'<meta http-equiv="refresh" content="{_REFRESH_S}">' if live else "",
        body="\n".join(parts),
        time=html.escape(str(facts["time"])[:19].replace("T", " ")),
    )


def _heading(fleet: Facts, run: Facts | None) -> str:
    state = '<span class="good">running</span>' if fleet["process"] is not None else '<span class="bad">stopped</span>'
    if run is not None and run["finished"]:
        what = "all rounds are done"
    elif run is not None and run["under_way"]:
        what = f"round {run['rounds_done'] + 1} is under way, its privacy is charged"
    else:
        what = "between rounds" if run is not None else "no run yet"
    days = fleet["certificate_days_left"]
    warning = f'<p class="bad">The server\'s certificate ends in {days} days.</p>' if days < 30 else ""
    return f'<h1>Fleet {html.escape(str(fleet["host"]))}</h1><p class="told">{state}, {what}</p>{warning}'


def _cards(facts: Facts) -> str:
    fleet, run, releases = facts["fleet"], facts["run"], facts["releases"]
    devices = fleet["devices"]
    cards = [(f"{fleet['online']:,} of {devices['enrolled']:,}", "devices online")]
    if run is not None:
        asked, cohort = run["asked"], run["cohort"]
        cards = [
            (f"{run['rounds_done']} of {run['rounds_planned']}", "rounds"),
            *cards,
            (f"{cohort['planned']:,}", f"devices planned a round, {cohort['needed']:,} needed"),
            (f"{run['accepted'] / asked:.0%}" if asked else "none", f"of {asked:,} replies used"),
            (shown(run["privacy"]["epsilon"]), f"epsilon, per {html.escape(str(run['privacy']['unit']))}"),
            (_bytes(run["bytes_up"] + run["bytes_down"]), f"traffic, {_bytes(run['bytes_up'])} of it up"),
        ]
    if releases is not None:
        latest = releases["latest"]
        in_use = f"release {releases['in_use']} in use" if releases["in_use"] else "no release in use yet"
        cards.append((_quality(latest), f"quality of release {latest['version']}{_before(latest)}; {in_use}"))
    body = "".join(f'<div class="card"><b>{html.escape(big)}</b><span>{small}</span></div>' for big, small in cards)
    refused = releases["latest"]["refused"] if releases is not None else None
    note = f'<p class="bad">The gate refused it: {html.escape(refused)}</p>' if refused else ""
    return f'<div class="cards">{body}</div>{note}'


def _quality(latest: Facts) -> str:
    return "unknown" if latest["quality"] is None else f"{latest['quality']:.3f}"


def _before(latest: Facts) -> str:
    return "" if latest["parent_quality"] is None else f" ({latest['parent_quality']:.3f} before)"


def _privacy(run: Facts) -> str:
    return f"<h2>Privacy</h2><p>{html.escape(str(run['privacy']['says']))}</p>"


def _charts(run: Facts) -> str:
    rounds = run["rounds"]
    if not rounds:
        return ""
    numbers = [report["round"] for report in rounds]
    accepted = bars(
        "Replies asked for and used, by round",
        numbers,
        [[report["asked"] for report in rounds], [report["accepted"] for report in rounds]],
        words=lambda value: f"{value:,.4g}",
    )
    traffic = bars(
        "Bytes down and up, by round",
        numbers,
        [
            [report["bytes_down"] + report["bytes_up"] for report in rounds],
            [report["bytes_up"] for report in rounds],
        ],
        words=_bytes,
    )
    spent = line("Epsilon by round", numbers, [report["epsilon"] for report in rounds], words=lambda v: f"{v:.3g}")
    bounded = any(report["epsilon"] is not None for report in rounds)
    spent = spent if bounded else '<p class="told">unbounded: there is nothing to draw</p>'
    return (
        '<h2>Rounds</h2><div class="charts">'
        f"<figure><figcaption>Replies: {_key('p0')}asked {_key('p1')}used</figcaption>{accepted}</figure>"
        f"<figure><figcaption>Epsilon so far</figcaption>{spent}</figure>"
        f"<figure><figcaption>Traffic: {_key('p0')}down {_key('p1')}up</figcaption>{traffic}</figure></div>"
    )


def _key(name: str) -> str:
    color = {"p0": "--pale", "p1": "--accent"}[name]
    return f'<i class="key" style="background:var({color})"></i>'


def _dropped(run: Facts) -> str:
    if not run["dropped"]:
        return ""
    items = "".join(
        f"<div><dt>{count:,} {html.escape(reason)}</dt><dd>{html.escape(explain(reason))}</dd></div>"
        for reason, count in sorted(run["dropped"].items(), key=lambda item: -item[1])
    )
    return f"<h2>Replies that were not used</h2><dl>{items}</dl>"


def _table(run: Facts) -> str:
    reports: Sequence[Facts] = run["rounds"][-_ROWS:]
    if not reports:
        return ""
    rows = "".join(_row(report) for report in reversed(reports))
    more = len(run["rounds"]) - len(reports)
    note = f'<p class="told">{more} older rounds: rounds.csv in the folder of the run.</p>' if more else ""
    head = (
        '<tr><th>round</th><th>asked</th><th>used</th><th class="text">not used</th><th>epsilon</th>'
        "<th>up</th><th>down</th><th>seconds</th></tr>"
    )
    return f'<h2>Round by round</h2><div class="scroll"><table>{head}{rows}</table></div>{note}'


def _row(report: Facts) -> str:
    reasons = [f"{count} {reason}" for reason, count in report["reasons"].items()]
    if not report["released"]:
        reasons.append("skipped: too few")
    cells = (report["round"], report["asked"], report["accepted"])
    after = (shown(report["epsilon"]), _bytes(report["bytes_up"]), _bytes(report["bytes_down"]))
    return (
        "<tr>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f'<td class="text">{html.escape(", ".join(reasons))}</td>'
        + "".join(f"<td>{cell}</td>" for cell in after)
        + f"<td>{report['seconds']:.0f}</td></tr>"
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000.0:
            return f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:,.3g} TB"
