"""Operators: who they are, what they see by default (counts), and what they open with a reason."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from yggdrasil.admin import store
from yggdrasil.admin.credential import PREFIX, SECRET_BYTES, Credential, OperatorScope, parse
from yggdrasil.admin.explain import Explanation, check_reason, open_request
from yggdrasil.admin.store import Opening
from yggdrasil.admin.trail import Trail, alerts
from yggdrasil.audit import CONSOLE, Event, EventKind, record
from yggdrasil.config import Settings, load_keys
from yggdrasil.db import Database, Tx
from yggdrasil.db.bootstrap import attach
from yggdrasil.devices.paging import Page, decode_cursor, encode_cursor, limit_from
from yggdrasil.errors import InvalidInput, NotFound, Unavailable
from yggdrasil.kernel import (
    PLATFORM_NETWORK,
    Clock,
    Identity,
    IdSource,
    Network,
    Scope,
    System,
    SystemClock,
    SystemIds,
)
from yggdrasil.payments.ledger import TrialBalance

JOB: Final = "operator"
MAKING_JOB: Final = "operators"
NAME_CHARS_MAX: Final = 80
LISTED_MAX: Final = 1_000
NODE_SILENT_SECONDS: Final = 20

_Row = dict[str, Any]
_Place = tuple[datetime, UUID] | None
_Reader = Callable[[Tx, _Place, int], Awaitable[list[_Row]]]
_log = structlog.get_logger("yggdrasil.admin")


class Here(Protocol):
    """What this process knows of itself, in numbers."""

    def __call__(self) -> _Row: ...


class Operators:
    """`here` tells this process' own numbers; `trial_balance` reads all books; `trail` is what networks read
    of their own audit."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdSource,
        *,
        here: Here,
        trial_balance: Callable[[], Awaitable[TrialBalance]],
        trail: Trail,
    ) -> None:
        self.trail = trail
        self._database = database
        self._clock = clock
        self._ids = ids
        self._here = here
        self._trial_balance = trial_balance

    async def find(self, authorization: str | None) -> OperatorScope | None:
        """The operator of `Bearer ygo_…`; None for everybody else, and while nobody can be looked up."""
        kind, _, text = (authorization or "").partition(" ")
        credential = parse(text.strip(" ")) if kind.lower() == "bearer" else None
        if credential is None:
            return None
        try:
            async with self._database.transaction(Identity()) as tx:
                found = await store.find_operator(tx, credential.operator_id)
        except Unavailable:
            _log.warning("no operator can be looked up")
            return None
        name, digest = found or ("", bytes(32))
        if not credential.matches(digest) or found is None:
            return None
        return OperatorScope(credential.operator_id, name)

    async def overview(self, operator: OperatorScope) -> _Row:
        """Counts, this node's own numbers, and the sums of the books."""
        async with self._database.transaction(System(JOB)) as tx:
            await self._note(tx, operator, "the overview")
            since = await tx.clock() - timedelta(seconds=NODE_SILENT_SECONDS)
            counts = await store.counts(tx, since)
            unusual = await alerts(tx, self._clock.now())
        balance = await self._trial_balance()
        return {
            "at": self._clock.now(),
            "counts": counts,
            "alerts": unusual,
            "node": self._here(),
            "ledger": {**asdict(balance), "sound": balance.sound},
        }

    async def networks(self, operator: OperatorScope, limit: int, cursor: str | None) -> Page:
        """By opaque id, oldest first, with counts."""
        return await self._list(
            operator, "networks", store.networks, limit, cursor, ("created_at", "network_id")
        )

    async def providers(self, operator: OperatorScope, limit: int, cursor: str | None) -> Page:
        """By opaque id, oldest first, with counts."""
        return await self._list(
            operator, "providers", store.providers, limit, cursor, ("created_at", "provider_id")
        )

    async def holds(self, operator: OperatorScope, limit: int, cursor: str | None) -> Page:
        """Open ones, the first to end first, without amounts."""
        return await self._list(
            operator, "open holds", store.open_holds, limit, cursor, ("deadline_at", "hold_id")
        )

    async def audit(self, operator: OperatorScope, limit: int, cursor: str | None) -> Page:
        """Uses of System, and every opening with its reason; newest first."""
        return await self._list(operator, "the audit", store.audit, limit, cursor, ("at", "id"))

    async def open_network(self, operator: OperatorScope, network_id: UUID, reason: str) -> _Row:
        """A tenant's rows, for a reason that the tenant reads. NotFound if there is none."""
        opening = Opening(
            network_id=network_id,
            opening_id=self._ids.uuid(),
            operator_id=operator.operator_id,
            user_id=None,
            subject="network",
            subject_id=network_id,
            reason=check_reason(reason),
            at=self._clock.now(),
        )
        async with self._database.transaction(System(JOB)) as tx:
            found = await store.network(tx, network_id)
            if found is None:
                raise NotFound
            await store.insert_openings(tx, JOB, [opening])
        return {"opening_id": opening.opening_id, **found}

    async def open_request(self, operator: OperatorScope, request: UUID, reason: str) -> Explanation:
        """The trace of a request, for a reason that both sides read. NotFound if there is none."""
        async with self._database.transaction(System(JOB)) as tx:
            return await open_request(
                tx,
                request,
                reason=reason,
                operator_id=operator.operator_id,
                job=JOB,
                ids=self._ids,
                at=self._clock.now(),
            )

    async def openings(self, scope: Network, limit: int, cursor: str | None) -> Page:
        """For the tenant: what was opened of it, newest first. Owners and admins see all of the network's,
        others what was theirs."""

        async def read(tx: Tx, before: _Place, most: int) -> list[_Row]:
            return await store.openings_of(tx, scope.network_id, before, most)

        return await self._page(scope, read, limit, cursor, ("at", "opening_id"))

    async def _list(
        self,
        operator: OperatorScope,
        what: str,
        read: _Reader,
        limit: int,
        cursor: str | None,
        order: tuple[str, str],
    ) -> Page:
        """A page for an operator, and a line in the audit of who looked."""

        async def noted(tx: Tx, place: _Place, most: int) -> list[_Row]:
            await self._note(tx, operator, what)
            return await read(tx, place, most)

        return await self._page(System(JOB), noted, limit, cursor, order)

    async def _note(self, tx: Tx, operator: OperatorScope, what: str) -> None:
        await store.note_look(tx, JOB, self._ids.uuid(), operator.operator_id, what, self._clock.now())

    async def _page(
        self, scope: Scope, read: _Reader, limit: int, cursor: str | None, order: tuple[str, str]
    ) -> Page:
        """`order`: the names of the time and the id that rows are sorted by."""
        limit_from(limit)
        place = None if cursor is None else _place(cursor)
        async with self._database.transaction(scope) as tx:
            rows = await read(tx, place, limit + 1)
        last = rows[limit - 1] if len(rows) > limit else None
        at, key = order
        following = None if last is None else encode_cursor(last[at].isoformat(), str(last[key]))
        return Page(items=rows[:limit], next=following)


