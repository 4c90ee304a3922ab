"""Simulated populations: which device has which pictures, from any folder or from built-in ones.

>>> settlement = settle(PopulationConfig(kind="dirichlet", alpha=0.3), "runs/people")
>>> devices = settlement.visit("runs/one/devices", budget=math.inf, delta=1e-6)
"""

from simulations.populations.config import ChurnConfig, PopulationConfig
from simulations.populations.settlement import Settlement, read_settlement, settle, test_records

__all__ = ["ChurnConfig", "PopulationConfig", "Settlement", "read_settlement", "settle", "test_records"]
