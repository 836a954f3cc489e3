"""Periods of local time: where hours, days, weeks and months begin in a time zone. No I/O.

Everything about a zone is worked out here and handed to SQL as instants, so that the database's own copy of
the time zone rules, which may be of another year, decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from yggdrasil.errors import InvalidInput

Bucket = Literal["hour", "day", "week", "month", "all"]

DAYS_DEFAULT: Final = 30
DAYS_MAX: Final = 3_660
PERIODS_MAX: Final = 2_400
"""A hundred days of hours."""
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)

_SECOND: Final = timedelta(seconds=1)
_HOUR: Final = timedelta(hours=1)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,32}){0,2}\Z")


@dataclass(frozen=True, slots=True)
class Periods:
    """`[from_, to)` in `zone`, cut where its periods begin.

    starts: the first is `from_`, each other one the first instant of a period.
    changes, offsets: the seconds east of UTC from each change on; the first change is `from_`.
    """

    from_: datetime
    to: datetime
    bucket: Bucket
    zone: tzinfo
    zone_name: str
    starts: list[datetime]
    changes: list[datetime]
    offsets: list[int]

    def span(self, index: int) -> tuple[datetime, datetime]:
        """First instant and end of a period, with the offsets of the zone."""
        end = self.starts[index + 1] if index + 1 < len(self.starts) else self.to
        return self.starts[index].astimezone(self.zone), end.astimezone(self.zone)


def periods(now: datetime, *, from_: str | None, to: str | None, bucket: Bucket, timezone: str) -> Periods:
    """The periods asked for. InvalidInput names the parameter."""
    zone = _zone(timezone)
    end = _moment(to, "to") if to is not None else now
    # A default must not be what breaks the rule.
    start = _moment(from_, "from") if from_ is not None else end - timedelta(days=DAYS_DEFAULT)
    if not EARLIEST <= start < end <= LATEST:
        raise InvalidInput("from: must be before `to`, and both in the years 2000 to 2199", field="from")
    if end - start > timedelta(days=DAYS_MAX):
        raise InvalidInput(f"from: must be at most {DAYS_MAX} days before `to`", field="from")
    starts = _starts(start, end, bucket, zone)
    changes = _changes(start, end, zone)
    offsets = [_offset_seconds(change, zone) for change in changes]
    return Periods(start, end, bucket, zone, timezone, starts, changes, offsets)


def _moment(text: str, field: str) -> datetime:
    try:
        found: datetime = msgspec.convert(text, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError:
        rule = "must be a time with an offset (RFC 3339), such as 2026-03-01T00:00:00Z"
        hint = "; a + in a query is written %2B" if " " in text else ""
        raise InvalidInput(f"{field}: {rule}{hint}", field=field) from None
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"{field}: must be in the years 2000 to 2199", field=field) from None


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # there also on a machine without a time zone database
    # `localtime` is a file of the machine, and no zone of anybody's.
    if _ZONE.match(name) and name.lower() != "localtime":
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise InvalidInput(
        "timezone: must be a name of the IANA database, such as Europe/Berlin", field="timezone"
    )


def _offset_seconds(at: datetime, zone: tzinfo) -> int:
    offset = at.astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _first(low: datetime, high: datetime, holds: Callable[[datetime], bool]) -> datetime:
    """The first whole second after `low` at which `holds`, as it does at `high`: zones change on seconds."""
    low = low.replace(microsecond=0)
    if high.microsecond:
        high = high.replace(microsecond=0) + _SECOND
    while high - low > _SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _changes(start: datetime, end: datetime, zone: tzinfo) -> list[datetime]:
    """`start`, and every instant in the range from which the offset is another one."""
    found, at = [start], start
    while at < end:
        then = min(at + timedelta(days=1), end)
        before = _offset_seconds(at, zone)
        if _offset_seconds(then, zone) != before:
            change = _first(at, then, lambda when, old=before: _offset_seconds(when, zone) != old)  # type: ignore[misc]
            if change < end:
                found.append(change)
            then = change
        at = then
    return found


def _starts(start: datetime, end: datetime, bucket: Bucket, zone: tzinfo) -> list[datetime]:
    starts, at = [start], start
    while bucket != "all":
        at = _next_hour(at, zone) if bucket == "hour" else _next_date(at, bucket, zone)
        if at >= end:
            break
        if len(starts) == PERIODS_MAX:
            rule = f"bucket: at most {PERIODS_MAX} in the range; ask for a shorter range or a longer bucket"
            raise InvalidInput(rule, field="bucket")
        starts.append(at)
    return starts


def _next_hour(at: datetime, zone: tzinfo) -> datetime:
    """The next full hour of the clock on the wall, or the change of the clock if that comes first: an hour
    that comes twice is two periods."""
    local = at.astimezone(zone)
    past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    then, offset = at + (_HOUR - past), _offset_seconds(at, zone)
    if _offset_seconds(then, zone) == offset:
        return then
    return _first(at, then, lambda when: _offset_seconds(when, zone) != offset)


def _next_date(at: datetime, bucket: Bucket, zone: tzinfo) -> datetime:
    """The first instant of the next day, ISO week (Monday) or month."""
    today = at.astimezone(zone).date()
    day = _following(today, bucket)

    def reached(when: datetime) -> bool:
        return when.astimezone(zone).date() >= day

    midnight = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    # A midnight that does not exist, or a day that does not: then its first instant is looked for.
    if reached(midnight) and not reached(midnight - _SECOND):
        return midnight
    return _first(at, midnight + timedelta(days=2), reached)


def _following(day: date, bucket: Bucket) -> date:
    if bucket == "month":
        return date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return day + timedelta(days=7 - day.weekday() if bucket == "week" else 1)
