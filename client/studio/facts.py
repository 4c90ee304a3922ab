"""What the page says about privacy; read from files, nothing is asked of anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.ledger_words import LEDGER, NEVER, explain, read_summary
from shared_model.errors import EaselError

__all__ = ["privacy_facts"]

_ROUNDS = 200  # shown at most, newest first


def privacy_facts(folder: Path) -> dict[str, Any]:
    """Return what the ledger of a device folder says: plain sentences, figures and the latest rounds.

    A ledger that cannot be read, for whatever reason, is told as ``problem``: the page must never look reassuring then.
    """
    try:
        summary = read_summary(folder / LEDGER) or dict(NEVER)
    except EaselError as error:
        return {"problem": {"message": error.message, "hint": error.hint}, "sentences": [], "rounds": []}
    except ImportError as error:
        hint = "install what training together needs: pip install 'easel[client]'"
        problem = {"message": f"the privacy ledger cannot be read without {error.name}", "hint": hint}
        return {"problem": problem, "sentences": [], "rounds": []}
    rounds = [
        {
            "when": entry["reserved_at"].replace("T", " ").replace("+00:00", ""),
            "run": entry["run"],
            "round": entry["round"],
            "bytes": entry["bytes_sent"],
            "state": entry["state"],
        }
        for entry in summary["entries"][::-1][:_ROUNDS]
    ]
    return {
        "problem": None,
        "sentences": [line.strip() for line in explain(summary)],
        "participations": summary["participations"],
        "complete": summary["complete"],
        "bytes_sent": summary["bytes_sent"],
        "epsilon": summary["epsilon"],
        "max_epsilon": summary["max_epsilon"],
        "rounds": rounds,
    }
