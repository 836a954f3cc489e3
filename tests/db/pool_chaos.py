# ruff: noqa: E501  the SQL has its own lines
"""Many networks on few connections, while everything goes wrong that can: cancellations, timeouts, failed commits,
killed backends, waiters that give up, errors in savepoints. Nobody may see a foreign row, nobody may find another's scope
on a connection, and no connection may be lost.

    python -m tests.db.pool_chaos --queries 1000000 --seconds 600 --seed 7

goes on where the last one of the same seed stopped (build/isolation/pool_chaos.json) and prints the tally as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from tests.conftest import MAIN_TEMPLATE, MIMIR_TEMPLATE, Cluster, open_cluster
from tests.db.accidents import FATES, INSERT, NAMES, VAULT_FATES
from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.db import Database, VaultDatabase
from yggdrasil.db.address import Login, connect
from yggdrasil.db.migrate import MAIN_OWNER, MAIN_ROLES
from yggdrasil.db.pool import RolePool
from yggdrasil.db.transaction import Tx
from yggdrasil.db.vault import MIMIR_ROLE
from yggdrasil.errors import ScopeError, Unavailable
from yggdrasil.kernel import Identity, Market, Network, Scope, Settle, System

NETWORKS = 200
CONNECTIONS_MAX = 4
PLACE = Path("build/isolation/pool_chaos.json")
EXPECTED = (LookupError, Unavailable, ScopeError, asyncpg.PostgresError, asyncio.CancelledError, TimeoutError)
SETTINGS = ("network", "user", "role", "networks", "job")

# What a connection carries when nobody uses it: five empty settings, its own role, PostgreSQL's defaults.
CARRIED = (
    "SELECT "
    + ", ".join(f"coalesce(current_setting('app.{name}', true), '')" for name in SETTINGS)
    + ", current_setting('role'), current_user, current_setting('search_path'), pg_current_xact_id_if_assigned()"
)
# What a transaction is in; the same text under every scope, so that a prepared statement serves them all.
SELF = (
    "SELECT current_user, platform.current_network(), platform.current_user_id(), platform.current_networks(),"
    " platform.current_job()"
)
ROWS = {
    Network: "SELECT network_id FROM tenant.networks UNION ALL SELECT network_id FROM identity.memberships"
    " UNION ALL SELECT network_id FROM tenant.chaos",
    Identity: "SELECT network_id FROM tenant.networks UNION ALL SELECT network_id FROM identity.memberships"
    " UNION ALL SELECT home_network_id FROM identity.accounts",
    Settle: "SELECT network_id FROM tenant.networks UNION ALL SELECT network_id FROM tenant.chaos",
    Market: "SELECT network_id FROM tenant.offers",
    System: "SELECT network_id FROM tenant.networks",
}
ASKED = {
    Network: "SELECT network_id FROM tenant.chaos WHERE network_id = $1",
    Settle: "SELECT network_id FROM tenant.chaos WHERE network_id = ANY (ARRAY[$1::uuid])",
    Identity: "SELECT network_id FROM identity.memberships WHERE network_id = $1",
}
# A table whose foreign key fails at COMMIT only.
TABLE = """
    CREATE TABLE tenant.chaos (network_id uuid NOT NULL, id uuid NOT NULL, other uuid, PRIMARY KEY (network_id, id),
        FOREIGN KEY (network_id, other) REFERENCES tenant.chaos DEFERRABLE INITIALLY DEFERRED);
    ALTER TABLE tenant.chaos ENABLE ROW LEVEL SECURITY;
    ALTER TABLE tenant.chaos FORCE ROW LEVEL SECURITY;
    GRANT SELECT, INSERT, DELETE ON tenant.chaos TO ygg_network;
    GRANT SELECT ON tenant.chaos TO ygg_settle, ygg_system;
    CREATE POLICY mine ON tenant.chaos FOR ALL TO ygg_network USING (network_id = (SELECT platform.current_network()))
        WITH CHECK (network_id = (SELECT platform.current_network()));
    CREATE POLICY theirs ON tenant.chaos FOR SELECT TO ygg_settle
        USING (network_id = ANY ((SELECT platform.current_networks())::uuid[]));
    CREATE POLICY job ON tenant.chaos FOR SELECT TO ygg_system USING (true);
"""


@dataclass
class Tally:
    """What was done, and what must be zero."""

    pool_queries: int = 0
    foreign_rows: int = 0
    leaked_scopes: int = 0
    leaked_connections: int = 0
    transactions: int = 0
    finished: int = 0
    rounds: int = 0
    seconds: float = 0.0
    fates: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.foreign_rows or self.leaked_scopes or self.leaked_connections)

    def note(self, kind: str, text: str, count: int = 1) -> None:
        setattr(self, kind, getattr(self, kind) + count)
        if len(self.found) < 20:
            self.found.append(f"round {self.rounds}: {kind}: {text}")


class WatchedPool(RolePool):
    """Looks at every connection between two users: what the last one left on it would be the next one's."""

    tally: Tally

    async def acquire(self, owner: Hashable = None) -> asyncpg.Connection:
        while True:
            connection = await super().acquire(owner)
            try:
                *carried, role, user, path, xact = await connection.fetchrow(CARRIED)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                # Its backend was killed while it was idle; the pool finds out the same way.
                self.release(connection, clean=False)
                continue
            except BaseException:
                self.release(connection, clean=False)
                raise
            self.tally.pool_queries += 1
            if any(carried) or role != "none" or user != self.login.user or path != '"$user", public' or xact:
                self.tally.note(
                    "leaked_scopes", f"{self.login.user} found {carried} {role} {user} {path} {xact}"
                )
            return connection


