"""Settings as TOML text, so that a run that was begun in Python can be resumed like any other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["to_toml"]


def to_toml(config: Any) -> str:
    """Write a dataclass of settings; reading it gives the same settings.

    Parameters
    ----------
    config
        Fields are numbers, strings, booleans, tuples of them, mappings, dataclasses or tuples of
        dataclasses. ``None`` is left out.
    """
    return "\n".join(_table({item.name: getattr(config, item.name) for item in dataclasses.fields(config)}, ())) + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines, below = [], []
    for key, value in values.items():
        inner = (*path, _key(key))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            below += ["", f"[{'.'.join(inner)}]", *_table(value, inner)] if value else []
        elif isinstance(value, tuple | list) and value and dataclasses.is_dataclass(value[0]):
            for entry in value:
                fields = {item.name: getattr(entry, item.name) for item in dataclasses.fields(entry)}
                below += ["", f"[[{'.'.join(inner)}]]", *_table(fields, inner)]
        elif value is not None:
            lines.append(f"{_key(key)} = {_value(value)}")
    return lines + below


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)
