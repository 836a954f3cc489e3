"""Why a request went as it did: its states, its waits, attempts, decision card, holds and ledger rows.

Looking is an opening: it needs a reason, and every network whose rows are shown can read that it was done.
What was asked and answered is sealed, and not shown.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from yggdrasil.admin import store, store_explain
from yggdrasil.admin.store import Opening
from yggdrasil.config import Settings, load_keys
from yggdrasil.db import Tx
from yggdrasil.db.bootstrap import attach
from yggdrasil.errors import InvalidInput, NotFound
from yggdrasil.kernel import PLATFORM_NETWORK, Clock, IdSource, System, SystemClock, SystemIds
from yggdrasil.tracing import trace_id_of

REASON_CHARS_MIN: Final = 3
REASON_CHARS_MAX: Final = 300
JOB: Final = "explain"

_PRIVATE: Final = ("decision_card", "idempotency_key")
_WHY_IT_WAITED: Final = {
    "busy": "every fitting offer was busy",
    "refused": "the device of attempt {attempts} was busy, and no other offer was free",
    "failed": "attempt {attempts} failed, and every other offer was busy",
    "unpaid": "its turn came, but the provider could not be paid",
}


class Explanation(msgspec.Struct, frozen=True):
    """The rows of a request. `events`: (at, what) in the order of time. `trace_id`: what the operator's
    collector knows it by, if it was sampled. `waits`: its stays in the queue, with `waited_ms` (so far, if
    `ended` is null)."""

    request_id: UUID
    trace_id: str
    events: list[tuple[datetime, str]]
    decision: Any
    transactions: list[dict[str, Any]]
    waits: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    holds: list[dict[str, Any]]
    entries: list[dict[str, Any]]


def check_reason(text: str) -> str:
    """InvalidInput names the rule."""
    reason = text.strip()
    if not REASON_CHARS_MIN <= len(reason) <= REASON_CHARS_MAX or not reason.isprintable():
        raise InvalidInput(
            f"reason: must be {REASON_CHARS_MIN} to {REASON_CHARS_MAX} printable characters; the network"
            " reads it",
            field="reason",
        )
    return reason


async def open_request(
    tx: Tx, request: UUID, *, reason: str, operator_id: UUID | None, job: str, ids: IdSource, at: datetime
) -> Explanation:
    """Note the opening for every network concerned, then read; show nothing before the commit. `request` is
    the id of either side's transaction, or of an attempt. Under System(job). Raises NotFound."""
    reason = check_reason(reason)
    attempts = await store_explain.attempts_of(tx, request)
    first = attempts[0] if attempts else await store_explain.waiting_of(tx, request)
    if first is None:
        raise NotFound("no request has this id")
    networks = {first["requester_network"]} | {one["provider_network"] for one in attempts}
    sides = [first["requester_transaction"]]
    sides += [one["provider_transaction"] for one in attempts if one["provider_transaction"] is not None]
    transactions = await store_explain.transactions_of(tx, sorted(networks), sides)
    openings = [
        Opening(
            network_id=one["network_id"],
            opening_id=ids.uuid(),
            operator_id=operator_id,
            user_id=one["user_id"],
            subject="request",
            subject_id=one["transaction_id"],
            reason=reason,
            at=at,
        )
        for one in transactions
    ]
    await store.insert_openings(tx, job, openings)
    hold_ids = [one["hold_id"] for one in attempts if one["hold_id"] is not None]
    holds = await store_explain.holds_of(tx, first["requester_network"], hold_ids)
    entries = await store_explain.entries_of(
        tx, sorted(networks | {PLATFORM_NETWORK}), [one["attempt_id"] for one in attempts]
    )
    waits = await store_explain.waits_of(tx, first["requester_network"], first["requester_transaction"])
    waits = _ended(waits, attempts, transactions, at)
    card = next((one["decision_card"] for one in transactions if one["side"] == "requester"), None)
    return Explanation(
        request_id=first["requester_transaction"],
        trace_id=trace_id_of(first["requester_transaction"]),
        events=sorted(_events(transactions, waits, attempts, holds, entries), key=lambda event: event[0]),
        decision=None if card is None else jsonlib.loads(card),
        transactions=[_without(one) for one in transactions],
        waits=waits,
        attempts=attempts,
        holds=holds,
        entries=entries,
    )


def _without(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in _PRIVATE}


