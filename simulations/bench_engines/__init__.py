"""Engines side by side on the same model and work: easel's, Flower's on Ray, and pfl-research."""
