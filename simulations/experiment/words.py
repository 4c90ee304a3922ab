"""What the pages of experiments say, in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from client.console import format_bytes, format_seconds
from simulations.engine import KINDS
from simulations.experiment.contrasts import Contrast
from simulations.experiment.folder import Facts
from simulations.experiment.summary import Entry, Group
from simulations.studies.intervals import Estimate

__all__ = ["METHODS", "facts", "footer", "lead", "methods", "papers", "privacy", "question", "row", "size"]

#: Devices from which the worst tenth gets an interval.
MANY = 20

METHODS = (
    "Personal loss: every device measures the network that it paints with on records of its own that it did not "
    "train on; lower is better. Worst tenth: the mean over the tenth of devices with the highest loss, at least "
    "one; it has an interval from 20 devices. "
    "Held-out loss: the shared backbone on records that belong to nobody. All are generator losses without the "
    "adversarial term. Intervals are 95 % bootstrap intervals over devices (over seeds for held-out loss and "
    "quality, where a few seeds make a rough interval); a device of another seed has other pictures. Differences "
    "compare each device with itself."
)

_QUESTIONS = {
    "local": (
        "Does training together beat training alone?",
        "How much lower the personal loss is than with local training only ({than}), on the same devices; right of "
        "the line is better.",
    ),
    "global": (
        "Do networks of one's own beat one for all?",
        "How much lower the personal loss is than with FedAvg's shared backbone ({than}), on the same devices; right "
        "of the line is better.",
    ),
}


def methods(groups: Sequence[Group]) -> str:
    """Say what the figures mean, which trials ended early, and what CPU seconds leave out."""
    early = [entry.label for group in groups for entry in group.entries if any(f.get("stopped") for f in entry.results)]
    parts = [METHODS]
    if early:
        parts.append(f"Stopped early, and compared as they were then: {', '.join(dict.fromkeys(early))}.")
    if not _alone(groups):
        parts.append("CPU seconds are those of the experiment's own process, without its workers'.")
    return " ".join(parts)


def _alone(groups: Sequence[Group]) -> bool:
    return all(group.cell.config.engine.kind == KINDS[0] for group in groups)


def lead(groups: Sequence[Group]) -> str:
    """Say what was run."""
    config = groups[0].cell.config
    people, federation = config.population, config.federation
    seeds = len(config.seeds)
    return (
        f"{_count(people.devices, 'simulated device')}, {people.kind} population, {federation.rounds} rounds of "
        f"{_count(federation.local_steps, 'local step')}, {_count(seeds, 'seed')}; the server and the client are those "
        "of a deployment."
    )


def facts(groups: Sequence[Group]) -> list[Facts]:
    """Return the figures at the top: the start and the best method."""
    found: list[Facts] = []
    group = groups[0]
    if group.start:
        found.append({"value": f"{group.start.mean:.3f}", "text": "personal loss before training, mean over devices"})
    ranked = sorted((e for e in group.entries if e.personal), key=lambda e: e.personal.mean if e.personal else 0.0)
    if ranked and ranked[0].personal:
        found.append({"value": f"{ranked[0].personal.mean:.3f}", "text": f"the lowest: {ranked[0].label}"})
    done = sum(len(entry.results) for g in groups for entry in g.entries)
    asked = sum(len(g.cell.config.method) * len(g.cell.config.seeds) for g in groups)
    found.append({"value": str(done), "text": "trials" if done == asked else f"of {asked} trials are finished"})
    seconds = sum(facts["cpu_seconds"] for g in groups for entry in g.entries for facts in entry.results)
    found.append(
        {
            "value": format_seconds(seconds),
            "text": f"of CPU for all trials{'' if _alone(groups) else ', without their workers'}",
        }
    )
    return found


def row(entry: Entry) -> Facts:
    """Return a method's row of the table."""
    return {
        "label": entry.label,
        "personal": interval(entry.personal),
        "change": interval(entry.change),
        "worst": _tail(entry.worst),
        "held_out": interval(entry.held_out),
        "quality": interval(entry.quality),
        "epsilon": epsilon(entry),
        "bytes": size(entry.bytes_up) if entry.bytes_up else "nothing",
        "time": format_seconds(entry.seconds),
        "own": "yes" if entry.own_networks else "no",
    }


def interval(value: Estimate | None) -> str:
    """Return a mean with its interval; a single value has none."""
    if value is None:
        return "-"
    return f"{value.mean:.3f}" if value.count < 2 else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _tail(value: Estimate | None) -> str:
    """Return the mean of a tail; drawing a few devices anew says nothing of the worst one, so no interval then."""
    return "-" if value is None else interval(value) if value.count >= MANY else f"{value.mean:.3f}"


def epsilon(entry: Entry) -> str:
    """Return the privacy spent: the nominal fleet's where noise was rescaled to it."""
    if not entry.federated or not any(facts["bytes_up"] for facts in entry.results):
        return "nothing sent" if entry.name == "local" else "none"
    if not entry.protected:
        return "none"
    return f"{entry.epsilon:.2g}" if entry.epsilon is not None else "unbounded"


def question(kind: str, found: Sequence[Contrast]) -> Facts:
    """Return a question with every method's answer."""
    title, text = _QUESTIONS[kind]
    text = text.format(than=found[0].than)
    answers = [
        {
            "label": item.better,
            "answer": item.answer,
            "gain": f"{item.gain.mean:+.4f} [{item.gain.low:+.4f}, {item.gain.high:+.4f}]",
            "relative": f"{100 * item.relative:+.1f} %",
            "devices": f"{item.gain.positive} of {item.gain.count}",
        }
        for item in found
    ]
    return {"title": title, "text": text, "answers": answers}


def privacy(group: Group) -> str:
    """Say whom the epsilons protect; where some methods protect a person and some a record, which."""
    protected = [entry for entry in group.entries if entry.protected]
    people = [entry for entry in protected if entry.results[0]["unit"] == "user"]
    records = [entry for entry in protected if entry not in people]
    mixed, parts = bool(people and records), []
    if people:
        runs = sorted({entry.run_epsilon for entry in people if entry.run_epsilon is not None})
        spent = ", ".join(dict.fromkeys(f"{value:.2g}" for value in runs)) or "no bound"
        parts.append(
            f"{_whose(people, mixed)} is that of the nominal fleet, at the user level: noise was calibrated for it and "
            "scaled down to the simulated devices, so that an average is as noisy as that fleet's. The simulated "
            f"devices themselves are not protected to it: this very run spends epsilon {spent}."
        )
    if records:
        delta = max(entry.results[0]["delta"] for entry in records)
        parts.append(
            f"{_whose(records, mixed)} protects one record of a device, at delta {delta:.0e}, in this very run: noise "
            "is added on the devices, to the gradients of their records."
        )
    return " ".join(parts)


def _whose(entries: Sequence[Entry], mixed: bool) -> str:
    return f"The epsilon of {', '.join(entry.label for entry in entries)}" if mixed else "Epsilon"


def papers(groups: Sequence[Group]) -> list[Facts]:
    """Return the papers of the methods, once each."""
    found = {entry.name: entry.results[0]["paper"] for group in groups for entry in group.entries}
    return [{"name": name, "paper": paper} for name, paper in found.items()]


def footer(groups: Sequence[Group]) -> str:
    """Say what made the page."""
    return f"Made by easel-sim. Settings {', '.join(dict.fromkeys(group.home.name for group in groups))}."


def size(count: float) -> str:
    """Return a number of bytes as people write it."""
    return format_bytes(round(count))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
