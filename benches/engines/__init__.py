"""Benches of the engines, by pytest-benchmark: `pytest benches/engines`."""
