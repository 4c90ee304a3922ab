"""The coordinator: Flower ServerApp, resumable rounds, admission, aggregation, central privacy."""
