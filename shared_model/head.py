"""The private head: one owner's taste, fitted in about a second and never uploaded.

A head is a color map, a multi-scale dictionary of patches cut from the owner's
own pictures, how strong their marks are (:class:`shared_model.surface.Surface`), the modulation
numbers that tell the shared backbone how this owner paints and, once tuned, how far the owner's hand has moved away
from the shared one (:mod:`shared_model.own_hand`). Since it holds literal pieces of private pictures, it may
only be stored on the device (see :mod:`client.store`) and is no part of
:func:`shared_model.split.shared_parameters`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from shared_model.brush import STEPS, abstract, bristles, directions, settle, trails
from shared_model.color import TONES, ColorStats, nearer, tinted, transfer
from shared_model.config import HeadConfig, parse, to_dict
from shared_model.dictionary import Dictionary
from shared_model.errors import CompatibilityError, ConfigError, InputError, StorageError
from shared_model.ground import ground
from shared_model.hatching import Hatching, from_afar, hatched
from shared_model.head_format import BANDS, check_count, check_tensors, check_text
from shared_model.images import resize_short
from shared_model.lines import draw
from shared_model.marks import scaled
from shared_model.pieces import crops, patches
from shared_model.provenance import check_origin, read_copies, thumbnail
from shared_model.pyramid import halve, pyramid, resize_like
from shared_model.samples import sample_photos
from shared_model.surface import LIGHTS, Surface

if TYPE_CHECKING:
    from shared_model.backbone import Backbone

__all__ = ["FORMAT", "Draft", "Head"]

FORMAT = "easel-head-2"
_STRIDES = (4, 3, 2)  # mean distance of look-ups in pixels, finest level first
_APART = 6  # the same where strokes are taken over whole
_HELD = {False: 3, True: 2}  # pyramid level of tones held: in the photo's own colors a finer one, or skies break up
_CODE_CROPS, _CODE_PX = 6, 224  # crops of the paintings whose modulation numbers are averaged


@dataclass(frozen=True)
class Draft:
    """What a head makes of a photo before the backbone finishes it.

    Parameters
    ----------
    colored
        The photo in the owner's palette, laid in if the head does so, ``(1, 3, H, W) float in [0, 1]``.
    painted
        The same rebuilt from the owner's patches, same shape and range.
    choices
        Per pyramid level (finest first), the patch chosen at every query: ``(rows, columns)``.
    """

    colored: Tensor
    painted: Tensor
    choices: tuple[Tensor, ...]


@dataclass(frozen=True)
class Head:
    """One owner's taste; see the module documentation. Build with :meth:`fit`."""

    name: str
    config: HeadConfig
    backbone: str
    images: int
    created: str
    color: ColorStats
    surface: Surface = field(repr=False)
    levels: tuple[Dictionary, ...] = field(repr=False)  # finest first
    modulation: Tensor = field(repr=False)  # (M,)
    change: Tensor | None = field(default=None, repr=False)  # (G,) float16: the owner's hand less the shared one
    thumbnails: tuple[Tensor, ...] = field(default=(), repr=False)  # (3, h, w) uint8 per picture; older heads: none
    hatching: Hatching | None = field(default=None, repr=False)  # who makes tones of one ink

    @staticmethod
    def fit(
        styles: Sequence[Tensor],
        *,
        backbone: Backbone | None = None,
        name: str = "",
        config: HeadConfig | None = None,
        seed: int = 0,
        created: str = "",
    ) -> Head:
        """Build a head from an owner's pictures in about a second.

        Parameters
        ----------
        styles
            One or more ``(1, 3, H, W) float in [0, 1]``, any size.
        backbone
            The backbone that will finish this head's drafts; without one the head can only draft.
        seed
            Fixes which patches are kept.
        created
            Time to record, ISO 8601; empty if unknown.

        Raises
        ------
        InputError
            If there is no picture.
        """
        if not styles:
            raise InputError("a head needs at least one picture", hint="name an image or a folder of images")
        config = config or HeadConfig()
        generator = torch.Generator().manual_seed(seed)
        sized = [resize_short(style.float(), config.canvas_px) for style in styles]
        color = replace(ColorStats.of(sized), share=config.palette, vivid=config.vivid)
        if color.ink_share() > 0:
            config = replace(config, bias=0.0, brush=0)  # between ink and paper there is nothing, and lines are drawn
        surface = Surface.of(sized, count=BANDS)
        config, hatching = hatched(scaled(config, sized), color, surface, sized)
        if hatching is not None:  # a photo's tones are those of places, not of ink
            color = replace(
                ColorStats.of([from_afar(picture) for picture in sized]), share=config.palette, vivid=config.vivid
            )
        pyramids = [pyramid(style, config.levels) for style in sized]
        levels = tuple(
            _level([steps[level] for steps in pyramids], level, config, generator) for level in range(config.levels)
        )
        head = Head(
            name=name,
            config=config,
            backbone="",
            images=len(styles),
            created=created,
            color=color,
            surface=surface,
            levels=levels,
            modulation=torch.zeros(0),
            thumbnails=tuple(thumbnail(picture) for picture in sized),
            hatching=hatching,
        )._priced()
        return head if backbone is None else head.attuned(backbone, sized, seed=seed)

    def attuned(self, backbone: Backbone, styles: Sequence[Tensor], *, seed: int = 0) -> Head:
        """Return this head with the modulation numbers that ``backbone`` reads off its owner's pictures."""
        from shared_model.weights import backbone_id

        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            codes = [
                backbone.encode(crop)
                for style in styles
                for crop in crops(style, -(-_CODE_CROPS // len(styles)), _CODE_PX, generator)
            ]
        numbers = torch.cat(codes).mean(0).clone()
        return replace(self, backbone=backbone_id(backbone), modulation=numbers, change=None)

    def to(self, device: torch.device | str) -> Head:
        """Return a copy whose dictionary lies on ``device``."""
        place = torch.device(device)
        if place == self.levels[0].price.device:
            return self
        levels = tuple(level.to(place) for level in self.levels)
        change = None if self.change is None else self.change.to(place)
        hatching = None if self.hatching is None else self.hatching.to(place)
        surface, modulation = self.surface.to(place), self.modulation.to(place)
        return replace(self, levels=levels, surface=surface, modulation=modulation, change=change, hatching=hatching)

    @torch.no_grad()
    def draft(self, photo: Tensor, *, seed: int = 0, detail: float = 0.5, places: Tensor | None = None) -> Draft:
        """Paint a photo with the owner's palette and patches.

        Parameters
        ----------
        photo
            ``(1, 3, H, W) float in [0, 1]`` at canvas scale (short side about ``config.canvas_px``).
        seed
            Fixes the strokes: the same seed paints the same picture.
        detail
            How much of the photo's own fine structure shows through where there is structure:
            0 none, 0.5 the default, 1 most.
        places
            Where in a scene its pixels lie; see :func:`shared_model.laying_in.lay_in`.
        """
        return self.redraft(self.colored(photo), seed=seed, detail=detail, places=places)

    def colored(self, photo: Tensor) -> Tensor:
        """Return what a draft follows, in the owner's palette: the photo without its grain, or a drawing of it.

        It is a drawing where the owner's pictures are ink on paper (:mod:`shared_model.lines`).
        """
        share = self.color.ink_share() if self.hatching is None else 0.0
        seen = draw(photo, share) if share > 0 else abstract(photo, self.config.abstraction)
        return transfer(seen, self.color)

    @torch.no_grad()
    def redraft(self, colored: Tensor, *, seed: int = 0, detail: float = 0.5, places: Tensor | None = None) -> Draft:
        """Like :meth:`draft` for a picture that has the owner's palette already (see :meth:`colored`)."""
        generator = torch.Generator().manual_seed(seed)
        along = directions(colored)  # at half size: the finest strokes are two pixels wide
        field = trail = torch.empty(0)
        bristly = self.config.roughness > 0 and self.hatching is None  # the roughness of hatched lines is theirs
        colored = ground(
            colored,
            along,
            config=self.config,
            color=self.color,
            surface=self.surface,
            hatching=self.hatching,
            detail=detail,
            generator=generator,
            places=places,
        )
        steps = pyramid(colored, max(STEPS, self.config.levels))
        painted, choices = steps[self.config.levels - 1], []
        for level in reversed(range(len(self.levels))):
            if level < len(self.levels) - 1:
                own_detail = steps[level] - resize_like(steps[level + 1], steps[level])
                painted = resize_like(painted, steps[level]) + self.config.sharpness * own_detail
            if bristly and level > 1:
                field = F.normalize(resize_like(along, painted), dim=1)
                trail = trails(field, self.config.stroke)
            elif bristly and field is not along:  # the two finest levels share their trails
                field, trail = along, trails(along, self.config.stroke)
            if bristly:
                painted = painted + self._roughness(level, painted, field, trail, generator)
            painted, chosen = self.levels[level].repaint(
                painted,
                stride=self._stride(level),
                seed=1 + seed * 16 + level,
                crisp=self.config.softness > 0,
                bias=self.config.bias_at(level),
            )
            choices.append(chosen)
        if self.color.share < 1:
            painted = tinted(painted, colored, self.config.hues * (1 - self.color.share))
        painted = settle(
            painted,
            steps[:STEPS],
            allowed=self.config.tone,
            detail=detail * self.config.structure,
            held=_HELD[self.config.palette < 1],
        )
        return Draft(colored, self.finish(painted), tuple(reversed(choices)))

    def _stride(self, level: int) -> int:
        """Return the mean distance of look-ups: at most what patches cover however their grid is jittered."""
        if self.config.softness > 0:
            return min(_APART, self.config.patch // 2)
        return min(_STRIDES[min(level, len(_STRIDES) - 1)], (self.config.patch + 1) // 2)

    def finish(self, painted: Tensor) -> Tensor:
        """Give a painting ``(1, 3, H, W)`` at canvas scale the strength of the owner's marks; in [0, 1]."""
        share = self.config.surface
        finished = painted if share == 0 else self.surface.finish(painted)
        return (finished if share in (0, 1) else torch.lerp(painted, finished, share)).clamp(0, 1)

    def complete(self, painted: Tensor) -> Tensor:
        """:meth:`finish` what the backbone made of a draft, and bring its palette back to the owner's; in [0, 1]."""
        finished = self.finish(painted)
        return finished if self.hatching is not None else nearer(finished, self.color)

    def _roughness(self, level: int, like: Tensor, along: Tensor, trail: Tensor, generator: torch.Generator) -> Tensor:
        """Noise ``(1, 1, H, W)`` drawn out along the shapes: flat areas break up into strokes, as their tone does."""
        noise = torch.randn(1, 1, *along.shape[-2:], generator=generator).to(like.device)
        return self.config.roughness * self.surface.strength(level, like) * resize_like(bristles(noise, trail), like)

    def _priced(self) -> Head:
        """Set the price of every patch from how far it lies from what photos ask for."""
        if self.config.completeness == 0:
            return self
        distances: list[list[Tensor]] = [[] for _ in self.levels]
        for photo in sample_photos():
            steps = pyramid(transfer(halve(photo), self.color), len(self.levels))
            painted = steps[-1]
            for level in reversed(range(len(self.levels))):
                if level < len(self.levels) - 1:
                    own = steps[level] - resize_like(steps[level + 1], steps[level])
                    painted = resize_like(painted, steps[level]) + own
                found = self.levels[level].distances(painted)
                distances[level].append(found)
                painted, _ = self.levels[level].priced(found, exponent=1.0).repaint(painted, stride=2, seed=None)
        levels = tuple(
            level.priced(torch.stack(found).mean(0), exponent=self.config.completeness)
            for level, found in zip(self.levels, distances, strict=True)
        )
        return replace(self, levels=levels)

    def to_bytes(self) -> bytes:
        """Return the head as one safetensors file, about 0.4 MB, 0.7 MB with a hand of its own."""
        tensors = {
            "color.mean": self.color.mean,
            "color.covariance": self.color.covariance,
            "color.axes": self.color.axes,
            "color.tones": self.color.tones,
            "modulation": self.modulation,
        }
        tensors |= self.surface.tables("surface.")
        tensors |= {} if self.hatching is None else self.hatching.tables("hatching.")
        for i, level in enumerate(self.levels):
            for part in ("patches", "center", "basis", "price"):
                tensors[f"levels.{i}.{part}"] = getattr(level, part)
            if level.origin is not None:
                tensors[f"levels.{i}.origin"] = level.origin
        if self.change is not None:
            tensors["change"] = self.change
        tensors |= {f"thumbnails.{i}": picture for i, picture in enumerate(self.thumbnails)}
        facts = {
            "name": self.name,
            "backbone": self.backbone,
            "images": self.images,
            "created": self.created,
            "config": to_dict(self.config),
        }
        tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        return safetensors.torch.save(tensors, metadata={"format": FORMAT, "head": json.dumps(facts)})

    @staticmethod
    def from_bytes(data: bytes) -> Head:
        """Read what :meth:`to_bytes` wrote; nothing in it is executed.

        Raises
        ------
        StorageError
            If the bytes are damaged.
        CompatibilityError
            If they are something else than a head of this format.
        """
        try:
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
            tensors = safetensors.torch.load(data)
        except (safetensors.SafetensorError, ValueError, AttributeError, RecursionError) as error:
            raise StorageError("this head is damaged", hint="fit it again with `easel personalize`") from error
        if metadata.get("format") != FORMAT:
            raise CompatibilityError(f"not a head of format {FORMAT}", hint="was it made by another version of easel?")
        try:
            facts = json.loads(metadata["head"])
            config = parse({"bias": 0.0} | facts["config"], HeadConfig, source="head")  # older heads: none
            check_tensors(tensors, config)
            levels = tuple(_read_level(tensors, i) for i in range(config.levels))
            images = check_count(facts["images"])
            for level in levels:
                if level.origin is not None:
                    check_origin(level.origin, count=len(level.price), images=images)
            thumbnails = read_copies(tensors, images=images)
            return Head(
                name=check_text(facts["name"]),
                config=config,
                backbone=check_text(facts["backbone"]),
                images=images,
                created=check_text(facts["created"]),
                color=ColorStats(
                    tensors["color.mean"].view(3),
                    tensors["color.covariance"].view(3, 3),
                    tensors["color.axes"].view(3, 3),
                    tensors["color.tones"].view(3, TONES),
                    config.palette,
                    config.vivid,
                ),
                surface=Surface(
                    tensors["surface.contrast"],
                    tensors["surface.values"],
                    tensors.get("surface.lights", torch.ones(BANDS, LIGHTS)),  # older heads: none
                    tensors.get("surface.tints"),
                    tensors.get("surface.colors"),
                ),
                levels=levels,
                modulation=tensors["modulation"].flatten(),
                change=tensors.get("change"),
                thumbnails=thumbnails,
                hatching=Hatching(tensors["hatching.marks"], tensors["hatching.inks"]) if config.hatch > 0 else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
            raise StorageError("this head is damaged", hint="fit it again with `easel personalize`") from error


def _read_level(tensors: dict[str, Tensor], index: int) -> Dictionary:
    patches, center, basis, price = (tensors[f"levels.{index}.{p}"] for p in ("patches", "center", "basis", "price"))
    return Dictionary(patches, center, basis, price, tensors.get(f"levels.{index}.origin"))


def _level(pictures: Sequence[Tensor], level: int, config: HeadConfig, generator: torch.Generator) -> Dictionary:
    """Build the dictionary of one pyramid level from the pictures at its scale."""
    candidates, origin = patches(pictures, config.patch, config.candidates, generator)
    return Dictionary.fit(
        candidates,
        atoms=config.atoms,
        components=config.components,
        generator=generator,
        origin=origin,
        softness=config.softness,
        bias=config.bias_at(level),
    )
