"""What an audit leaves: ``audit.json`` and ``audit.html``, one page with its picture inside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from shared_model.files import write_atomic
from simulations.audit.membership import GRID
from simulations.audit.suite import Verdict
from simulations.charts import Series, line_chart
from simulations.report import embed, resource

__all__ = ["rows_of", "write_audit"]

Facts = dict[str, Any]


def rows_of(verdicts: Sequence[Verdict]) -> list[tuple[str, str, str, str, str]]:
    """Return the table for the terminal: what, planted, epsilon claimed, found at least, outcome."""
    rows = []
    for verdict in verdicts:
        first = verdict.findings[0]
        outcome = f"caught by {', '.join(verdict.caught)}" if verdict.caught else "nothing found"
        mark = "" if verdict.as_it_should_be else "  <- NOT as it should be"
        rows.append(
            (verdict.subject, verdict.bug or "-", _number(first.claimed), _number(first.measured), outcome + mark)
        )
    return rows


def write_audit(folder: Path, facts: Facts, verdicts: Sequence[Verdict]) -> Path:
    """Write facts and page into the folder; returns the page."""
    write_atomic(folder / "audit.json", (json.dumps(facts, indent=1) + "\n").encode())
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    attacks = facts.get("attacks") or {}
    page = environment.from_string(resource("audit.html")).render(
        css=markupsafe.Markup(resource("report.css")),
        facts=facts,
        rows=rows_of(verdicts),
        details=[_detail(verdict) for verdict in verdicts],
        chart=markupsafe.Markup(_epsilon_chart(verdicts)),
        attacks=attacks,
        curves=markupsafe.Markup(_curves(attacks["membership"])) if attacks else "",
        names=[outcome["sight"] for outcome in attacks.get("membership", ())],
        picture=embed(folder / attacks["picture"], 1200) if attacks else "",
    )
    return write_atomic(folder / "audit.html", page.encode())


def _detail(verdict: Verdict) -> Facts:
    checks = [
        {
            "name": finding.audit,
            "text": f"{finding.quantity}: claimed {_number(finding.claimed)}, found {_number(finding.measured)}",
            "violation": finding.violation,
        }
        for finding in verdict.findings
    ]
    return {"subject": verdict.subject, "bug": verdict.bug or "none", "checks": checks}


def _epsilon_chart(verdicts: Sequence[Verdict]) -> str:
    """Draw the epsilon that canaries found for each variant, against the claim (both as log10)."""
    bugs = list(dict.fromkeys(verdict.bug for verdict in verdicts))
    subjects = list(dict.fromkeys(verdict.subject for verdict in verdicts))
    found = {(v.subject, v.bug): math.log10(max(v.findings[0].measured, 0.1)) for v in verdicts}
    series = [Series(subject, tuple(found.get((subject, bug)) for bug in bugs)) for subject in subjects]
    claim = math.log10(verdicts[0].findings[0].claimed)
    return line_chart(
        series,
        labels=[str(number) for number in range(len(bugs))],
        title="log10 of the epsilon found, by variant",
        limit=("claimed", claim),
    )


def _curves(outcomes: Sequence[Mapping[str, Any]]) -> str:
    series = [Series(outcome["sight"], tuple(outcome["curve"])) for outcome in outcomes]
    labels = [f"{rate:g}" for rate in GRID]
    return line_chart(series, labels=labels, title="Members found over false positive rate", from_zero=True)


def _number(value: float) -> str:
    return f"{value:.3g}"
