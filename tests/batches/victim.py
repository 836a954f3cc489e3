"""A node under traffic that is killed in the middle of it: its order comes on standard input, and what its
clients are told goes to standard output, a line each."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from typing import Any
from uuid import UUID

from tests.batches.stand import Stand
from tests.batches.traffic import Traffic
from tests.support import ManualClock, SeededIds
from yggdrasil.db import Database
from yggdrasil.db.address import Address, Login
from yggdrasil.db.pool import RolePool
from yggdrasil.kernel import Network, Role


async def main(order: dict[str, Any]) -> None:
    clock, ids = ManualClock(), SeededIds(order["seed"])
    address = Address(*order["address"])
    pools = {
        role: RolePool(address, Login(role, password), connections_max=6)
        for role, password in order["passwords"].items()
    }
    stand = Stand(Database(pools, clock=clock, ids=ids), clock, ids, Login("", ""))
    stand.scopes = [Network(UUID(network), UUID(user), Role.OWNER) for network, user in order["scopes"]]

    def tell(word: str, attempt: UUID, amount: int) -> None:
        os.write(1, f"{word} {attempt} {amount}\n".encode())

    await Traffic(stand, random.Random(order["seed"]), tell).run(order["clients"])


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.stdin.readline())))
