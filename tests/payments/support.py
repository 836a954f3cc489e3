"""A network with money in it, and a server process to answer for holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from tests.support import ManualClock, SeededIds, make_network
from yggdrasil.adapters.sandbox import SandboxGateway
from yggdrasil.db import Database
from yggdrasil.kernel import PLATFORM_NETWORK, Network, Settle
from yggdrasil.payments.service import Payments, Settled
from yggdrasil.payments.store import HoldEnd
from yggdrasil.ports import PaymentGateway

CENT = 1_000_000


@dataclass(frozen=True)
class Node:
    node_id: UUID = field(default=UUID(int=7))
    boot_id: UUID = field(default=UUID(int=8))


@dataclass
class Money:
    """Payments with the sandbox behind them, and the shorthand of the tests."""

    database: Database
    clock: ManualClock
    ids: SeededIds
    gateway: PaymentGateway | None = None
    node: Node = field(default_factory=Node)

    def __post_init__(self) -> None:
        if self.gateway is None:
            self.gateway = SandboxGateway(self.database, self.clock, environment="test")
        self.payments = Payments(self.database, self.gateway, self.clock, self.ids, self.node)

    async def network(self, cents: int = 0, *, token: str = "sandbox_ok") -> Network:
        """A network with a verified method for both purposes and `cents` in the wallet."""
        scope = await make_network(self.database, self.ids, self.clock)
        method_id = await self.method(scope, token)
        if cents:
            topup = await self.payments.top_up(
                scope, method_id=method_id, amount_cents=cents, idempotency_key=str(self.ids.uuid())
            )
            assert topup.state == "succeeded"
        return scope

    async def method(self, scope: Network, token: str = "sandbox_ok") -> UUID:
        made = await self.payments.add_method(scope, kind="sandbox", purpose="both", gateway_token=token)
        verified = await self.payments.verify_method(scope, made.method_id)
        assert verified.state == "verified"
        return made.method_id

    async def hold(self, network_id: UUID, amount_microcents: int, *, hold_id: UUID | None = None) -> UUID:
        hold_id = hold_id or self.ids.uuid()
        async with self.database.transaction(Settle((network_id,))) as tx:
            await self.payments.hold(
                tx,
                network_id=network_id,
                hold_id=hold_id,
                transaction_id=hold_id,
                amount_microcents=amount_microcents,
                deadline_at=self.clock.now() + timedelta(seconds=60),
            )
        return hold_id

    async def settle(
        self,
        requester: UUID,
        hold_id: UUID,
        total: int,
        provider: UUID,
        *,
        fee: int = 0,
        transfer_id: UUID | None = None,
    ) -> Settled:
        networks = tuple(dict.fromkeys((requester, provider, PLATFORM_NETWORK)))
        async with self.database.transaction(Settle(networks)) as tx:
            return await self.payments.settle(
                tx,
                transfer_id=transfer_id or hold_id,
                requester_network=requester,
                hold_id=hold_id,
                total_microcents=total,
                provider_network=provider,
                fee_microcents=fee,
                earnings_microcents=total - fee,
                at=self.clock.now(),
            )

    async def void(self, network_id: UUID, hold_id: UUID, state: HoldEnd = "voided") -> bool:
        async with self.database.transaction(Settle((network_id,))) as tx:
            return await self.payments.void(
                tx, network_id=network_id, hold_id=hold_id, at=self.clock.now(), state=state
            )
