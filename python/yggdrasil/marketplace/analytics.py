"""What a person bought or sold, summed. Every figure is a sum over rows that `/transactions` shows.

A transaction belongs to the period in which it ended, which is when its money moved in the ledger; one that
has not ended is counted in `running` alone. Contents and other people's rows are not in reach: the database
is asked under the caller's own scope. The owner of a network also gets the network's totals of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from yggdrasil.db import Database
from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import Clock, Network
from yggdrasil.marketplace import store_analytics
from yggdrasil.marketplace.analytics_periods import Bucket, Periods, periods
from yggdrasil.users.roles import Action, may

Side = Literal["provider", "requester"]

ROWS_MAX: Final = 10_000
DIMENSIONS_MAX: Final = 4
DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "provider": ("kind", "model", "scope", "state", "error", "device", "weekday", "hour"),
    "requester": ("kind", "model", "scope", "state", "error", "device", "key", "offer", "weekday", "hour"),
}
NAMED: Final[Mapping[str, str]] = {"device": "device_id", "key": "key_name"}
"""Dimensions by id, and under what the name of each stands beside it; null if it is gone."""
_ACCOUNT: Final[Mapping[str, str]] = {"provider": "earnings", "requester": "wallet"}
_COUNTED: Final = (
    "requests",
    "completed",
    "failed",
    "cancelled",
    "refunded",
    "attempts",
    "prompt_tokens",
    "completion_tokens",
    "cost_microcents",
    "fee_microcents",
    "earnings_microcents",
    "generation_microseconds",
    "judged",
)


class Figures(msgspec.Struct, frozen=True):
    """Sums over ended transactions. `success_share` is completed ÷ (completed + failed + refunded): who hangs
    up says nothing of the answer. Latencies are from the start to the first chunk, of the completed ones: the
    smallest one that so many of 100 do not exceed. `generation_microseconds` is from start to end, of those
    that gave completion tokens; `tokens_per_second` is completion tokens ÷ that. `quality` is the mean
    of what was judged of `judged` answers, 0 to 1."""

    requests: int
    completed: int
    failed: int
    cancelled: int
    refunded: int
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost_microcents: int
    fee_microcents: int
    earnings_microcents: int
    generation_microseconds: int
    success_share: float | None
    latency_ms_p50: int | None
    latency_ms_p95: int | None
    latency_ms_p99: int | None
    tokens_per_second: float | None
    judged: int
    quality: float | None


class Row(msgspec.Struct, frozen=True):
    """One group in one period; `group` holds the value of each dimension asked for."""

    start: datetime
    end: datetime
    group: dict[str, str | int | None]
    figures: Figures


class NetworkTotal(msgspec.Struct, frozen=True):
    """What settlements moved in the whole network's ledger: out of the wallet (requester) or into the
    earnings (provider). For its owner and admins."""

    settlements: int
    microcents: int


class AnalyticsReport(msgspec.Struct, frozen=True):
    """Groups without a transaction are left out. `total` sums the same rows."""

    side: str
    start: datetime
    end: datetime
    bucket: str
    timezone: str
    group_by: list[str]
    running: int
    total: Figures
    network_total: NetworkTotal | None
    rows: list[Row]


class Analytics:
    """Reports of what was bought and sold."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def report(
        self,
        scope: Network,
        side: Side,
        *,
        from_: str | None,
        to: str | None,
        bucket: Bucket,
        timezone: str,
        group_by: str | None,
    ) -> AnalyticsReport:
        """Errors: InvalidInput, which names the parameter."""
        asked = periods(self._clock.now(), from_=from_, to=to, bucket=bucket, timezone=timezone)
        dimensions = _dimensions(side, group_by)
        network_total: NetworkTotal | None = None
        names: dict[UUID, str] = {}
        async with self._database.transaction(scope) as tx:
            total, *groups = await store_analytics.figures(
                tx, scope.network_id, scope.user_id, side, asked, dimensions, limit=ROWS_MAX + 1
            )
            if len(groups) > ROWS_MAX:
                raise InvalidInput(
                    f"group_by: gives over {ROWS_MAX} rows; ask for a shorter range, a longer bucket or less",
                    field="group_by",
                )
            running = await store_analytics.running(tx, scope.network_id, scope.user_id, side)
            if may(scope.role, Action.MONEY):
                moved = await store_analytics.settled(tx, scope.network_id, _ACCOUNT[side], asked)
                network_total = NetworkTotal(*moved)
            keys = {group["key"] for group in groups if group["key"] is not None}
            if keys:
                names = await store_analytics.key_names(tx, scope.network_id, list(keys))
            devices = {group["device"] for group in groups if group["device"] is not None}
            if devices:
                names |= await store_analytics.device_names(tx, scope.network_id, list(devices))
        return AnalyticsReport(
            side=side,
            start=asked.from_.astimezone(asked.zone),
            end=asked.to.astimezone(asked.zone),
            bucket=asked.bucket,
            timezone=asked.zone_name,
            group_by=dimensions,
            running=running,
            total=_figures(total),
            network_total=network_total,
            rows=[_row(asked, dimensions, names, group) for group in groups],
        )


def _dimensions(side: Side, group_by: str | None) -> list[str]:
    known = DIMENSIONS[side]
    asked = group_by.split(",") if group_by else []
    if len(asked) > DIMENSIONS_MAX or len(set(asked)) != len(asked) or not set(asked) <= set(known):
        rule = f"must be at most {DIMENSIONS_MAX} different ones of {', '.join(known)}, with commas between"
        raise InvalidInput(f"group_by: {rule}", field="group_by")
    return asked


def _row(asked: Periods, dimensions: list[str], names: Mapping[UUID, str], found: Any) -> Row:
    start, end = asked.span(found["period"])
    group: dict[str, str | int | None] = {}
    for name in dimensions:
        value = found[name]
        group[name] = str(value) if isinstance(value, UUID) else value
        if name in NAMED:
            group[NAMED[name]] = names.get(value)
    return Row(start, end, group, _figures(found))


def _figures(found: Any) -> Figures:
    counted = {name: int(found[name]) for name in _COUNTED}
    ended = counted["completed"] + counted["failed"] + counted["refunded"]
    microseconds = counted["generation_microseconds"]
    p50, p95, p99 = found["latencies_ms"] or (None, None, None)
    judged_sum = int(found["quality_ppm_sum"])
    return Figures(
        **counted,
        success_share=counted["completed"] / ended if ended else None,
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        latency_ms_p99=p99,
        tokens_per_second=counted["completion_tokens"] * 1_000_000 / microseconds if microseconds else None,
        quality=judged_sum / 1_000_000 / counted["judged"] if counted["judged"] else None,
    )
