"""Choosing between candidates: what to show next, and what was learned from the owner's answers.

The studio and the daemon ask it. An answer comes with what was shown, so that two pages or programs that show
candidates of one head at the same time do not mistake one's answer for the other's.
"""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass, field
from typing import Any

from client.order import with_manner
from client.preferences import Manner, Preferences
from client.store import Home
from shared_model.errors import EaselError, InputError, StorageError
from shared_model.look import Look
from shared_model.stylize import Options

__all__ = ["Tasting", "painted_like"]

_SHOWN = 4


def painted_like(manner: Manner, options: Options) -> tuple[Options, Look]:
    """Return how to paint in this manner; size and seed stay those of ``options``."""
    _, changed, look = with_manner("", manner, options=options)
    return changed, look


@dataclass
class Tasting:
    """The owner's preferences, one file per head; several tabs may ask at once.

    Attributes
    ----------
    home
        Where they lie.
    """

    home: Home
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def propose(self, head: str) -> tuple[Manner, ...]:
        """Return what the studio shows next. A partner head that was set elsewhere is left aside there.

        Raises
        ------
        InputError
            If the style has no name that preferences could be kept under.
        MissingError
            If there is no such head.
        StorageError
            If the preferences are damaged.
        """
        return dataclasses.replace(self.load(head), partner="").propose(_SHOWN)

    def candidates(
        self, head: str, *, count: int = _SHOWN, seed: int = 0, partner: str | None = None
    ) -> tuple[Preferences, tuple[Manner, ...]]:
        """Return what is known and what to show next.

        Parameters
        ----------
        count
            2 to 12.
        partner
            Head of which a share is tried too; empty: of none; ``None``: the one that was used before, if any.

        Raises
        ------
        InputError, MissingError, StorageError
            As :meth:`propose`; also if count or partner cannot be used.
        """
        with self._lock:
            known = self.load(head)
            if partner is not None and partner != known.partner:
                if partner and self.home.find(partner).name == self.home.find(head).name:
                    raise InputError("a head cannot be mixed with itself", hint="name another partner, or none")
                known = known.with_partner(partner)
                known.save(self.home.preferences_path(self._name(head)))
            return known, known.propose(count, seed=seed)

    def choose(self, head: str, shown: tuple[Manner, ...], order: tuple[int, ...]) -> dict[str, Any]:
        """Take in which of the candidates the owner likes, best first; returns the new :meth:`facts`.

        Raises
        ------
        InputError
            If the answer makes no sense.
        """
        with self._lock:
            known = self.load(head).choose(shown, order)
            known.save(self.home.preferences_path(self._name(head)))
        return self.facts(head)

    def facts(self, head: str) -> dict[str, Any]:
        """Return how many answers there are, what the owner should like best, and how sure that is."""
        known = dataclasses.replace(self.load(head), partner="")
        return {
            "answers": len(known.answers),
            "best": _plain(known.best()),
            "confidence": round(known.confidence(), 3) if known.answers else 0.5,
        }

    def apply(self, head: str, *, alone: bool = True) -> dict[str, Any]:
        """Let paintings with this head start from what the owner should like best, here and in ``easel stylize``.

        Parameters
        ----------
        alone
            Without a share of the partner.

        Raises
        ------
        InputError
            If there is no choice yet.
        """
        with self._lock:
            known = self.load(head)
            if not known.answers:
                raise InputError(f"{head} knows nothing of your taste yet", hint="choose between candidates first")
            best = dataclasses.replace(known, partner="" if alone else known.partner).best()
            dataclasses.replace(known, defaults=best).save(self.home.preferences_path(self._name(head)))
        return self.facts(head)

    def usual(self, head: str) -> dict[str, Any] | None:
        """Return what paintings with this head start from, if the owner said so; damaged preferences say nothing."""
        try:
            defaults = self.load(head).defaults
        except EaselError:
            return None
        return None if defaults is None else _plain(defaults)

    def forget(self, head: str) -> dict[str, Any]:
        """Delete the preferences of a head."""
        path = self.home.preferences_path(self._name(head))
        with self._lock:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"cannot delete {path}: {error.strerror}", hint="check its permissions") from error
        return self.facts(head)

    def load(self, head: str) -> Preferences:
        """Return what is known of the owner's taste for a head; raises like :meth:`propose`."""
        return Preferences.load(self.home.preferences_path(self._name(head)))

    def _name(self, head: str) -> str:
        if head.startswith("style:"):
            hint = "make it a head first: Your own, then Learn"
            raise InputError("choices are remembered for heads, and this style is none yet", hint=hint)
        return self.home.find(head).name


def _plain(manner: Manner) -> dict[str, Any]:
    options, look = painted_like(manner, Options())
    painted = {key: getattr(options, key) for key in ("strength", "detail", "keep_color")}
    return {"options": painted, "look": dataclasses.asdict(look)}
