"""Hands to compare: the head alone, the palette alone, and backbones from files.

All paint through :func:`shared_model.stylize.stylize`. "Alone" is a backbone that paints nothing and
hands back what it was given, so canvas, padding and enlarging are the same for all.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import shared_model
from shared_model.backbone import Backbone
from shared_model.config import STROKES, HeadConfig, digest
from shared_model.errors import InputError
from shared_model.files import read_bytes, write_atomic
from shared_model.head import Head
from shared_model.images import load_tensor, resize_short
from shared_model.stylize import Options
from shared_model.tuning import tune
from shared_model.weights import backbone_id, load_backbone

__all__ = [
    "HEAD_ALONE",
    "PALETTE_ALONE",
    "Hand",
    "Passive",
    "attuned",
    "content_hash",
    "fitted_head",
    "load_hands",
    "painting_key",
]

HEAD_ALONE, PALETTE_ALONE = "head", "palette"

# Modules of shared_model that decide nothing about how a picture is painted; a change in any other one makes
# kept paintings stale.
_IRRELEVANT = frozenset(
    "__init__ adversarial assets config destylise discriminator errors files losses mechanism messages noise objective "
    "pool privacy quantize records sorting sparse split training tuning usefulness weights".split()
)


class Passive(Backbone):
    """A backbone that gives back the head's draft, or only the photo in the head's palette."""

    def __init__(self, *, draft: bool) -> None:
        super().__init__()
        self.draft = draft
        self.eval()

    def paint(
        self, colored: Tensor, draft: Tensor, modulation: Tensor, noise: Tensor, change: Tensor | None = None
    ) -> Tensor:
        """Return ``draft`` or ``colored`` as it came."""
        return draft if self.draft else colored


@dataclass(frozen=True)
class Hand:
    """One way to finish a draft.

    Parameters
    ----------
    name
        How tables and pictures call it.
    backbone
        Paints.
    identity
        Changes when what it paints may change.
    own_s
        Processor seconds in which every head gets a hand of its own (:func:`shared_model.tuning.tune`).
    strokes
        Which kind of head, of :data:`shared_model.config.STROKES`.
    """

    name: str
    backbone: Backbone
    identity: str
    own_s: float = 0.0
    strokes: str = "fine"


def load_hands(
    files: Sequence[str | Path], *, palette: bool = False, own_s: float = 0.0, broad: bool = False
) -> list[Hand]:
    """Return the head alone, the palette alone if wanted, then the backbones of ``files``.

    With ``own_s`` each backbone comes again, tuned to each style in so many processor seconds; with ``broad``
    again, with heads of broad strokes, and so does the head alone.
    A file is called by its stem, or by its folder where stems repeat (``run5/backbone.safetensors``);
    ``NAME=FILE`` names it otherwise.

    Raises
    ------
    InputError
        If two are called the same.
    StorageError, CompatibilityError
        If a file is no usable backbone.
    """
    hands = [Hand(HEAD_ALONE, Passive(draft=True), _code() + digest(HeadConfig()))]
    if broad:
        identity = _code() + digest(STROKES["broad"])
        hands.append(Hand(f"{HEAD_ALONE}, broad", Passive(draft=True), identity, strokes="broad"))
    if palette:
        hands.append(Hand(PALETTE_ALONE, Passive(draft=False), _code() + digest(HeadConfig())))
    named = [_name(str(file)) for file in files]
    stems = [path.stem for given, path in named if not given]
    for given, path in named:
        name = given or (path.stem if stems.count(path.stem) == 1 else path.resolve().parent.name)
        backbone = load_backbone(path)
        identity = _code() + digest(HeadConfig()) + backbone_id(backbone)
        hands.append(Hand(name, backbone, identity))
        if own_s > 0:
            hands.append(Hand(f"{name}, own", backbone, f"{identity}{_code(skip=frozenset())} {own_s:g}", own_s))
        if broad:
            config = digest(STROKES["broad"])
            hands.append(Hand(f"{name}, broad", backbone, _code() + config + backbone_id(backbone), strokes="broad"))
    names = [hand.name for hand in hands]
    if len(set(names)) < len(names):
        raise InputError(f"two hands have the same name: {', '.join(names)}", hint="use --backbone NAME=FILE")
    return hands


def _name(file: str) -> tuple[str, Path]:
    name, sign, path = file.partition("=")
    return (name, Path(path)) if sign and not Path(file).exists() else ("", Path(file))


def _code(*, skip: frozenset[str] = _IRRELEVANT) -> str:
    """Return 12 hex digits of the source code that paints; with nothing skipped also of all that trains."""
    folder = Path(shared_model.__file__).parent
    hashed = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        if path.stem not in skip:
            hashed.update(path.read_bytes())
    return hashed.hexdigest()[:12]


def content_hash(path: Path | str) -> str:
    """Return 16 hex digits of a file's bytes."""
    return hashlib.sha256(read_bytes(path)).hexdigest()[:16]


def fitted_head(arts: Sequence[Path], *, folder: Path, seed: int = 0, config: HeadConfig | None = None) -> Head:
    """Fit a head on paintings, or read the one that ``folder`` keeps from an earlier run.

    The head belongs to no backbone yet; see :func:`attuned`.
    """
    config = config or HeadConfig()
    facts = [_code(), digest(config), str(seed), *(content_hash(path) for path in arts)]
    path = folder / f"{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:24]}.head"
    if path.is_file():
        return Head.from_bytes(read_bytes(path))
    head = Head.fit([load_tensor(path) for path in arts], config=config, seed=seed)
    write_atomic(path, head.to_bytes())
    return head


def attuned(head: Head, hand: Hand, arts: Sequence[Path], *, seed: int = 0) -> Head:
    """Return the head with the modulation numbers of one hand, read off the same paintings, and tuned if it says so."""
    sized = [resize_short(load_tensor(path), head.config.canvas_px) for path in arts]
    plain = head.attuned(hand.backbone, sized, seed=seed)
    if hand.own_s == 0:
        return plain
    return tune(plain, sized, backbone=hand.backbone, budget_s=hand.own_s, seed=seed, clock=time.process_time)


def painting_key(hand: Hand, options: Options, *facts: str) -> str:
    """Return what a kept painting must be marked with to be used again."""
    return hashlib.sha256("|".join([hand.identity, digest(options), *facts]).encode()).hexdigest()[:24]
