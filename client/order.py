"""What to paint with: names of heads and settings become one head, ready to paint, and its recipe.

Used by everything that paints for the owner. Settings that nobody gave come from the owner's choices
(``easel prefer NAME --apply``), else from the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from client.preferences import Manner, Preferences
from client.recipe import Recipe
from client.store import Home
from shared_model.errors import EaselError, InputError
from shared_model.head import Head
from shared_model.look import Look
from shared_model.mix import mix, shares
from shared_model.stylize import Options

__all__ = ["Order", "parse_mix", "with_manner"]


@dataclass(frozen=True)
class Order:
    """Heads by name, and how to paint with them.

    Attributes
    ----------
    heads
        Names and weights; one entry for a single head.
    options, look
        How.
    note
        What the owner should be told about where settings came from; may be empty.
    """

    heads: tuple[tuple[str, float], ...]
    options: Options = field(default_factory=Options)
    look: Look = field(default_factory=Look)
    note: str = ""

    @classmethod
    def of(
        cls, home: Home, heads: Sequence[tuple[str, float]], *, given: Mapping[str, object], plain: bool = False
    ) -> Order:
        """Return the order for ``heads``: what is ``given`` first, then the owner's choices for a single head.

        Parameters
        ----------
        given
            Fields of :class:`shared_model.stylize.Options` and :class:`shared_model.look.Look` that the owner set.
        plain
            Leave the owner's choices aside.

        Raises
        ------
        InputError
            If a value is out of range.
        """
        options, look, used, note = Options(), Look(), tuple(heads), ""
        if len(used) == 1 and not plain and _is_there(home, used[0][0]):  # if not, whoever loads it says so
            known = Preferences.load(home.preferences_path(used[0][0]))
            if known.defaults is not None:
                used, options, look = with_manner(used[0][0], known.defaults, partner=known.partner)
                note = f"as you like {heads[0][0]}: {known.defaults} (--plain paints without)"
                if len(used) > 1 and not _is_there(home, known.partner):
                    used, note = used[:1], f"{note}; {known.partner} is not there any more and is left out"
        return cls(used, *_changed(options, look, given), note)

    @classmethod
    def again(cls, recipe: Recipe, *, given: Mapping[str, object]) -> Order:
        """Return the order that a recipe tells of, with what is ``given`` put over it."""
        heads = recipe.mix or ((recipe.head, 1.0),)
        return cls(heads, *_changed(recipe.options, recipe.look, given))

    def load(self, home: Home) -> tuple[Head, Recipe]:
        """Return the head that paints so, and the recipe of its paintings.

        Raises
        ------
        MissingError
            If a head is not there.
        StorageError, CompatibilityError
            If one is damaged, or heads were made for different backbones.
        """
        names = [name for name, _ in self.heads]
        weights = shares([weight for _, weight in self.heads])
        loaded = mix([home.load_head(name) for name in names], weights)
        mixed = [(name, weight) for name, weight in zip(names, weights, strict=True) if weight > 0]
        return self.prepare(loaded, mixed)

    def prepare(self, head: Head, mixed: Sequence[tuple[str, float]]) -> tuple[Head, Recipe]:
        """Like :meth:`load` for a head in memory; ``mixed`` are the names and shares it is made of."""
        name = "+".join(name for name, _ in mixed)[:150]
        parts = tuple((part, round(share, 6)) for part, share in mixed) if len(mixed) > 1 else ()
        recipe = Recipe.of(head, name=name, options=self.options, look=self.look, mix=parts)
        return self.look.apply(replace(head, name=name)), recipe


def with_manner(
    name: str, manner: Manner, *, partner: str = "", options: Options | None = None
) -> tuple[tuple[tuple[str, float], ...], Options, Look]:
    """Return heads, options and look of one manner of painting with the head ``name``."""
    heads: tuple[tuple[str, float], ...] = ((name, 1.0),)
    if partner and manner.share > 0:
        heads = ((name, 1 - manner.share), (partner, manner.share))
    options = replace(
        options or Options(), strength=manner.strength, detail=manner.detail, keep_color=manner.keep_color
    )
    return heads, options, Look(brush=manner.brush, roughness=manner.roughness, hand=manner.hand)


def parse_mix(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Read ``NAME=W`` entries, separated by spaces or commas; a name alone counts 1.

    Raises
    ------
    InputError
        If an entry has another shape, a name comes twice, or the weights make no sense.
    """
    found: dict[str, float] = {}
    for entry in (piece.strip() for text in texts for piece in text.split(",")):
        if not entry:
            continue
        name, _, weight = entry.partition("=")
        try:
            value = float(weight) if "=" in entry else 1.0
        except ValueError:
            value = float("nan")
        if not name or name in found or value != value:
            raise InputError(f"cannot read {entry!r} in --mix", hint="such as --mix monet=0.7,sketch=0.3")
        found[name] = value
    shares(list(found.values()))
    return tuple(found.items())


def _changed(options: Options, look: Look, given: Mapping[str, object]) -> tuple[Options, Look]:
    bent = {key: value for key, value in given.items() if key in Look.__dataclass_fields__ and value is not None}
    painted = {key: value for key, value in given.items() if key not in bent and value is not None}
    return replace(options, **painted), replace(look, **bent)  # type: ignore[arg-type]


def _is_there(home: Home, name: str) -> bool:
    try:
        home.find(name)
    except EaselError:
        return False
    return True
