"""What one audit found about one mechanism."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one audit of one subject.

    Attributes
    ----------
    audit
        ``"canaries"``, ``"one run"``, ``"noise strength"``, ``"noise repeats"``, ``"noise returns"``.
    subject, bug
        What was audited, and the bug planted in it (empty: none).
    quantity
        What ``claimed`` and ``measured`` are: ``"epsilon"``, ``"deviation"`` or ``"correlation"``.
    claimed
        What the code says, or for a correlation the largest that chance explains.
    measured
        Lower bound (epsilon, at the reported confidence) or estimate.
    violation
        The claim is refuted; for code that keeps it this happens with probability ``alarm`` at most.
    alarm
        That probability.
    """

    audit: str
    subject: str
    bug: str
    quantity: str
    claimed: float
    measured: float
    violation: bool
    alarm: float
