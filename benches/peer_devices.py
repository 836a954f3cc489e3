"""The peer of `rest.device_page`: the same page as an experienced FastAPI programmer would serve it.

Runs in the environment of the peers: `python peer_devices.py PORT`, settings as JSON on standard input.
`tuned` adds what our own server does: begin and scope in one message, no reset query when a connection goes
back, and a token that was verified is remembered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import jwt
import uvicorn
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from pydantic import BaseModel

SETTINGS: dict[str, Any] = {}
SQL = (
    "SELECT network_id, id, device_id, user_id, name, world, capabilities, hardware, device_key,"
    " registered_at, last_seen_at FROM tenant.devices WHERE network_id = $1 AND user_id = $2"
    " AND ($3::text IS NULL OR device_id > $3) ORDER BY device_id LIMIT $4"
)
ONE = (
    "SELECT network_id, id, device_id, user_id, name, world, capabilities, hardware, device_key,"
    " registered_at, last_seen_at FROM tenant.devices WHERE network_id = $1 AND device_id = $2"
)
SCOPE = (
    "SELECT set_config('app.network', $1, true), set_config('app.user', $2, true),"
    " set_config('app.role', $3, true), set_config('app.networks', '', true), set_config('app.job', '', true)"
)


class Device(BaseModel):
    device_id: str
    id: UUID
    user_id: UUID
    name: str
    world: str
    capabilities: dict[str, Any]
    hardware: dict[str, Any]
    device_key: str
    online: bool
    registered_at: datetime
    last_seen_at: datetime | None


class Page(BaseModel):
    items: list[Device]
    next: str | None


class Caller(BaseModel):
    network_id: UUID
    user_id: UUID
    role: str


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


class _KeepConnection(asyncpg.Connection):
    """Goes back to the pool as it is: every transaction sets all it reads."""

    def get_reset_query(self) -> str:
        return ""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    tuned: dict[str, Any] = {"connection_class": _KeepConnection} if SETTINGS["tuned"] else {}
    async with asyncpg.create_pool(
        **SETTINGS["database"],
        min_size=10,
        max_size=10,
        init=_prepare,
        server_settings={"jit": "off"},
        **tuned,
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)
_known: dict[str, tuple[Caller, float]] = {}


def _verify(token: str) -> tuple[Caller, float]:
    try:
        claims = jwt.decode(
            token,
            SETTINGS["public_key"],
            algorithms=["EdDSA"],
            issuer="yggdrasil",
            audience="yggdrasil",
            options={"require": ["iss", "aud", "iat", "exp", "sub"]},
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    return Caller(network_id=claims["net"], user_id=claims["sub"], role=claims["role"]), claims["exp"]


async def caller(authorization: Annotated[str, Header()]) -> Caller:
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer":
        raise HTTPException(401)
    if not SETTINGS["tuned"]:
        return _verify(token)[0]
    found = _known.get(token)
    if found is None:
        found = _known[token] = _verify(token)
    if found[1] <= datetime.now().timestamp():  # noqa: DTZ005  a timestamp has no zone
        raise HTTPException(401)
    return found[0]


async def _rows(who: Caller, sql: str, *args: Any) -> list[asyncpg.Record]:
    async with app.state.pool.acquire() as connection:
        if not SETTINGS["tuned"]:
            async with connection.transaction():
                await connection.execute(SCOPE, str(who.network_id), str(who.user_id), who.role)
                return await connection.fetch(sql, *args)
        await connection.execute(
            f"BEGIN; SET LOCAL app.\"network\" = '{who.network_id}'; "
            f"SET LOCAL app.\"user\" = '{who.user_id}'; SET LOCAL app.\"role\" = '{who.role}'; "
            "SET LOCAL app.\"networks\" = ''; SET LOCAL app.\"job\" = ''"
        )
        try:
            return await connection.fetch(sql, *args)
        finally:
            await connection.execute("COMMIT")


def _shown(row: asyncpg.Record) -> Device:
    return Device(
        device_id=row["device_id"],
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        world=row["world"],
        capabilities=row["capabilities"],
        hardware=row["hardware"],
        device_key=row["device_key"].hex(),
        online=False,
        registered_at=row["registered_at"],
        last_seen_at=row["last_seen_at"],
    )


@app.get("/api/v1/devices")
async def list_devices(
    who: Annotated[Caller, Depends(caller)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> Page:
    rows = await _rows(who, SQL, who.network_id, who.user_id, cursor, limit + 1)
    items = [_shown(row) for row in rows[:limit]]
    return Page(items=items, next=items[-1].device_id if len(rows) > limit else None)


@app.get("/api/v1/devices/{device_id}")
async def get_device(device_id: str, who: Annotated[Caller, Depends(caller)]) -> Device:
    rows = await _rows(who, ONE, who.network_id, device_id)
    if not rows:
        raise HTTPException(404)
    return _shown(rows[0])


if __name__ == "__main__":
    SETTINGS.update(json.load(sys.stdin))
    SETTINGS["public_key"] = load_pem_public_key(SETTINGS["public_key"].encode())
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
