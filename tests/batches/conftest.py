"""The fixtures of the batches' attack."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.batches.stand import Stand
from tests.batches.wishes import NETWORKS
from tests.support import ManualClock, SeededIds
from yggdrasil.db import Database
from yggdrasil.db.address import Login


@pytest.fixture
async def stand(database: Database, clock: ManualClock, ids: SeededIds, admin: Login) -> AsyncIterator[Stand]:
    made = Stand(database, clock, ids, admin)
    await made.open(NETWORKS)
    yield made
    await made.close()
