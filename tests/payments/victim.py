"""A process that starts one top-up and is killed in the middle of it; its order comes on standard input."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any
from uuid import UUID

from tests.payments.brittle import Brittle
from tests.support import ManualClock, SeededIds
from yggdrasil.adapters.sandbox import SandboxGateway
from yggdrasil.db import Database
from yggdrasil.db.address import Address, Login
from yggdrasil.db.pool import RolePool
from yggdrasil.kernel import Network
from yggdrasil.payments.topups import TopUps


async def main(order: dict[str, Any]) -> None:
    clock, ids = ManualClock(), SeededIds(order["die_at"])
    address = Address(*order["address"])
    pools = {
        role: RolePool(address, Login(role, password), connections_max=2)
        for role, password in order["passwords"].items()
    }
    database = Database(pools, clock=clock, ids=ids)
    gateway = SandboxGateway(database, clock, environment="test")
    brittle: Any = Brittle(database, gateway, order["die_at"], lambda: os.kill(os.getpid(), signal.SIGKILL))
    network_id, user_id = map(UUID, order["scope"])
    await TopUps(brittle, brittle, clock, ids).process(
        Network(network_id, user_id),
        method_id=UUID(order["method_id"]),
        amount_cents=500,
        idempotency_key="key",
    )


if __name__ == "__main__":
    asyncio.run(main(json.load(sys.stdin)))
