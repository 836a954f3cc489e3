"""Fixtures of the engine tests."""

from tests.engines.vocabulary import oracle

__all__ = ["oracle"]
