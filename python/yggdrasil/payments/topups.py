"""Top-ups: money from a payment provider into the wallet, without ever losing or doubling it.

Every step is committed before the next begins: `created`, `charging`, then the charge itself under the
payment's id as idempotency key, then entries and `succeeded` in one transaction. Whatever step a crash, a
timeout or a cancelled request falls on, the row says what may have happened, and the reconciler asks the
provider what did.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from yggdrasil.db import Database
from yggdrasil.errors import (
    Conflict,
    InvalidInput,
    LedgerError,
    LimitReached,
    NotFound,
    PaymentMethodRequired,
)
from yggdrasil.kernel import (
    CURRENCY,
    MICROCENTS_PER_CENT,
    PLATFORM_NETWORK,
    Clock,
    IdSource,
    Network,
    Settle,
    System,
)
from yggdrasil.payments import ledger, method_store, store, topup_store
from yggdrasil.payments.topup_store import DueTopUp
from yggdrasil.payments.views import TopUp
from yggdrasil.ports import Charge, PaymentGateway

CHARGE_SECONDS_MAX: Final = 20.0
FIND_SECONDS_MAX: Final = 10.0
OPEN_TOPUPS_MAX: Final = 10
IDEMPOTENCY_KEY_MAX: Final = 255
START_WITHIN: Final = timedelta(seconds=60)
ASK_FIRST_AFTER: Final = timedelta(seconds=60)
ASK_AGAIN_AFTER_MAX: Final = timedelta(hours=1)
# A charge request still on its way after this long is not coming. Providers keep keys for a day at least.
NOT_CHARGED_AFTER: Final = timedelta(hours=1)

_log = structlog.get_logger("yggdrasil.payments")


class TopUps:
    """One top-up from request to answer."""

    def __init__(
        self,
        database: Database,
        gateway: PaymentGateway,
        clock: Clock,
        ids: IdSource,
        *,
        charge_seconds_max: float = CHARGE_SECONDS_MAX,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._ids = ids
        self._charge_seconds_max = charge_seconds_max

    async def process(
        self, scope: Network, *, method_id: UUID, amount_cents: int, idempotency_key: str
    ) -> TopUp:
        """Charge `amount_cents` (50 to 1,000,000) to a verified method and add it to the wallet.

        The same key with the same body answers for the first call, whatever state that is in; with another
        body it is a Conflict. A provider that does not answer leaves `unknown`, which the reconciler ends.
        """
        amount_microcents = ledger.topup_microcents(amount_cents)
        if not 1 <= len(idempotency_key) <= IDEMPOTENCY_KEY_MAX or not idempotency_key.isprintable():
            raise InvalidInput(
                f"idempotency_key: must be 1 to {IDEMPOTENCY_KEY_MAX} printable characters",
                field="idempotency_key",
            )
        topup = await self._create(scope, method_id, amount_microcents, idempotency_key)
        if (topup.method_id, topup.amount_cents) != (method_id, amount_cents):
            raise Conflict("idempotency_key: was used for another payment", field="idempotency_key")
        if topup.state == "created":
            token = await self._begin(scope, topup.payment_id)
            if token is not None:
                await self._charge(scope.network_id, topup.payment_id, amount_microcents, token)
        async with self._database.transaction(scope) as tx:
            found = await topup_store.find(tx, network_id=scope.network_id, idempotency_key=idempotency_key)
        if found is None:
            raise LedgerError("a top-up vanished")
        return found

    async def _create(
        self, scope: Network, method_id: UUID, amount_microcents: int, idempotency_key: str
    ) -> TopUp:
        now = self._clock.now()
        async with self._database.transaction(scope) as tx:
            found = await topup_store.find(tx, network_id=scope.network_id, idempotency_key=idempotency_key)
            if found is not None:
                return found
            await topup_store.lock_closing(tx, network_id=scope.network_id)
            since = self._clock.now() - timedelta(seconds=topup_store.CLOSED_SECONDS)
            if await topup_store.is_closed(tx, network_id=scope.network_id, since=since):
                raise Conflict("the account of this network is deleted")
            method = await method_store.get(tx, network_id=scope.network_id, method_id=method_id)
            if method is None:
                raise NotFound
            if method.state != "verified" or method.purpose not in ("spend", "both"):
                raise PaymentMethodRequired(
                    "method_id: must be a verified method for spending", field="method_id"
                )
            if method.gateway != self._gateway.name:
                raise PaymentMethodRequired(
                    "method_id: its payment provider is no longer in use", field="method_id"
                )
            if await topup_store.open_count(tx, network_id=scope.network_id) >= OPEN_TOPUPS_MAX:
                raise LimitReached(f"at most {OPEN_TOPUPS_MAX} top-ups can be open; wait for one to end")
            await topup_store.insert(
                tx,
                network_id=scope.network_id,
                payment_id=self._ids.uuid(),
                method_id=method_id,
                user_id=scope.user_id,
                amount_microcents=amount_microcents,
                gateway=self._gateway.name,
                idempotency_key=idempotency_key,
                ask_at=now + START_WITHIN,
                at=now,
            )
            # A call with the same key may have been first: then its row is the answer.
            made = await topup_store.find(tx, network_id=scope.network_id, idempotency_key=idempotency_key)
        if made is None:
            raise LedgerError("a top-up vanished")
        return made

    async def _begin(self, scope: Network, payment_id: UUID) -> str | None:
        now = self._clock.now()
        async with self._database.transaction(scope) as tx:
            return await topup_store.begin_charge(
                tx,
                network_id=scope.network_id,
                payment_id=payment_id,
                created_after=now - START_WITHIN,
                ask_at=now + ASK_FIRST_AFTER,
                at=now,
            )

    async def _charge(self, network_id: UUID, payment_id: UUID, amount_microcents: int, token: str) -> None:
        try:
            async with asyncio.timeout(self._charge_seconds_max):
                charge = await self._gateway.charge(
                    token=token,
                    amount_cents=amount_microcents // MICROCENTS_PER_CENT,
                    currency=CURRENCY,
                    idempotency_key=payment_id,
                )
        except Exception as error:
            # Whatever was raised, the charge may have happened.
            _log.warning("topup_unanswered", payment_id=str(payment_id), error=type(error).__name__)
            charge = None
        await conclude(
            self._database,
            self._clock.now(),
            network_id,
            payment_id,
            amount_microcents,
            charge,
            asked_count=0,
        )


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One round of the reconciler. `errors` and `mismatched` are for a person to look at."""

    found: int
    succeeded: int
    failed: int
    deferred: int
    mismatched: int
    errors: int


