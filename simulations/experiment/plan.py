"""An experiment's file, read and checked as a whole: its settings, and the cells of its sweep."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.config import FederationConfig
from shared_model.config import digest
from shared_model.errors import ConfigError, MissingError
from shared_model.parsing import located, nearest, parse, read_toml
from shared_model.toml_lines import Place
from simulations.experiment.settings import NOISES, ExperimentConfig, config_folder
from simulations.methods import METHODS

__all__ = ["Cell", "Plan", "check_methods", "find_plan", "load_plan"]

_MOST_CELLS = 1000


@dataclass(frozen=True)
class Cell:
    """One experiment of a sweep; the only one where nothing is swept.

    Parameters
    ----------
    name
        Its folder within the run, such as ``"learning_rate-0.001"``; empty where nothing is swept.
    changes
        What was set for it, by dotted key.
    config
        Its settings.
    """

    name: str
    changes: Mapping[str, Any]
    config: ExperimentConfig


@dataclass(frozen=True)
class Plan:
    """Everything that one file asks for.

    Parameters
    ----------
    text
        The file, kept with the run.
    cells
        In order.
    """

    text: str
    cells: tuple[Cell, ...]

    @property
    def digest(self) -> str:
        """12 hex digits that identify the settings of all cells, not the wording of the file."""
        names = [digest(cell.config) for cell in self.cells]
        return names[0] if len(names) == 1 else digest(_Names(tuple(names)))


@dataclass(frozen=True)
class _Names:
    names: tuple[str, ...]


def find_plan(name: Path | str) -> Path:
    """Return the file of that name, or the experiment that easel ships under it, such as ``bench_painters_iid``.

    Raises
    ------
    MissingError
        If there is neither.
    """
    path = Path(name)
    shipped = config_folder() / f"{path.name.removesuffix('.toml')}.toml"
    if path.is_file():
        return path
    if path.name == str(name) and shipped.is_file() and shipped.stem.startswith("bench_"):
        return shipped
    known = sorted(item.stem for item in config_folder().glob("bench_*.toml"))
    raise MissingError(f"there is no experiment {path}", hint=f"easel ships {', '.join(known)}")


def load_plan(path: Path | str) -> Plan:
    """Read an experiment's file.

    Raises
    ------
    StorageError
        If the file cannot be read.
    ConfigError
        On the first wrong key or value, with its line and the nearest right one.
    """
    content, place = read_toml(path)
    axes = _axes(content.pop("sweep", {}), place)
    cells = []
    for changes in _combinations(axes):
        values = copy.deepcopy(content)
        for key, value in changes.items():
            _put(values, key.split("."), value)
        config = parse(values, ExperimentConfig, source=_swept(place, changes))
        check_methods(config, place)
        cells.append(Cell(_name(changes), changes, config))
    return Plan(Path(path).read_text(encoding="utf-8"), tuple(cells))


def _axes(table: Any, place: Place) -> dict[str, Sequence[Any]]:
    """Read ``[sweep]``: lists by dotted key, written ``"a.b" = [...]`` or ``a.b = [...]``."""
    axes: dict[str, Sequence[Any]] = {}

    def read(values: Any, path: tuple[str, ...]) -> None:
        where = f"{place.inside('sweep', *path[:-1]).at(path[-1] if path else '')}"
        if isinstance(values, Mapping):
            for key, value in values.items():
                read(value, (*path, key))
            return
        key = ".".join(path)
        if not path or not isinstance(values, list) or not values:
            raise ConfigError(f"{where}: {key or 'sweep'!r} in [sweep] must be a list of values, not {values!r}")
        _check_key(key, where)
        axes[key] = values

    read(table, ())
    cells = 1
    for values in axes.values():
        cells *= len(values)
    if cells > _MOST_CELLS:
        raise ConfigError(f"{place.inside('sweep').at()}: {cells} cells are more than {_MOST_CELLS}")
    return axes


def _check_key(key: str, where: str) -> None:
    kind: Any = ExperimentConfig
    for part in key.split("."):
        known = [item.name for item in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        known = [name for name in known if name not in ("method", "seeds", "name")]
        if part not in known:
            raise ConfigError(f"{where}: unknown key {key!r} in [sweep]", hint=nearest(part, known) if known else "")
        kind = typing.get_type_hints(kind)[part]
    if dataclasses.is_dataclass(kind):
        raise ConfigError(f"{where}: {key!r} in [sweep] is a table", hint=f"sweep one of its keys: {key}.KEY = [...]")


def _combinations(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _put(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
    values[path[-1]] = value


def _swept(place: Place, changes: Mapping[str, Any]) -> Place:
    """Let a swept value's line be that of its list."""
    lines = dict(place.lines)
    for key in changes:
        path = tuple(key.split("."))
        line = lines.get(("sweep", *path), lines.get(("sweep", key)))
        if line is not None:
            lines[path] = line
    return Place(place.source, lines=lines)


def check_methods(config: ExperimentConfig, place: Place | None = None) -> None:
    """Refuse unknown methods, and options or keys of a federation that do not fit one.

    Parameters
    ----------
    config
        The experiment.
    place
        Where it was read, for errors.

    Raises
    ------
    ConfigError
        Naming the first that is wrong.
    """
    place = place or Place("experiment")
    for index, method in enumerate(config.method):
        where = place.inside("method", index)
        if method.name not in METHODS:
            raise ConfigError(f"{where.at('name')}: unknown method {method.name!r}", hint=nearest(method.name, METHODS))
        own = where.inside("federation")
        parse(method.federation, _federation_keys(), source=own)
        try:
            federation = config.federation_of(method, config.seeds[0])
        except ConfigError as error:
            raise located(error, method.federation, place=own) from error
        try:
            federation = METHODS[method.name].check(method.options, federation)
        except ConfigError as error:
            named = any(key in error.message for key in method.options)
            raise located(error, method.options if named else {}, place=where.inside("options")) from error
        noisy = federation.secure_aggregation and not federation.unprotected
        if not config.private and (federation.unit == "example" or noisy):
            raise ConfigError(
                f"{where.at('name')}: {method.title} adds noise on the devices, which cannot be seeded",
                hint=f'noise = "{NOISES[0]}"',
            )


def _federation_keys() -> type[Any]:
    """Return a dataclass with the keys and types of a federation, and none of the checks that need all keys."""
    hints = typing.get_type_hints(FederationConfig)
    names = [item.name for item in dataclasses.fields(FederationConfig)]
    return dataclasses.make_dataclass(
        "Federation", [(name, hints[name], dataclasses.field(default=None)) for name in names], frozen=True
    )


def _name(changes: Mapping[str, Any]) -> str:
    """Name a cell by what was set for it."""
    words = [
        f"{key.rsplit('.', 1)[-1]}-{value if isinstance(value, str) else json.dumps(value)}"
        for key, value in changes.items()
    ]
    return "_".join(
        "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in word) for word in words
    )
