"""A node that records and links until it is killed: its order comes on standard input, and the id of every
event whose transaction was committed goes to standard output."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.audit.conftest import Stand
from tests.support import ManualClock, SeededIds
from yggdrasil.audit.chain import Signing
from yggdrasil.db import Database
from yggdrasil.db.address import Address, Login
from yggdrasil.db.pool import RolePool
from yggdrasil.kernel import Network
from yggdrasil.keys import Key, KeyRing


async def main(order: dict[str, Any]) -> None:
    clock, ids = ManualClock(), SeededIds(order["seed"])
    address = Address(*order["address"])
    pools = {
        role: RolePool(address, Login(role, password), connections_max=4)
        for role, password in order["passwords"].items()
    }
    ring = KeyRing((Key(order["key_id"], bytes.fromhex(order["secret"])),))
    stand = Stand(Database(pools, clock=clock, ids=ids), clock, ids, Signing(ring), Path(order["file"]))
    scopes = [Network(UUID(network), UUID(user)) for network, user in order["scopes"]]
    chainer = stand.chainer()

    async def work(scope: Network) -> None:
        while True:
            for event_id in await stand.record(scope, 3):
                os.write(1, f"{scope.network_id} {event_id}\n".encode())

    async def link() -> None:
        while True:
            await chainer.drain()

    await asyncio.gather(link(), *map(work, scopes))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.stdin.readline())))
