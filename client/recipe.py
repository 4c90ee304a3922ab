"""The settings of one painted picture: embedded in its PNG, read back, applied again.

A recipe says how a picture was made, never from what: no path, no file name, nothing of the owner but the
name they gave the head.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from easel import __version__
from shared_model.config import parse
from shared_model.errors import ConfigError, InputError
from shared_model.head import Head
from shared_model.images import read_settings
from shared_model.look import Look
from shared_model.mix import MAX_HEADS, Mixed
from shared_model.stylize import Options

__all__ = ["Recipe"]

FORMAT = 2  # written as 1, which older versions read, where nothing in it needs 2


@dataclass(frozen=True)
class Recipe:
    """How a picture was painted.

    Attributes
    ----------
    head
        Name of the head; empty for one fitted in memory from ``--style`` pictures.
    head_digest
        12 hex digits of the head's content (SHA-256), so that a replay notices another head of the same name.
    backbone
        Short hash of the backbone.
    options
        The painter's options.
    version
        Version of easel.
    mix
        Names and shares of the heads that were mixed; empty for a single head.
    look
        How the head was bent.
    """

    head: str
    head_digest: str
    backbone: str
    options: Options = field(default_factory=Options)
    version: str = __version__
    mix: tuple[tuple[str, float], ...] = ()
    look: Look = field(default_factory=Look)

    @classmethod
    def of(
        cls,
        head: Head,
        *,
        name: str,
        options: Options,
        look: Look | None = None,
        mix: tuple[tuple[str, float], ...] = (),
    ) -> Recipe:
        """Return the recipe of pictures painted by ``head``, which its owner calls ``name``.

        Parameters
        ----------
        head
            As it is stored, or a mix of such heads: before ``look`` is applied.
        mix
            What its owner calls the heads of a mix, and their shares.
        """
        digest, look = _digest(head), look or Look()
        return cls(head=name, head_digest=digest, backbone=head.backbone, options=options, mix=mix, look=look)

    def to_settings(self) -> dict[str, object]:
        """Return what is embedded in the picture: plain JSON values."""
        settings: dict[str, object] = {
            "format": 1,
            "easel": self.version,
            "head": self.head,
            "head_digest": self.head_digest,
            "backbone": self.backbone,
            "options": dataclasses.asdict(self.options),
        }
        if self.mix or self.look != Look():
            settings |= {
                "format": FORMAT,
                "look": dataclasses.asdict(self.look),
                "mix": [list(part) for part in self.mix],
            }
        return settings

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> Recipe:
        """Check and rebuild a recipe that :meth:`to_settings` made.

        Raises
        ------
        InputError
            If it is not one, or of a later format.
        """
        if settings.get("format") not in (1, FORMAT):
            raise InputError(
                f"unknown format {settings.get('format')!r} of the embedded settings",
                hint="the picture was made by another version of easel: update easel",
            )
        options, look = settings.get("options"), settings.get("look", {})
        if not isinstance(options, Mapping) or not isinstance(look, Mapping):
            raise InputError("the embedded settings have no options", hint="the picture's settings were changed")
        return cls(
            head=_text(settings, "head"),
            head_digest=_text(settings, "head_digest"),
            backbone=_text(settings, "backbone"),
            options=parse(options, Options, source="the embedded settings"),
            version=_text(settings, "easel"),
            mix=_mix(settings.get("mix", [])),
            look=parse(look, Look, source="the embedded settings"),
        )

    @classmethod
    def read(cls, path: Path | str) -> Recipe:
        """Read the recipe embedded in a picture.

        Raises
        ------
        InputError
            If the picture carries none, or a damaged one.
        """
        settings = read_settings(path)
        if not settings:
            raise InputError(
                f"{path} carries no easel settings", hint="only PNG pictures that easel painted can be replayed"
            )
        try:
            return cls.from_settings(settings)
        except (ConfigError, InputError) as error:
            raise InputError(f"{path}: {error.message}", hint=error.hint) from error

    def same_painting(self, other: Recipe) -> bool:
        """Tell whether two recipes paint the same picture from the same photo (versions may differ)."""
        return dataclasses.replace(self, version="") == dataclasses.replace(other, version="")

    def same_painter(self, other: Recipe) -> bool:
        """Tell whether two recipes use the same head and backbone."""
        return (self.head_digest, self.backbone) == (other.head_digest, other.backbone)


def _digest(head: Head) -> str:
    """Return 12 hex digits of a head's content; safetensors writes the entries of its header in any order."""
    if isinstance(head, Mixed):
        told = [[_digest(part), round(share, 6)] for part, share in zip(head.parts, head.shares, strict=True)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
    data = head.to_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True)
    return hashlib.sha256(header.encode() + data[end:]).hexdigest()[:12]


def _text(settings: Mapping[str, object], key: str) -> str:
    value = settings.get(key, "")
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise InputError(f"{key!r} in the embedded settings is not a short text", hint="the picture was changed")
    return value


def _mix(entries: object) -> tuple[tuple[str, float], ...]:
    """Check the heads and shares of a mix."""
    parts: list[tuple[str, float]] = []
    for entry in entries if isinstance(entries, list) else [None]:
        name, share = entry if isinstance(entry, list) and len(entry) == 2 else ("", None)
        if not isinstance(share, float) or not 0 < share <= 1 or len(parts) == MAX_HEADS:
            raise InputError("the mix in the embedded settings makes no sense", hint="the picture was changed")
        parts.append((_text({"mix": name}, "mix"), share))
    return tuple(parts)
