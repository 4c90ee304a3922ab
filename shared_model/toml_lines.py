"""Where a key stands in a TOML file: the standard library reads TOML but keeps no line numbers.

Only used to word errors, on text that was parsed before: a scanner of keys, table headers, strings and
brackets, which never fails and in doubt names the line of the table around a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Place", "key_lines"]

Path = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.?)""")
_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A table of settings: of which file or document, and which one.

    Parameters
    ----------
    source
        The file or document, in words.
    path
        Keys (and numbers of list entries) that lead to the table; empty for the outermost.
    lines
        Line of every key by its path, from :func:`key_lines`; empty where there are no lines.
    """

    source: str
    path: Path = ()
    lines: Mapping[Path, int] = field(default_factory=dict)

    def inside(self, *keys: str | int) -> Place:
        """Return the place of a table within this one."""
        return Place(self.source, (*self.path, *keys), self.lines)

    def at(self, key: str = "") -> str:
        """Name the file, and the line of ``key`` or of the closest table around it that has one."""
        path = (*self.path, key) if key else self.path
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return f"{self.source}:{self.lines[path[:length]]}"
        return self.source

    @property
    def table(self) -> str:
        """Name the table, such as ``" in [federation]"``; empty for the outermost."""
        names = [str(part) for part in self.path if isinstance(part, str)]
        if not names:
            return ""
        listed = isinstance(self.path[-1], int)
        return f" in [[{'.'.join(names)}]]" if listed else f" in [{'.'.join(names)}]"


def key_lines(text: str) -> dict[Path, int]:
    r"""Return the line, from 1, of every key and table header by its path.

    Parameters
    ----------
    text
        Valid TOML. Keys of inline tables are left out: their table's line is theirs.

    Examples
    --------
    >>> key_lines("a = 1\n[[b]]\nc.d = 2")
    {('a',): 1, ('b',): 2, ('b', 0): 2, ('b', 0, 'c'): 3, ('b', 0, 'c', 'd'): 3}
    """
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, statement in _statements(text):
        if statement.startswith("["):
            listed = statement.startswith("[[")
            table = _resolved(_keys(statement[2:] if listed else statement[1:]), counts)
            if listed:
                found.setdefault(table, number)
                counts[table] = counts.get(table, 0) + 1
                table = (*table, counts[table] - 1)
            found[table] = number
        else:
            keys = _keys(statement)
            for length in range(1, len(keys) + 1):
                found.setdefault((*table, *keys[:length]), number)
    return found


def _statements(text: str) -> list[tuple[int, str]]:
    """Split into key-value pairs and headers, each with the line on which it begins; comments fall away."""
    done: list[tuple[int, str]] = []
    at, line, depth, began, current = 0, 1, 0, 1, ""
    while at <= len(text):
        letter = text[at : at + 1]
        string = _STRING.match(text, at) if letter in ("'", '"') else None
        piece = string.group() if string else letter
        if letter == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
            continue
        if letter in ("", "\n") and depth <= 0:
            if current.strip():
                done.append((began, current.strip()))
            current, began, depth = "", line + 1, 0
        else:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(piece, 0)
            current += piece
        line += piece.count("\n")
        at += max(1, len(piece))
    return done


def _keys(text: str) -> tuple[str, ...]:
    """Read a dotted key at the beginning of ``text``."""
    keys: list[str] = []
    at = 0
    while match := _KEY.match(text, at):
        keys.append(next(part for part in match.groups()[:3] if part is not None))
        at = match.end()
        if not match.group(4):
            break
    return tuple(keys)


def _resolved(keys: tuple[str, ...], counts: Mapping[Path, int]) -> Path:
    """Lead through lists of tables to their last entry, as TOML does; the last key itself stays plain."""
    path: Path = ()
    for position, key in enumerate(keys):
        path = (*path, key)
        if position < len(keys) - 1 and path in counts:
            path = (*path, counts[path] - 1)
    return path
