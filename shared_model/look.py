"""Knobs of a head that need no fitting: stroke size, roughness and how far the backbone finishes.

All are factors on what the head itself says, so that 1 is always "as the head was made".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared_model.errors import InputError
from shared_model.head import Head
from shared_model.mix import Mixed

__all__ = ["RANGES", "Look"]

RANGES = {"brush": (0.5, 2.0), "roughness": (0.0, 3.0), "hand": (0.0, 2.0)}
_CANVASES = (32, 1024)  # short sides that a canvas may get by a change of brush


@dataclass(frozen=True)
class Look:
    """How a head is bent for one painting.

    Parameters
    ----------
    brush
        Size of the strokes in the picture, 0.5 to 2: the canvas becomes that much smaller, patches stay.
    roughness
        How much flat areas are broken up into strokes, 0 to 3.
    hand
        How far the backbone may move the draft, 0 to 2; more than all the way counts as all the way.

    Raises
    ------
    InputError
        If a factor is out of range.
    """

    brush: float = 1.0
    roughness: float = 1.0
    hand: float = 1.0

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name} must be between {low:g} and {high:g}, not {getattr(self, name):g}")

    def apply(self, head: Head) -> Head:
        """Return the head that paints so; a mix of heads is bent part by part."""
        if self == Look():
            return head
        if isinstance(head, Mixed):
            return head.each(self.apply)
        config = head.config
        canvas = config.canvas_px
        if self.brush != 1:
            low, high = min(_CANVASES[0], canvas), max(_CANVASES[1], canvas)
            canvas = min(high, max(low, round(canvas / self.brush)))
        changed = replace(
            config,
            canvas_px=canvas,
            roughness=min(4.0, config.roughness * self.roughness),
            hand=min(1.0, config.hand * self.hand),
        )
        return replace(head, config=changed)
