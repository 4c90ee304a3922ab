"""What the studio's page paints with, as one text: a head's name, a style made on the spot, or a mix of heads."""

from __future__ import annotations

from collections.abc import Sequence

from client.order import parse_mix
from shared_model.mix import shares

__all__ = ["MIX", "STYLE", "parts_of", "text_of"]

STYLE, MIX = "style:", "mix:"


def parts_of(head: str) -> tuple[tuple[str, float], ...]:
    """Return names and shares of the heads that ``head`` means: a head's name, ``mix:NAME=W,NAME=W``; none of a style.

    Raises
    ------
    InputError
        If it is a mix that cannot be read.
    """
    if head.startswith(STYLE):
        return ()
    if not head.startswith(MIX):
        return ((head, 1.0),)
    found = [(name, weight) for name, weight in parse_mix([head.removeprefix(MIX)]) if weight]
    return tuple(zip([name for name, _ in found], shares([weight for _, weight in found]), strict=True))


def text_of(heads: Sequence[tuple[str, float]]) -> str:
    """Return the text for heads and their shares, in percent: what :func:`parts_of` reads."""
    if len(heads) == 1:
        return heads[0][0]
    return MIX + ",".join(f"{name}={100 * share:g}" for name, share in heads)
