"""Simulated fleets: experiments in Python (:mod:`simulations.api`), or with ``easel-sim`` from files.

>>> from simulations import Experiment, Federation, Method, Population, compare, run
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulations.api import (
        Callbacks,
        Engine,
        Evaluation,
        Experiment,
        Federation,
        Folders,
        Method,
        Population,
        Run,
        compare,
        load,
        run,
    )

__all__ = [
    "Callbacks",
    "Engine",
    "Evaluation",
    "Experiment",
    "Federation",
    "Folders",
    "Method",
    "Population",
    "Run",
    "compare",
    "load",
    "run",
]


def __getattr__(name: str) -> Any:
    """Load the interface when it is first used: the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from simulations import api

    return getattr(api, name)
