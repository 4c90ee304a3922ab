"""Experiments: one TOML file, many trials, a folder that a kill cannot hurt, and pages that compare."""
