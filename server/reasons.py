"""Why replies are not used, in words for whoever runs the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["WORDS", "explain"]

#: What each reason of a round's report means, and what may be done about it.
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "another round": "It answers another round. A slow device; nothing to do.",
        "another run": "It answers another run of this fleet. A slow device after a new run; nothing to do.",
        "answered before": "The device has masked an update for this round before, and does it once only.",
        "bad bit": "The word on the clip is not yes or no. A device of another version, or a broken one.",
        "bad scale": "The scale of the update is outside what the clip allows. A broken or hostile device.",
        "budget used up": "The owner's privacy budget allows no more. The device will not come back for this fleet.",
        "duplicate": "A second reply of the same device. Only the first one counts.",
        "failed on the device": "Training failed on the device; its own log says why.",
        "its ledger went back": "The device's ledger is older than what was seen of it: a backup was put back there.",
        "late": "It did not come before the deadline: the device went away, or deadline_s is short for its network.",
        "norm above the clip": "The update is longer than the clip. A broken or hostile device.",
        "not asked": "It answers nothing that was asked. A late or hostile sender.",
        "not finite": "The update holds numbers that are not finite. A broken or hostile device.",
        "not needed": "The round had enough replies and was closed before this one. As over-selection has it.",
        "not reached": "The request could not be handed over: the device had gone by then.",
        "refused by its ledger": "The device's ledger knows this attempt already, or is not the latest one.",
        "refused by policy": "The owner's policy.toml does not allow what this fleet asks for.",
        "sum could not be opened": "Secure aggregation: too few shares came back to open the sum.",
        "sum longer than honest devices can make it": "Secure aggregation: a device masked wrongly.",
        "too few for secure aggregation": "Secure aggregation: so few devices would not hide one another.",
        "too old": "It was trained on a backbone that is too many releases back. A slow device.",
        "took part too recently": "The device guards the separation of this fleet (min_separation). As it should be.",
        "unreadable": "The update's bytes cannot be read. A device of another version, or a broken one.",
        "wrong dtype": "The numbers have another format than was asked for. A device of another version.",
        "wrong keys": "The reply holds other fields than it should. A device of another version.",
        "wrong length": "The update has another length than the backbone. A device of another version.",
        "wrong positions": "It does not say where its numbers stand as was asked for. A broken or hostile device.",
        "wrong sender": "It names another device than the one that was asked. A hostile sender.",
    }
)

_ERROR = "Flower's own error: mostly a device that vanished in the middle of a round."


def explain(reason: str) -> str:
    """Return a reason in words; empty for one that has none."""
    return _ERROR if reason.startswith("error ") else WORDS.get(reason, "")
