"""The studio's work: pictures in, previews, paintings, explanations and heads out. Nothing here reaches a network."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from client.batch import Painter
from client.engine import Engine
from client.gallery import CAP_BYTES, Gallery, Painting, digest
from client.order import Order
from client.personalize import Patience, personalize
from client.recipe import Recipe
from client.store import HeadFile, Home
from client.strokes import Trace, trace
from client.style_names import MIX, STYLE, parts_of
from client.views import encode_view, shrink, stem, within
from shared_model.backbone import Backbone
from shared_model.config import HeadConfig
from shared_model.errors import CompatibilityError, EaselError, InputError
from shared_model.head import Head
from shared_model.images import Picture, encode_picture, load_picture, load_tensor, resize_short, to_tensor, to_uint8
from shared_model.look import Look
from shared_model.mix import mix
from shared_model.samples import sample_photos
from shared_model.stylize import Options, Watch, check_match

__all__ = ["MAX_STYLES", "PAINT_PIXELS", "VIEW_PX", "Atelier", "open_atelier"]

VIEW_PX = 1600  # longest side of what the page shows
THUMB_PX = 288
PAINT_PIXELS = 40_000_000  # larger photos are painted at this size; the command line has no such limit
MAX_STYLES = 10
_SAMPLE_PX = 768  # samples are small; paintings of them need not be
_HEADS_SAMPLE = 1  # the photo that shows what a head does
_REMEMBERED = 4  # decoded photos and heads kept in memory


@dataclass
class Atelier:
    """A warm engine, and the photos and heads that were used last.

    Attributes
    ----------
    home
        Where the heads are.
    gallery
        Where photos and paintings are.
    engine, backbone
        What paints, and what heads are made for.
    clock
        Seconds, for durations.
    """

    home: Home
    gallery: Gallery
    engine: Engine
    backbone: Backbone
    clock: Callable[[], float] = time.monotonic
    _photos: OrderedDict[str, Picture] = field(default_factory=OrderedDict, init=False, repr=False)
    _heads: OrderedDict[tuple[str, int], Head] = field(default_factory=OrderedDict, init=False, repr=False)
    _memory: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _brush: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _wanted: int = field(default=0, init=False, repr=False)

    def receive(self, data: bytes, *, name: str) -> dict[str, Any]:
        """Take a photo in: checked, decoded once, stored as it came.

        Parameters
        ----------
        data
            The bytes of a picture file.
        name
            Its file name; only the stem is kept.

        Raises
        ------
        PictureError
            If it is no picture that easel can read, or too large.
        StorageError
            If there is no room.
        """
        picture = load_picture(data)
        height, width = picture.rgb.shape[:2]
        facts = {"name": stem(name), "width": width, "height": height}
        self.gallery.make_room(len(data))
        identity = self.gallery.add_photo(data, facts=facts)
        self._remember(identity, shrink(picture, VIEW_PX))
        return {"id": identity, **facts, "more": picture.more}

    def view(self, photo: str, *, thumbnail: bool = False) -> bytes:
        """Return a photo upright and small enough for the page, as PNG if it has transparent parts, else as JPEG."""
        side = THUMB_PX if thumbnail else VIEW_PX
        return self.gallery.view(
            f"{digest(photo.encode())}-{side}", lambda: encode_view(shrink(self._shown(photo), side))
        )

    def preview(
        self, photo: str, head: str, *, options: Options, look: Look | None = None, longest_px: int = VIEW_PX
    ) -> bytes:
        """Paint a photo at the size of the page; sizes asked for by ``options`` are left aside."""
        painter = self._painter(head, dataclasses.replace(options, size_px=None), look)
        with self._painting():
            painted = painter.paint(shrink(self._shown(photo), longest_px))
        return encode_view(painted)

    def paint(
        self,
        photo: str,
        head: str,
        *,
        options: Options,
        look: Look | None = None,
        watch: Watch = lambda share: None,
    ) -> Painting:
        """Paint a photo in full and put it into the history; one that is there already is not painted again.

        ``watch`` is told the share that is done between two steps; an error that it raises ends the painting.

        Raises
        ------
        MissingError
            If photo or head are not there any more.
        """
        painter = self._painter(head, options, look)
        told = {**painter.recipe.to_settings(), "photo": photo, "easel": ""}
        identity = digest(json.dumps(told, sort_keys=True).encode())
        known = next((one for one in self.gallery.paintings() if one.id == identity), None)
        if known is not None:
            return known
        begin = self.clock()
        picture = load_picture(self.gallery.photo(photo))
        _check_size(picture, options.size_px)
        if options.size_px is None:
            picture = within(picture, PAINT_PIXELS)
        watch(0.05)
        with self._painting():
            painted = painter.paint(picture, watch=lambda share: watch(0.1 + 0.75 * share))
        watch(0.85)
        height, width = painted.rgb.shape[:2]
        painting = Painting(
            id=identity,
            photo=photo,
            title=str(self.gallery.photo_facts(photo).get("name", "photo")),
            head=head,
            options=dataclasses.asdict(options),
            look=dataclasses.asdict(painter.recipe.look),
            width=width,
            height=height,
            seconds=round(self.clock() - begin, 2),
            created=self.gallery.clock(),
        )
        data = painter.encode(painted, suffix=".png")
        watch(0.99)
        self.gallery.add_painting(painting, picture=data, thumbnail=encode_view(shrink(painted, THUMB_PX), opaque=True))
        return painting

    def explain(self, photo: str, head: str, *, options: Options, look: Look | None = None) -> Trace:
        """Say which stroke of the painting is from which of the pictures that the head was made from.

        Raises
        ------
        InputError
            If it is a mix, whose strokes are of several heads at once.
        """
        if head.startswith(MIX):
            raise InputError("the strokes of a mix cannot be followed", hint="choose one of its heads")
        bent = self._painter(head, options, look).head
        with self._painting():
            made = self.engine.explain(to_tensor(self._shown(photo).rgb), bent, options=options)
        return trace(made, bent)

    def samples(self) -> int:
        """Return how many photos easel brings along."""
        return len(sample_photos())

    def sample(self, number: int) -> dict[str, Any]:
        """Take in one of the photos that easel brings along, like :meth:`receive`."""
        if not 0 <= number < self.samples():
            raise InputError("there is no such sample photo", hint="reload the page")
        return self.receive(encode_picture(to_uint8(_sample(number)), suffix=".png"), name=f"sample {number + 1}")

    def sample_view(self, number: int) -> bytes:
        """Return a small copy of a sample photo as JPEG."""
        if not 0 <= number < self.samples():
            raise InputError("there is no such sample photo", hint="reload the page")
        return encode_view(shrink(Picture(rgb=to_uint8(sample_photos()[number])), THUMB_PX))

    def heads(self) -> list[dict[str, Any]]:
        """List what can be painted with: styles made on the spot, own heads, shipped heads."""
        listed = [
            {"id": f"{STYLE}{name}", "name": "", "kind": "style", "pictures": list(pictures)}
            for name, pictures in self.gallery.styles()
        ]
        for file in self.home.heads():
            kind = "shipped" if file.shipped else "own"
            listed.append({"id": file.name, "name": file.name, "kind": kind, "pictures": []})
        return listed

    def head_view(self, head: str) -> bytes:
        """Return a small picture of what a head does: a photo that easel brings along, painted; kept on the disk."""
        found = self._head(head)

        def make() -> bytes:
            with self._painting(patient=True):
                painted = self.engine.stylize(_sample(_HEADS_SAMPLE), found)
            return encode_view(shrink(Picture(rgb=to_uint8(painted)), THUMB_PX))

        return self.gallery.view(_view_of(found), make)

    def style(self, pictures: Sequence[str]) -> str:
        """Make a style from 1 to 10 stored pictures, about a second; returns what it is painted with.

        Raises
        ------
        InputError
            If there are none or too many.
        """
        names = _few(pictures)
        identity = self.gallery.style_id(names)
        if all(known != identity for known, _ in self.gallery.styles()):
            styles = [self._style_picture(name) for name in names]
            self.gallery.add_style(names, Head.fit(styles, backbone=self.backbone).to_bytes())
        return f"{STYLE}{identity}"

    def learn(
        self,
        pictures: Sequence[str],
        *,
        name: str,
        budget_s: float,
        strokes: str,
        patience: Patience,
        progress: Callable[[float], None],
    ) -> HeadFile:
        """Make a head of the owner's own from stored pictures and tune it; stopped early, the best so far is saved.

        Raises
        ------
        InputError
            If the name cannot be used or is taken, or there are no or too many pictures.
        """
        self.home.check_free(name)
        self.home.prepare()
        made = personalize(
            [self._style_picture(one) for one in _few(pictures)],
            backbone=self.backbone,
            name=name,
            budget_s=budget_s,
            strokes=strokes,
            patience=patience,
            progress=lambda share, loss: progress(share),
        )
        return self.home.save_head(made.head, name=name)

    def delete_head(self, head: str, *, paintings: bool = False) -> None:
        """Delete an own head, or forget a style; shipped heads are refused.

        With ``paintings`` also all paintings that were made with it, alone or in a mix, kept ones too: their strokes
        are pieces of the pictures it was made from.
        """
        if head.startswith(STYLE):
            self.gallery.delete_style(head.removeprefix(STYLE))
        else:
            with contextlib.suppress(EaselError):  # a damaged head has none
                self.gallery.delete_view(_view_of(self._head(head)))
            self.home.delete_head(head)
        self.forget()
        if paintings:
            for one in self.gallery.paintings():
                if head == one.head or head in dict(parts_of(one.head)):
                    self.gallery.delete_painting(one.id)

    def forget(self) -> None:
        """Forget what is in memory."""
        with self._memory:
            self._photos.clear()
            self._heads.clear()

    @contextlib.contextmanager
    def _painting(self, *, patient: bool = False) -> Iterator[None]:
        """Hold the engine, which paints one picture at a time; ``patient``: only while nobody else wants it."""
        while patient and self._wanted:
            time.sleep(0.05)
        with self._memory:
            self._wanted += not patient
        try:
            with self._brush:
                yield
        finally:
            with self._memory:
                self._wanted -= not patient

    def _painter(self, head: str, options: Options, look: Look | None) -> Painter:
        parts = parts_of(head)
        order = Order(parts, options, look or Look())
        if len(parts) > 1:
            whole = mix([self._head(name) for name, _ in parts], [share for _, share in parts])
        else:
            whole = self._head(parts[0][0] if parts else head)
        bent, recipe = order.prepare(whole, parts)
        return Painter(self.engine, bent, recipe)

    def _head(self, head: str) -> Head:
        styled = head.startswith(STYLE)
        path = self.gallery.style(head.removeprefix(STYLE)) if styled else self.home.find(head).path
        key = (str(path), path.stat().st_mtime_ns)
        with self._memory:
            if key in self._heads:
                self._heads.move_to_end(key)
                return self._heads[key]
        found = Head.from_bytes(path.read_bytes()) if styled else self.home.load_head(head)
        try:
            check_match(found, self.backbone)
        except CompatibilityError as error:
            raise CompatibilityError(
                "this style was made for an earlier version of easel", hint="make it again from its pictures"
            ) from error
        with self._memory:
            self._heads[key] = found
            while len(self._heads) > _REMEMBERED:
                self._heads.popitem(last=False)
        return found

    def _shown(self, photo: str) -> Picture:
        with self._memory:
            if photo in self._photos:
                self._photos.move_to_end(photo)
                return self._photos[photo]
        picture = shrink(load_picture(self.gallery.photo(photo)), VIEW_PX)
        self._remember(photo, picture)
        return picture

    def _remember(self, photo: str, picture: Picture) -> None:
        with self._memory:
            self._photos[photo] = picture
            while len(self._photos) > _REMEMBERED:
                self._photos.popitem(last=False)

    def _style_picture(self, name: str) -> torch.Tensor:
        return load_tensor(self.gallery.photo(name), HeadConfig().canvas_px)


def _view_of(head: Head) -> str:
    """Return what the small picture of a head is stored as."""
    return f"{digest(Recipe.of(head, name='', options=Options()).head_digest.encode())}-head"


def open_atelier(*, device: str = "auto", cap_bytes: int = CAP_BYTES) -> Atelier:
    """Load the shipped backbone and this owner's home."""
    from client.models import backbone_in_use

    home = Home.default()
    gallery = Gallery(home.folder / "studio", cap_bytes=cap_bytes)
    gallery.prepare()
    backbone = backbone_in_use()
    return Atelier(home=home, gallery=gallery, engine=Engine(backbone, device=device), backbone=backbone)


def _sample(number: int) -> torch.Tensor:
    return resize_short(sample_photos()[number], _SAMPLE_PX)


def _few(pictures: Sequence[str]) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(pictures))
    if not 1 <= len(names) <= MAX_STYLES:
        raise InputError(f"a style is made from 1 to {MAX_STYLES} pictures, not {len(names)}", hint="choose fewer")
    return names


def _check_size(picture: Picture, size_px: int | None) -> None:
    """Refuse a size that would need more memory than a page in the background should take."""
    height, width = picture.rgb.shape[:2]
    if size_px is not None and height * width * (size_px / min(height, width)) ** 2 > PAINT_PIXELS:
        raise InputError(
            f"a painting of this size has more than {PAINT_PIXELS // 1_000_000} million pixels",
            hint="choose a smaller size; easel stylize --size paints larger ones",
        )
