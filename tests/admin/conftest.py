"""The whole app over the marketplace's world, and an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from tests.marketplace.world import World, world
from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.admin import store
from yggdrasil.admin.credential import SECRET_BYTES, Credential
from yggdrasil.admin.operators import MAKING_JOB, Operators
from yggdrasil.admin.trail import Trail
from yggdrasil.app import create_app
from yggdrasil.audit.chain import Signing
from yggdrasil.config import Settings
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Network, System
from yggdrasil.keys import Keys
from yggdrasil.quotas.service import Quotas
from yggdrasil.quotas.tiers import Tier
from yggdrasil.services import Services

__all__ = ["house", "world"]


@dataclass
class House:
    """`ask(who, …)`: a request with a scope's token, an operator's credential, or nothing."""

    world: World
    operators: Operators
    quotas: Quotas
    http: httpx.AsyncClient

    async def operator(self, name: str = "ada") -> Credential:
        made = Credential(self.world.ids.uuid(), self.world.ids.secret(SECRET_BYTES))
        async with self.world.database.transaction(System(MAKING_JOB)) as tx:
            await store.insert_operator(tx, made.operator_id, name, made.digest(), self.world.clock.now())
        return made

    async def ask(
        self, who: Network | Credential | str | None, method: str, path: str, **options: Any
    ) -> httpx.Response:
        token = who
        if isinstance(who, Network):
            token = f"token-{who.user_id}"
            self.world.tokens[token] = who
        elif isinstance(who, Credential):
            token = who.text()
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.http.request(method, path, headers=headers, **options)


class Parts(SimpleNamespace):
    """Parts of a server; those these tests do not use are None."""

    def __getattr__(self, _: str) -> None:
        return None


@pytest.fixture
async def house(world: World, keys: Keys) -> AsyncIterator[House]:
    async def authenticate(header: str | None) -> Network:
        found = world.tokens.get((header or "").removeprefix("Bearer "))
        if found is None:
            raise Unauthenticated
        return found

    operators = Operators(
        world.database,
        world.clock,
        world.ids,
        here=lambda: {"sockets": world.hub.counts()[0], "requests_running": world.market.running},
        trial_balance=world.payments.trial_balance,
        trail=Trail(world.database, Signing(keys.audit_signing)),
    )
    quotas = Quotas(world.database, world.clock, world.ids, default=Tier.FREE)
    services = Parts(
        quotas=quotas,
        clock=world.clock,
        audit=SimpleNamespace(not_found=lambda _: None),
        mailer=DevMailer(world.clock, development=True),
        ids=world.ids,
        users=SimpleNamespace(authenticate=authenticate),
        devices=world.devices,
        payments=world.payments,
        marketplace=world.market,
        operators=operators,
        hub=world.hub,
        settings=Settings(),
    )
    transport = httpx.ASGITransport(create_app(cast(Services, services)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield House(world, operators, quotas, client)
