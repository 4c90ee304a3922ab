"""The picture that ``easel stylize --explain`` writes beside a painting, and the facts that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.sheet import Tile, color_of, contact_sheet, heat
from shared_model.errors import EaselError, InputError
from shared_model.explain import Explanation
from shared_model.head import Head
from shared_model.images import encode_picture, read_settings, to_uint8
from shared_model.pyramid import luminance

__all__ = ["NO_MEMORY", "check_free", "draw", "encode", "path_beside", "summary"]

NO_MEMORY = "this head does not remember where its patches came from; fit it again with easel personalize"
_TOP_CHANGE = 0.25  # mean change of a pixel that is drawn white
_SHOWN = 8  # pictures in the legend
_STROKES = 24  # patches in the strip


def path_beside(target: Path) -> Path:
    """Return where the explanation of the painting ``target`` goes: ``photo-oil.explain.png``."""
    return target.with_name(f"{target.stem}.explain.png")


def check_free(path: Path) -> None:
    """Refuse to replace a file that is no explanation.

    Raises
    ------
    InputError
        If something else has the name.
    """
    if not path.exists():
        return
    try:
        ours = "explains" in read_settings(path)
    except EaselError:
        ours = False
    if not ours:
        raise InputError(f"{path} is there already and is no explanation", hint="move it away, or choose another -o")


def encode(explanation: Explanation, head: Head, settings: Mapping[str, object]) -> bytes:
    """Return the picture as a PNG file; the painting's settings are inside, so that it is not taken for a photo."""
    return encode_picture(draw(explanation, head), suffix=".png", settings={**settings, "explains": True})


def summary(facts: Mapping[str, object]) -> str:
    """Say the facts of an explanation in a few words."""
    change, pictures = facts["change"], facts["pictures"]
    assert isinstance(change, dict) and isinstance(pictures, list)
    parts = sorted(pictures, key=lambda one: -one["share"])[:3]
    strokes = ", ".join(f"{one['share']:.0%} from picture {one['picture']}" for one in parts)
    return f"strokes: {strokes or 'origin unknown'}; the backbone changed {change['mean']:.3f} of 1 on average"


def draw(explanation: Explanation, head: Head) -> NDArray[np.uint8]:
    """Lay out the maps: photo, draft, result; source, place, change; then the pictures and the strokes used most."""
    change = explanation.change.cpu().numpy()
    facts = f"mean {change.mean():.3f}, white: {_TOP_CHANGE:g} or more"
    rows = [
        [
            Tile(to_uint8(explanation.photo), "photo"),
            Tile(to_uint8(explanation.draft), "draft: the head alone"),
            Tile(to_uint8(explanation.result), "result: the backbone's finish"),
        ]
    ]
    warmth = Tile(heat(change, top=_TOP_CHANGE), f"what the backbone changed\n{facts}")
    if not explanation.remembers:
        strokes = "the strokes used most\nThis head does not remember where\nthey came from: fit it again with\n"
        strokes += "easel personalize"
        rows.append([warmth, Tile(_strip(explanation, head), strokes)])
        return contact_sheet(rows)
    rows.append(
        [
            Tile(_source_map(explanation), "which picture each stroke is from"),
            Tile(_place_map(explanation), "where in that picture\n(colors: see the key on the pictures)"),
            warmth,
        ]
    )
    rows += _legend(explanation, head)
    return contact_sheet(rows)


def _source_map(explanation: Explanation) -> NDArray[np.uint8]:
    picture = explanation.picture.cpu()
    palette = torch.tensor([color_of(i) for i in range(int(picture.max()) + 1)], dtype=torch.float32) / 255
    return _shaded(palette[picture].permute(2, 0, 1)[None], explanation)


def _place_map(explanation: Explanation) -> NDArray[np.uint8]:
    return _shaded(_key(explanation.place.cpu()), explanation)


def _shaded(flat: Tensor, explanation: Explanation) -> NDArray[np.uint8]:
    """Put a little of the result's light and shade under flat colors, so that places can be recognised."""
    light = luminance(explanation.result.cpu())
    return to_uint8(flat * (0.45 + 0.75 * light))


def _key(place: Tensor) -> Tensor:
    """Color places ``(H, W, 2)``: red grows to the right, green downwards, blue to the upper left: ``(1, 3, H, W)``."""
    down, across = place[..., 0], place[..., 1]
    return torch.stack([across, down, 1 - (across + down) / 2])[None]


def _legend(explanation: Explanation, head: Head) -> list[list[Tile]]:
    """Return rows with the most used pictures: the picture, the key of places over it, and where strokes were taken."""
    shares = explanation.shares[0]
    order = sorted(range(len(shares)), key=lambda index: -shares[index])[:_SHOWN]
    rows = []
    for index in order:
        name = f"picture {index + 1}: {shares[index]:.0%} of the strokes"
        if index < len(head.thumbnails):
            copy = head.thumbnails[index].cpu()
            height, width = copy.shape[-2:]
        else:
            height, width = 64, 64
            copy = torch.full((3, height, width), 200, dtype=torch.uint8)
        grid = torch.stack(
            torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij"), dim=-1
        )
        rows.append(
            [
                Tile(_framed(copy.permute(1, 2, 0).numpy(), color_of(index)), name),
                Tile(to_uint8(0.3 * copy[None] / 255 + 0.7 * _key(grid)), "key of places"),
                Tile(_taken(explanation, index, height, width), "where its strokes were taken from"),
            ]
        )
    rows.append([Tile(_strip(explanation, head), "the strokes used most, most used first")])
    return rows


def _framed(pixels: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.uint8]:
    grown = pixels.repeat(4, 0).repeat(4, 1)
    framed = np.empty((grown.shape[0] + 16, grown.shape[1] + 16, 3), np.uint8)
    framed[:] = color
    framed[8:-8, 8:-8] = grown
    return framed


def _taken(explanation: Explanation, index: int, height: int, width: int) -> NDArray[np.uint8]:
    """Heat map over one picture, in cells of a 24th of its short side: how many pixels were painted from there."""
    cells = (max(1, round(24 * height / min(height, width))), max(1, round(24 * width / min(height, width))))
    place = explanation.place[explanation.picture == index].cpu()
    at = (place * torch.tensor(cells)).long().minimum(torch.tensor(cells) - 1)
    counts = torch.bincount(at[:, 0] * cells[1] + at[:, 1], minlength=cells[0] * cells[1]).view(cells).float()
    warm = heat(counts.sqrt().numpy(), top=float(counts.max().sqrt()))
    return warm.repeat(8, 0).repeat(8, 1)


def _strip(explanation: Explanation, head: Head) -> NDArray[np.uint8]:
    """Show the most used patches of the finest level, enlarged, in rows of eight."""
    patches = head.levels[0].patches.cpu()
    side = head.levels[0].side * 6 + 4
    chosen = explanation.uses[:_STROKES]
    strip = np.full((-(-max(1, len(chosen)) // 8) * side, 8 * side, 3), 255, np.uint8)
    for number, use in enumerate(chosen):
        top, left = number // 8 * side, number % 8 * side
        pixels = patches[use.patch].permute(1, 2, 0).numpy().repeat(6, 0).repeat(6, 1)
        strip[top : top + side - 4, left : left + side - 4] = pixels
    return strip
