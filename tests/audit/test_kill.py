"""kill -9 of a node while it links, and of PostgreSQL's backends: what was committed is in the chain, once;
the chain is sound and goes on. `YGG_CRASH_ROUNDS` sets how many rounds."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path

import pytest

from tests.audit.conftest import Stand
from tests.conftest import SEED, Cluster
from tests.support import as_superuser
from yggdrasil.db.address import Login
from yggdrasil.errors import Unavailable
from yggdrasil.kernel import System
from yggdrasil.keys import Keys

ROUNDS = 3 * int(os.environ.get("YGG_CRASH_ROUNDS", "1"))
RECORDED_MIN = 30


async def one_life(stand: Stand, keys: Keys, seed: int, seconds: float) -> list[tuple[str, str]]:
    """(network, event) of what the node committed and told before it was killed."""
    key, pool = keys.audit_signing.current, stand.database.pools["ygg_system"]
    order = {
        "seed": seed,
        "address": [pool.address.host, pool.address.port, pool.address.database],
        "passwords": {role: keys.role_password(role) for role in stand.database.pools},
        "key_id": key.key_id,
        "secret": key.secret.hex(),
        "file": str(stand.file),
        "scopes": [[str(scope.network_id), str(scope.user_id)] for scope in stand.networks],
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.audit.victim",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    told: list[tuple[str, str]] = []
    try:
        async with asyncio.timeout(60):
            while len(told) < RECORDED_MIN:
                network, event = (await process.stdout.readline()).decode().split()
                told.append((network, event))
        await asyncio.sleep(seconds)
    finally:
        process.kill()
        rest, _ = await process.communicate()
    # The last line may be torn.
    told += [(line.split()[0], line.split()[1]) for line in rest.decode().split("\n")[:-1]]
    return told


async def check(stand: Stand, told: list[tuple[str, str]]) -> None:
    report = await stand.verify()
    assert report.ok, report.bad
    assert report.waiting == 0
    async with stand.database.transaction(System("test")) as tx:
        rows = await tx.fetch("SELECT network_id, event_id FROM tenant.audit_links")
    linked = [(str(row["network_id"]), str(row["event_id"])) for row in rows]
    assert len(linked) == len(set(linked))
    assert set(told) <= set(linked)


async def test_a_killed_node_loses_nothing_and_forks_nothing(stand: Stand, keys: Keys) -> None:
    source = random.Random(SEED)
    told: list[tuple[str, str]] = []
    for number in range(ROUNDS):
        told += await one_life(stand, keys, source.randrange(2**63), source.random())
        # Even as it is: whatever was linked before the kill is sound, and so is what lies in the file.
        before = await stand.verify()
        assert before.ok, (number, before.bad)
    stand.clock.advance(100_000)
    await stand.chainer().drain()
    await check(stand, told)


async def test_backends_that_are_killed_in_a_round_leave_it_undone(
    stand: Stand, cluster: Cluster, admin: Login, keys: Keys
) -> None:
    chainer, lost = stand.chainer(), 0
    told: list[tuple[str, str]] = []

    async def kill() -> None:
        for _ in range(15):
            await asyncio.sleep(0.02)
            await as_superuser(
                stand.database,
                admin,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'ygg_system' AND datname = current_database()",
            )

    killing = asyncio.create_task(kill())
    while not killing.done():
        events = await stand.record(stand.networks[0], 5)
        told += [(str(stand.networks[0].network_id), str(event)) for event in events]
        try:
            await chainer.drain()
        except Unavailable:
            lost += 1
    await killing
    await chainer.drain()
    await check(stand, told)
    print(f"{lost} rounds were lost and made again")


@pytest.mark.parametrize("count", [2_500])
async def test_more_than_a_round_takes_is_linked_in_several(stand: Stand, count: int) -> None:
    await stand.record(stand.networks[0], count)
    assert await stand.chainer().drain() == count
    report = await stand.verify()
    assert report.ok
    assert report.rows == count + 1
