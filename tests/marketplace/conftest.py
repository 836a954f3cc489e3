"""Fixtures of the marketplace."""

import pytest

from tests.marketplace.world import world
from tests.openai.conftest import app, http
from yggdrasil.marketplace import refusals

__all__ = ["app", "http", "long_rest", "world"]


@pytest.fixture
def long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that said `busy` is left alone for so long that a slow machine has time to look."""
    monkeypatch.setattr(refusals, "REST_SECONDS", 2.5)
