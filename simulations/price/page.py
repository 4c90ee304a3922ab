"""What a study leaves for its reader: ``price.csv``, ``price.md`` and two plots in ``price.svg``."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared_model.files import write_atomic
from simulations.charts import Series, line_chart, side_by_side
from simulations.price.settings import PriceConfig

__all__ = ["Estimate", "Line", "estimate", "table", "write_page"]

Facts = dict[str, Any]

_NAMES = ("epsilon", "cohort", "runs", "noise_multiplier", "noise_over_clip")
_MEASURES = ("loss", "gain", "quality")


@dataclass(frozen=True)
class Estimate:
    """A mean and half the width of its 95 percent interval (NaN for a single run)."""

    mean: float
    half: float

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        return f"{self.mean:.4f}" + ("" if math.isnan(self.half) else f" ± {self.half:.4f}")


@dataclass(frozen=True)
class Line:
    """One cell of the study over all its repeats.

    Parameters
    ----------
    epsilon, cohort
        Which; cohort 0 is the run without noise.
    runs
        How many repeats.
    noise_multiplier, noise_over_clip
        Of the sum; and the length of the noise in a round's average over the clip.
    loss, gain, quality
        Held-out loss, what training took off it, and the quality score.
    """

    epsilon: float
    cohort: int
    runs: int
    noise_multiplier: float
    noise_over_clip: float
    loss: Estimate
    gain: Estimate
    quality: Estimate


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean with Student's 95 percent interval.

    Edge cases
    ----------
    One value has no interval; no value has no mean either.
    """
    if not values:
        return Estimate(math.nan, math.nan)
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, math.nan)
    from scipy.stats import t

    return Estimate(mean, float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values)))


def table(first: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Put the repeats of each cell together, in the order in which cells were first run."""
    cells: dict[tuple[float, int], list[Mapping[str, Any]]] = {}
    for facts in results:
        epsilon = math.inf if facts["epsilon"] is None else float(facts["epsilon"])
        cells.setdefault((epsilon, int(facts["cohort"])), []).append(facts)
    return [
        Line(
            epsilon=epsilon,
            cohort=cohort,
            runs=len(runs),
            noise_multiplier=float(runs[0]["noise_multiplier"]),
            noise_over_clip=float(runs[0]["noise_over_clip"]),
            loss=estimate([run["loss"] for run in runs]),
            gain=estimate([first["loss"] - run["loss"] for run in runs]),
            quality=estimate([run["quality"] for run in runs if run["quality"] is not None]),
        )
        for (epsilon, cohort), runs in cells.items()
    ]


def write_page(folder: Path, config: PriceConfig, first: Mapping[str, Any], results: Sequence[Facts]) -> Facts:
    """Write table and plots of a study, and return its main figures, JSON-ready."""
    lines = table(first, results)
    write_atomic(folder / "price.csv", _csv(lines).encode())
    write_atomic(folder / "price.md", _markdown(config, first, lines).encode())
    write_atomic(folder / "price.svg", _plots(first, lines).encode())
    return {
        "folder": str(folder),
        "table": str(folder / "price.md"),
        "plot": str(folder / "price.svg"),
        "start": dict(first),
        "rows": [
            {
                "epsilon": line.epsilon if math.isfinite(line.epsilon) else None,
                "cohort": line.cohort or None,
                "runs": line.runs,
                **{name: _plain(getattr(line, name).mean) for name in _MEASURES},
                **{f"{name}_half": _plain(getattr(line, name).half) for name in _MEASURES},
            }
            for line in lines
        ],
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _csv(lines: Sequence[Line]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_NAMES, *(f"{name}{part}" for name in _MEASURES for part in ("", "_half"))])
    for line in lines:
        measured = [getattr(line, name) for name in _MEASURES]
        numbers = [value for item in measured for value in (item.mean, item.half)]
        writer.writerow([f"{value:.6g}" for value in (*(getattr(line, name) for name in _NAMES), *numbers)])
    return stream.getvalue()


def _markdown(config: PriceConfig, first: Mapping[str, Any], lines: Sequence[Line]) -> str:
    federation = config.federation
    quality = "-" if first["quality"] is None else f"{first['quality']:.4f}"
    rows = [
        f"| {f'{line.epsilon:g}' if math.isfinite(line.epsilon) else 'none'} "
        f"| {f'{line.cohort:,}' if line.cohort else 'any'} "
        f"| {line.noise_multiplier:.3g} | {line.noise_over_clip:.2g} | {line.loss} | {line.gain} | {line.quality} |"
        for line in lines
    ]
    return "\n".join(
        [
            f"{federation.rounds} rounds; nominal fleet of {federation.population:,} devices, user-level privacy "
            f"for all rounds, imitated by {config.devices} simulated devices with noise scaled down accordingly; "
            f"{max(line.runs for line in lines)} runs of each cell, 95 % intervals (Student) over runs.",
            f"At the start: held-out loss {first['loss']:.4f}, quality {quality}.",
            "",
            "| epsilon | cohort | noise multiplier | noise over clip | held-out loss | gain on the start | quality |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _plots(first: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Draw loss and quality over epsilon, one line per cohort, the start as a dashed line."""
    epsilons = sorted({line.epsilon for line in lines}, reverse=True)
    cohorts = sorted({line.cohort for line in lines if line.cohort}) or [0]
    labels = ["no noise" if math.isinf(epsilon) else f"ε {epsilon:g}" for epsilon in epsilons]

    def value(name: str, epsilon: float, cohort: int) -> float | None:
        wanted = (epsilon, cohort if math.isfinite(epsilon) else 0)
        found = [line for line in lines if (line.epsilon, line.cohort) == wanted]
        return _plain(getattr(found[0], name).mean) if found else None

    def chart(name: str, title: str) -> str:
        series = [
            Series(f"cohort {cohort:,}" if cohort else "no noise", tuple(value(name, e, cohort) for e in epsilons))
            for cohort in cohorts
        ]
        start = first[name]
        limit = None if start is None else ("before training", float(start))
        return line_chart(series, labels=labels, title=title, limit=limit)

    charts = [("Held-out loss (lower is better)", chart("loss", "Held-out loss over epsilon"))]
    if any(math.isfinite(line.quality.mean) for line in lines):
        charts.append(("Quality (higher is better)", chart("quality", "Quality over epsilon")))
    return side_by_side(charts, keys=[f"cohort {cohort:,}" if cohort else "no noise" for cohort in cohorts])
