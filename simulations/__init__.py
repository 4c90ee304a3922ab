"""Simulated fleets: experiments in Python (:mod:`simulations.api`), or with ``easel-sim`` from files.

>>> from simulations import Experiment, Federation, Method, Population, compare, run
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulations.api import *  # noqa: F403


def __getattr__(name: str) -> Any:
    """Load the interface when a name of it is first used: the command line starts without it."""
    if name == "__all__" or not (name.startswith("_") or find_spec(f"{__name__}.{name}")):
        from simulations import api

        if name == "__all__":
            return api.__all__
        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
