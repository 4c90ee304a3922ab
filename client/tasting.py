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
from client.style_names import text_of
from shared_model.errors import EaselError, InputError, StorageError
from shared_model.look import Look
from shared_model.stylize import Options

__all__ = ["Tasting", "painted_like", "partnered", "present"]

_SHOWN = 4


def painted_like(manner: Manner, options: Options, *, head: str, partner: str = "") -> tuple[str, Options, Look]:
    """Return how to paint in this manner: the head (or mix), as :mod:`client.style_names` writes it, and the rest.

    Size and seed stay those of ``options``.
    """
    heads, changed, look = with_manner(head, manner, partner=partner, options=options)
    return text_of(heads), changed, look


def partnered(known: Preferences, home: Home, *, head: str, partner: str) -> Preferences:
    """Return the state in which a share of ``partner`` is tried with ``head`` too; empty: of none.

    Raises
    ------
    MissingError
        If there is no such head.
    InputError
        If it is the head itself, or choices were made with another partner.
    """
    if partner and (partner := home.find(partner).name) == head:
        raise InputError("a head cannot be mixed with itself", hint="name another partner, or none")
    return known.with_partner(partner)


def present(known: Preferences, home: Home) -> Preferences:
    """Return the state without a partner that is not there any more, and without waiting candidates that mix it in.

    It is to be painted, not to be saved: the answers' shares still are that partner's.
    """
    try:
        if known.partner:
            home.find(known.partner)
        return known
    except EaselError:
        waiting = () if any(one.share for one in known.pending) else known.pending
        return dataclasses.replace(known, partner="", pending=waiting)


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
        InputError
            If the style has no name that preferences could be kept under, or count or partner cannot be used.
        MissingError
            If there is no such head.
        StorageError
            If the preferences are damaged.
        """
        with self._lock:
            if partner is not None:
                before = self._load(head)
                known = partnered(before, self.home, head=self._name(head), partner=partner)
                if known != before:
                    known.save(self.home.preferences_path(self._name(head)))
            usable = self.known(head)
            return usable, usable.propose(count, seed=seed)

    def choose(self, head: str, shown: tuple[Manner, ...], order: tuple[int, ...], *, partner: str) -> dict[str, Any]:
        """Take in which of the candidates the owner likes, best first; returns the new :meth:`facts`.

        Parameters
        ----------
        partner
            Head of which the candidates had a share, as :meth:`candidates` told it; empty: of none.

        Raises
        ------
        InputError
            If the answer makes no sense, or candidates have a share of another head than the one mixed in by now.
        """
        with self._lock:
            known = self._load(head)
            if partner != known.partner and any(one.share for one in shown):
                raise InputError("another head, or none, is mixed in by now", hint="look at new candidates")
            known.choose(shown, order).save(self.home.preferences_path(self._name(head)))
        return self.facts(head)

    def facts(self, head: str) -> dict[str, Any]:
        """Return how many answers there are, what the owner should like best, how sure that is, and the partner.

        ``settled`` says that the partner cannot be changed without forgetting the choices.
        """
        known = self.known(head)
        return {
            "answers": len(known.answers),
            "best": _plain(known.best(), head=self._name(head), partner=known.partner),
            "confidence": round(known.confidence(), 3) if known.answers else 0.5,
            "partner": known.partner,
            "settled": self._load(head).settled,
        }

    def apply(self, head: str) -> dict[str, Any]:
        """Let paintings with this head start from what the owner should like best, here and in ``easel stylize``.

        Raises
        ------
        InputError
            If there is no choice yet.
        """
        with self._lock:
            known = self._load(head)
            if not known.answers:
                raise InputError(f"{head} knows nothing of your taste yet", hint="choose between candidates first")
            best = self.known(head).best()
            dataclasses.replace(known, defaults=best).save(self.home.preferences_path(self._name(head)))
        return self.facts(head)

    def usual(self, head: str) -> dict[str, Any] | None:
        """Return what paintings with this head start from, if the owner said so; damaged preferences say nothing."""
        try:
            known = self.known(head)
        except EaselError:
            return None
        if known.defaults is None:
            return None
        return _plain(known.defaults, head=self._name(head), partner=known.partner)

    def forget(self, head: str) -> dict[str, Any]:
        """Delete the preferences of a head."""
        path = self.home.preferences_path(self._name(head))
        with self._lock:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(f"cannot delete {path}: {error.strerror}", hint="check its permissions") from error
        return self.facts(head)

    def known(self, head: str) -> Preferences:
        """Return what is known of the owner's taste for a head, without a partner that is not there any more.

        Raises like :meth:`candidates`.
        """
        return present(self._load(head), self.home)

    def _load(self, head: str) -> Preferences:
        return Preferences.load(self.home.preferences_path(self._name(head)))

    def _name(self, head: str) -> str:
        if head.startswith("style:"):
            hint = "make it a head first: Your own, then Learn"
            raise InputError("choices are remembered for heads, and this style is none yet", hint=hint)
        return self.home.find(head).name


def _plain(manner: Manner, *, head: str, partner: str) -> dict[str, Any]:
    whole, options, look = painted_like(manner, Options(), head=head, partner=partner)
    painted = {key: getattr(options, key) for key in ("strength", "detail", "keep_color")}
    return {"head": whole, "options": painted, "look": dataclasses.asdict(look)}
