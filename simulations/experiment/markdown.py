"""The figures of runs as Markdown, for documents: a table of all methods, and the answers with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from simulations.experiment import words
from simulations.experiment.contrasts import Contrast, contrasts
from simulations.experiment.summary import Group

__all__ = ["answers", "table", "to_markdown"]


def to_markdown(groups: Sequence[Group]) -> str:
    """Return tables and answers of all groups that have results."""
    parts: list[str] = []
    for group in groups:
        if not group.entries:
            continue
        parts += [f"## {group.title}", words.lead([group]), table(group)]
        if text := words.privacy(group):
            parts.append(text)
        parts += [answers(kind, found) for kind, found in contrasts(group).items() if found]
    return "\n\n".join([*parts, words.methods(groups)]) + "\n"


def table(group: Group) -> str:
    """Return a row per method."""
    columns = {
        "method": "label",
        "personal loss": "personal",
        "change": "change",
        "worst tenth": "worst",
        "held-out loss": "held_out",
        "epsilon": "epsilon",
        "uploaded": "bytes",
        "CPU a trial": "time",
        "seeds": "seeds",
    }
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for entry in group.entries:
        row = {**words.row(entry), "seeds": str(len(entry.results))}
        lines.append(f"| {' | '.join(row[key] for key in columns.values())} |")
    return "\n".join(lines)


def answers(kind: str, found: Sequence[Contrast]) -> str:
    """Return a question, and the answer that each method's interval gives."""
    asked = words.question(kind, found)
    lines = ["| method | answer | gain in personal loss | relative | devices better |", "|---|---|---|---|---|"]
    lines += [
        f"| {item['label']} | {item['answer']} | {item['gain']} | {item['relative']} | {item['devices']} |"
        for item in asked["answers"]
    ]
    return f"**{asked['title']}** {asked['text'].split(';')[0]}.\n\n" + "\n".join(lines)