class TopupReconciler:
    """Ends top-ups that nobody is ending: asks the gateway what became of them.

    Finds under System, changes under Settle of the one network and the platform. Any number may run at once.
    """

    def __init__(
        self,
        database: Database,
        gateway: PaymentGateway,
        clock: Clock,
        *,
        find_seconds_max: float = FIND_SECONDS_MAX,
    ) -> None:
        self._database = database
        self._gateway = gateway
        self._clock = clock
        self._find_seconds_max = find_seconds_max

    async def run_once(self) -> Reconciled:
        """One round over at most 100 due top-ups. One that fails is counted and does not stop the others."""
        async with self._database.transaction(System("topup-reconciler")) as tx:
            due = await topup_store.due(tx, at=self._clock.now())
        counts = {"succeeded": 0, "failed": 0, "deferred": 0, "mismatched": 0, "errors": 0, "ended": 0}
        for topup in due:
            try:
                counts[await self._end(topup)] += 1
            except Exception:
                _log.exception("topup_reconcile_failed", payment_id=str(topup.payment_id))
                counts["errors"] += 1
        counts.pop("ended")
        return Reconciled(found=len(due), **counts)

    async def _end(self, topup: DueTopUp) -> str:
        now = self._clock.now()
        if topup.state == "created":
            return await self._fail(topup, "abandoned", now, from_created=True)
        if topup.gateway != self._gateway.name:
            raise LedgerError(f"no gateway named {topup.gateway} to ask")
        try:
            async with asyncio.timeout(self._find_seconds_max):
                charge = await self._gateway.find_charge(topup.payment_id)
        except Exception as error:
            _log.warning("topup_unanswered", payment_id=str(topup.payment_id), error=type(error).__name__)
        else:
            if charge is None and topup.created_at + NOT_CHARGED_AFTER <= now:
                return await self._fail(topup, "not_charged", now, from_created=False)
            return await self._conclude(topup, charge, now)
        return await self._conclude(topup, None, now)

    async def _conclude(self, topup: DueTopUp, charge: Charge | None, now: datetime) -> str:
        return await conclude(
            self._database,
            now,
            topup.network_id,
            topup.payment_id,
            topup.amount_microcents,
            charge,
            asked_count=topup.asked_count,
        )

    async def _fail(self, topup: DueTopUp, failure_code: str, now: datetime, *, from_created: bool) -> str:
        async with self._database.transaction(Settle((topup.network_id,))) as tx:
            changed = await topup_store.fail(
                tx,
                network_id=topup.network_id,
                payment_id=topup.payment_id,
                from_created=from_created,
                failure_code=failure_code,
                at=now,
            )
        return "failed" if changed else "ended"


async def conclude(
    database: Database,
    now: datetime,
    network_id: UUID,
    payment_id: UUID,
    amount_microcents: int,
    charge: Charge | None,
    *,
    asked_count: int,
) -> str:
    """Write the gateway's word: `succeeded` with its entries, `failed`, or else `unknown`.

    Answers what was done: succeeded, failed, deferred, mismatched (the gateway charged something else:
    nothing is posted and a person must look), or ended (somebody else had concluded it).
    """
    outcome = "deferred"
    async with database.transaction(Settle(_networks(network_id))) as tx:
        if charge is not None and charge.state == "failed":
            done = await topup_store.fail(
                tx,
                network_id=network_id,
                payment_id=payment_id,
                from_created=False,
                failure_code=(charge.failure_code or "declined")[:64],
                at=now,
            )
            return "failed" if done else "ended"
        if charge is not None and charge.state == "succeeded":
            if charge.amount_cents * MICROCENTS_PER_CENT == amount_microcents and charge.currency == CURRENCY:
                done = await store.post_topup(
                    tx,
                    network_id=network_id,
                    payment_id=payment_id,
                    gateway_ref=charge.gateway_ref,
                    legs=ledger.topup_legs(network_id=network_id, amount_microcents=amount_microcents),
                    at=now,
                )
                return "succeeded" if done else "ended"
            _log.error("topup_mismatch", payment_id=str(payment_id))
            outcome = "mismatched"
        wait = min(ASK_FIRST_AFTER / 2 * 2 ** min(asked_count, 10), ASK_AGAIN_AFTER_MAX)
        done = await topup_store.defer(
            tx, network_id=network_id, payment_id=payment_id, ask_at=now + wait, at=now
        )
    return outcome if done else "ended"


def _networks(network_id: UUID) -> tuple[UUID, ...]:
    return (network_id,) if network_id == PLATFORM_NETWORK else (network_id, PLATFORM_NETWORK)
