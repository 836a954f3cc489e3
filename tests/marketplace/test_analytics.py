"""Every figure of analytics equals the rows behind it: recomputed here, in another way, from raw rows."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.marketplace.test_analytics_periods import local_key
from tests.support import ManualClock, SeededIds, as_superuser, make_network
from yggdrasil.db import Database
from yggdrasil.db.address import Login
from yggdrasil.errors import InvalidInput
from yggdrasil.kernel import Network, Role
from yggdrasil.marketplace import analytics
from yggdrasil.marketplace.analytics import DIMENSIONS, Analytics, AnalyticsReport

ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana", "Pacific/Apia"]
# The clock goes back in Berlin at 01:00Z and in Havana at 05:00Z on these days, and forward on the others.
EVENTS = [
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 5, tzinfo=UTC),
    datetime(2026, 11, 1, 5, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 6, 30, 23, 59, 59, 999_999, tzinfo=UTC),
]
STATES = ["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED", "REFUNDED", "PROCESSING", "PENDING"]
INSERT = """
    INSERT INTO tenant.transactions ({0})
    SELECT {0} FROM jsonb_populate_recordset(NULL::tenant.transactions, $1::text::jsonb)
"""


def made_rows(ids: SeededIds, people: list[Network], count: int) -> list[dict[str, Any]]:
    """Transactions of these people around changes of the clock and far from them."""
    random = ids._random
    devices = [ids.uuid() for _ in range(3)]
    keys = [ids.uuid() for _ in range(2)]
    rows = []
    for _ in range(count):
        person, side, state = (
            random.choice(people),
            random.choice(["provider", "requester"]),
            random.choice(STATES),
        )
        ended = random.choice(EVENTS) + timedelta(
            microseconds=int(random.gauss(0, random.choice([1, 3_600, 86_400, 40 * 86_400])) * 1e6)
        )
        if random.random() < 0.2:
            ended = random.choice(EVENTS)
        fee, earnings = random.choice([(0, 0), (random.randrange(10**9), random.randrange(10**12))])
        done = state not in ("PROCESSING", "PENDING")
        mine = side == "requester"
        rows.append(
            {
                "network_id": person.network_id,
                "side": side,
                "transaction_id": ids.uuid(),
                "user_id": person.user_id,
                "device": random.choice([*devices, None]),
                "key_id": random.choice([*keys, None]) if mine else None,
                "state": state,
                "scope": random.choice(["own", "network", "market"]),
                "kind": random.choice(["chat", "embeddings"]),
                "model": random.choice(["llama", "=1+1", 'quo"ted,\nmodel', "-x"]),
                "price_cents": 1,
                "price_unit_tokens": 1_000,
                "rounding": "per_request",
                "fee_basis_points": 1_000,
                "prompt_tokens": random.randrange(10_000),
                "completion_tokens": random.choice([0, random.randrange(10_000)]),
                "total_microcents": fee + earnings,
                "fee_microcents": fee,
                "earnings_microcents": earnings,
                "latency_ms": random.choice([None, random.randrange(5_000)]),
                "attempts": random.randrange(1, 5) if mine else 1,
                "decision_card": {"chosen": f"offer_{random.randrange(3)}"} if mine else None,
                "quality_ppm": random.choice([None, random.randrange(1_000_001)]) if done else None,
                "error_code": random.choice(["lost", "timeout"]) if state == "FAILED" else None,
                "created_at": ended - timedelta(microseconds=random.randrange(90_000_000)),
                "ended_at": ended if done else None,
            }
        )
    return rows


async def insert(database: Database, admin: Login, rows: list[dict[str, Any]]) -> None:
    sql = INSERT.format(", ".join(rows[0]))
    await as_superuser(database, admin, sql, msgspec.json.encode(rows).decode())


def recomputed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of these rows, by the words of `Figures`."""
    done = [row for row in rows if row["state"] == "COMPLETED"]
    judged = [row for row in rows if row["state"] in ("COMPLETED", "FAILED", "REFUNDED")]
    latencies = sorted(row["latency_ms"] for row in done if row["latency_ms"] is not None)
    gave = [row for row in rows if row["completion_tokens"]]
    microseconds = sum((row["ended_at"] - row["created_at"]) // timedelta(microseconds=1) for row in gave)

    def quantile(share: float) -> int | None:
        return latencies[max(1, math.ceil(share * len(latencies))) - 1] if latencies else None

    def total(name: str) -> int:
        return sum(row[name] for row in rows)

    qualities = [row["quality_ppm"] for row in rows if row["quality_ppm"] is not None]
    return {
        "judged": len(qualities),
        "quality": sum(qualities) / 1_000_000 / len(qualities) if qualities else None,
        "requests": len(rows),
        **{state.lower(): sum(row["state"] == state for row in rows) for state in sorted(set(STATES[2:6]))},
        "attempts": total("attempts"),
        "prompt_tokens": total("prompt_tokens"),
        "completion_tokens": total("completion_tokens"),
        "cost_microcents": total("total_microcents"),
        "fee_microcents": total("fee_microcents"),
        "earnings_microcents": total("earnings_microcents"),
        "generation_microseconds": microseconds,
        "success_share": len(done) / len(judged) if judged else None,
        "latency_ms_p50": quantile(0.5),
        "latency_ms_p95": quantile(0.95),
        "latency_ms_p99": quantile(0.99),
        "tokens_per_second": total("completion_tokens") * 1_000_000 / microseconds if microseconds else None,
    }


def group_of(row: dict[str, Any], dimensions: list[str], zone: str) -> dict[str, Any]:
    local = row["ended_at"].astimezone(ZoneInfo(zone))
    found = {
        "error": row["error_code"],
        "key": str(row["key_id"]) if row["key_id"] else None,
        "device": str(row["device"]) if row["device"] else None,
        "offer": (row["decision_card"] or {}).get("chosen"),
        "weekday": local.isoweekday(),
        "hour": local.hour,
    }
    return {name: found[name] if name in found else row[name] for name in dimensions}


class Books:
    """Three people's rows in one database: two of one network, and a stranger."""

    def __init__(self, database: Database, clock: ManualClock, people: list[Network]) -> None:
        self.analytics = Analytics(database, clock)
        self.people = people
        self.rows: list[dict[str, Any]] = []


@pytest.fixture
async def books(database: Database, clock: ManualClock, ids: SeededIds, admin: Login) -> Books:
    home = await make_network(database, ids, clock)
    mate = await make_network(database, ids, clock, role=Role.MEMBER, home=home.network_id)
    made = Books(database, clock, [home, mate, await make_network(database, ids, clock)])
    made.rows = made_rows(ids, made.people, 900)
    await insert(database, admin, made.rows)
    return made


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    side = draw(st.sampled_from(["provider", "requester"]))
    bucket = draw(st.sampled_from(["hour", "day", "week", "month", "all"]))
    around = draw(st.sampled_from(EVENTS))
    hours = st.integers(0, 1_000 if bucket == "hour" else 9_000)
    offset = timedelta(microseconds=draw(st.sampled_from([0, 0, 1, 1_799_999_999])))
    return {
        "person": draw(st.integers(0, 2)),
        "side": side,
        "bucket": bucket,
        "timezone": draw(st.sampled_from(ZONES)),
        "group_by": draw(st.lists(st.sampled_from(DIMENSIONS[side]), max_size=4, unique=True)),
        "start": around - timedelta(hours=draw(hours)) - offset,
        "end": around
        + timedelta(hours=draw(hours))
        + draw(st.sampled_from([offset, timedelta(microseconds=1)])),
    }


async def asked(books: Books, question: dict[str, Any]) -> AnalyticsReport:
    return await books.analytics.report(
        books.people[question["person"]],
        question["side"],
        from_=question["start"].isoformat(),
        to=question["end"].isoformat(),
        bucket=question["bucket"],
        timezone=question["timezone"],
        group_by=",".join(question["group_by"]) or None,
    )


@settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(question=questions())
async def test_every_figure_equals_the_rows_behind_it(books: Books, question: dict[str, Any]) -> None:
    if question["start"] >= question["end"]:
        return
    person, zone, dimensions = books.people[question["person"]], question["timezone"], question["group_by"]
    mine = [row for row in books.rows if row["user_id"] == person.user_id and row["side"] == question["side"]]
    ended = [
        row for row in mine if row["ended_at"] and question["start"] <= row["ended_at"] < question["end"]
    ]
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ended:
        period = None if question["bucket"] == "all" else local_key(row["ended_at"], question["bucket"], zone)
        groups[repr((period, group_of(row, dimensions, zone)))].append(row)

    report = await asked(books, question)
    assert msgspec.to_builtins(report.total) == recomputed(ended)
    assert report.running == len([row for row in mine if row["ended_at"] is None])
    assert len(report.rows) == len(groups)
    for row in report.rows:
        period = None if question["bucket"] == "all" else local_key(row.start, question["bucket"], zone)
        shown = {name: value for name, value in row.group.items() if name not in ("device_id", "key_name")}
        behind = groups.pop(repr((period, shown)))
        assert msgspec.to_builtins(row.figures) == recomputed(behind)
        assert all(row.start <= each["ended_at"] < row.end for each in behind)
    assert not groups
    # As instants: Python compares two times of one zone by the wall clock, and an hour may come twice.
    starts = [row.start.astimezone(UTC) for row in report.rows]
    assert starts == sorted(starts)


async def test_the_control_a_row_more_is_seen(
    books: Books, database: Database, ids: SeededIds, admin: Login
) -> None:
    question = {
        "person": 0,
        "side": "provider",
        "bucket": "month",
        "timezone": "Europe/Berlin",
        "group_by": [],
        "start": datetime(2026, 1, 1, tzinfo=UTC),
        "end": datetime(2027, 1, 1, tzinfo=UTC),
    }
    before = await asked(books, question)
    assert before.total.requests > 10
    (row,) = made_rows(ids, books.people[:1], 1)
    row |= {
        "side": "provider",
        "state": "COMPLETED",
        "ended_at": EVENTS[0],
        "key_id": None,
        "decision_card": None,
    }
    row |= {"error_code": None, "created_at": EVENTS[0], "attempts": 1}
    await insert(database, admin, [row])
    after = await asked(books, question)
    assert after.total.requests == before.total.requests + 1
    assert after.total.earnings_microcents == before.total.earnings_microcents + row["earnings_microcents"]


async def test_too_many_rows_are_refused(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    question = {
        "person": 0,
        "side": "provider",
        "bucket": "day",
        "timezone": "UTC",
        "group_by": ["model", "state"],
        "start": datetime(2026, 1, 1, tzinfo=UTC),
        "end": datetime(2027, 1, 1, tzinfo=UTC),
    }
    rows = len((await asked(books, question)).rows)
    monkeypatch.setattr(analytics, "ROWS_MAX", rows)
    assert len((await asked(books, question)).rows) == rows
    monkeypatch.setattr(analytics, "ROWS_MAX", rows - 1)
    with pytest.raises(InvalidInput, match=f"over {rows - 1} rows"):
        await asked(books, question)
