"""Periods against the clocks on people's walls: every instant is in the period its local time names."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from yggdrasil.errors import InvalidInput
from yggdrasil.marketplace.analytics_periods import DAYS_MAX, PERIODS_MAX, Periods, periods

# Halves and quarters of hours, changes of the clock by half an hour, by two, at midnight and across it,
# a day that never was (Apia, 30 December 2011).
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Havana",
    "America/Asuncion",
    "Asia/Beirut",
    "America/Nuuk",
    "America/Scoresbysund",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Asia/Tehran",
]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def local_key(at: datetime, bucket: str, zone: str) -> Any:
    """What a person there would call the period of `at`."""
    local = at.astimezone(ZoneInfo(zone))
    if bucket == "hour":
        return local.date(), local.hour, local.utcoffset()
    if bucket == "day":
        return local.date()
    return local.isocalendar()[:2] if bucket == "week" else (local.year, local.month)


def cut(start: datetime, end: datetime, bucket: Any, zone: str) -> Periods:
    return periods(NOW, from_=start.isoformat(), to=end.isoformat(), bucket=bucket, timezone=zone)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, str, datetime, datetime, list[datetime]]:
    zone = draw(st.sampled_from(ZONES))
    bucket = draw(st.sampled_from(["hour", "day", "week", "month"]))
    seconds = st.integers(0, 20 * 366 * 86_400)
    start = datetime(2011, 6, 1, tzinfo=UTC) + timedelta(
        seconds=draw(seconds), microseconds=draw(st.integers(0, 10**6 - 1))
    )
    length = draw(st.integers(1, 95 * 86_400 if bucket == "hour" else 900 * 86_400))
    inside = draw(st.lists(st.integers(0, length * 10**6 - 1), min_size=2, max_size=30))
    end = start + timedelta(seconds=length)
    return zone, bucket, start, end, sorted(start + timedelta(microseconds=each) for each in inside)


@given(cases())
@example(
    (
        "Pacific/Apia",
        "day",
        datetime(2011, 12, 28, tzinfo=UTC),
        datetime(2012, 1, 3, tzinfo=UTC),
        [datetime(2011, 12, 30, 9, 59, 59, tzinfo=UTC), datetime(2011, 12, 30, 10, tzinfo=UTC)],
    )
)
def test_two_instants_share_a_period_if_and_only_if_a_person_there_would_say_so(
    case: tuple[str, str, datetime, datetime, list[datetime]],
) -> None:
    zone, bucket, start, end, instants = case
    made = cut(start, end, bucket, zone)
    assert made.starts == sorted(set(made.starts))
    assert made.starts[0] == start
    # Beside made-up instants, both sides of every cut.
    tried = sorted({*instants, *made.starts, *(each - timedelta(microseconds=1) for each in made.starts[1:])})
    index = [bisect_right(made.starts, at) for at in tried]
    keys = [local_key(at, bucket, zone) for at in tried]
    for before, after in zip(range(len(tried)), range(1, len(tried)), strict=False):
        assert (index[before] == index[after]) == (keys[before] == keys[after]), tried[before : after + 1]
    for at in tried:
        offset = made.offsets[bisect_right(made.changes, at) - 1]
        assert timedelta(seconds=offset) == at.astimezone(ZoneInfo(zone)).utcoffset()


def test_a_day_in_berlin_has_23_and_25_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for day, hours in (
        (datetime(2026, 3, 29, tzinfo=berlin), 23),
        (datetime(2026, 10, 25, tzinfo=berlin), 25),
    ):
        end = day + timedelta(days=1)
        made = cut(day, end, "hour", "Europe/Berlin")
        assert len(made.starts) == hours
        assert {b - a for a, b in zip(made.starts, made.starts[1:], strict=False)} == {timedelta(hours=1)}
        (whole,) = cut(day, end, "day", "Europe/Berlin").starts
        assert whole == day


def test_a_period_is_shown_with_the_offset_of_its_ends() -> None:
    made = cut(
        datetime(2026, 10, 23, 22, tzinfo=UTC), datetime(2026, 10, 26, 23, tzinfo=UTC), "day", "Europe/Berlin"
    )
    shown = [[each.isoformat() for each in made.span(index)] for index in range(3)]
    assert shown == [
        ["2026-10-24T00:00:00+02:00", "2026-10-25T00:00:00+02:00"],
        ["2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"],
        ["2026-10-26T00:00:00+01:00", "2026-10-27T00:00:00+01:00"],
    ]


def test_the_default_is_the_last_thirty_days() -> None:
    made = periods(NOW, from_=None, to=None, bucket="all", timezone="UTC")
    assert (made.from_, made.to, made.starts) == (NOW - timedelta(days=30), NOW, [NOW - timedelta(days=30)])


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("timezone", {"timezone": "Middle/Earth"}),
        ("timezone", {"timezone": "../../etc/passwd"}),
        ("timezone", {"timezone": "localtime"}),
        ("timezone", {"timezone": "Europe"}),
        ("timezone", {"timezone": "a" * 100_000}),
        ("from", {"from_": "yesterday"}),
        ("from", {"from_": "2025-12-01"}),
        ("from", {"from_": "2025-12-01T00:00:00"}),
        ("from", {"from_": "0001-01-01T00:00:00+10:00"}),
        ("from", {"from_": "2026-01-01T00:00:00Z"}),
        ("to", {"to": "9999-12-31T23:59:59-10:00"}),
        ("to", {"to": "2025-12-01T00:00:00 02:00"}),
        ("from", {"from_": (NOW - timedelta(days=DAYS_MAX, seconds=1)).isoformat()}),
        ("bucket", {"from_": (NOW - timedelta(hours=PERIODS_MAX, seconds=1)).isoformat(), "bucket": "hour"}),
    ],
)
def test_what_cannot_be_is_named(field: str, asked: dict[str, Any]) -> None:
    given_ = {"from_": None, "to": None, "bucket": "day", "timezone": "UTC", **asked}
    with pytest.raises(InvalidInput) as refused:
        periods(NOW, **given_)
    assert refused.value.field == field
    assert refused.value.detail.startswith(field)


def test_the_most_periods_are_allowed() -> None:
    start = NOW - timedelta(hours=PERIODS_MAX)
    assert len(cut(start, NOW, "hour", "UTC").starts) == PERIODS_MAX
