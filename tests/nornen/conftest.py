"""Fixtures of Nornen's tests: the market's world."""

from tests.marketplace.world import world

__all__ = ["world"]