def _place(cursor: str) -> tuple[datetime, UUID]:
    at, key = decode_cursor(cursor, parts=2)
    try:
        place = (datetime.fromisoformat(at), UUID(key))
    except ValueError:
        place = None
    if place is None or place[0].tzinfo is None:
        raise InvalidInput("cursor: must be the `next` of an earlier answer", field="cursor")
    return place


# At the server's console


def _event(kind: EventKind, operator_id: UUID, clock: Clock, ids: IdSource) -> Event:
    return Event(
        network_id=PLATFORM_NETWORK,
        event_id=ids.uuid(),
        at=clock.now(),
        kind=kind,
        actor=CONSOLE,
        subject="operator",
        subject_id=operator_id,
    )


async def create(settings: Settings, name: str) -> None:
    """Make an operator and print the credential, this once."""
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise InvalidInput(f"NAME: must be 1 to {NAME_CHARS_MAX} printable characters", field="name")
    clock, ids = SystemClock(), SystemIds()
    made = Credential(ids.uuid(), ids.secret(SECRET_BYTES))
    async with (
        attach(settings, load_keys(settings), clock, ids) as database,
        database.transaction(System(MAKING_JOB)) as tx,
    ):
        await store.insert_operator(tx, made.operator_id, name, made.digest(), clock.now())
        await record(tx, _event(EventKind.OPERATOR_CREATED, made.operator_id, clock, ids))
    sys.stdout.write(
        f"operator    {made.operator_id}  {name}\ncredential  {made.text()}\n"
        f"It is not shown again. Use it as `Authorization: Bearer {PREFIX}…` below /api/v1/admin.\n"
    )


async def show(settings: Settings) -> None:
    """Print all operators."""
    clock, ids = SystemClock(), SystemIds()
    async with (
        attach(settings, load_keys(settings), clock, ids) as database,
        database.transaction(System(MAKING_JOB)) as tx,
    ):
        rows = await store.list_operators(tx, LISTED_MAX)
    for row in rows:
        state = "works" if row["revoked_at"] is None else f"revoked {row['revoked_at'].isoformat()}"
        sys.stdout.write(f"{row['operator_id']}  {row['name']}  {state}\n")


async def revoke(settings: Settings, operator: str) -> None:
    """End an operator's credential at once. NotFound if there is none that works."""
    try:
        operator_id = UUID(operator)
    except ValueError:
        raise InvalidInput("OPERATOR: must be the UUID of an operator", field="operator") from None
    clock, ids = SystemClock(), SystemIds()
    async with (
        attach(settings, load_keys(settings), clock, ids) as database,
        database.transaction(System(MAKING_JOB)) as tx,
    ):
        if not await store.revoke_operator(tx, operator_id, clock.now()):
            raise NotFound("no working operator has this id")
        await record(tx, _event(EventKind.OPERATOR_REVOKED, operator_id, clock, ids))
    sys.stdout.write(f"operator {operator_id} is revoked\n")
