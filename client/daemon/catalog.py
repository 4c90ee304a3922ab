"""The services that tell: heads, the privacy ledger, the version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from client.commissions import HeadFacts
from client.daemon.replies import answers, without_paths
from client.daemon.uploads import Settings
from client.job_queue import JobQueue
from client.ledger import Ledger
from client.paths import witness_folder
from client.warm_painter import WarmPainter
from easel import __version__
from protos import studio_pb2 as pb
from protos import studio_pb2_grpc
from shared_model.errors import MissingError

__all__ = ["AboutService", "HeadsService", "PrivacyService", "head_message"]


def head_message(facts: HeadFacts) -> Any:
    """Return the facts about a head as a message."""
    return pb.Head(**{**asdict(facts), "damage": without_paths(facts.damage)})


class HeadsService(studio_pb2_grpc.HeadsServicer):
    """``easel.studio.v1.Heads``: what ``easel heads`` does.

    Parameters
    ----------
    atelier
        Knows the owner's home.
    """

    def __init__(self, atelier: WarmPainter) -> None:
        self._atelier = atelier

    @answers
    async def List(self, request: object, context: object) -> Any:
        """List all heads."""
        found = await asyncio.to_thread(self._atelier.heads)
        return pb.ListHeadsReply(heads=[head_message(facts) for facts in found])

    @answers
    async def Show(self, request: Any, context: object) -> Any:
        """Show one head."""
        return head_message(await asyncio.to_thread(self._show, request.name))

    @answers
    async def Rename(self, request: Any, context: object) -> Any:
        """Give an own head another name."""
        renamed = await asyncio.to_thread(self._atelier.home.rename_head, request.name, request.new_name)
        return head_message(await asyncio.to_thread(self._atelier.facts, renamed))

    @answers
    async def Delete(self, request: Any, context: object) -> Any:
        """Delete an own head for good."""
        deleted = await asyncio.to_thread(self._atelier.home.delete_head, request.name)
        return pb.DeleteHeadReply(name=deleted.name)

    def _show(self, name: str) -> HeadFacts:
        return self._atelier.facts(self._atelier.home.find(name))


class PrivacyService(studio_pb2_grpc.PrivacyServicer):
    """``easel.studio.v1.Privacy``: what ``easel privacy`` says; it can change nothing.

    Parameters
    ----------
    atelier
        Knows the owner's home.
    """

    def __init__(self, atelier: WarmPainter) -> None:
        self._atelier = atelier

    @answers
    async def GetLedger(self, request: object, context: object) -> Any:
        """Read the ledger."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Any:
        try:
            path = self._atelier.home.device_folder / "ledger.json"
            summary: Mapping[str, Any] = Ledger.open(path, witness=witness_folder()).summary()
        except MissingError:
            return pb.Ledger(exists=False, complete=True, epsilon=0.0, json="{}")
        told = {key: value for key, value in summary.items() if key != "ledger"}
        figures = {key: told[key] for key in ("epsilon", "epsilon_left", "max_epsilon", "participations", "bytes_sent")}
        return pb.Ledger(exists=True, complete=told["complete"], json=json.dumps(told, sort_keys=True), **figures)


class AboutService(studio_pb2_grpc.AboutServicer):
    """``easel.studio.v1.About``: version, device and limits.

    Parameters
    ----------
    atelier
        Knows backbone and device.
    painting
        The queue of pictures.
    settings
        What is allowed.
    """

    def __init__(self, atelier: WarmPainter, *, painting: JobQueue, settings: Settings) -> None:
        self._atelier = atelier
        self._painting = painting
        self._settings = settings

    @answers
    async def GetVersion(self, request: object, context: object) -> Any:
        """Tell the version, the device and the limits."""
        return pb.Version(
            easel=__version__,
            backbone=self._atelier.backbone,
            device=self._atelier.engine.plan.device.type,
            max_upload_bytes=self._settings.max_upload_bytes,
            max_pixels=self._atelier.max_pixels,
            max_calls=self._settings.painting.calls,
            max_calls_per_client=self._settings.painting.calls_per_client,
            calls=self._painting.calls,
        )
