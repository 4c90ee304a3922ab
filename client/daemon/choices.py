"""The service that learns what the owner likes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from client.daemon.replies import answers
from client.preferences import KNOBS, MAX_SHOWN, Manner, Preferences
from client.tasting import Tasting
from protos import studio_pb2 as pb
from protos import studio_pb2_grpc
from shared_model.errors import InputError

__all__ = ["PreferencesService"]


class PreferencesService(studio_pb2_grpc.PreferencesServicer):
    """``easel.studio.v1.Preferences``: what ``easel prefer`` does, without the painting.

    Parameters
    ----------
    tasting
        Keeps the choices.
    """

    def __init__(self, tasting: Tasting) -> None:
        self._tasting = tasting

    @answers
    async def Candidates(self, request: Any, context: object) -> Any:
        """Say what to show next."""
        partner = request.partner if request.HasField("partner") else None
        ask = partial(self._tasting.candidates, count=request.count or 4, seed=request.seed, partner=partner)
        known, shown = await asyncio.to_thread(ask, request.head)
        return await asyncio.to_thread(_taste, request.head, known, shown)

    @answers
    async def Choose(self, request: Any, context: object) -> Any:
        """Learn from a choice."""
        return await asyncio.to_thread(self._choose, request)

    @answers
    async def Suggest(self, request: Any, context: object) -> Any:
        """Tell what was learned."""
        return await asyncio.to_thread(self._tell, request.head)

    @answers
    async def Apply(self, request: Any, context: object) -> Any:
        """Paint so from now on."""
        await asyncio.to_thread(self._tasting.apply, request.head)
        return await asyncio.to_thread(self._tell, request.head)

    @answers
    async def Reset(self, request: Any, context: object) -> Any:
        """Forget all choices."""
        await asyncio.to_thread(self._tasting.forget, request.head)
        return await asyncio.to_thread(self._tell, request.head)

    def _choose(self, request: Any) -> Any:
        if len(request.shown) > MAX_SHOWN or len(request.order) > MAX_SHOWN:
            raise InputError(f"at most {MAX_SHOWN} candidates can be compared", hint="send back what was shown")
        shown = tuple(Manner(**{knob.name: getattr(one, knob.name) for knob in KNOBS}) for one in request.shown)
        self._tasting.choose(request.head, shown, tuple(request.order), partner=request.partner)
        return self._tell(request.head)

    def _tell(self, head: str) -> Any:
        return _taste(head, self._tasting.known(head))


def _taste(head: str, known: Preferences, shown: Sequence[Manner] = ()) -> Any:
    """Return what is known of a taste as a message."""
    return pb.Taste(
        head=head,
        partner=known.partner,
        choices=len(known.answers),
        candidates=[pb.Manner(**asdict(one)) for one in shown],
        best=pb.Manner(**asdict(known.best())) if known.answers else None,
        confidence=known.confidence() if known.answers else 0.0,
        applied=None if known.defaults is None else pb.Manner(**asdict(known.defaults)),
    )
