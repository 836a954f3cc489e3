"""The SQL of analytics: sums over a person's own ended transactions, and of a network's settlements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from yggdrasil.db import Tx
from yggdrasil.marketplace.analytics_periods import Periods

PERCENTILES: Final = (0.5, 0.95, 0.99)
_EPOCH_MICROSECONDS: Final = 1_000_000

# The groups and the total of them all are one statement, so that they are of one moment. A dimension nobody
# asked for is NULL in every row, and so does not divide them. `$8` and `$9` are the offsets in force.
_FIGURES: Final = """
    WITH mine AS (
        SELECT width_bucket(t.ended_at, $6::timestamptz[]) - 1 AS period,
            CASE WHEN 'kind' = ANY ($7::text[]) THEN t.kind END AS kind,
            CASE WHEN 'model' = ANY ($7::text[]) THEN t.model END AS model,
            CASE WHEN 'scope' = ANY ($7::text[]) THEN t.scope END AS scope,
            CASE WHEN 'state' = ANY ($7::text[]) THEN t.state END AS state,
            CASE WHEN 'error' = ANY ($7::text[]) THEN t.error_code END AS error,
            CASE WHEN 'device' = ANY ($7::text[]) THEN t.device END AS device,
            CASE WHEN 'key' = ANY ($7::text[]) THEN t.key_id END AS key,
            CASE WHEN 'offer' = ANY ($7::text[]) THEN t.decision_card ->> 'chosen' END AS offer,
            CASE WHEN 'weekday' = ANY ($7::text[]) THEN extract(isodow FROM l.at)::int END AS weekday,
            CASE WHEN 'hour' = ANY ($7::text[]) THEN extract(hour FROM l.at)::int END AS hour,
            t.state AS ended_as, t.attempts, t.prompt_tokens, t.completion_tokens, t.total_microcents,
            t.fee_microcents, t.earnings_microcents, t.latency_ms, t.quality_ppm,
            (extract(epoch FROM t.ended_at - t.created_at) * $10::bigint)::bigint AS microseconds
        FROM tenant.transactions t
        CROSS JOIN LATERAL (
            SELECT (t.ended_at AT TIME ZONE 'UTC') + make_interval(
                secs => ($9::int[])[width_bucket(t.ended_at, $8::timestamptz[])]) AS at
        ) l
        WHERE t.network_id = $1 AND t.user_id = $2 AND t.side = $3 AND t.ended_at >= $4 AND t.ended_at < $5
    )
    SELECT grouping(period) = 1 AS is_total, period, kind, model, scope, state, error, device, key, offer,
        weekday, hour,
        count(*) AS requests,
        count(*) FILTER (WHERE ended_as = 'COMPLETED') AS completed,
        count(*) FILTER (WHERE ended_as = 'FAILED') AS failed,
        count(*) FILTER (WHERE ended_as = 'CANCELLED') AS cancelled,
        count(*) FILTER (WHERE ended_as = 'REFUNDED') AS refunded,
        coalesce(sum(attempts), 0) AS attempts,
        coalesce(sum(prompt_tokens), 0) AS prompt_tokens,
        coalesce(sum(completion_tokens), 0) AS completion_tokens,
        coalesce(sum(total_microcents), 0) AS cost_microcents,
        coalesce(sum(fee_microcents), 0) AS fee_microcents,
        coalesce(sum(earnings_microcents), 0) AS earnings_microcents,
        coalesce(sum(microseconds) FILTER (WHERE completion_tokens > 0), 0) AS generation_microseconds,
        count(quality_ppm) AS judged,
        coalesce(sum(quality_ppm), 0) AS quality_ppm_sum,
        percentile_disc($11::float8[]) WITHIN GROUP (ORDER BY latency_ms)
            FILTER (WHERE ended_as = 'COMPLETED') AS latencies_ms
    FROM mine
    GROUP BY GROUPING SETS (
        (), (period, kind, model, scope, state, error, device, key, offer, weekday, hour)
    )
    ORDER BY is_total DESC, period, kind, model, scope, state, error, device, key, offer, weekday, hour
    LIMIT $12
"""


async def figures(
    tx: Tx,
    network_id: UUID,
    user_id: UUID,
    side: str,
    periods: Periods,
    dimensions: Sequence[str],
    *,
    limit: int,
) -> list[Any]:
    """The total first, then at most `limit` groups by period and dimensions."""
    return await tx.fetch(
        _FIGURES,
        network_id,
        user_id,
        side,
        periods.from_,
        periods.to,
        periods.starts,
        list(dimensions),
        periods.changes,
        periods.offsets,
        _EPOCH_MICROSECONDS,
        list(PERCENTILES),
        limit + 1,
    )


async def running(tx: Tx, network_id: UUID, user_id: UUID, side: str) -> int:
    """How many transactions of the person have not ended."""
    count: int = await tx.fetchval(
        "SELECT count(*) FROM tenant.transactions WHERE network_id = $1 AND user_id = $2 AND side = $3"
        " AND state IN ('PENDING', 'PROCESSING')",
        network_id,
        user_id,
        side,
    )
    return count


async def settled(tx: Tx, network_id: UUID, account: str, periods: Periods) -> tuple[int, int]:
    """How many settlements moved an account (`wallet` or `earnings`) of the network, and by how much."""
    row = await tx.fetchrow(
        "SELECT count(DISTINCT transfer_id) AS settlements,"
        " coalesce(sum(abs(amount_microcents)), 0) AS microcents"
        " FROM tenant.entries WHERE network_id = $1 AND account = $2"
        " AND account IN ('wallet', 'earnings') AND kind = 'settlement' AND at >= $3 AND at < $4",
        network_id,
        account,
        periods.from_,
        periods.to,
    )
    return (row["settlements"], int(row["microcents"])) if row is not None else (0, 0)


async def device_names(tx: Tx, network_id: UUID, devices: Sequence[UUID]) -> dict[UUID, str]:
    """The ids their owners gave to devices that still exist."""
    rows = await tx.fetch(
        "SELECT id, device_id FROM tenant.devices WHERE network_id = $1 AND id = ANY ($2::uuid[])",
        network_id,
        list(devices),
    )
    return {row["id"]: row["device_id"] for row in rows}


async def key_names(tx: Tx, network_id: UUID, keys: Sequence[UUID]) -> dict[UUID, str]:
    """The names of API keys of the person's own that are not revoked."""
    rows = await tx.fetch(
        "SELECT key_id, name FROM tenant.api_keys"
        " WHERE network_id = $1 AND key_id = ANY ($2::uuid[]) AND revoked_at IS NULL",
        network_id,
        list(keys),
    )
    return {row["key_id"]: row["name"] for row in rows}