@dataclass
class Chaos:
    """Databases with `networks`, each with one row in tenant.chaos, and what happens to them."""

    database: Database
    vault: VaultDatabase
    admin: asyncpg.Connection
    networks: list[Network]
    ids: SeededIds
    tally: Tally

    def __post_init__(self) -> None:
        self._admin_turn = asyncio.Lock()
        self.everybody = {scope.network_id for scope in self.networks}

    async def kill(self, pid: int, *, function: str = "pg_terminate_backend") -> None:
        async with self._admin_turn:
            await self.admin.fetchval(f"SELECT {function}($1)", pid)

    async def look(self, tx: Tx, chance: random.Random) -> None:
        """The scope is the one asked for, and every row seen lies in it."""
        scope = tx.scope
        kind = type(scope)
        user, network, person, networks, job = await tx.fetchrow(SELF)  # type: ignore[misc]
        right: tuple[Any, ...]
        match scope:
            case Network():
                right = ("ygg_network", scope.network_id, scope.user_id, None, None)
                mine = {scope.network_id}
            case Identity():
                right = ("ygg_identity", scope.network_id, scope.user_id, None, None)
                mine = {scope.network_id}
            case Settle():
                right = ("ygg_settle", None, None, list(scope.networks), None)
                mine = set(scope.networks)
            case Market():
                right, mine = ("ygg_market", None, None, None, None), set()
            case _:
                assert isinstance(scope, System)
                right, mine = ("ygg_system", None, None, None, scope.job), set()
        if (user, network, person, networks, job) != right:
            self.tally.note("leaked_scopes", f"{scope}: is in {(user, network, person, networks, job)}")
        rows = [row[0] for row in await tx.fetch(ROWS[kind])]
        self.tally.pool_queries += 2
        if kind is System:
            # A job that finds nothing must not look green.
            if not self.everybody <= set(rows):
                self.tally.note("foreign_rows", "a job does not see every network")
            return
        foreign = [row for row in rows if row not in mine]
        if foreign or (mine and not rows):
            self.tally.note("foreign_rows", f"{scope} sees {foreign[:3]} of {len(rows)}", len(foreign) or 1)
        if kind in ASKED:
            other = chance.choice(self.networks).network_id
            if other not in mine and await tx.fetch(ASKED[kind], other):
                self.tally.note("foreign_rows", f"{scope} asked for {other} and got it")
            self.tally.pool_queries += 1

    async def one(self, scope: Scope, fate: str, chance: random.Random) -> None:
        """One transaction with its fate."""
        self.tally.transactions += 1
        self.tally.fates[fate] += 1
        if fate == "call" and isinstance(scope, Settle):
            # A function that sets scopes itself: an end of an attempt that never was.
            end = [list(scope.networks), self.ids.uuid(), "failed", *[None] * 22]
            end[16] = end[17] = scope.networks[0]
            end[19] = "voided"
            await self.database.call("finish_batch", [tuple(end)])
            self.tally.pool_queries += 1
            self.tally.finished += 1
            return
        async with self.database.transaction(scope) as tx:
            await self.look(tx, chance)
            if fate in FATES:
                await FATES[fate](self, tx, scope)
                self.tally.pool_queries += 1
            await self.look(tx, chance)
        self.tally.finished += 1

    async def seal(self, fate: str) -> None:
        """The vault's pool: one role without a scope, the same accidents."""
        self.tally.transactions += 1
        self.tally.fates[fate] += 1
        async with self.vault.transaction() as tx:
            await tx.fetch("SELECT subject FROM vault.subjects")
            if fate in VAULT_FATES:
                await FATES[fate](self, tx, Market())
            self.tally.pool_queries += 2
        self.tally.finished += 1

    async def round(self, number: int, seed: int) -> None:
        """Every network once, and the other scopes among them; then everybody is gone and the pools are whole."""
        chance = random.Random(f"{seed}:{number}")
        self.ids.restart(chance.getrandbits(63))
        work: list[Awaitable[None]] = []
        for scope in self.networks:
            work.append(self.one(scope, _fate(chance), chance))
            if chance.random() < 0.1:
                work.append(self.one(Identity(scope.network_id, scope.user_id), _fate(chance), chance))
            if chance.random() < 0.1:
                three = {one.network_id for one in chance.sample(self.networks, chance.randint(0, 2))}
                three = tuple(three | {scope.network_id})
                work.append(self.one(Settle(three), chance.choice((_fate(chance), "call")), chance))
            if chance.random() < 0.05:
                work.append(self.one(chance.choice((Market(), System("chaos"))), _fate(chance), chance))
            if chance.random() < 0.05:
                work.append(self.seal(_fate(chance)))
        chance.shuffle(work)
        # In some rounds those who wait for a connection give up.
        patience = chance.choice((10.0, 10.0, 0.2))
        for pool in self.database.pools.values():
            pool._acquire_seconds_max = patience
        loop = asyncio.get_running_loop()
        tasks = [asyncio.ensure_future(one) for one in work]
        for task in chance.sample(tasks, len(tasks) // 10):
            loop.call_later(chance.random() * 0.3, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException):
                if not isinstance(result, EXPECTED):
                    raise result
                self.tally.errors[type(result).__name__] += 1
        await self.settle_down()
        self.tally.rounds += 1

    async def settle_down(self) -> None:
        """Nobody works any more: each pool has all its connections idle, and PostgreSQL has no others."""
        for pool in (*self.database.pools.values(), self.vault.pool):
            if pool.size != pool.idle:
                self.tally.note("leaked_connections", f"{pool.login.user}: {pool.idle} of {pool.size} idle")
            for _ in range(200):
                states = await self.admin.fetch(
                    "SELECT state FROM pg_stat_activity WHERE usename = $1 AND datname = $2",
                    pool.login.user,
                    pool.address.database,
                )
                # One that was cut may still be on its way out; one that was killed while idle still counts here.
                if len(states) <= pool.size and all(row["state"] == "idle" for row in states):
                    break
                await asyncio.sleep(0.02)
            else:
                self.tally.note(
                    "leaked_connections", f"{pool.login.user}: {len(states)} for {pool.size} in the pool"
                )


def _fate(chance: random.Random) -> str:
    return chance.choice(NAMES) if chance.random() < 0.35 else "plain"


@asynccontextmanager
async def chaos_on(
    cluster: Cluster, ids: SeededIds, tally: Tally, *, networks: int = NETWORKS
) -> AsyncIterator[Chaos]:
    """Fresh databases on `cluster` with that many networks."""
    main, mimir = await cluster.clone(MAIN_TEMPLATE), await cluster.clone(MIMIR_TEMPLATE)
    address = cluster.server.address(main)

    def pool(role: str, name: str) -> WatchedPool:
        login = Login(role, cluster.keys.role_password(role))
        made = WatchedPool(cluster.server.address(name), login, connections_max=CONNECTIONS_MAX)
        made.tally = tally
        return made

    clock = ManualClock()
    database = Database(
        {role: pool(role, main) for role in MAIN_ROLES}, clock=clock, ids=SeededIds(ids.seed + 1)
    )
    vault = VaultDatabase(pool(MIMIR_ROLE, mimir))
    admin = await connect(cluster.server.address(), cluster.admin)
    try:
        owner = await connect(address, Login(MAIN_OWNER, cluster.keys.role_password(MAIN_OWNER)))
        await owner.execute(TABLE)
        await owner.close()
        made = [await make_network(database, ids, clock) for _ in range(networks)]
        for scope in made:
            async with database.transaction(scope) as tx:
                await tx.execute(INSERT, scope.network_id, ids.uuid(), None)
        yield Chaos(database, vault, admin, made, ids, tally)
    finally:
        await admin.close()
        await database.close()
        await vault.close()
        await cluster.drop(main)
        await cluster.drop(mimir)


async def campaign(queries: int, seconds: float, seed: int) -> Tally:
    """Go on until `queries` are asked in all or `seconds` have passed."""
    tally = _restored(seed)
    until = time.monotonic() + seconds
    async with open_cluster(seed) as cluster, chaos_on(cluster, SeededIds(seed), tally) as chaos:
        while tally.pool_queries < queries and time.monotonic() < until and tally.clean:
            began = time.monotonic()
            await chaos.round(tally.rounds, seed)
            tally.seconds += time.monotonic() - began
            if tally.rounds % 10 == 0:
                _keep(tally, seed)
    _keep(tally, seed)
    return tally


def _restored(seed: int) -> Tally:
    if PLACE.exists():
        kept = json.loads(PLACE.read_text())
        if kept.pop("seed") == seed:
            kept["fates"], kept["errors"] = Counter(kept["fates"]), Counter(kept["errors"])
            return Tally(**kept)
    return Tally()


def _keep(tally: Tally, seed: int) -> None:
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_text(json.dumps({"seed": seed, **vars(tally)}, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """0 when all was asked and nothing leaked; 1 when something did; 2 when time ran out before the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.db.pool_chaos", description=__doc__)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    asked = parser.parse_args(arguments)
    if asked.fresh:
        PLACE.unlink(missing_ok=True)
    tally = asyncio.run(campaign(asked.queries, asked.seconds, asked.seed))
    for line in tally.found:
        print(line, file=sys.stderr)
    zero = ("pool_queries", "foreign_rows", "leaked_scopes", "leaked_connections")
    print(json.dumps({name: getattr(tally, name) for name in zero}))
    if not tally.clean:
        return 1
    return 0 if tally.pool_queries >= asked.queries else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
