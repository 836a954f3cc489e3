"""The world of a run: a real server with its embedded PostgreSQL, people, 10^5 devices, a seller."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.live.house import House, free_port, fund, open_house, person

from benches.backend import MODEL
from benches.client import BenchError
from benches.machine import CLIENT_CORE, SERVER_CORE, descendants, on_core
from benches.processes import running
from yggdrasil.config import load_keys, load_settings
from yggdrasil.db.embedded import running_socket
from yggdrasil.keys import Keys
from yggdrasil.vedrfolnir.account import Account

NETWORKS: Final = 1_000
DEVICES_EACH: Final = 100
WATCHED: Final = {"YGGDRASIL_ISOLATION_PROBES_PER_MINUTE": "60"}
PAYERS: Final = 8
WALLET_CENTS: Final = 900_000

_NETWORKS: Final = """
    INSERT INTO tenant.networks (network_id, created_at, currency)
    SELECT md5('bench network ' || n)::uuid, '2026-01-01', (SELECT min(currency) FROM tenant.networks)
    FROM generate_series(1, $1) n
    RETURNING network_id
"""
_DEVICES: Final = """
    INSERT INTO tenant.devices (network_id, id, device_id, user_id, name, world, capabilities, hardware,
        device_key, registered_at)
    SELECT network, md5(network::text || ' device ' || d)::uuid, 'bench-' || lpad(d::text, 4, '0'), person,
        'Device ' || d, 'alfheim', '{"gpu": true, "kinds": ["chat", "embeddings"]}',
        '{"cores": 8, "machine": "x86_64", "system": "Linux", "memory_gib": 32}',
        sha256(convert_to(network::text || d, 'UTF8')), '2026-01-01'
    FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS t (network, person, have)
        CROSS JOIN LATERAL generate_series(have + 1, $4) AS d
"""


@dataclass(slots=True)
class World:
    """What the measures work on."""

    house: House
    keys: Keys
    owner: Account
    api_keys: list[str]
    """One for each payer, a network and a wallet each."""
    backend_port: int
    pids: dict[str, list[int]]
    """Of `server`, `provider` and `backend`."""

    def database_pids(self) -> list[int]:
        """PostgreSQL and its children at this moment."""
        postmaster = self.house.postmaster()
        return [postmaster, *descendants(postmaster)]

    async def analyze(self) -> None:
        """What autovacuum does by itself within a minute of load: plans are those of every day."""
        database = await asyncpg.connect(**self.database("postgres"))
        try:
            await database.execute("ANALYZE")
        finally:
            await database.close()

    async def token(self) -> str:
        """The owner's access token, fresh enough for a run."""
        return await self.owner.token()

    def database(self, role: str) -> dict[str, Any]:
        """How a peer reaches the same PostgreSQL as `role`."""
        socket = running_socket(self.house.data_dir)
        if socket is None:
            raise BenchError("the embedded PostgreSQL does not run")
        password = self.keys.role_password(role)
        return {"host": str(socket), "database": "yggdrasil", "user": role, "password": password}

    def public_key(self) -> str:
        """What access tokens are verified with, as PEM."""
        private = Ed25519PrivateKey.from_private_bytes(self.keys.token_signing.current.secret)
        return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@contextlib.asynccontextmanager
async def open_world(place: Path) -> AsyncIterator[World]:
    """A new world in `place`: server and database on one core, everything else on the other."""
    async with contextlib.AsyncExitStack() as stack:
        with on_core(SERVER_CORE):
            # As servers run: with the two canary networks at work.
            house = await stack.enter_async_context(open_house(place, WATCHED))
        keys = load_keys(load_settings(house.environment()))
        owner = await stack.enter_async_context(await person(house, "owner"))
        api_keys = [await _payer(house, f"payer{number}") for number in range(PAYERS)]
        async with await person(house, "seller") as seller:
            await fund(seller)
        backend_port = free_port()
        backend = await stack.enter_async_context(
            running(
                [sys.executable, "-m", "benches.backend", str(backend_port)],
                core=CLIENT_CORE,
                log=place / "backend.log",
                ready_url=f"http://127.0.0.1:{backend_port}/bare",
            )
        )
        provider = await stack.enter_async_context(_provider(house, place, backend_port))
        assert house.process is not None  # noqa: S101  it has started
        pids = {"server": [house.process.pid], "provider": [provider], "backend": [backend]}
        world = World(house, keys, owner, api_keys, backend_port, pids)
        await _seed(world)
        yield world


async def _payer(house: House, name: str) -> str:
    """An API key of somebody with a full wallet."""
    async with await person(house, name) as account:
        await fund(account, WALLET_CENTS)
        return str((await account.create_key("bench"))["key"])


def _provider(house: House, place: Path, backend_port: int) -> contextlib.AbstractAsyncContextManager[int]:
    command = [sys.executable, "-u", "-m", "yggdrasil", "provide", "--server", house.url]
    command += ["--backend", f"http://127.0.0.1:{backend_port}/v1", "--model", MODEL, "--price", "1"]
    command += ["--capacity", "256", "--state", str(place / "seller.json")]
    return running(command, core=CLIENT_CORE, log=place / "provider.log", ready_text=f"offering {MODEL}")


async def _seed(world: World) -> None:
    """`DEVICES_EACH` devices for the owner, and as many for each of the other networks, past all policies."""
    session = await world.owner.session()
    claims = json.loads(_segment((await world.token()).split(".")[1]))
    database = await asyncpg.connect(**world.database("postgres"))
    try:
        networks = [row["network_id"] for row in await database.fetch(_NETWORKS, NETWORKS - 1)]
        mine = await database.fetchval(
            "SELECT count(*) FROM tenant.devices WHERE network_id = $1", session.network_id
        )
        await database.execute(
            _DEVICES,
            [session.network_id, *networks],
            [claims["sub"], *networks],
            [mine, *[0] * len(networks)],
            DEVICES_EACH,
        )
        # Only these: statistics of tables that are still empty would mislead the plans of the trades to come.
        await database.execute("VACUUM ANALYZE tenant.devices, tenant.networks")
        await database.execute("CHECKPOINT")
        if await database.fetchval("SHOW synchronous_commit") != "on":
            raise BenchError("synchronous_commit must be on")
    finally:
        await database.close()


def _segment(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
