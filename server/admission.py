"""Every reply is looked at before it may touch the sum; a bad one is dropped with a reason.

Replies come from outside: nothing here raises for what a device sent. One bad device never ends a
round and never poisons it, and at most one update per device and round is admitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message
from torch import Tensor

from shared_model.errors import CompatibilityError
from shared_model.messages import ARRAY, DECLINED, PROTOCOL, REPLY, WITHIN, RoundRequest
from shared_model.noise import norm
from shared_model.npy import npy_header
from shared_model.sparse import Positions, kept, positions_nbytes, unpack_positions

__all__ = ["Admission", "Verdict"]

#: Relative slack of the norm check: float32 rounding of a vector that was clipped in float32.
SLACK = 1e-6
_HEADER_BYTES = 4096


@dataclass(frozen=True, eq=False)
class Verdict:
    """What became of one reply.

    Parameters
    ----------
    node
        The device, or ``None`` if the reply answers nothing that was asked.
    update
        (P,) float32 when admitted, else ``None``.
    reason
        Why it was dropped; empty when admitted.
    nbytes
        Payload of the reply.
    ledger, entry
        What the device's ledger calls itself in this run, and which participation it says this is;
        empty and 0 where the reply did not say.
    within
        With adaptive clipping, whether the device says that its update was within the clip. To be
        summed and noised like the update, never looked at alone.
    staleness
        Releases since the backbone that it was trained from; 0 where rounds are not buffered.
    """

    node: int | None
    update: Tensor | None = None
    reason: str = ""
    nbytes: int = 0
    ledger: str = ""
    entry: int = 0
    within: bool | None = None
    staleness: int = 0

    @property
    def weight(self) -> float:
        """What the update counts: at most 1, so its norm stays within the clip (FedBuff, Nguyen et al. 2022)."""
        return 1.0 / math.sqrt(1.0 + self.staleness)


class Admission:
    """Judges the replies of one round.

    Parameters
    ----------
    request
        What the devices were asked.
    size
        Length P of an update.
    asked
        Node by message id.
    participations
        The highest participation seen of each ledger in this run; kept up to date here.
    """

    def __init__(
        self,
        request: RoundRequest,
        *,
        size: int,
        asked: Mapping[str, int],
        participations: MutableMapping[str, int] | None = None,
    ) -> None:
        self.request = request
        self.size = size
        self.asked = dict(asked)
        self._seen: set[int] = set()
        self._participations = {} if participations is None else participations

    def expect(self, asked: Mapping[str, int]) -> None:
        """Expect answers of more devices to the same request."""
        self.asked.update(asked)

    def judge(self, message: Message) -> Verdict:
        """Return the verdict on one reply.

        Guarantees
        ----------
        An admitted update has the asked length, where only some of its numbers are sent exactly as many
        as were asked for, each at a place of its own, only finite numbers, and an L2 norm (in float64) of
        at most ``clip * (1 + 1e-6)``; it answers this round of this run; no second update of
        the same device is admitted, nor two of the same ledger, nor one of a ledger that counts fewer
        participations than it has sent already (a restored backup).

        Assumes
        -------
        The transport ties a message id to the device that was asked (Flower does, with node
        authentication).

        Edge cases
        ----------
        Error replies are mapped by the message they answer, since Flower reports a dead device as
        the server's own node. Declared shapes and types are not trusted: the header inside the
        payload is read before the payload.
        """
        node = self.asked.get(message.metadata.reply_to_message_id)
        if node is None:
            return Verdict(None, reason="not asked")
        if node in self._seen:
            return Verdict(node, reason="duplicate")
        self._seen.add(node)
        if message.has_error():
            return Verdict(node, reason=DECLINED.get(message.error.code, f"error {message.error.code}"))
        if message.metadata.src_node_id != node:
            return Verdict(node, reason="wrong sender")
        return self._judge_content(message, node)

    def missing(self) -> tuple[int, ...]:
        """Return the asked devices that have not answered, sorted."""
        return tuple(sorted(set(self.asked.values()) - self._seen))

    def _judge_content(self, message: Message, node: int) -> Verdict:
        content = message.content
        array_record, reply = content.get(ARRAY), content.get(REPLY)
        if set(content) != {ARRAY, REPLY} or not isinstance(array_record, ArrayRecord):
            return Verdict(node, reason="wrong keys")
        nbytes = sum(len(array.data) for array in array_record.values())
        reason = "wrong keys"
        update: Tensor | None = None
        if set(array_record) == {ARRAY} and isinstance(reply, ConfigRecord):
            reason = self._check_reply(reply)
        if reason or not isinstance(reply, ConfigRecord):
            return Verdict(node, reason=reason, nbytes=nbytes)
        ledger, entry = str(reply["ledger"]), int(str(reply["entry"]))
        if entry <= self._participations.get(ledger, 0):
            reason = "its ledger went back"
        else:
            self._participations[ledger] = entry
            update, reason = self._read(array_record[ARRAY], reply)
        within = reply[WITHIN] is True if update is not None and self.request.adaptive_clip else None
        return Verdict(node, update=update, reason=reason, nbytes=nbytes, within=within, ledger=ledger, entry=entry)

    def _check_reply(self, reply: ConfigRecord) -> str:
        keys = {"protocol", "run", "round", "scale", "ledger", "entry"}
        if set(reply) != keys | ({WITHIN} if self.request.adaptive_clip else set()) or reply["protocol"] != PROTOCOL:
            return "wrong keys"
        ledger, entry = reply["ledger"], reply["entry"]
        if not (isinstance(ledger, str) and len(ledger) == 16 and isinstance(entry, int) and 1 <= entry < 1 << 31):
            return "wrong keys"
        if self.request.adaptive_clip and not isinstance(reply[WITHIN], bool):
            return "bad bit"
        if reply["run"] != self.request.run:
            return "another run"
        if reply["round"] != self.request.round:
            return "another round"
        scale = reply["scale"]
        if not isinstance(scale, float) or not (math.isfinite(scale) and 0.0 <= scale <= self.request.clip):
            return "bad scale"
        return ""

    def _read(self, array: Array, reply: object) -> tuple[Tensor | None, str]:
        places, values, reason = self._read_numbers(array)
        if values is None:
            return None, reason
        scale = reply["scale"] if isinstance(reply, ConfigRecord) else 0.0
        update = torch.from_numpy(values.astype(np.float32)) * float(scale)  # type: ignore[arg-type]
        if places is not None:
            update = torch.zeros(self.size).index_copy_(0, torch.from_numpy(places), update)
        length = norm(update)
        if not math.isfinite(length):
            return None, "not finite"
        if length > self.request.clip * (1.0 + SLACK):
            return None, "norm above the clip"
        return update, ""

    def _read_numbers(self, array: Array) -> tuple[Positions | None, np.ndarray | None, str]:
        """Return where the numbers of an update stand (None: it holds all), and the numbers, or why not."""
        request, wanted = self.request, np.dtype(self.request.upload)
        if request.top_k == 1.0:
            return None, *read_array(array, dtype=request.upload, size=self.size)
        count = kept(self.size, share=request.top_k)
        start = positions_nbytes(self.size, count=count)
        data, reason = read_array(array, dtype="uint8", size=start + count * wanted.itemsize)
        if data is None:
            return None, None, reason
        try:
            places = unpack_positions(data[:start], size=self.size, count=count)
        except CompatibilityError:
            return None, None, "wrong positions"
        return places, np.frombuffer(data[start:].tobytes(), wanted), ""


def read_array(array: Array, *, dtype: str, size: int) -> tuple[np.ndarray | None, str]:
    """Read a flat array of exactly this type and length from untrusted bytes, or say why not.

    Nothing is unpickled, and no more memory is taken than the bytes that came.
    """
    wanted = np.dtype(dtype)
    if array.stype != "numpy.ndarray" or array.dtype != dtype:
        return None, "wrong dtype"
    if tuple(array.shape) != (size,) or len(array.data) > size * wanted.itemsize + _HEADER_BYTES:
        return None, "wrong length"
    try:
        shape, found, start = npy_header(array.data)
    except ValueError:
        return None, "unreadable"
    if found != wanted:
        return None, "wrong dtype"
    if shape != (size,) or len(array.data) - start != size * wanted.itemsize:
        return None, "wrong length"
    return np.frombuffer(array.data, dtype=wanted, offset=start, count=size), ""
