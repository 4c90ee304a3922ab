"""The status of a fleet as Prometheus text (exposition format 0.0.4), for a node exporter or a scrape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["exposition"]

Sample = tuple[Mapping[str, str], float | int | None]


def exposition(
    run: Mapping[str, Any] | None, fleet: Mapping[str, Any] | None, releases: Mapping[str, Any] | None = None
) -> str:
    """Write the three parts of :meth:`server.standing.Standing.facts` as metrics.

    Nothing in them is about a single device. What is not known (an epsilon without bound, a run
    that was not started) is left out.
    """
    parts: list[str] = []
    if run is not None:
        privacy = run["privacy"]
        parts += [
            _metric("easel_rounds_done_total", "Rounds that are finished.", "counter", [({}, run["rounds_done"])]),
            _metric("easel_rounds_planned", "Rounds that are planned.", "gauge", [({}, run["rounds_planned"])]),
            _metric("easel_devices_asked_total", "Requests to devices.", "counter", [({}, run["asked"])]),
            _metric("easel_replies_accepted_total", "Replies that were used.", "counter", [({}, run["accepted"])]),
            _metric(
                "easel_replies_dropped_total",
                "Replies that were not used, by reason.",
                "counter",
                [({"reason": reason}, count) for reason, count in run["dropped"].items()],
            ),
            _metric(
                "easel_rounds_skipped_total",
                "Rounds that released nothing.",
                "counter",
                [({}, len(run["skipped_rounds"]))],
            ),
            _metric(
                "easel_bytes_total",
                "Bytes of models and updates.",
                "counter",
                [({"direction": "down"}, run["bytes_down"]), ({"direction": "up"}, run["bytes_up"])],
            ),
            _metric("easel_cohort_planned", "Devices planned a round.", "gauge", [({}, run["cohort"]["planned"])]),
            _metric(
                "easel_privacy_epsilon",
                "Privacy loss so far: of the fleet described, and of this run itself.",
                "gauge",
                [({"of": "fleet"}, privacy["epsilon"]), ({"of": "run"}, privacy["run_epsilon"])],
            ),
        ]
    if fleet is not None:
        parts += [
            _metric("easel_up", "Whether the fleet is running.", "gauge", [({}, int(fleet["process"] is not None))]),
            _metric(
                "easel_devices",
                "Devices of the fleet, by state.",
                "gauge",
                [({"state": state}, count) for state, count in fleet["devices"].items()],
            ),
            _metric("easel_devices_online", "Devices that are connected.", "gauge", [({}, fleet["online"])]),
            _metric(
                "easel_certificate_days_left",
                "Days until the server's certificate ends.",
                "gauge",
                [({}, fleet["certificate_days_left"])],
            ),
        ]
    if releases is not None:
        latest = releases["latest"]
        parts += [
            _metric("easel_release_in_use", "Version in use; 0: none yet.", "gauge", [({}, releases["in_use"])]),
            _metric("easel_release_latest", "Version of the newest release.", "gauge", [({}, latest["version"])]),
            _metric(
                "easel_release_quality",
                "Quality of the newest release, and of what it was compared with.",
                "gauge",
                [({"of": "latest"}, latest["quality"]), ({"of": "parent"}, latest["parent_quality"])],
            ),
        ]
    return "".join(parts)


def _metric(name: str, what: str, kind: str, samples: Sequence[Sample]) -> str:
    known = [(labels, value) for labels, value in samples if value is not None]
    if not known:
        return ""
    lines = [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {value}" for labels, value in known]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
