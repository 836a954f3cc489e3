"""What earlier boots have learnt, read back when the server starts.

Rows say it: ended attempts and canary jobs, replayed at their own times; and which offer a conversation was
served by, which is written as a server stops. What no row says is forgotten: work given lately, by which
shares are told, and after a crash the conversations (at most half an hour's worth).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Final
from uuid import UUID

import structlog

from yggdrasil.db import Database
from yggdrasil.errors import YggdrasilError
from yggdrasil.kernel import Clock, Market, System
from yggdrasil.marketplace import store_nodes
from yggdrasil.marketplace.affinity import IDLE_SECONDS_MAX
from yggdrasil.marketplace.judging import WORTH
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.seen import PastAttempt
from yggdrasil.marketplace.segments import BREAK_SECONDS, Breaks
from yggdrasil.marketplace.settings import MarketSettings

RECALL_DAYS: Final = 7
RECALL_ATTEMPTS_MAX: Final = 20_000
BREAKER_SECONDS: Final = 2 * 3_600
"""A breaker that hears nothing for an hour is forgotten by the router: what is older than two cannot matter,
unless the owner failed all along; then it is open all the same."""
BREAKER_ATTEMPTS_MAX: Final = 50_000
BREAKS_MAX: Final = 50_000

_log = structlog.get_logger("yggdrasil.marketplace")


async def recall(
    database: Database,
    clock: Clock,
    settings: MarketSettings,
    routing: Routing,
    breaks: Breaks,
    node_id: UUID,
) -> None:
    """Quality, tolerance, breakers, how often answers broke off, and conversations. The offers are known
    already."""
    now, first_chunk = clock.now(), settings.first_chunk_seconds
    week, hours = now - timedelta(days=RECALL_DAYS), now - timedelta(seconds=BREAKER_SECONDS)
    by_time = attrgetter("ended_at")
    async with database.transaction(System("router-recall")) as tx:
        canaries = await store_nodes.past_canaries(tx, week, RECALL_ATTEMPTS_MAX)
        attempts = await store_nodes.past_attempts(tx, week, RECALL_ATTEMPTS_MAX, first_chunk)
        _learn(routing, sorted([*attempts, *canaries], key=by_time))
        failing = await store_nodes.past_attempts(tx, hours, BREAKER_ATTEMPTS_MAX, first_chunk, failing=True)
        lately = [one for one in canaries if one.ended_at > hours]
        _set_breakers(routing, sorted([*failing, *lately], key=by_time))
        broken = await store_nodes.broken_off(tx, now - timedelta(seconds=BREAK_SECONDS), BREAKS_MAX)
        silent = now - timedelta(seconds=IDLE_SECONDS_MAX)
        spoken = await store_nodes.take_conversations(tx, node_id, silent)
    breaks.recall(((one, (now - at).total_seconds()) for one, at in broken), clock.monotonic())

    routing.affinity.recall((key, offer, (now - at).total_seconds()) for key, offer, at in spoken)


async def keep(database: Database, clock: Clock, routing: Routing, node_id: UUID) -> None:
    """Write down what only this process knows, as it stops. If the database is away, it is forgotten."""
    now = clock.now()
    kept = [(key, offer, now - timedelta(seconds=age)) for key, offer, age in routing.affinity.kept()]
    if not kept:
        return
    try:
        async with database.transaction(Market()) as tx:
            await store_nodes.keep_conversations(tx, node_id, kept)
    except YggdrasilError as error:
        _log.warning("conversations were not kept", error=error.code)


def _learn(routing: Routing, attempts: Sequence[PastAttempt]) -> None:
    """Quality of the offers that are still there, and the tolerance of models."""
    for attempt in attempts:
        offer = routing.offer(attempt.offer)
        model = attempt.model or (offer.model if offer is not None else None)
        if attempt.end == "completed" and model is not None:
            observed, claimed = attempt.observed_tokens or 0, attempt.claimed_tokens
            routing.tolerance.learn(model, attempt.owner, observed, claimed)
        if offer is not None:
            # Of answers that nobody judged it is known whether there was one.
            guess = 1.0 if attempt.delivered else WORTH["empty"]
            quality = guess if attempt.quality is None else attempt.quality
            routing.observe(offer, attempt, quality=quality, at=attempt.ended_at, canary=attempt.canary)


def _set_breakers(routing: Routing, attempts: Sequence[PastAttempt]) -> None:
    """As earlier boots left them: the same reports at the same times, in their order."""
    for attempt in attempts:
        if attempt.end == "busy":
            continue
        offer = routing.offer(attempt.offer)
        if offer is not None and not routing.takes_work(offer) and attempt.error_code == "offline":
            continue
        group = offer.group if offer is not None else None
        at_ms = int(attempt.ended_at.timestamp() * 1000)
        routing.report(group, attempt.owner, attempt.end == "completed", at_ms, canary=attempt.canary)
