"""Federated simulations: populations, classical painters, the in-process grid, the demo, reports."""
