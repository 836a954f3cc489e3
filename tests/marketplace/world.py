"""A market in memory on a real database: the real hub, devices with the real client machine, real money."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.marketplace.provider import (
    Behaviour,
    JobReady,
    Provider,
    all_but_done,
    chunk,
    disconnect,
    empty,
    endless,
    fault_after,
    fault_first,
    garbage,
    good,
    half_then_silent,
    lying,
    role_then_fault,
    silent,
    too_few_vectors,
)
from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.adapters.sandbox import SandboxGateway
from yggdrasil.bifrost.hub import Hub
from yggdrasil.bifrost.protocol import Hello, Member
from yggdrasil.db import Database
from yggdrasil.devices.model import registration_message
from yggdrasil.devices.service import Devices
from yggdrasil.errors import Unauthenticated
from yggdrasil.kernel import Network, Role
from yggdrasil.keys import Keys
from yggdrasil.marketplace.bodies import ChatBody, EmbeddingsBody, Message, chat_request, embeddings_request
from yggdrasil.marketplace.providers import Terms
from yggdrasil.marketplace.reconciler import Reconciler
from yggdrasil.marketplace.requests import ComputeRequest
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.shown import ProviderView
from yggdrasil.marketplace.upstream_settings import KeyedUpstream
from yggdrasil.marketplace.wishes import wishes_from
from yggdrasil.payments.ledger import TrialBalance
from yggdrasil.payments.service import Payments
from yggdrasil.wire.proof import encode_bytes

__all__ = [
    "Behaviour",
    "JobReady",
    "Provider",
    "World",
    "all_but_done",
    "chunk",
    "disconnect",
    "empty",
    "endless",
    "fault_after",
    "fault_first",
    "garbage",
    "good",
    "half_then_silent",
    "lying",
    "replace",
    "role_then_fault",
    "silent",
    "too_few_vectors",
    "world",
]

MODEL = "tiny-chat"
EMBEDDER = "tiny-embed"

SETTINGS = MarketSettings(
    first_chunk_seconds=0.3,
    stall_seconds=0.3,
    settle_backoff_seconds=0.01,
    keepalive_seconds=0.05,
    newcomer_picks_ppm=0,
    queue_seconds=0.0,
)


@dataclass(frozen=True)
class Node:
    node_id: UUID
    boot_id: UUID


@dataclass
class World:
    """Everything of one server, and the people around it."""

    database: Database
    clock: ManualClock
    ids: SeededIds
    keys: Keys
    settings: MarketSettings = SETTINGS
    tokens: dict[str, Network] = field(default_factory=dict)
    hub: Hub = field(init=False)
    payments: Payments = field(init=False)
    devices: Devices = field(init=False)
    market: Marketplace = field(init=False)
    reconciler: Reconciler = field(init=False)
    node: Node = field(init=False)
    providers: list[Provider] = field(default_factory=list)
    upstreams: list[KeyedUpstream] = field(default_factory=list)

    async def start(self) -> None:
        self.node = Node(self.ids.uuid(), self.ids.uuid())
        gateway = SandboxGateway(self.database, self.clock, environment="test")
        self.payments = Payments(self.database, gateway, self.clock, self.ids, self.node)

        async def authenticate(header: str | None) -> Network:
            scope = self.tokens.get((header or "").removeprefix("Bearer "))
            if scope is None:
                raise Unauthenticated
            return scope

        self.devices = Devices(
            self.database,
            self.clock,
            self.ids,
            authenticate=authenticate,
            online=lambda network, device: self.hub.online(network, device),
            on_removed=lambda network, device: self._removed(network, device),
        )

        async def admit(hello: Hello) -> Member:
            made = await self.devices.member_for_hello(hello)
            return Member(made.network_id, made.user_id, made.device, made.device_id)

        self.hub = Hub(admit, self.devices.directory, self.clock, self.ids)
        self.market = self.make_market(self.node)
        self.reconciler = self.make_reconciler(self.node)
        await self.reconciler.start()
        await self.market.start()

    def make_market(self, node: Node) -> Marketplace:
        return Marketplace(
            self.database,
            hub=self.hub,
            payments=self.payments,
            devices=self.devices,
            clock=self.clock,
            ids=self.ids,
            keys=self.keys,
            node=node,
            settings=self.settings,
            upstreams=self.upstreams,
        )

    def make_reconciler(self, node: Node) -> Reconciler:
        return Reconciler(
            self.database, payments=self.payments, clock=self.clock, node=node, settings=self.settings
        )

    def _removed(self, network: UUID, device: UUID) -> None:
        self.hub.revoke(network_id=network, device=device)
        self.market.device_removed(network, device)

    async def stop(self) -> None:
        await self.market.stop(0.5)
        await self.reconciler.stop()
        await self.devices.stop()
        await self.hub.aclose()

    # ---- people --------------------------------------------------------------------------------

    async def person(self, home: Network | None = None) -> Network:
        if home is None:
            return await make_network(self.database, self.ids, self.clock)
        return await make_network(self.database, self.ids, self.clock, role=Role.MEMBER, home=home.network_id)

    async def method(self, scope: Network) -> UUID:
        """A verified method for both ways."""
        made = await self.payments.add_method(
            scope, kind="sandbox", purpose="both", gateway_token="sandbox_ok"
        )
        await self.payments.verify_method(scope, made.method_id)
        return made.method_id

    async def buyer(self, cents: int = 1_000) -> Network:
        scope = await self.person()
        method = await self.method(scope)
        if cents:
            await self.payments.top_up(
                scope, method_id=method, amount_cents=cents, idempotency_key=str(self.ids.uuid())
            )
        return scope

    async def device(self, scope: Network, name: str = "pc") -> Provider:
        """A registered device, online."""
        key = Ed25519PrivateKey.from_private_bytes(self.ids.secret(32))
        made = await self.devices.register(
            scope,
            device_id=name,
            name=name,
            world="Alfheim",
            capabilities={},
            hardware={"memory_gib": 32},
            device_key=encode_bytes(key.public_key().public_bytes_raw()),
            proof=encode_bytes(key.sign(registration_message(scope.network_id, name))),
        )
        provider = Provider(self, scope, made.id, name, key)
        self.providers.append(provider)
        await provider.dial()
        return provider

    async def register(
        self, device: Provider, *, audience: str = "market", terms: list[Terms] | None = None, jobs: int = 4
    ) -> ProviderView:
        return await self.market.register_provider(
            device.scope,
            device_id=device.name,
            audience=audience,  # type: ignore[arg-type]
            capacity_jobs=jobs,
            terms=terms or [chat_terms()],
        )

    async def seller(
        self, name: str = "pc", behaviour: Behaviour | None = None, terms: list[Terms] | None = None
    ) -> Provider:
        """A network that sells, with one online device."""
        scope = await self.person()
        await self.method(scope)
        device = await self.device(scope, name)
        await self.register(device, terms=terms)
        device.jobs.clear()
        device.got_job.clear()
        device.got_cancel.clear()
        device.cancelled.clear()
        if behaviour is not None:
            device.behaviour = behaviour
        return device

    # ---- books --------------------------------------------------------------------------------

    async def books(self) -> TrialBalance:
        """The trial balance, checked."""
        found = await self.payments.trial_balance()
        assert found.sum_microcents == 0
        assert found.clearing_microcents == 0
        assert found.mismatched_balances == 0
        assert found.unbalanced_transfers == 0
        assert found.cost_microcents == found.fee_microcents + found.earnings_microcents
        return found

    async def no_holds(self) -> TrialBalance:
        found = await self.books()
        assert (found.open_holds, found.held_microcents) == (0, 0)
        return found


def chat_terms(price_cents: int = 10, *, model: str = MODEL, **changes: Any) -> Terms:
    return replace(
        Terms(
            model=model,
            kind="chat",
            price_cents=price_cents,
            price_unit_tokens=1_000,
            rounding="per_statement",
            context_tokens_max=8_192,
        ),
        **changes,
    )


def embed_terms(price_cents: int = 10) -> Terms:
    return chat_terms(price_cents, model=EMBEDDER, kind="embeddings")


def chat(text: str = "Say some words.", *, max_tokens: int | None = 100, **wishes: Any) -> ComputeRequest:
    body = ChatBody(
        model=wishes.pop("model", MODEL),
        messages=[Message("user", text)],
        max_tokens=max_tokens,
        user="alice",
    )
    return chat_request(body, wishes_from(**wishes))


def embed(*texts: str, **wishes: Any) -> ComputeRequest:
    return embeddings_request(EmbeddingsBody(EMBEDDER, list(texts)), wishes_from(**wishes))


@pytest.fixture
async def world(database: Database, clock: ManualClock, ids: SeededIds, keys: Keys) -> AsyncIterator[World]:
    made = World(database, clock, ids, keys)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
