"""kill -9 in the middle of batches: of the node, of PostgreSQL's backends, of the whole of PostgreSQL.

Afterwards the books are whole, nothing is open, and what a client was told is so: an acknowledged settlement
is there, exactly once and with its amounts; what was not acknowledged cost nothing, or was settled once, by
its id. `YGG_CRASH_ROUNDS` sets how many rounds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from tests.batches.stand import Stand
from tests.batches.traffic import HOLD_MICROCENTS, Traffic
from tests.conftest import SEED, make_directory
from tests.support import ManualClock, SeededIds
from yggdrasil.db import Database
from yggdrasil.db.bootstrap import create_databases, open_database, prepare
from yggdrasil.db.embedded import EmbeddedPostgres
from yggdrasil.db.migrate import MAIN
from yggdrasil.errors import Unavailable
from yggdrasil.keys import Keys

ROUNDS = int(os.environ.get("YGG_CRASH_ROUNDS", "1"))
CLIENTS = 40
NETWORKS = 5  # and the last has no method: it does not trade
WALLET_CENTS = 2_000
SETTLED_MIN = 100
SECONDS_MAX = 120.0
BUSY = "SELECT pid FROM pg_stat_activity WHERE usename = 'ygg_settle' AND state <> 'idle'"


@dataclass
class Told:
    """What the clients were told, by attempt."""

    words: dict[UUID, list[str]] = field(default_factory=lambda: defaultdict(list))
    totals: dict[UUID, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def tell(self, word: str, attempt: UUID, amount: int) -> None:
        self.words[attempt].append(word)
        self.counts[word] += 1
        if word == "asked":
            self.totals[attempt] = amount

    async def until(self, word: str, count: int) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while self.counts[word] < count:
                await asyncio.sleep(0.01)

    async def until_one_ends(self) -> None:
        """Somebody has asked for the end of an attempt, and was not answered yet."""
        async with asyncio.timeout(SECONDS_MAX):
            while not any(words[-1] == "finishing" for words in self.words.values()):
                await asyncio.sleep(0)


@dataclass
class Ground:
    """A durable PostgreSQL of its own, and a stand on it."""

    server: EmbeddedPostgres
    stand: Stand
    database: Database

    async def again(self) -> None:
        """New connections for whoever looks, after PostgreSQL was gone."""
        async with asyncio.timeout(SECONDS_MAX):
            while not await self._looks():
                await asyncio.sleep(0.05)

    async def _looks(self) -> bool:
        try:
            await self.stand.close()
            await self.stand.look_anew()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, Unavailable):
            return False
        return True


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    directory, ids, clock = make_directory(), SeededIds(SEED), ManualClock()
    keys = Keys.generate(ids.secret)
    server = EmbeddedPostgres(directory, password=keys.role_password("postgres"))
    await server.start_async()
    try:
        await create_databases(server, "main", "mimir")
        address = server.address("main")
        await prepare(address, server.superuser, MAIN, keys, clock)
        database = open_database(address, keys, clock, ids, connections_max=8)
        stand = Stand(database, clock, ids, server.superuser)
        await stand.open(NETWORKS)
        for scope in stand.scopes[:-1]:
            await stand.topup(scope, WALLET_CENTS)
        yield Ground(server, stand, database)
        await stand.close()
        await database.close()
    finally:
        await server.stop_async()
        shutil.rmtree(server.home, ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)


async def check(stand: Stand, told: Told) -> None:
    """The promises, from the rows alone."""
    ended = await stand.reconcile()
    assert await stand.reconcile() == 0, "a second round found something"
    seen = await stand.seen()  # with the audit of the rows
    books = await stand.money.payments.trial_balance()
    assert books.sound
    assert books.open_holds == books.held_microcents == 0
    assert set(seen["attempts"].values()) <= {"completed", "lost"}
    paid: dict[UUID, int] = {}
    for row in await stand.look(
        "SELECT transfer_id, network_id, account, amount_microcents AS amount FROM tenant.entries"
        " WHERE kind = 'settlement' AND account = 'wallet'"
    ):
        assert row["transfer_id"] not in paid, "settled twice"
        paid[row["transfer_id"]] = -row["amount"]
    for attempt, words in told.words.items():
        state, total = seen["attempts"].get(attempt), told.totals[attempt]
        if words[-1] == "settled":
            assert state == "completed", f"{attempt}: an acknowledged settlement is not there"
            assert paid.get(attempt, 0) == total, f"{attempt}: acknowledged, and paid otherwise"
        elif words[-1] == "finishing":
            assert paid.get(attempt, 0) in (0, total), f"{attempt}: paid otherwise than asked"
            assert state in ("completed", "lost"), f"{attempt}: {state}"
        else:
            assert attempt not in paid, f"{attempt}: was told {words}, and paid"
        if "admitted" in words:
            assert state is not None, f"{attempt}: an acknowledged admission is not there"
    assert set(paid) <= set(told.words), "something settled that nobody asked for"
    wallets = sum(posted for (_, account), (posted, _) in seen["balances"].items() if account == "wallet")
    assert wallets == (NETWORKS - 1) * WALLET_CENTS * HOLD_MICROCENTS - sum(paid.values())
    print(f"ended by the reconciler: {ended}; told: {dict(told.counts)}")


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_the_node_is_killed(ground: Ground, number: int) -> None:
    """Several times on the same books: each node begins where one was killed."""
    dice, told, stand = random.Random(SEED + number), Told(), ground.stand
    pools = stand.money.database.pools
    address = pools["ygg_settle"].address
    lost = 0
    for _ in range(3):
        order = {
            "address": [address.host, address.port, address.database],
            "passwords": {role: pool.login.password for role, pool in pools.items()},
            "scopes": [[str(scope.network_id), str(scope.user_id)] for scope in stand.scopes],
            "seed": dice.randrange(2**32),
            "clients": CLIENTS,
        }
        victim = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.batches.victim",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert victim.stdin is not None
        assert victim.stdout is not None
        victim.stdin.write(json.dumps(order).encode() + b"\n")
        wanted = told.counts["settled"] + dice.randrange(SETTLED_MIN, 3 * SETTLED_MIN)
        async with asyncio.timeout(SECONDS_MAX):
            while line := await victim.stdout.readline():
                word, attempt, amount = line.decode().split()
                told.tell(word, UUID(attempt), int(amount))
                if told.counts["settled"] == wanted:
                    victim.kill()
        assert await victim.wait() == -signal.SIGKILL
        lost += sum(words[-1] not in ("settled", "refused") for words in told.words.values())
        # What its backends were at in that moment may still be written.
        await idle(stand)
        await check(stand, told)
    assert lost, "the kill fell on nothing that was on its way: this round showed nothing"


async def idle(stand: Stand) -> None:
    """No backend of the poster is at work."""
    async with asyncio.timeout(SECONDS_MAX):
        while await stand.look(BUSY):
            await asyncio.sleep(0.02)


async def under_traffic(ground: Ground, seed: int, harm: Callable[[Told], Awaitable[None]]) -> Told:
    """Traffic until the harm is done, and to the end of what it had begun."""
    told = Told()
    traffic = Traffic(ground.stand, random.Random(seed), told.tell)
    running = asyncio.create_task(traffic.run(CLIENTS))
    try:
        await told.until("settled", 20)
        await harm(told)
        await told.until("settled", told.counts["settled"] + 20)  # it goes on
        traffic.stopped = True
        await asyncio.wait_for(running, SECONDS_MAX)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return told


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_backends_are_terminated(ground: Ground, number: int) -> None:
    dice, stand, ended = random.Random(SEED + number), ground.stand, 0

    async def harm(told: Told) -> None:
        nonlocal ended
        while ended < 25:
            busy = await stand.look(BUSY)
            if busy:
                await stand.look("SELECT pg_terminate_backend($1)", dice.choice(busy)["pid"])
                ended += 1
            await asyncio.sleep(dice.random() * 0.05)

    told = await under_traffic(ground, SEED + number, harm)
    await check(stand, told)
    # Who was answered was settled: an end is asked for until the database answers.
    assert not [words for words in told.words.values() if words[-1] in ("finishing", "ended")]


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_postgresql_is_killed(ground: Ground, number: int) -> None:
    dice = random.Random(SEED + number)

    async def harm(told: Told) -> None:
        for _ in range(2):
            await told.until("settled", told.counts["settled"] + dice.randrange(10, 60))
            assert ground.server.pid is not None
            # Or the kill falls on nothing, and the round shows nothing.
            await told.until_one_ends()
            os.kill(ground.server.pid, signal.SIGKILL)
            async with asyncio.timeout(SECONDS_MAX):
                while not await ground.server.ensure_running():
                    await asyncio.sleep(0.02)
            await ground.again()

    told = await under_traffic(ground, SEED + number, harm)
    await check(ground.stand, told)
    assert not [words for words in told.words.values() if words[-1] in ("finishing", "ended")]


async def test_the_check_can_fail(ground: Ground) -> None:
    """The control: an acknowledged settlement whose rows are gone, and one that was never asked for."""
    told = Told()
    traffic = Traffic(ground.stand, random.Random(SEED), told.tell)
    while not any(total and told.words[one][-1] == "settled" for one, total in told.totals.items()):
        await traffic.ask()
    await check(ground.stand, told)
    liar = Told(words=defaultdict(list, told.words), totals=dict(told.totals))
    missing = UUID(int=1)
    liar.totals[missing] = 1
    liar.words[missing] = ["asked", "admitted", "finishing", "settled"]
    with pytest.raises(AssertionError, match="is not there"):
        await check(ground.stand, liar)
    with pytest.raises(AssertionError, match="nobody asked for"):
        await check(ground.stand, Told())