def _ended(
    waits: list[dict[str, Any]],
    attempts: list[dict[str, Any]],
    transactions: list[dict[str, Any]],
    now: datetime,
) -> list[dict[str, Any]]:
    """Each stay with its end, which is the beginning of what came next."""
    mine = next((one for one in transactions if one["side"] == "requester"), None)
    started = {one["ordinal"]: one["started_at"] for one in attempts}
    told = []
    for place, wait in enumerate(waits):
        following = waits[place + 1] if place + 1 < len(waits) else None
        ended_at, ended = None, None
        if following is not None and following["attempts"] == wait["attempts"]:
            ended_at, ended = following["queued_at"], "its turn led to nothing"
        elif wait["attempts"] + 1 in started:
            ended_at, ended = started[wait["attempts"] + 1], f"its turn came: attempt {wait['attempts'] + 1}"
        elif mine is not None and mine["ended_at"] is not None:
            ended_at, ended = mine["ended_at"], f"{mine['state']} ({mine['error_code']})"
        seconds = ((ended_at or now) - wait["queued_at"]).total_seconds()
        shown = {name: value for name, value in wait.items() if name not in ("network_id", "transaction_id")}
        told.append({**shown, "waited_ms": round(seconds * 1000), "ended_at": ended_at, "ended": ended})
    return told


def _wait_events(waits: list[dict[str, Any]]) -> Iterator[tuple[datetime, str]]:
    for wait in waits:
        why = _WHY_IT_WAITED[wait["reason"]].format_map(wait)
        gates = ", ".join(wait["gates"])
        stood = f"{wait['ahead']} turns ahead of it, {wait['waiting']} others waiting"
        yield wait["queued_at"], f"waits until {wait['until_at']}: {why} (gates: {gates}); {stood}"
        if wait["ended"] is not None:
            yield wait["ended_at"], f"waited {wait['waited_ms']:,} ms: {wait['ended']}"


def _events(
    transactions: list[dict[str, Any]],
    waits: list[dict[str, Any]],
    attempts: list[dict[str, Any]],
    holds: list[dict[str, Any]],
    entries: list[dict[str, Any]],
) -> Iterator[tuple[datetime, str]]:
    for one in transactions:
        if one["side"] == "requester":
            yield one["created_at"], f"asked for {one['model']} ({one['kind']}, scope {one['scope']})"
            if one["ended_at"] is not None:
                yield one["ended_at"], f"{one['state']}, {one['total_microcents']:,} micro-cents"
    yield from _wait_events(waits)
    for one in holds:
        yield one["created_at"], f"{one['amount_microcents']:,} micro-cents held until {one['deadline_at']}"
        if one["ended_at"] is not None:
            yield one["ended_at"], f"hold {one['state']}"
    for one in attempts:
        yield one["started_at"], f"attempt {one['ordinal']} sent to offer {one['offer']}"
        if one["ended_at"] is not None:
            why = f" ({one['error_code']})" if one["error_code"] else ""
            yield one["ended_at"], f"attempt {one['ordinal']} {one['state']}{why}"
    for transfer, at in {one["transfer_id"]: one["at"] for one in entries}.items():
        yield at, f"transfer {transfer} posted"


def lines(found: Explanation) -> Iterator[str]:
    """For people."""
    yield f"request {found.request_id}"
    yield f"trace   {found.trace_id} (if it was sampled)"
    for at, what in found.events:
        yield f"  {at.isoformat()}  {what}"
    for title, rows in (
        ("transaction", found.transactions),
        ("wait", found.waits),
        ("attempt", found.attempts),
        ("hold", found.holds),
    ):
        for row in rows:
            yield ""
            yield title
            yield from (f"  {name:<24}{value}" for name, value in row.items() if value is not None)
    if found.entries:
        yield ""
        yield "ledger"
        for row in found.entries:
            amount = f"{row['amount_microcents']:>20,}"
            yield f"  {row['transfer_id']}  {row['network_id']}  {row['account']:<9}{amount}"
    if found.decision is not None:
        yield ""
        yield "decision"
        yield from ("  " + line for line in jsonlib.dumps(found.decision, indent=2).splitlines())


async def explain(
    settings: Settings,
    request: str,
    *,
    reason: str,
    json: bool,
    clock: Clock | None = None,
    ids: IdSource | None = None,
) -> None:
    """Print the trace of a request. Errors: InvalidInput, NotFound, ConfigurationError, Unavailable."""
    clock, ids = clock or SystemClock(), ids or SystemIds()
    try:
        request_id = UUID(request)
    except ValueError:
        raise InvalidInput("REQUEST: must be the UUID of a request", field="request") from None
    check_reason(reason)
    async with (
        attach(settings, load_keys(settings), clock, ids) as database,
        database.transaction(System(JOB)) as tx,
    ):
        found = await open_request(
            tx, request_id, reason=reason, operator_id=None, job=JOB, ids=ids, at=clock.now()
        )
    if json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        sys.stdout.write("\n".join(lines(found)) + "\n")
