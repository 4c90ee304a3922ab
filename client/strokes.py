"""Which stroke is from which picture, as data that a page can point at: one map, the sources, their shares."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from client.explanation import NO_MEMORY
from client.sheet import color_of
from client.views import encode_view
from shared_model.explain import Explanation
from shared_model.head import Head
from shared_model.images import Picture, to_uint8

__all__ = ["NOWHERE", "Trace", "trace"]

NOWHERE = 255  # in the map: no picture is known


@dataclass(frozen=True)
class Trace:
    """A painting, taken apart for a page.

    Attributes
    ----------
    map
        A PNG of the painting's shape: red is the number of the source picture (`NOWHERE`: unknown), green and blue
        are where in it the stroke was cut, down and across, 0 to 255.
    facts
        Plain values: ``width``, ``height``, ``painting`` (JPEG, base64), ``note``, and ``sources``, each with
        ``number``, ``share``, ``color`` and ``picture``.
    """

    map: bytes
    facts: dict[str, Any]


def trace(explanation: Explanation, head: Head) -> Trace:
    """Turn an explanation into a map and its legend; sources without a single stroke are listed too."""
    picture = explanation.picture.cpu()
    place = (explanation.place.cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    number = torch.where((picture < 0) | (picture >= NOWHERE), NOWHERE, picture).to(torch.uint8)
    pixels = torch.cat([number[..., None], place], dim=-1).numpy()
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=3)
    shares = explanation.shares[0] if explanation.remembers else ()
    sources = [
        {
            "number": index,
            "share": round(float(share), 4),
            "color": list(color_of(index)),
            "picture": _small(head, index),
        }
        for index, share in enumerate(shares)
    ]
    height, width = explanation.result.shape[-2:]
    facts = {
        "width": width,
        "height": height,
        "painting": _text(encode_view(Picture(rgb=to_uint8(explanation.result)))),
        "sources": sources,
        "note": "" if explanation.remembers else NO_MEMORY,
        "change": round(float(explanation.change.mean()), 4),
    }
    return Trace(map=stream.getvalue(), facts=facts)


def _small(head: Head, index: int) -> str:
    if index >= len(head.thumbnails):
        return ""
    return _text(encode_view(Picture(rgb=head.thumbnails[index].cpu().permute(1, 2, 0).contiguous().numpy())))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
