"""Canary jobs: small real jobs on offers that nobody uses, so that their standing is known and can heal.

They are drawn to look like traffic, so that a device cannot serve them well and people badly. Nobody pays for
them: they stand in no ledger, and each round of them is small.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final
from uuid import UUID

import structlog

from yggdrasil.db import Database
from yggdrasil.errors import YggdrasilError
from yggdrasil.kernel import PLATFORM_NETWORK, Clock, IdSource, Market
from yggdrasil.marketplace import billing, store_nodes
from yggdrasil.marketplace.fitting import NEW_WEIGHT
from yggdrasil.marketplace.judging import judge
from yggdrasil.marketplace.probe import Probe, Tried, plain_request
from yggdrasil.marketplace.requests import ComputeRequest, Offer
from yggdrasil.marketplace.routing import Routing
from yggdrasil.marketplace.seen import PastAttempt
from yggdrasil.marketplace.settings import MarketSettings
from yggdrasil.tracing import traced

CANARY_SECONDS: Final = 10.0
HEALING_MAX: Final = 32
LOOKED_AT_MAX: Final = 512
OFFERS_AT_ONCE: Final = 1_000
HEALING_JOBS: Final = 3
SEED_BYTES: Final = 16
DOUBTFUL_AVAILABILITY: Final = 0.9
DEADLINE_MS: Final = 120_000
UNWRITTEN_MAX: Final = 1_000

_log = structlog.get_logger("yggdrasil.marketplace")

_OPENINGS: Final = (
    "Explain {topic} in {length}.",
    "What should I know about {topic}? Answer in {length}.",
    "Write {length} about {topic} for a newsletter.",
    "Give me {length} on {topic}, please.",
    "Summarise the main arguments about {topic} in {length}.",
    "My daughter asked me about {topic}. What do I tell her, in {length}?",
)
_LENGTHS: Final = ("one sentence", "two sentences", "three short points", "a short paragraph", "a few words")
_SUBJECTS: Final = (
    "sourdough",
    "tides",
    "compound interest",
    "the Hanseatic League",
    "bicycle gears",
    "photosynthesis",
    "jazz harmony",
    "glaciers",
    "typesetting",
    "beekeeping",
    "inflation",
    "lighthouses",
    "vaccines",
    "chess openings",
    "soil erosion",
    "sailing knots",
    "black holes",
    "pottery glazes",
)
_TURNS: Final = (
    "the history of {0}",
    "how {0} differs from {1}",
    "common mistakes with {0}",
    "{0}",
    "why {0} matters today",
    "the costs of {0}",
    "{0} and {1}",
)
_OUTPUT_TOKENS: Final = (32, 48, 64, 100, 128)


class Canaries:
    """Draws the offers and runs the jobs; `run_once` is one round."""

    def __init__(
        self,
        routing: Routing,
        probe: Probe,
        clock: Clock,
        ids: IdSource,
        settings: MarketSettings,
        database: Database,
    ) -> None:
        self._database = database
        self._unwritten: deque[tuple[UUID, PastAttempt]] = deque(maxlen=UNWRITTEN_MAX)
        self._routing = routing
        self._probe = probe
        self._clock = clock
        self._ids = ids
        self._settings = settings

    @traced("job canaries", alone=True)
    async def run_once(self) -> int:
        """Test what could heal, and some of what nobody has used for long. Returns how many jobs ran."""
        if self._settings.canaries_per_round < 1:
            return 0
        seed = self._ids.secret(SEED_BYTES)
        chance = Random(seed)  # noqa: S311  draws tests, no secrets
        healing, for_all = await self._sorted_out()
        looked_at = chance.sample(for_all, min(LOOKED_AT_MAX, len(for_all)))
        idle = [offer for offer in looked_at if self._is_idle(offer)]
        drawn = chance.sample(idle, min(self._settings.canaries_per_round, len(idle)))
        ran = await self._all([*healing[:HEALING_MAX], *drawn], len(healing[:HEALING_MAX]), seed)
        await self._write()
        return ran

    async def _write(self) -> None:
        """Down with what was seen, so that the next boot knows it. If the database is away, in a later
        round."""
        results = list(self._unwritten)
        if not results:
            return
        self._unwritten.clear()
        try:
            async with self._database.transaction(Market()) as tx:
                await store_nodes.insert_canaries(tx, results)
        except YggdrasilError as error:
            self._unwritten.extendleft(reversed(results))
            _log.warning("canaries not written", error=error.code)

    async def _sorted_out(self) -> tuple[list[Offer], list[Offer]]:
        """One offer of each device whose breaker, or whose owner's, is half-open (one device of an
        owner), and
        all that may be tested when idle. The operator's own upstreams, which cost him money by the token, are
        not among these, nor is what is at home: its number would show in how seldom an offer is drawn."""
        healing: dict[bytes, Offer] = {}
        for_all: list[Offer] = []
        for number, offer in enumerate(list(self._routing.at_work())):
            if number % OFFERS_AT_ONCE == 0:
                await asyncio.sleep(0)  # there may be very many
            if self._routing.breaker(offer) == "half_open":
                owners = self._routing.owner_fails(offer.network_id)
                healing.setdefault(offer.network_id.bytes if owners else offer.group, offer)
            if offer.audience == "market" and offer.network_id != PLATFORM_NETWORK:
                for_all.append(offer)
        return list(healing.values()), for_all

    def _is_idle(self, offer: Offer) -> bool:
        """Whether nothing was heard of it for so long; of new and of doubtful ones, for a tenth of that."""
        standing = self._routing.standing(offer)
        known = standing.weight >= NEW_WEIGHT and standing.availability >= DOUBTFUL_AVAILABILITY
        seconds = self._settings.canary_idle_seconds * (1.0 if known else 0.1)
        return (
            self._routing.silent_seconds(offer) >= seconds
            and self._routing.running(offer.network_id, offer.device) == 0
            and self._routing.breaker(offer) == "closed"
        )

    async def _all(self, offers: Sequence[Offer], healing: int, seed: bytes) -> int:
        """The first `healing` of them heal. What one offer is asked depends on no other."""
        chances = [Random(seed + offer.id.bytes) for offer in offers]  # noqa: S311
        ran = await asyncio.gather(
            *map(self._heal, offers[:healing], chances[:healing]),
            *map(self._try, offers[healing:], chances[healing:]),
        )
        return sum(ran)

    async def _heal(self, offer: Offer, chance: Random) -> int:
        """A half-open breaker closes after a few successes in a row, and opens again at the first failure."""
        for number in range(1, HEALING_JOBS + 1):
            await self._try(offer, chance)
            if self._routing.breaker(offer) != "half_open":
                return number
        return HEALING_JOBS

    @traced("canary")
    async def _try(self, offer: Offer, chance: Random) -> int:
        request = request_like_others(offer, chance)
        tried = await self._probe.try_out(offer, request, deadline_ms=DEADLINE_MS - chance.randrange(1, 40))
        if tried.end == "busy":
            # It works for somebody: that is no fault of its own.
            return 1
        quality, at = self._quality(offer, request, tried), self._clock.now()
        self._routing.observe(offer, tried, quality=quality, canary=True)
        seen = PastAttempt(
            offer=offer.id,
            owner=offer.network_id,
            model=offer.model,
            end=tried.end,
            observed_tokens=tried.count.observed,
            claimed_tokens=tried.count.claimed,
            quality=quality,
            error_code=tried.error_code,
            first_chunk_ms=tried.first_chunk_ms,
            tokens_per_second=tried.tokens_per_second,
            ended_at=at,
            canary=True,
        )
        self._unwritten.append((self._ids.uuid(), seen))
        return 1

    def _quality(self, offer: Offer, request: ComputeRequest, tried: Tried) -> float:
        exaggerated = billing.exaggerates(tried.count, self._routing.tolerance.percent(offer.model))
        if tried.end == "completed":
            self._routing.tolerance.learn(
                offer.model, offer.network_id, tried.count.observed, tried.count.claimed
            )
        return judge(
            request.body,
            tried.answer,
            delivered=tried.delivered,
            exaggerated=exaggerated,
            completion_tokens=tried.count.completion_observed,
            output_tokens_max=request.output_tokens_max,
        ).quality


def request_like_others(offer: Offer, chance: Random) -> ComputeRequest:
    """A request that people could have written, another one each time."""
    first, second = chance.sample(_SUBJECTS, 2)
    topic = chance.choice(_TURNS).format(first, second)
    prompt = chance.choice(_OPENINGS).format(topic=topic, length=chance.choice(_LENGTHS))
    room = max(min(offer.output_tokens_max or 128, offer.context_tokens_max // 2), 1)
    return plain_request(offer.model, offer.kind, prompt, min(chance.choice(_OUTPUT_TOKENS), room))
