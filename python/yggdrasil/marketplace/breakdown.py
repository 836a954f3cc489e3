"""Why a provider gets no work: counts by reason, provider and hour.

The router counts every pick at every offer it looked at. Here the counts of a provider's offers are added up,
kept for the hour that runs, and written down when it is over: an hour that still runs is shown to nobody, or
a seller could watch single requests of others go by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from yggdrasil.db import Database
from yggdrasil.kernel import Clock, Network, System
from yggdrasil.marketplace import store_work
from yggdrasil.marketplace.requests import Offer

ASKED: Final = "asked"
GOT: Final = "got"
FAIR_SHARE_MILLI: Final = "fair_share_milli"
OTHER_MODEL: Final = "other_model"
KEPT_HOURS: Final = 7 * 24
PROVIDERS_MAX: Final = 1_000_000
_HOUR: Final = timedelta(hours=1)

Tallies = Iterable[tuple[bytes, int, int, float, Mapping[str, int]]]
"""(offer, asked, got, fair share, missed by reason), as the router gives them."""


class HourView(msgspec.Struct, frozen=True):
    """One finished hour, or all of them. `got` is exact; the rest is rounded down to 1, 10, 20, 50, 100 …, so
    that it tells how much and not who.

    `asked`: requests that looked for one of the provider's models; `fair_share`: what would have been its
    part had all offers that fitted shared evenly. `missed` counts the others by reason. What the requester
    wished:
    `only`, `ignore`, `context`, `max_price`; `tried`: it had been there before. What was true of the
    provider: `closed` (paused, draining or outside its hours), `online` (away), `breaker` (failed too often),
    `capacity` (full), `other_model` (the market asked for a model it does not offer). What another was better
    at: `price`, `quality`, `latency`, `availability`, `fairness` (it had more work of late). `turn`: as good,
    and another's turn; `chance`: another was tried by chance.
    """

    asked: int
    got: int
    fair_share: int
    missed: dict[str, int]
    hour: datetime | None = None


class WorkView(msgspec.Struct, frozen=True):
    """What a provider was asked for and got. `now`: how each offer stands, by its model."""

    provider_id: UUID
    now: dict[str, str]
    total: HourView
    hours: list[HourView]


def coarse(count: int) -> int:
    """Rounded down to 0, 1, 10, 20, 50, 100, 200, 500 and so on."""
    if count < 10:
        return min(count, 1)
    power = int(10 ** (len(str(count)) - 1))
    return max(step * power for step in (1, 2, 5) if step * power <= count)


class Work:
    """Keeps the counts. Its memory is one small row for each provider that was asked for anything."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._counts: dict[datetime, dict[tuple[UUID, UUID], dict[str, int]]] = {}

    def add(
        self,
        tallies: Tallies,
        asked: tuple[int, Mapping[bytes, int]],
        offer_of: Callable[[UUID], Offer | None],
        sellers: Callable[[], Iterable[Offer]],
    ) -> None:
        """Counts since the last call. `asked`: requests to the market, of all and of each seller's own
        network; `sellers`: the offers that are at work."""
        hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        counts = self._counts.setdefault(hour, {})
        for_model: defaultdict[tuple[UUID, UUID], int] = defaultdict(int)
        for key, seen, got, fair_share, missed in tallies:
            offer = offer_of(UUID(bytes=key))
            if offer is None:
                continue
            provider = (offer.network_id, offer.provider)
            for_model[provider] += seen
            mine = self._of(counts, provider)
            _count(mine, ASKED, seen)
            _count(mine, GOT, got)
            _count(mine, FAIR_SHARE_MILLI, round(fair_share * 1000))
            for reason, number in missed.items():
                _count(mine, reason, number)
        everybody, own = asked
        if everybody:
            on_market = (offer for offer in sellers() if offer.audience == "market")
            for provider in {(offer.network_id, offer.provider) for offer in on_market}:
                others = everybody - own.get(provider[0].bytes, 0) - for_model[provider]
                if others > 0:
                    _count(self._of(counts, provider), OTHER_MODEL, others)
        if not counts:
            del self._counts[hour]

    def _of(
        self, counts: dict[tuple[UUID, UUID], dict[str, int]], provider: tuple[UUID, UUID]
    ) -> dict[str, int]:
        if provider not in counts and len(counts) >= PROVIDERS_MAX:
            return {}
        return counts.setdefault(provider, {})

    async def flush(self, *, whole: bool = False) -> int:
        """Write down the finished hours (`whole`: the running one too, before the server stops), and forget
        what is older than a week. Returns how many counts were written."""
        now = self._clock.now()
        hour = now.replace(minute=0, second=0, microsecond=0)
        done = [one for one in self._counts if whole or one < hour]
        if not done:
            return 0
        rows = [
            (network_id, provider, one, reason, number)
            for one in done
            for (network_id, provider), counts in self._counts[one].items()
            for reason, number in counts.items()
        ]
        async with self._database.transaction(System("work-counts")) as tx:
            await store_work.prune(tx, now - _HOUR * KEPT_HOURS)
            await store_work.add(tx, rows)
        for one in done:
            del self._counts[one]
        return len(rows)

    async def view(self, scope: Network, provider_id: UUID, now: dict[str, str], hours: int) -> WorkView:
        """The finished hours of the last `hours`, newest first."""
        running = self._clock.now().replace(minute=0, second=0, microsecond=0)
        async with self._database.transaction(scope) as tx:
            rows = await store_work.of_provider(tx, scope.network_id, provider_id, running - _HOUR * hours)
        # A server that stopped wrote its last hour early.
        rows = [(hour, counts) for hour, counts in rows if hour < running]
        total: dict[str, int] = {}
        for _, counts in rows:
            for reason, number in counts.items():
                _count(total, reason, number)
        return WorkView(provider_id, now, _shown(total), [_shown(counts, hour) for hour, counts in rows])


def _count(counts: dict[str, int], name: str, number: int) -> None:
    if number:
        counts[name] = counts.get(name, 0) + number


def _shown(counts: Mapping[str, int], hour: datetime | None = None) -> HourView:
    known = (ASKED, GOT, FAIR_SHARE_MILLI)
    return HourView(
        asked=coarse(counts.get(ASKED, 0)),
        got=counts.get(GOT, 0),
        fair_share=coarse(counts.get(FAIR_SHARE_MILLI, 0) // 1000),
        missed={
            reason: coarse(number)
            for reason, number in sorted(counts.items(), key=lambda one: -one[1])
            if reason not in known
        },
        hour=hour,
    )
