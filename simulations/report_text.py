"""The words of the report: every sentence and figure a person reads, made from a run's facts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from client.console import format_bytes, format_seconds
from simulations.run_folder import RunFolder

__all__ = [
    "EPSILON",
    "LOSS",
    "QUALITY",
    "commands",
    "figure",
    "footer",
    "gallery",
    "head",
    "limits",
    "opening",
    "people",
    "privacy",
    "rounds",
    "steps",
    "traffic",
]

Facts = dict[str, Any]
Row = Mapping[str, float]

LOSS = (
    "Lower is better. Measured by the simulation on held-out photos that no device owns; no device ever reports "
    "a loss, because a loss says something about its pictures."
)
QUALITY = (
    "Higher is better. Content asks whether the photo is still there, style whether strokes and colors "
    "are those of the owner's pictures; overall is high only when both are."
)
EPSILON = (
    "Every round spends some of a fixed budget, and training stops before the budget would be passed. "
    "The figure is for the nominal fleet, not for the few devices simulated here."
)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _count(number: int, noun: str, plural: str = "") -> str:
    word = NUMBERS[number] if number < len(NUMBERS) else f"{number:,}"
    return f"{word} {noun if number == 1 else plural or noun + 's'}"


def _power(value: float) -> str:
    """Return a small number as 2.5 × 10⁻⁷."""
    exponent = math.floor(math.log10(value)) if value > 0 else 0
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**exponent:.1f} × 10{digits}"  # noqa: RUF001


def _large(value: float | None) -> str:
    """Return a large number in words that people use; ``None`` means without bound."""
    if value is None or not math.isfinite(value):
        return "unlimited"
    for size, word in ((1e9, "billion"), (1e6, "million"), (1e3, "thousand")):
        if value >= size:
            return f"about {value / size:.2g} {word}" if value < 1e12 else "astronomical"
    return f"about {value:.2g}"


def _facts(run: RunFolder, phase: str) -> Facts:
    return run.facts(phase) if run.done(phase) else {}


def opening(run: RunFolder, table: Sequence[Row], privacy_facts: Mapping[str, Any]) -> Facts:
    """Return headline, lead and the strip of key figures."""
    number = len(run.facts("people")["people"])
    who = _count(number, "person", "people")
    facts = [{"value": str(number), "text": "simulated devices, each with its own photos and its own taste"}]
    trained = _facts(run, "federate")
    if trained:
        sent = max(device["sent"] for device in trained["devices"])
        per_round = sent / max(1, max(device["messages"] for device in trained["devices"]))
        facts.append({"value": "0", "text": "photos, artworks or heads that left a device"})
        facts.append(
            {"value": format_bytes(round(per_round)), "text": "sent by a device per round: one clipped update"}
        )
    if privacy_facts:
        nominal = privacy_facts["nominal"]
        facts.append(
            {
                "value": f"ε = {nominal['epsilon']:.2f}",
                "text": f"privacy spent at δ = {_power(nominal['delta'])}, "
                f"for a nominal fleet of {nominal['population']:,} devices",
            }
        )
    return {
        "headline": f"{who.capitalize()} taught one painter. None of them showed a picture.",
        "lead": "easel paints photographs in a person's own taste. The painter's hand is trained across many devices "
        "under differential privacy; the taste stays at home. This page shows one run on this computer, "
        "with real pictures and real figures.",
        "facts": facts,
    }


def people(run: RunFolder) -> str:
    """Say who the simulated people are and where their pictures come from."""
    facts = run.facts("people")
    number = _count(len(facts["people"]), "simulated person", "simulated people").capitalize()
    if facts["source"] == "built-in":
        return (
            f"{number}. The photos are crops of pictures that scikit-image ships; the artworks were painted from other "
            "crops of them by easel's own classical painters, each person with one painter, one palette and one brush. "
            "Large: what they like. Small: photos from their album."
        )
    return (
        f"{number}, dealt from your folders: everyone got {facts['deal']}. "
        "Large: what they like. Small: photos from their album."
    )


def steps(name: str) -> list[Facts]:
    """Return the four steps from photo to painting."""
    return [
        {"title": "A photo", "text": "Held out: no device trained on it."},
        {
            "title": "An own taste",
            "text": f"{name}'s artworks become a head: a dictionary of snippets. It takes seconds.",
        },
        {
            "title": "A draft",
            "text": "The private head lays down colors and strokes by matching snippets to the photo.",
        },
        {"title": "A painting", "text": "The shared backbone finishes the draft: edges, faces and light come back."},
    ]


def head(facts: Mapping[str, Any] | None) -> str:
    """Say how a head came about."""
    if facts is None:
        return ""
    if facts["loss_after"] < facts["loss_before"]:
        outcome = f"took its loss from {facts['loss_before']:.3f} to {facts['loss_after']:.3f}"
    else:
        outcome = f"found nothing better in that time (loss {facts['loss_before']:.3f}) and left it as it was fitted"
    return (
        f"Their head weighs {format_bytes(facts['bytes'])}, was fitted in {format_seconds(facts['fit_seconds'])} "
        f"and tuned in {format_seconds(facts['tune_seconds'])}, on the device; tuning {outcome}."
    )


def gallery(run: RunFolder) -> str:
    """Say what before and after are."""
    rounds_run = _facts(run, "federate").get("rounds", 0)
    return (
        "Before: the backbone that easel ships, with a head fresh from the artworks. "
        f"After: the backbone after {_count(rounds_run, 'round')} of training together, with the head tuned to it. "
        "easel's backbone is already trained on public pictures, so a few rounds change it gently: "
        "most of the style comes from the private head, in both."
    )


def figure(value: float) -> str:
    """Return a measured figure with three decimals, or say that there is none."""
    return f"{value:.3f}" if math.isfinite(value) else "not measured"


def rounds(run: RunFolder, table: Sequence[Row]) -> str:
    """Say what the rounds did to loss and quality, whichever way it went."""
    if len(table) < 2:
        return ""
    first, last = table[0], table[-1]
    told = f"the held-out loss {'fell' if last['loss'] < first['loss'] else 'rose'} from {first['loss']:.3f} to "
    told += f"{last['loss']:.3f}"
    if math.isfinite(change := last["quality"] - first["quality"]):
        went = f"{'rose' if change > 0 else 'fell'} by {abs(change):.3f}" if abs(change) >= 0.005 else "hardly moved"
        pairs = _count(int(_facts(run, "start").get("pairs", 0)), "held-out pair")
        told += f" and the picture quality {went}, measured on {pairs} of photo and artwork"
    return (
        "In every round the server sends the backbone to the devices, each trains it on its own pictures, clips and "
        f"packs the change, and the server adds noise to the sum. Over {_count(len(table) - 1, 'round')} {told}."
    )


def traffic(run: RunFolder, persons: Sequence[Mapping[str, Any]]) -> Facts | None:
    """Return what was kept and what was sent, per device and for a typical one."""
    if not run.done("federate"):
        return None
    facts = run.facts("federate")
    heads = {item["person"]: item["bytes"] for item in _facts(run, "heads").get("heads", ())}
    names = {person["id"]: person["name"] for person in persons}
    rows = [
        {
            "name": f"{device['id'] + 1} {names[device['id']]}",
            "pictures": format_bytes(device["pictures"]),
            "head": format_bytes(heads[device["id"]]) if device["id"] in heads else "not fitted here",
            "received": format_bytes(device["received"]),
            "sent": format_bytes(device["sent"]),
            "messages": str(device["messages"]),
        }
        for device in facts["devices"]
    ]
    one = facts["devices"][0]
    count = int(facts["parameters"])
    leaves = [
        {
            "what": "To the device: the backbone",
            "text": f"{count:,} numbers, float32, and the round's public settings; the same for everyone",
            "size": f"{format_bytes(4 * count)} a round",
        },
        {
            "what": "From the device: one update",
            "text": f"{count:,} numbers, clipped to a fixed length and rounded to {facts['upload']}",
            "size": f"{format_bytes(round(one['sent'] / max(1, one['messages'])))} a round",
        },
        {"what": "Counts, losses, names, pictures", "text": "not part of any message", "size": "0 B"},
    ]
    stays = [
        {"what": "Photos and artworks", "text": "as they are", "size": format_bytes(one["pictures"])},
        {"what": "Training pairs made from them", "text": "a private cache", "size": format_bytes(one["records"])},
        {
            "what": "The private head",
            "text": "literal snippets of the owner's pictures",
            "size": format_bytes(max(heads.values())) if heads else "not fitted here",
        },
        {"what": "The privacy ledger", "text": "what was spent, written before anything is sent", "size": "kept"},
    ]
    text = (
        "Counted from the messages themselves. An update is not harmless just because it is not a picture: "
        "that is why it is clipped, and why noise is added before anyone looks at the sum."
    )
    return {"rows": rows, "leaves": leaves, "stays": stays, "text": text}


def privacy(facts: Mapping[str, Any]) -> Facts:
    """Say what the privacy figures promise, and to whom they do not."""
    nominal, here = facts["nominal"], facts["simulated"]
    actual_text = _large(here["epsilon"])
    return {
        "paragraphs": [
            f"The promise is made to a whole person: a fleet of {nominal['population']:,} devices, of which about "
            f"{nominal['cohort']:,} take part in a round, would learn at most ε = {nominal['epsilon']:.2f} "
            f"(δ = {_power(nominal['delta'])}) about everything on one device, over all {nominal['rounds']} rounds. "
            "Small ε means: with or without you, the result looks almost the same.",
            f"This run simulates {here['devices']} devices and gives their average exactly the noise that the nominal "
            "fleet's average would carry. So the pictures and curves show what such a fleet would get.",
        ],
        "warning": f"The {here['devices']} devices simulated here are not protected to that level. Noise that hides "
        f"one person among {nominal['cohort']:,} does not hide one among {here['cohort']}: for them ε would be "
        f"{actual_text}, which is no protection at all. Small real groups need example-level privacy or more noise.",
        "rows": [
            {"what": "Who is protected", "value": "a whole person" if nominal["unit"] == "user" else "one record"},
            {"what": "Nominal fleet, devices per round", "value": f"{nominal['population']:,} / {nominal['cohort']:,}"},
            {
                "what": "Noise multiplier (noise on the sum over the clip)",
                "value": f"{nominal['noise_multiplier']:.3f}",
            },
            {"what": "Budget ε", "value": f"{nominal['target_epsilon']:g}" if nominal["target_epsilon"] else "none"},
            {"what": "Spent ε, nominal fleet", "value": f"{nominal['epsilon']:.3f}"},
            {"what": "δ", "value": _power(nominal["delta"])},
            {"what": "Simulated devices, per round", "value": f"{here['devices']} / {here['cohort']}"},
            {"what": "Noise multiplier here", "value": f"{here['noise_multiplier']:.2g}"},
            {"what": "ε of the simulated devices", "value": actual_text},
        ],
    }


def limits(run: RunFolder, table: Sequence[Row]) -> list[str]:
    """Name what this run does not show."""
    number = len(run.facts("people")["people"])
    texts = [
        f"{_count(number, 'simulated device').capitalize()} in one process on one computer: it runs the real server "
        "and the real client code, but no network failed and nobody was slow, absent or hostile.",
        "The noise is scaled to a nominal fleet; see the privacy section for what that means for these devices.",
        f"{_count(max(0, len(table) - 1), 'round').capitalize()}, a few pictures and one seed: "
        "the curves show that training works, not by how much it helps.",
        "The quality score looks at structure and patch statistics. It agrees with the eye often, not always.",
        "Differential privacy limits what the shared backbone reveals about you. "
        "It protects neither a painting that you share yourself nor a stolen phone.",
        "Faces smaller than about a tenth of the picture can dissolve into strokes.",
    ]
    if run.facts("people")["source"] == "built-in":
        texts.insert(3, "The artworks are made by programs from a handful of photos; real paintings vary far more.")
    if run.facts("people").get("judged_owned"):
        texts.insert(3, "There were too few artworks to hold some out: loss and quality use artworks that people own.")
    return texts


def commands(run: RunFolder) -> list[Facts]:
    """Return commands to go on with."""
    return [
        {"text": "Try it on your own pictures:", "line": "easel-sim demo --photos DIR --art DIR --out runs/mine"},
        {
            "text": "Fit a head to pictures that you like, on this computer:",
            "line": "easel personalize mine PICTURES...",
        },
        {"text": "Paint a photo with it:", "line": "easel stylize photo.jpg --head mine"},
        {"text": "Make this page again from the run's folder:", "line": f"easel-sim report {run.path}"},
    ]


def footer(run: RunFolder) -> str:
    """Say what made this page, and when."""
    return (
        f"Made by easel on {run.values['created'][:10]}, settings {run.values['digest']}, seed "
        f"{run.values['config']['seed']}. Self-contained: this page loads nothing from anywhere."
    )
