"""What requesters say of answers they paid for: optional, once for each request, bounded in its weight."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from yggdrasil.db import Database
from yggdrasil.errors import Conflict, InvalidInput, NotFound
from yggdrasil.kernel import Clock, Network, Settle, System
from yggdrasil.marketplace import store, store_feedback
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.settings import MarketSettings

REASON_LENGTH_MAX: Final = 500
WEIGHT_PPM: Final = 250_000
"""Of one feedback, beside the 1,000,000 of what we see of an answer ourselves."""
WEIGHT_PPM_MAX: Final = 1_000_000
"""Of all that one network says of another one's answers within `WEIGHT_SECONDS`."""
WEIGHT_SECONDS: Final = 86_400
RECALL_DAYS: Final = 7
RECALL_MAX: Final = 20_000


class FeedbackView(msgspec.Struct, frozen=True):
    """What was said."""

    transaction_id: UUID
    score: float
    reason: str | None
    created_at: datetime


class Feedback:
    """Takes feedback, keeps it, and lets the quality of the offer learn from it."""

    def __init__(self, database: Database, routing: Routing, clock: Clock, settings: MarketSettings) -> None:
        self._database = database
        self._routing = routing
        self._clock = clock
        self._settings = settings

    async def give(
        self, scope: Network, transaction_id: UUID, score: float, reason: str | None
    ) -> FeedbackView:
        """NotFound if the caller asked for no such thing; Conflict if it cannot be rated (any more)."""
        if not 0 <= score <= 1:
            raise InvalidInput("score: must be from 0 to 1", field="score")
        if reason is not None and not 1 <= len(reason) <= REASON_LENGTH_MAX:
            raise InvalidInput(f"reason: must be 1 to {REASON_LENGTH_MAX} characters", field="reason")
        if reason is not None and "\0" in reason:
            raise InvalidInput("reason: must not hold a NUL", field="reason")
        at = self._clock.now()
        async with self._database.transaction(scope) as tx:
            rated = await store.transaction(tx, scope.network_id, transaction_id)
        if rated is None or rated.side != "requester":
            raise NotFound
        if rated.state != "COMPLETED" or rated.scope != "market" or rated.ended_at is None:
            raise Conflict("Feedback is for completed requests to the market")
        if at > rated.ended_at + timedelta(seconds=self._settings.feedback_seconds):
            seconds = self._settings.feedback_seconds
            raise Conflict(f"Feedback is taken for {seconds} seconds after the answer")
        score_ppm = round(score * 1_000_000)
        async with self._database.transaction(Settle((scope.network_id,))) as tx:
            served = await store_feedback.served_by(tx, scope.network_id, transaction_id)
            if served is None:
                raise NotFound
            offer, provider_network = served
            await store_feedback.wait_turn(tx, scope.network_id)
            given = await store_feedback.weight_given(
                tx, scope.network_id, provider_network, at - timedelta(seconds=WEIGHT_SECONDS)
            )
            weight_ppm = max(0, min(WEIGHT_PPM, WEIGHT_PPM_MAX - given))
            new = await store_feedback.insert(
                tx,
                network_id=scope.network_id,
                transaction_id=transaction_id,
                user_id=scope.user_id,
                score_ppm=score_ppm,
                weight_ppm=weight_ppm,
                reason=reason,
                at=at,
            )
        if not new:
            raise Conflict("The request has its feedback")
        self._routing.rate(offer, score_ppm / 1_000_000, weight_ppm / 1_000_000, at)
        return FeedbackView(transaction_id, score_ppm / 1_000_000, reason, at)

    async def recall(self) -> int:
        """What was said in earlier boots; how much of it."""
        since = self._clock.now() - timedelta(days=RECALL_DAYS)
        async with self._database.transaction(System("feedback-recall")) as tx:
            ratings = await store_feedback.past(tx, since, RECALL_MAX)
        for rating in ratings:
            self._routing.rate(
                rating.offer, rating.score_ppm / 1_000_000, rating.weight_ppm / 1_000_000, rating.created_at
            )
        return len(ratings)
