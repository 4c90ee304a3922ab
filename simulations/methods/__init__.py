"""Methods of federated learning, a small file each, on the very code that ships to devices."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from shared_model.errors import ConfigError

if TYPE_CHECKING:
    from simulations.methods.trial import Method

__all__ = ["METHODS", "find"]

_MODULES = {
    "apfl": "apfl",
    "central": "central",
    "ditto": "ditto",
    "dp-fedavg": "dp_fedavg",
    "dp-ftrl": "dp_ftrl",
    "dp-sgd": "dp_sgd",
    "fedadam": "fedadam",
    "fedavg": "fedavg",
    "fedbn": "fedbn",
    "fedbuff": "fedbuff",
    "fedper": "fedper",
    "fedprox": "fedprox",
    "fedrep": "fedrep",
    "local": "local",
    "scaffold": "scaffold",
}


class _Methods(Mapping[str, "Method"]):
    """Methods by name; each module is loaded when its method is first asked for."""

    def __getitem__(self, name: str) -> Method:
        found: Method = importlib.import_module(f"simulations.methods.{_MODULES[name]}").METHOD
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)

    def __contains__(self, name: object) -> bool:
        return name in _MODULES


#: All methods, by the names that experiments use.
METHODS: Mapping[str, Method] = _Methods()


def find(name: str) -> Method:
    """Return a method.

    Raises
    ------
    ConfigError
        If there is none of this name; the nearest one is named.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"methods: {', '.join(METHODS)}"
        raise ConfigError(f"there is no method {name!r}", hint=hint)
    return METHODS[name]
