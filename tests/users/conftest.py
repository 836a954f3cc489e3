"""A small server with the real routes on a real database, and devices that sign like devices."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar import Litestar, Request
from litestar.di import Provide

from tests.support import ManualClock, SeededIds
from yggdrasil import problems
from yggdrasil.db import Database, VaultDatabase
from yggdrasil.kernel import Network
from yggdrasil.keys import Keys
from yggdrasil.mimir.service import Mimir
from yggdrasil.ports import Mail
from yggdrasil.users import member_routes, roles
from yggdrasil.users.hand_over_routes import router as hand_over_router
from yggdrasil.users.routes import router
from yggdrasil.users.service import Users
from yggdrasil.users.settings import UsersSettings
from yggdrasil.wire.proof import encode_bytes

CODE = re.compile(r"^\s+([0-9]{8})$", re.MULTILINE)


class Inbox:
    """A mailer that keeps what it is given."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        self.mails.append(mail)


def code_in(mail: Mail) -> str:
    found = CODE.search(mail.text)
    assert found is not None
    return found[1]


def other_code(code: str, by: int = 1) -> str:
    return f"{(int(code) + by) % 10**8:08d}"


@dataclass
class Device:
    """Signs exactly as docs/protocol/sign-in.md says; shares no code with the server."""

    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def key(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def key_text(self) -> str:
        return encode_bytes(self.key)

    def sign(self, message: bytes) -> str:
        return encode_bytes(self.private.sign(message))

    def login_body(self, email: str, at_seconds: int | None = None) -> dict[str, Any]:
        body: dict[str, Any] = {"email": email, "device_key": self.key_text}
        if at_seconds is not None:
            digest = hashlib.sha256(email.encode()).digest()
            message = b"yggdrasil.v1 start\0" + self.key + at_seconds.to_bytes(8, "big") + digest
            body |= {"at_seconds": at_seconds, "proof": self.sign(message)}
        return body

    def verify_body(self, flow: str, code: str) -> dict[str, Any]:
        message = b"yggdrasil.v1 verify\0" + bytes.fromhex(flow.replace("-", "")) + code.encode()
        return {"flow": flow, "code": code, "device_key": self.key_text, "proof": self.sign(message)}

    def refresh_body(self, token: str, at_seconds: int) -> dict[str, Any]:
        digest = hashlib.sha256(token.encode()).digest()
        message = b"yggdrasil.v1 refresh\0" + digest + at_seconds.to_bytes(8, "big")
        return {"refresh_token": token, "at_seconds": at_seconds, "proof": self.sign(message)}


@dataclass
class House:
    """The server of a test."""

    users: Users
    mimir: Mimir
    inbox: Inbox
    clock: ManualClock
    database: Database
    vault: VaultDatabase
    client: httpx.AsyncClient
    keys: Keys
    ids: SeededIds

    @property
    def at(self) -> int:
        return int(self.clock.now().timestamp())

    async def post(self, path: str, body: Any, token: str | None = None) -> httpx.Response:
        return await self.client.post(f"/api/v1{path}", json=body, headers=bearer(token))

    async def get(self, path: str, token: str | None = None) -> httpx.Response:
        return await self.client.get(f"/api/v1{path}", headers=bearer(token))

    async def put(self, path: str, body: Any, token: str | None = None) -> httpx.Response:
        return await self.client.put(f"/api/v1{path}", json=body, headers=bearer(token))

    async def delete(self, path: str, token: str | None = None) -> httpx.Response:
        return await self.client.delete(f"/api/v1{path}", headers=bearer(token))

    async def start(self, email: str, device: Device, *, known: bool = False) -> tuple[str, str]:
        """Flow and code."""
        body = device.login_body(email, self.at if known else None)
        answer = await self.post("/users/login", body)
        assert answer.status_code == 202, answer.text
        await self.users.postman.drain()
        return answer.json()["flow"], code_in(self.inbox.mails[-1])

    async def verify(self, device: Device, flow: str, code: str) -> httpx.Response:
        return await self.post("/users/verify", device.verify_body(flow, code))

    async def sign_in(self, email: str, device: Device, *, known: bool = False) -> dict[str, Any]:
        answer = await self.verify(device, *await self.start(email, device, known=known))
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def another_node(self) -> Users:
        """A second process on the same databases."""
        return Users(self.database, self.mimir, self.inbox, self.clock, self.ids, self.keys)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def make_app(users: Users, **dependencies: Any) -> Litestar:
    async def caller(request: Request[Any, Any, Any]) -> Network:
        scope = await users.authenticate(request.headers.get("authorization"))
        return roles.guard(scope, request.route_handler.opt)

    def provide(value: Any) -> Provide:
        return Provide(lambda: value, sync_to_thread=False)

    return Litestar(
        route_handlers=[router, hand_over_router, member_routes.router],
        dependencies={"users": provide(users), "caller": Provide(caller)}
        | {name: provide(value) for name, value in dependencies.items()},
        exception_handlers={Exception: problems.handle},
        openapi_config=None,
        logging_config=None,
    )


@pytest.fixture
async def house(
    database: Database, mimir_pool: VaultDatabase, clock: ManualClock, ids: SeededIds, keys: Keys
) -> AsyncIterator[House]:
    inbox = Inbox()
    mimir = Mimir(mimir_pool, keys, clock, ids)
    settings = replace(UsersSettings(), mail_retry_seconds=())
    users = Users(database, mimir, inbox, clock, ids, keys, settings)
    await users.start()
    # httpx in this loop: Litestar's test client runs the app in another one, and the pools belong to this.
    transport = httpx.ASGITransport(make_app(users), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield House(users, mimir, inbox, clock, database, mimir_pool, client, keys, ids)
    await users.close()


async def all_at_once(*awaitables: Any) -> list[Any]:
    return list(await asyncio.gather(*awaitables))
