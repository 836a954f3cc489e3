"""One network with a member of each role, a stranger beside it, and the whole app before them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest

from tests.marketplace.world import Provider, World, chat, chat_terms, world
from tests.support import make_network
from tests.users.conftest import Inbox
from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.admin import store as admin_store
from yggdrasil.admin.operators import JOB, Operators
from yggdrasil.admin.trail import Trail
from yggdrasil.app import create_app
from yggdrasil.audit.chain import Signing
from yggdrasil.audit.chainer import Chainer
from yggdrasil.config import Settings
from yggdrasil.db import VaultDatabase
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Identity, Network, Role, System
from yggdrasil.mimir.service import Mimir
from yggdrasil.quotas.service import Quotas
from yggdrasil.quotas.tiers import Tier
from yggdrasil.services import Services
from yggdrasil.users import store, store_hand_over
from yggdrasil.users.service import Users
from yggdrasil.users.store_keys import NO_TERMS
from yggdrasil.visibility.service import Visibility

__all__ = ["house", "world"]

AUDIENCES = {Role.OWNER: "market", Role.ADMIN: "network", Role.MEMBER: "own", Role.GUEST: "network"}


class Parts(SimpleNamespace):
    """Parts of a server; those these tests do not use are None."""

    def __getattr__(self, _: str) -> None:
        return None


@dataclass
class Things:
    """What a person has, by its name in requests."""

    scope: Network
    device: Provider
    provider: UUID
    hand_over: UUID
    away: UUID
    opening: UUID
    key: UUID
    request: UUID


@dataclass
class House:
    """`of`: what the member of each role has."""

    world: World
    users: Users
    http: httpx.AsyncClient
    stranger: Network
    of: dict[Role, Things] = field(default_factory=dict)

    async def get(self, who: Network, path: str, **query: Any) -> httpx.Response:
        token = f"token-{who.user_id}"
        self.world.tokens[token] = who
        headers = {"authorization": f"Bearer {token}"}
        return await self.http.get(f"/api/v1{path}", headers=headers, params=query)

    async def visibility(self, who: Network) -> dict[str, Any]:
        answer = await self.get(who, "/users/me/visibility")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def viewers(self, who: Network) -> dict[str, dict[str, Any]]:
        answer = await self.get(who, "/users/me/visibility/members")
        assert answer.status_code == 200, answer.text
        return {one["user_id"]: one for one in answer.json()["items"]}

    async def furnish(self, scope: Network) -> None:
        """One of everything, as the member of this role has it."""
        world, now, role = self.world, self.world.clock.now(), scope.role
        active = replace(scope, role=Role.MEMBER) if role is Role.GUEST else scope
        device = await world.device(active, f"{role.value}-pc")
        made = await world.register(
            device, audience=AUDIENCES[role], terms=[chat_terms(model=f"model-{role.value}")]
        )
        session = store.Session(
            world.ids.uuid(),
            scope.user_id,
            scope.network_id,
            bytes(32),
            None,
            1,
            now,
            now,
            now + timedelta(days=1),
            None,
            now + timedelta(days=1),
        )
        hand_over = store_hand_over.HandOver(
            world.ids.uuid(),
            scope.user_id,
            session.session_id,
            bytes(32),
            f"{role.value}-away",
            "code",
            None,
            now,
            now,
            now + timedelta(days=1),
        )
        async with world.database.transaction(Identity(scope.network_id, scope.user_id)) as tx:
            await store.insert_session(tx, session, 32)
            await store_hand_over.insert_hand_over(tx, scope.network_id, hand_over)
        opening = admin_store.Opening(
            scope.network_id, world.ids.uuid(), None, scope.user_id, "request", world.ids.uuid(), "why", now
        )
        async with world.database.transaction(System(JOB)) as tx:
            await admin_store.insert_openings(tx, JOB, [opening])
        key, _ = await self.users._keyring.create(scope, "key", NO_TERMS)
        run = await world.market.run(scope, chat(model=f"model-{role.value}", scope="own"))
        await run.outcome()
        self.of[role] = Things(
            scope,
            device,
            made.provider_id,
            hand_over.hand_over_id,
            session.session_id,
            opening.opening_id,
            key.key_id,
            run.transaction_id,
        )


@pytest.fixture
async def house(world: World, mimir_pool: VaultDatabase) -> AsyncIterator[House]:
    async def authenticate(header: str | None) -> Network:
        found = world.tokens.get((header or "").removeprefix("Bearer "))
        if found is None:
            raise Unauthenticated
        return found

    mimir = Mimir(mimir_pool, world.keys, world.clock, world.ids)
    users = Users(world.database, mimir, Inbox(), world.clock, world.ids, world.keys)
    users.authenticate = authenticate  # type: ignore[method-assign]
    operators = Operators(
        world.database,
        world.clock,
        world.ids,
        here=dict,
        trial_balance=world.payments.trial_balance,
        trail=Trail(world.database, Signing(world.keys.audit_signing)),
    )
    services = Parts(
        quotas=Quotas(world.database, world.clock, world.ids, default=Tier.FREE),
        clock=world.clock,
        mailer=DevMailer(world.clock, development=True),
        ids=world.ids,
        users=users,
        devices=world.devices,
        payments=world.payments,
        marketplace=world.market,
        operators=operators,
        hub=world.hub,
        visibility=Visibility(
            world.database,
            world.ids,
            users=users,
            devices=world.devices,
            marketplace=world.market,
            operators=operators,
        ),
        settings=Settings(),
    )
    transport = httpx.ASGITransport(create_app(cast(Services, services)), raise_app_exceptions=False)
    owner = await world.person()
    await world.method(owner)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        made = House(world, users, client, await world.buyer())
        await made.furnish(owner)
        for role in (Role.ADMIN, Role.MEMBER, Role.GUEST):
            await made.furnish(
                await make_network(world.database, world.ids, world.clock, role=role, home=owner.network_id)
            )
        await Chainer(world.database, world.clock, world.ids, Signing(world.keys.audit_signing), None).drain()
        yield made
