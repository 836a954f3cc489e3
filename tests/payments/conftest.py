"""The fixtures of money."""

from __future__ import annotations

import pytest

from tests.payments.support import Money
from tests.support import ManualClock, SeededIds
from yggdrasil.db import Database


@pytest.fixture
def money(database: Database, clock: ManualClock, ids: SeededIds) -> Money:
    return Money(database, clock, ids)
