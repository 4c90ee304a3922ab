"""Settings from mappings and TOML files: the first wrong key or value is named, with its line.

:func:`parse` turns a mapping (from TOML, JSON or a manifest) into a frozen dataclass; unknown keys are
refused together with the nearest right one.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from shared_model.errors import ConfigError
from shared_model.files import read_bytes
from shared_model.toml_lines import Place, key_lines

__all__ = ["load_toml", "located", "nearest", "parse", "read_toml"]

T = TypeVar("T")


def parse(values: Mapping[str, Any], cls: type[T], *, source: str | Place) -> T:
    """Build the frozen dataclass ``cls`` from a mapping; nested dataclasses from nested tables.

    Parameters
    ----------
    values
        The table.
    cls
        A dataclass; a field of type ``tuple[D, ...]`` with a dataclass ``D`` is a list of tables.
    source
        Where the table is from, for errors; a :class:`~shared_model.toml_lines.Place` also knows lines.

    Raises
    ------
    ConfigError
        On an unknown key (the nearest right key is named), a wrong type or a value out of range; the
        first one, with its line where lines are known.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls!r} is not a dataclass")
    place = Place(source) if isinstance(source, str) else source
    source_holds: object = values  # JSON and manifests from strangers may hold anything
    if not isinstance(source_holds, Mapping):
        raise ConfigError(f"{place.at()}: not a table of settings", hint="was it made by another version of easel?")
    types_of = _types(cls)
    known = [item.name for item in dataclasses.fields(cls) if item.init]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{place.at(key)}: unknown key {key!r}{place.table}", hint=nearest(key, known))
        arguments[key] = _convert(value, types_of[key], key=key, place=place)
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise located(error, values, place=place) from error
    except TypeError as error:
        missing = [
            item.name
            for item in dataclasses.fields(cls)
            if item.init
            and item.name not in arguments
            and item.default is dataclasses.MISSING
            and item.default_factory is dataclasses.MISSING
        ]
        raise ConfigError(f"{place.at()}: missing key {', '.join(map(repr, missing))}{place.table}") from error


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    """Return a class's resolved annotations; resolving takes half a millisecond, and ledgers have many entries."""
    return typing.get_type_hints(cls)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint with the known word that is most like ``word``, or with all of them."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"


def located(error: ConfigError, values: Mapping[str, Any], *, place: Place) -> ConfigError:
    """Say of a refused value where it stands: at the first key of ``values`` that the message names."""
    named = {key: match.start() for key in values if (match := re.search(rf"\b{re.escape(key)}\b", error.message))}
    key = min(named, key=lambda name: (named[name], -len(name)), default="")
    hint, value = error.hint, values.get(key)
    allowed = re.search(r"one of (.*?),? not ", error.message)
    if not hint and allowed and isinstance(value, str):
        near = difflib.get_close_matches(value, re.split(r",? or |, ", allowed.group(1)), n=1)
        hint = f"did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"{place.at(key)}: {error.message}", hint=hint)


#: Types as people who write TOML call them.
_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "text in quotes",
    tuple: "a list",
    Mapping: "a table",
}


def _convert(value: Any, kind: Any, *, key: str, place: Place, of: str = "") -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{place.at(key)}: {key!r}{place.table} must be a table, not {value!r}")
        return parse(value, kind, source=place.inside(key))
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        kind = next(option for option in options if option is not type(None))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        item = typing.get_args(kind)[0]
        if dataclasses.is_dataclass(item) and isinstance(item, type):
            if not all(isinstance(entry, Mapping) for entry in value):
                raise ConfigError(f"{place.at(key)}: {key!r}{place.table} must be a list of tables, not {value!r}")
            return tuple(parse(entry, item, source=place.inside(key, at)) for at, entry in enumerate(value))
        if item not in _WORDS:
            return tuple(value)
        return tuple(_convert(entry, item, key=key, place=place, of="every item of ") for entry in value)
    plain = typing.get_origin(kind) or kind
    if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
        name = _WORDS.get(plain, getattr(plain, "__name__", plain))
        raise ConfigError(f"{place.at(key)}: {of}{key!r}{place.table} must be {name}, not {value!r}")
    return value


def load_toml(path: Path | str, cls: type[T], *, table: str | None = None) -> T:
    """Read ``cls`` from a TOML file, or from one ``table`` of it.

    Raises
    ------
    StorageError
        If the file cannot be read.
    ConfigError
        If it is not TOML (line and column are named) or does not fit ``cls`` (the line is named).
    """
    content, place = read_toml(path)
    values = content if table is None else content.get(table, {})
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: {table!r} must be a table")
    return parse(values, cls, source=place if table is None else place.inside(table))


def read_toml(path: Path | str) -> tuple[dict[str, Any], Place]:
    """Read a TOML file, and where each of its keys stands.

    Raises
    ------
    StorageError
        If the file cannot be read.
    ConfigError
        If it is not TOML (line and column are named).
    """
    try:
        text = read_bytes(path, limit=1 << 20).decode("utf-8")
        return tomllib.loads(text), Place(str(path), lines=key_lines(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
