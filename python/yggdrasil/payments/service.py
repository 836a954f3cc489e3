"""The use cases of money: admission, settlement, the audit of the books, methods, top-ups, balances."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, Protocol
from uuid import UUID

from yggdrasil.db import Database, Tx
from yggdrasil.errors import (
    Conflict,
    InvalidInput,
    LimitReached,
    NotFound,
    PaymentMethodRequired,
    ScopeError,
)
from yggdrasil.kernel import CURRENCY, PLATFORM_NETWORK, Clock, IdSource, Network, Role, Settle, System
from yggdrasil.payments import ledger, method_store, store, store_books, topup_store
from yggdrasil.payments.conditions import refusal
from yggdrasil.payments.ledger import Account, TrialBalance
from yggdrasil.payments.store import HoldEnd, OpenHold, Settled
from yggdrasil.payments.topups import TopUps
from yggdrasil.payments.views import Balance, Method, MethodKind, Purpose, TopUp
from yggdrasil.ports import PaymentGateway
from yggdrasil.users.roles import Action, require

METHODS_MAX: Final = 20
METHOD_ROWS_MAX: Final = 500
LABEL_MAX: Final = 64

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_NUMBER: Final = re.compile(r"[0-9-]*")


class Owner(Protocol):
    """The server process that answers for a hold."""

    @property
    def node_id(self) -> UUID: ...

    @property
    def boot_id(self) -> UUID: ...


class Payments:
    """Money. What takes a `tx` runs in the caller's transaction; what takes a `scope` opens its own."""

    def __init__(
        self, database: Database, gateway: PaymentGateway, clock: Clock, ids: IdSource, node: Owner
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._ids = ids
        self._node = node
        self._topups = TopUps(database, gateway, clock, ids)

    # Admission and settlement

    async def require_spend_method(self, tx: Tx, network_id: UUID) -> None:
        """PaymentMethodRequired unless a verified method for spending exists. Network or Settle scope."""
        if not await store.has_method(tx, network_id, "spend"):
            raise PaymentMethodRequired("spending needs a verified payment method")

    async def require_payout_method(self, tx: Tx, network_id: UUID) -> None:
        """PaymentMethodRequired unless a verified method for payouts exists. Network or Settle scope."""
        if not await store.has_method(tx, network_id, "payout"):
            raise PaymentMethodRequired("selling needs a verified method for payouts")

    async def require_funds(
        self, tx: Tx, *, network_id: UUID, amount_microcents: int, key_id: UUID | None
    ) -> None:
        """Whether `hold` would take that amount now; nothing is held. Its errors. Settle scope."""
        _check_scope(tx, network_id)
        outcome = await store.could_hold(tx, network_id, amount_microcents, key_id, self._clock.now())
        if outcome != "held":
            raise refusal(outcome)

    async def hold(
        self,
        tx: Tx,
        *,
        network_id: UUID,
        hold_id: UUID,
        transaction_id: UUID,
        amount_microcents: int,
        deadline_at: datetime,
        key_id: UUID | None = None,
    ) -> None:
        """The one admission to spending: reserve an amount of the wallet, and of what the API key may spend,
        until it is settled or given back.

        Errors: PaymentMethodRequired, PaymentRequired (not that much is free), SpendLimitReached (the key's
        limits), Unauthenticated (the key has ended), InvalidInput (amount below 1), Conflict (the hold id
        was used). After an error, leave the transaction. Settle scope.
        """
        _check_scope(tx, network_id)
        outcome = await store.insert_hold(
            tx,
            network_id=network_id,
            hold_id=hold_id,
            transaction_id=transaction_id,
            amount_microcents=ledger.positive(amount_microcents, "amount_microcents"),
            owner_node=self._node.node_id,
            owner_boot=self._node.boot_id,
            deadline_at=deadline_at,
            at=self._clock.now(),
            key_id=key_id,
        )
        if outcome != "held":
            raise refusal(outcome)

    async def settle(
        self,
        tx: Tx,
        *,
        transfer_id: UUID,
        requester_network: UUID,
        hold_id: UUID,
        total_microcents: int,
        provider_network: UUID,
        fee_microcents: int,
        earnings_microcents: int,
        at: datetime,
    ) -> Settled:
        """Post a hold: the requester pays, the provider earns, the platform keeps its fee, the rest is freed.

        "posted"; "already" if this transfer was posted before; "ended" if the hold was voided or expired, and
        then nothing is posted. LedgerError, and nothing posted, for what only a bug can ask: no such hold,
        more than was held, a sum that does not add up, a payment within one network. Settle scope of both
        networks and the platform.
        """
        _check_scope(tx, requester_network, provider_network, PLATFORM_NETWORK)
        ledger.check_settlement(
            requester_network=requester_network,
            total_microcents=total_microcents,
            provider_network=provider_network,
            fee_microcents=fee_microcents,
            earnings_microcents=earnings_microcents,
        )
        return await store.post_settlement(
            tx,
            transfer_id=transfer_id,
            requester_network=requester_network,
            hold_id=hold_id,
            total_microcents=total_microcents,
            provider_network=provider_network,
            fee_microcents=fee_microcents,
            earnings_microcents=earnings_microcents,
            at=at,
        )

    async def void(
        self, tx: Tx, *, network_id: UUID, hold_id: UUID, at: datetime, state: HoldEnd = "voided"
    ) -> bool:
        """Give a hold back to the wallet; Settle scope. False if it had ended before or never was."""
        _check_scope(tx, network_id)
        return await store.end_hold(tx, network_id=network_id, hold_id=hold_id, state=state, at=at)

    async def trial_balance(self) -> TrialBalance:
        """The sums of all books, from one snapshot. Reads every entry: for audits and operators."""
        async with self._database.transaction(System("trial-balance")) as tx:
            return await store_books.trial_balance(tx)

    async def stale_holds(
        self, tx: Tx, *, live_boots: Sequence[UUID], deadline_before: datetime
    ) -> list[OpenHold]:
        """Pending holds that their process cannot end any more (it is none of `live_boots`), or should have
        (the deadline has passed); at most 1000. System scope."""
        return await store.stale_holds(tx, live_boots=live_boots, deadline_before=deadline_before)

    # Payment methods

    async def add_method(
        self,
        scope: Network,
        *,
        kind: MethodKind,
        purpose: Purpose,
        gateway_token: str,
        label: str = "",
        is_default: bool = False,
    ) -> Method:
        """Keep a payment method, unverified. `gateway_token` is the provider's token, never a card number."""
        require(scope, Action.MONEY)
        if _TOKEN.fullmatch(gateway_token) is None:
            raise InvalidInput(
                "gateway_token: must be 1 to 255 characters A-Z, a-z, 0-9, '_', '-'", field="gateway_token"
            )
        if _NUMBER.fullmatch(gateway_token) is not None:
            raise InvalidInput(
                "gateway_token: must be the payment provider's token; numbers of cards never come here",
                field="gateway_token",
            )
        if len(label) > LABEL_MAX or not label.isprintable():
            raise InvalidInput(f"label: must be at most {LABEL_MAX} printable characters", field="label")
        if kind == "card" and purpose != "spend":
            raise InvalidInput(
                "purpose: must be spend for a card; cards cannot be paid out to", field="purpose"
            )
        async with self._database.transaction(scope) as tx:
            method = await method_store.insert(
                tx,
                network_id=scope.network_id,
                method_id=self._ids.uuid(),
                user_id=scope.user_id,
                gateway=self._gateway.name,
                gateway_token=gateway_token,
                kind=kind,
                purpose=purpose,
                label=label,
                make_default=is_default,
                methods_max=METHODS_MAX,
                rows_max=METHOD_ROWS_MAX,
                at=self._clock.now(),
            )
            if method is None:
                raise LimitReached(
                    f"at most {METHODS_MAX} payment methods, and {METHOD_ROWS_MAX} with removed ones"
                )
        return method

    async def list_methods(
        self, scope: Network, *, after: tuple[datetime, UUID] | None = None, limit: int = 20
    ) -> Sequence[Method]:
        """The network's methods by (created_at, method_id), beginning behind `after`."""
        require(scope, Action.MONEY)
        async with self._database.transaction(scope) as tx:
            return await method_store.listed(tx, network_id=scope.network_id, after=after, limit=limit)

    async def verify_method(self, scope: Network, method_id: UUID, *, proof: str | None = None) -> Method:
        """Have the gateway check a method. Verified already: the same answer. At most 5 tries.

        Answers the method as `verified`, or as `pending` with a hint. Errors: PaymentMethodRequired
        (refused), LimitReached (tries used up), NotFound.
        """
        require(scope, Action.MONEY)
        async with self._database.transaction(scope) as tx:
            trying = await method_store.begin_try(
                tx, network_id=scope.network_id, method_id=method_id, at=self._clock.now()
            )
            if trying is None:
                method = await self._method(tx, scope, method_id)
                if method.state == "verified":
                    return method
                raise LimitReached(
                    f"verification was tried {method_store.TRIES_MAX} times: add the method anew"
                )
        if trying["gateway"] != self._gateway.name:
            raise PaymentMethodRequired("its payment provider is no longer in use: add another method")
        check = await self._gateway.verify(token=trying["gateway_token"], kind=trying["kind"], proof=proof)
        async with self._database.transaction(scope) as tx:
            await method_store.end_try(
                tx,
                network_id=scope.network_id,
                method_id=method_id,
                # A wrong proof leaves the way open for the right one.
                state="pending"
                if check.state == "refused" and proof is not None
                else _STATE_AFTER[check.state],
                at=self._clock.now(),
            )
            method = await self._method(tx, scope, method_id)
        if method.state == "verified":
            return method
        if check.state == "refused":
            raise PaymentMethodRequired(f"the payment provider refused this method: {check.detail}")
        return Method(
            method_id=method.method_id,
            gateway=method.gateway,
            kind=method.kind,
            purpose=method.purpose,
            state=method.state,
            is_default=method.is_default,
            label=method.label,
            created_at=method.created_at,
            hint=check.detail,
        )

    async def remove_method(self, scope: Network, method_id: UUID) -> None:
        """Mark a method removed. NotFound if there is none."""
        require(scope, Action.MONEY)
        async with self._database.transaction(scope) as tx:
            if not await method_store.remove(
                tx, network_id=scope.network_id, method_id=method_id, at=self._clock.now()
            ):
                raise NotFound

    async def withdraw(self, network_id: UUID, user_id: UUID) -> None:
        """Whoever may not manage the network's money any more leaves no way to be charged behind: the methods
        that person added are removed. Safe to repeat."""
        async with self._database.transaction(Network(network_id, user_id, Role.ADMIN)) as tx:
            await method_store.remove_of(tx, network_id=network_id, user_id=user_id, at=self._clock.now())

    async def _method(self, tx: Tx, scope: Network, method_id: UUID) -> Method:
        method = await method_store.get(tx, network_id=scope.network_id, method_id=method_id)
        if method is None:
            raise NotFound
        return method

    # The wallet

    async def top_up(
        self, scope: Network, *, method_id: UUID, amount_cents: int, idempotency_key: str
    ) -> TopUp:
        """See `TopUps.process`. Owners and admins only."""
        require(scope, Action.MONEY)
        return await self._topups.process(
            scope, method_id=method_id, amount_cents=amount_cents, idempotency_key=idempotency_key
        )

    async def close(self, scope: Network) -> None:
        """Close an empty network, before its founder's account is deleted: no top-up begins from now on for
        `CLOSED_SECONDS`, by when nobody can ask for one any more. Conflict, and nothing closed, if there is
        money, or some on its way. Owners only."""
        require(scope, Action.CLOSE)
        async with self._database.transaction(scope) as tx:
            await topup_store.lock_closing(tx, network_id=scope.network_id)
            # The balances last: a top-up that ends between the two looks is seen by the one or the other.
            if await topup_store.open_count(tx, network_id=scope.network_id):
                raise Conflict(
                    "a payment into the wallet has not ended: wait for it, then delete the account"
                )
            accounts = await store.balances(tx, scope.network_id)
            if any(accounts.get(account, (0, 0))[0] for account in (Account.WALLET, Account.EARNINGS)):
                raise Conflict(
                    "the wallet is not empty: spend it or ask for its return before the account is deleted"
                )
            await topup_store.close(tx, network_id=scope.network_id, at=self._clock.now())

    async def balance(self, scope: Network) -> Balance:
        """What the network has. Owners and admins only."""
        require(scope, Action.MONEY)
        async with self._database.transaction(scope) as tx:
            accounts = await store.balances(tx, scope.network_id)
        posted, held = accounts.get(Account.WALLET, (0, 0))
        earned, _ = accounts.get(Account.EARNINGS, (0, 0))
        return Balance(
            currency=CURRENCY,
            wallet_posted_microcents=posted,
            wallet_held_microcents=held,
            wallet_available_microcents=posted - held,
            earnings_microcents=earned,
        )


_STATE_AFTER: Final[dict[str, Literal["unverified", "pending", "verified"]]] = {
    "verified": "verified",
    "pending": "pending",
    "refused": "unverified",
}


def _check_scope(tx: Tx, *networks: UUID) -> None:
    """The scope must name every network about to be touched: RLS would answer the rest with silence."""
    if not isinstance(tx.scope, Settle) or not set(networks) <= set(tx.scope.networks):
        raise ScopeError("this needs the Settle scope of every network it touches")
