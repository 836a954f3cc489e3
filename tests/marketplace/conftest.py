"""Fixtures of the marketplace."""

from tests.marketplace.world import world
from tests.openai.conftest import app, http

__all__ = ["app", "http", "world"]
