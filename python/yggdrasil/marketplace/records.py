"""The writes of a running request: admission and settlement, in batches; failover, a
transaction under Settle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Literal, TypeVar
from uuid import UUID

import asyncpg
import structlog

from yggdrasil.db import Database, Tx
from yggdrasil.errors import Conflict, PaymentMethodRequired, Unavailable
from yggdrasil.kernel import PLATFORM_NETWORK, Clock, Settle
from yggdrasil.marketplace import store_queue, store_run
from yggdrasil.marketplace.batch_items import Admission, AttemptEnd
from yggdrasil.marketplace.batches import Batcher
from yggdrasil.marketplace.requests import State
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.marketplace.store_queue import Owner, Wait
from yggdrasil.marketplace.store_run import (
    Bill,
    Ending,
    NewAttempt,
    NewTransaction,
    OpenAttempt,
    SealedResult,
)
from yggdrasil.payments.conditions import HOLD_ENDED, condition, ledger_error, refusal
from yggdrasil.payments.ledger import check_settlement, positive
from yggdrasil.payments.service import Payments
from yggdrasil.tracing import traced

Finish = Literal["done", "ended"]
T = TypeVar("T")

_log = structlog.get_logger("yggdrasil.marketplace")


class ProviderUnpayableError(Exception):
    """The provider lost its verified payout method since it was listed: another one is picked."""


def _networks(*networks: UUID) -> Settle:
    return Settle(tuple(sorted(set(networks))))


class Records:
    """Writes a request's way through the database. Money moves through `payments` alone."""

    def __init__(
        self, database: Database, payments: Payments, clock: Clock, settings: MarketSettings
    ) -> None:
        self._database = database
        self._payments = payments
        self._clock = clock
        self._settings = settings
        self._admissions = Batcher(self._admit_batch, order=Admission.order, networks=Admission.networks)
        self._endings = Batcher(self._finish_batch, order=AttemptEnd.order, networks=AttemptEnd.networks)

    async def enqueue(self, new: NewTransaction, owner: Owner, least_microcents: int, wait: Wait) -> None:
        """The requester's row while it waits, PENDING. Nothing is held, but who could not pay that much is
        told now.

        Raises PaymentRequired, PaymentMethodRequired, Unauthenticated (the API key has ended), Conflict (the
        idempotency key was used)."""
        try:
            async with self._database.transaction(_networks(new.network_id)) as tx:
                if new.scope == "market":
                    await self._payments.require_funds(
                        tx, network_id=new.network_id, amount_microcents=least_microcents, key_id=new.key_id
                    )
                await store_queue.insert_pending(tx, new, owner)
                await store_queue.insert_wait(tx, new.network_id, new.transaction_id, wait)
        except asyncpg.UniqueViolationError:
            raise Conflict("idempotency_key: was used for another request", field="idempotency_key") from None

    @traced("back to the queue")
    async def send_back(
        self, new: NewTransaction, previous: NewAttempt, ending: Ending, owner: Owner, wait: Wait
    ) -> bool:
        """End an attempt that nobody saw anything of, give its hold back and let the request wait again: one
        transaction. False if the reconciler ended it first. If only the database is away, it is tried again
        until the attempt's deadline; then Unavailable."""
        return await self._insist(
            previous.deadline_at, lambda: self._send_back_once(new, previous, ending, owner, wait)
        )

    async def _send_back_once(
        self, new: NewTransaction, previous: NewAttempt, ending: Ending, owner: Owner, wait: Wait
    ) -> bool:
        async with self._database.transaction(_networks(new.network_id, previous.offer.network_id)) as tx:
            if not await store_run.end_attempt(tx, previous.attempt_id, ending):
                # Either a commit whose answer was lost on the way, or the reconciler.
                return await store_run.attempt_state(tx, previous.attempt_id) == ending.attempt_state
            if previous.hold_id is not None:
                await self._payments.void(
                    tx, network_id=new.network_id, hold_id=previous.hold_id, at=ending.at
                )
            if not await store_queue.send_back(tx, new.network_id, new.transaction_id, owner):
                raise RuntimeError("an open attempt of a request that is not on its way")
            await store_queue.insert_wait(tx, new.network_id, new.transaction_id, wait)
        return True

    async def note_wait(self, network_id: UUID, transaction_id: UUID, wait: Wait) -> None:
        """It waits on, and why."""
        async with self._database.transaction(_networks(network_id)) as tx:
            await store_queue.insert_wait(tx, network_id, transaction_id, wait)

    async def leave(self, network_id: UUID, transaction_id: UUID, state: State, error_code: str) -> bool:
        """End a request that waits, FAILED or CANCELLED. Idempotent; True if this call did it."""
        async with self._database.transaction(_networks(network_id)) as tx:
            return await store_queue.end(tx, network_id, transaction_id, state, error_code, self._clock.now())

    @traced("admission")
    async def admit(
        self, new: NewTransaction, attempt: NewAttempt, hold_microcents: int, *, queued: bool = False
    ) -> Finish:
        """SQL 1: state, hold and attempt, before anything is dispatched. `queued`: the requester's row
        exists, PENDING; "ended" if it is so no more.

        Raises PaymentRequired, PaymentMethodRequired, Unauthenticated (the API key has ended), Conflict (the
        idempotency key was used), InvalidInput (a hold below 1), ProviderUnpayableError."""
        if new.scope == "market" and attempt.hold_id is not None:
            positive(hold_microcents, "hold_microcents")
        item = Admission(new, attempt, hold_microcents, queued, self._clock.now())
        outcome = await self._admissions.submit(item)
        match outcome:
            case "admitted":
                return "done"
            case "ended":
                return "ended"
            case "payout":
                raise ProviderUnpayableError
            case "conflict":
                raise Conflict("idempotency_key: was used for another request", field="idempotency_key")
            case _:
                raise refusal(outcome)

    # A batch is a trace of its own, for it belongs to none of the requests in it: theirs show the wait.
    @traced("batch admission", alone=True)
    async def _admit_batch(self, items: Sequence[Admission]) -> list[str]:
        return await self._database.call("admit_batch", [item.row() for item in items])

    @traced("batch settlement", alone=True)
    async def _finish_batch(self, items: Sequence[AttemptEnd]) -> list[str]:
        try:
            return await self._database.call("finish_batch", [item.row() for item in items])
        except asyncpg.PostgresError as error:
            if condition(error) == HOLD_ENDED:
                return [HOLD_ENDED]
            known = ledger_error(error)
            if known is None:
                raise
            raise known from error

    @traced("failover")
    async def fail_over(
        self,
        new: NewTransaction,
        previous: NewAttempt,
        ending: Ending,
        attempt: NewAttempt,
        *,
        rehold_microcents: int | None,
    ) -> bool:
        """End one attempt and begin the next. With `rehold_microcents` the old hold is given back for a
        larger one; else
        the next attempt goes on with it. False if the reconciler ended the transaction first. If only the
        database is
        away, it is tried again, by the next attempt's id, until the hold's deadline; then Unavailable."""
        return await self._insist(
            attempt.deadline_at,
            lambda: self._fail_over_once(new, previous, ending, attempt, rehold_microcents),
        )

    async def _fail_over_once(
        self,
        new: NewTransaction,
        previous: NewAttempt,
        ending: Ending,
        attempt: NewAttempt,
        rehold_microcents: int | None,
    ) -> bool:
        scope = _networks(new.network_id, previous.offer.network_id, attempt.offer.network_id)
        async with self._database.transaction(scope) as tx:
            if not await store_run.end_attempt(tx, previous.attempt_id, ending):
                # Either a commit whose answer was lost on the way, or the reconciler.
                return await store_run.attempt_state(tx, attempt.attempt_id) == "dispatched"
            if new.scope == "market":
                await self._check_payout(tx, attempt.offer.network_id)
                if rehold_microcents is not None:
                    if previous.hold_id is not None:
                        await self._payments.void(
                            tx, network_id=new.network_id, hold_id=previous.hold_id, at=ending.at
                        )
                    await self._hold(tx, new, attempt, rehold_microcents)
            # Behind the wallet, as an admission takes them: who asks again under this row's key waits for it.
            await store_run.move_to_next(tx, new, attempt)
            await store_run.insert_attempt(tx, new, attempt)
        return True

    async def _check_payout(self, tx: Tx, network_id: UUID) -> None:
        if network_id == PLATFORM_NETWORK:
            # What the company's own offers earn is paid out to nobody.
            return
        try:
            await self._payments.require_payout_method(tx, network_id)
        except PaymentMethodRequired:
            raise ProviderUnpayableError from None

    async def _hold(self, tx: Tx, new: NewTransaction, attempt: NewAttempt, amount_microcents: int) -> None:
        if attempt.hold_id is None:
            # A free offer of another network: nothing to hold, but strangers are served to payers only.
            await self._payments.require_spend_method(tx, new.network_id)
            return
        await self._payments.hold(
            tx,
            network_id=new.network_id,
            hold_id=attempt.hold_id,
            transaction_id=new.transaction_id,
            amount_microcents=amount_microcents,
            deadline_at=attempt.deadline_at,
            key_id=new.key_id,
        )

    @traced("settlement")
    async def finish(
        self,
        new: NewTransaction,
        attempt: NewAttempt,
        ending: Ending,
        bill: Bill,
        result: SealedResult | None,
    ) -> Finish:
        """SQL 2: the attempt's end, both sides' states, the money and the stored result.

        If only the database is away, it is tried again, by attempt id, until the hold's deadline: an answer
        that was
        delivered is paid for. "ended": the reconciler was first, and the requester pays nothing. Raises
        Unavailable after the deadline: then the reconciler ends it.
        """
        return await self._insist(
            attempt.deadline_at, lambda: self._finish_once(new, attempt, ending, bill, result)
        )

    async def _insist(self, deadline_at: datetime, write: Callable[[], Awaitable[T]]) -> T:
        """Try an idempotent write until the database answers or the deadline is over."""
        delay = self._settings.settle_backoff_seconds
        while True:
            try:
                return await write()
            except Unavailable:
                if self._clock.now() >= deadline_at:
                    raise
            await asyncio.sleep(delay)
            delay = min(delay * 2, 5.0)

    async def _finish_once(
        self,
        new: NewTransaction,
        attempt: NewAttempt,
        ending: Ending,
        bill: Bill,
        result: SealedResult | None,
    ) -> Finish:
        if bill.total_microcents and attempt.hold_id is not None:
            check_settlement(
                requester_network=new.network_id,
                total_microcents=bill.total_microcents,
                provider_network=attempt.offer.network_id,
                fee_microcents=bill.fee_microcents,
                earnings_microcents=bill.earnings_microcents,
            )
        outcome = await self._endings.submit(
            AttemptEnd(
                attempt.attempt_id,
                new.network_id,
                attempt.offer.network_id,
                attempt.hold_id,
                "posted" if bill.total_microcents else "voided",
                ending,
                bill,
                result,
            )
        )
        if outcome == HOLD_ENDED:
            await self.end_lost(
                attempt.attempt_id, new.network_id, attempt.offer.network_id, attempt.hold_id, "hold_ended"
            )
            return "ended"
        return "ended" if outcome == "ended" else "done"

    async def end_lost(
        self,
        attempt_id: UUID,
        requester_network: UUID,
        provider_network: UUID,
        hold_id: UUID | None,
        error_code: str,
    ) -> bool:
        """End an attempt that nobody will end: lost, its transaction FAILED, its hold given back.
        Idempotent; True if this call did it."""
        ending = Ending("lost", error_code, None, None, None, None, self._clock.now())
        bill = Bill(State.FAILED)
        item = AttemptEnd(attempt_id, requester_network, provider_network, hold_id, "expired", ending, bill)
        return await self._endings.submit(item) == "done"

    async def give_up(self, requester_network: UUID, attempt: NewAttempt) -> None:
        """`end_lost` of one's own attempt that went wrong here. If the database stays away, the reconciler
        does it."""
        try:
            await self._insist(
                attempt.deadline_at,
                lambda: self.end_lost(
                    attempt.attempt_id,
                    requester_network,
                    attempt.offer.network_id,
                    attempt.hold_id,
                    "server_fault",
                ),
            )
        except Unavailable:
            _log.warning("an attempt is left to the reconciler", attempt=str(attempt.attempt_id))

    async def end_open(self, attempt: OpenAttempt, error_code: str) -> bool:
        """`end_lost` of an attempt the reconciler found."""
        return await self.end_lost(
            attempt.attempt_id,
            attempt.requester_network,
            attempt.provider_network,
            attempt.hold_id,
            error_code,
        )

    async def end_hold(self, network_id: UUID, hold_id: UUID) -> bool:
        """Give back a hold that no open attempt answers for."""
        async with self._database.transaction(_networks(network_id)) as tx:
            return await self._payments.void(
                tx, network_id=network_id, hold_id=hold_id, at=self._clock.now(), state="expired"
            )
