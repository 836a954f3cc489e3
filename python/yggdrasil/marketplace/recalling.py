"""What earlier boots have learnt, read back when the server starts.

Rows say it: ended attempts and canary jobs, replayed at their own times. What no row says is forgotten: which
offer a conversation was served by (at most half an hour's worth), and work given lately, by which shares are
told.
"""

from __future__ import annotations

from datetime import timedelta
from operator import attrgetter
from typing import Final

from yggdrasil.db import Database
from yggdrasil.kernel import Clock, System
from yggdrasil.marketplace import store_nodes
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.segments import BREAK_SECONDS, Breaks
from yggdrasil.marketplace.settings import MarketSettings

RECALL_DAYS: Final = 7
RECALL_ATTEMPTS_MAX: Final = 20_000
BREAKER_SECONDS: Final = 2 * 3_600
"""A breaker that hears nothing for an hour is forgotten by the router: what is older than two cannot matter,
unless the owner failed all along; then it is open all the same."""
BREAKER_ATTEMPTS_MAX: Final = 50_000
BREAKS_MAX: Final = 50_000


async def recall(
    database: Database, clock: Clock, settings: MarketSettings, routing: Routing, breaks: Breaks
) -> None:
    """Quality, tolerance, breakers, and how often answers broke off. The offers are known already."""
    now, first_chunk = clock.now(), settings.first_chunk_seconds
    week, hours = now - timedelta(days=RECALL_DAYS), now - timedelta(seconds=BREAKER_SECONDS)
    by_time = attrgetter("ended_at")
    async with database.transaction(System("router-recall")) as tx:
        canaries = await store_nodes.past_canaries(tx, week, RECALL_ATTEMPTS_MAX)
        attempts = await store_nodes.past_attempts(tx, week, RECALL_ATTEMPTS_MAX, first_chunk)
        routing.recall(sorted([*attempts, *canaries], key=by_time))
        failing = await store_nodes.past_attempts(tx, hours, BREAKER_ATTEMPTS_MAX, first_chunk, failing=True)
        lately = [one for one in canaries if one.ended_at > hours]
        routing.recall_breakers(sorted([*failing, *lately], key=by_time))
        broken = await store_nodes.broken_off(tx, now - timedelta(seconds=BREAK_SECONDS), BREAKS_MAX)
    breaks.recall(((one, (now - at).total_seconds()) for one, at in broken), clock.monotonic())
