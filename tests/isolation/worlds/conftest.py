"""The stage of the two worlds: one PostgreSQL for all tests here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.isolation.worlds.stage import Stage, stage


@pytest.fixture(scope="package")
def on() -> Iterator[Stage]:
    with stage() as made:
        yield made
