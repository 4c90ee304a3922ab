"""Heads on the way to another backbone: which fit, which can be carried over, and how to come back.

A head's modulation numbers belong to one backbone; with another one it is refused (``check_match``), never painted
with. Carrying over reads the numbers again, from what the head itself holds (:mod:`client.refit`): its strokes and
palette stay, a tuning is lost, and the result is close to what the pictures would give, not equal. So the head as it
was is kept beside the new one, and comes back whole with its own backbone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from client.refit import refit
from client.store import HeadFile, Home
from shared_model.backbone import Backbone
from shared_model.errors import EaselError
from shared_model.files import write_atomic
from shared_model.head import Head
from shared_model.weights import backbone_id, default_heads

__all__ = ["Carried", "carry", "carry_shipped", "survey"]

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Carried:
    """What a head needs for a backbone, or what was done.

    Attributes
    ----------
    name
        The head.
    state
        ``ready``: it fits. ``kept``: it was made for this backbone earlier and is still here. ``refit``: its numbers
        are read again from what it holds; a tuning is lost. ``damaged``: it cannot be read.
    tuned
        Whether it has a tuning to lose.
    """

    name: str
    state: str
    tuned: bool = False


def survey(home: Home, backbone: Backbone) -> list[Carried]:
    """Say of each own head what it needs for ``backbone``; changes nothing."""
    return [_state(home, file, backbone_id(backbone)) for file in home.heads() if not file.shipped]


def carry(home: Home, backbone: Backbone, *, progress: Progress = lambda share, name: None) -> list[Carried]:
    """Make every own head fit ``backbone``; returns what was done to each.

    A head that is replaced stays beside its successor as ``NAME.head.BACKBONE``, until it is needed again or the owner
    makes, renames or deletes the head.
    """
    wanted = backbone_id(backbone)
    files = [file for file in home.heads() if not file.shipped]
    done = []
    for number, file in enumerate(files):
        progress(number / len(files), file.name)
        found = _state(home, file, wanted)
        if found.state in ("kept", "refit"):
            head = file.load()
            other = home.previous(file.name).get(wanted)
            data = other.read_bytes() if other else replace(refit(head, backbone), name=head.name).to_bytes()
            home.replace_head(file, data, was=head.backbone, now=wanted)
        done.append(found)
    return done


def carry_shipped(folder: Path, backbone: Backbone, *, progress: Progress = lambda share, name: None) -> None:
    """Write the heads that come with easel into ``folder``, made ready for ``backbone``; those there already stay."""
    shipped = default_heads()
    for number, (name, path) in enumerate(shipped.items()):
        progress(number / len(shipped), name)
        target = folder / path.name
        if not target.exists():
            head = Head.from_bytes(path.read_bytes())
            fits = head.backbone == backbone_id(backbone)
            write_atomic(target, (head if fits else refit(head, backbone)).to_bytes())


def _state(home: Home, file: HeadFile, wanted: str) -> Carried:
    try:
        head = file.load()
    except EaselError:
        return Carried(file.name, "damaged")
    tuned = head.change is not None
    if head.backbone == wanted:
        return Carried(file.name, "ready", tuned)
    return Carried(file.name, "kept" if wanted in home.previous(file.name) else "refit", tuned)
