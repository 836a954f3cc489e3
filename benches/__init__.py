"""Measures of the running server against named peers: `python -m benches` (see benches/README.md)."""
