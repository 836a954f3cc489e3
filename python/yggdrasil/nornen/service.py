"""The use cases of decisions: making one, reading it, and appealing against it."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Final, cast
from uuid import UUID

import msgspec

from yggdrasil.db import Database
from yggdrasil.devices.paging import Page, decode_cursor, encode_cursor, limit_from
from yggdrasil.errors import Conflict, InvalidInput, LimitReached, NotFound, ProviderFailed
from yggdrasil.kernel import Clock, IdSource, Network
from yggdrasil.marketplace import hours
from yggdrasil.marketplace.providers import Terms
from yggdrasil.marketplace.requests import MarketScope
from yggdrasil.marketplace.service import Marketplace
from yggdrasil.marketplace.verdicts import Asked, Facts
from yggdrasil.nornen import store
from yggdrasil.nornen.decisions import decide
from yggdrasil.nornen.store import Registration

APPEALS_PER_HOUR_MAX: Final = 10

_appeal_of: ContextVar[UUID | None] = ContextVar("_appeal_of", default=None)


class Nornen:
    """Decides on registrations. An appeal runs the test again, with what was asked for the first time."""

    def __init__(self, database: Database, marketplace: Marketplace, clock: Clock, ids: IdSource) -> None:
        self._database = database
        self._marketplace = marketplace
        self._clock = clock
        self._ids = ids
        marketplace.decide_by(self)

    async def decide(self, scope: Network, asked: Asked, facts: Sequence[Facts]) -> None:
        """Keep the decision; ProviderFailed with its reason and its id if it is a refusal."""
        verdict, reasons = decide(facts)
        made = Registration(
            registration_id=self._ids.uuid(),
            device_id=asked.device_id,
            verdict=verdict,
            reasons=reasons,
            facts=list(facts),
            asked=asked,
            appeal_of=_appeal_of.get(),
            decided_at=self._clock.now(),
        )
        async with self._database.transaction(scope) as tx:
            await store.insert(tx, scope.network_id, scope.user_id, made)
        if reasons:
            raise ProviderFailed(
                f"{reasons[0].text}. Decision {made.registration_id}; an appeal runs the test again",
                field="models",
            )

    async def registration(self, scope: Network, registration_id: UUID) -> Registration:
        """A decision on a device of the caller, or NotFound."""
        async with self._database.transaction(scope) as tx:
            found = await store.registration(tx, scope.network_id, scope.user_id, registration_id)
        if found is None:
            raise NotFound
        return found

    async def registrations(self, scope: Network, *, limit: int, cursor: str | None) -> Page:
        """The decisions on the caller's devices, newest first."""
        limit_from(limit)
        before = _place(cursor) if cursor is not None else None
        async with self._database.transaction(scope) as tx:
            rows = await store.registrations(
                tx, scope.network_id, scope.user_id, before=before, limit=limit + 1
            )
        items = rows[:limit]
        following = None
        if len(rows) > limit:
            following = encode_cursor(items[-1].decided_at.isoformat(), str(items[-1].registration_id))
        return Page(items=items, next=following)

    async def appeal(self, scope: Network, registration_id: UUID) -> Registration:
        """Run the test of a refused registration again; returns the new decision, by which the device is a
        provider or is not. Raises NotFound, Conflict (it was accepted, or the device is offline, busy or a
        provider), LimitReached."""
        found = await self.registration(scope, registration_id)
        if found.verdict != "refused":
            raise Conflict("The registration was accepted; there is nothing to appeal against")
        since = self._clock.now() - timedelta(hours=1)
        async with self._database.transaction(scope) as tx:
            appeals = await store.appeals_since(tx, scope.network_id, scope.user_id, since)
        if appeals >= APPEALS_PER_HOUR_MAX:
            raise LimitReached(f"At most {APPEALS_PER_HOUR_MAX} appeals in an hour", retry_after_seconds=600)
        asked = found.asked
        token = _appeal_of.set(registration_id)
        try:
            await self._marketplace.register_provider(
                scope,
                device_id=asked.device_id,
                audience=cast(MarketScope, asked.audience),
                capacity_jobs=asked.capacity_jobs,
                terms=[msgspec.convert(model, Terms) for model in asked.models],
                hours=hours.from_rows(asked.hours),
                zone=asked.zone,
            )
        except ProviderFailed:
            # Refused again: that is the answer, and no error of the appeal.
            pass
        finally:
            _appeal_of.reset(token)
        async with self._database.transaction(scope) as tx:
            latest = await store.latest_appeal(tx, scope.network_id, scope.user_id, registration_id)
        if latest is None:
            raise NotFound
        return latest


def _place(cursor: str) -> tuple[datetime, UUID]:
    at, registration_id = decode_cursor(cursor, parts=2)
    try:
        place = (datetime.fromisoformat(at), UUID(registration_id))
    except ValueError:
        raise InvalidInput("cursor: must be the `next` of an earlier answer", field="cursor") from None
    if place[0].tzinfo is None:
        raise InvalidInput("cursor: must be the `next` of an earlier answer", field="cursor")
    return place
