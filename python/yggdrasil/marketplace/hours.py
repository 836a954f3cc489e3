"""Pure: the hours in which a device takes work, in the local time of its zone. No I/O, no clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from yggdrasil.errors import InvalidInput

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOWS_MAX: Final = 32
ZONE_DEFAULT: Final = "UTC"
_DAY_MINUTES: Final = 24 * 60
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


@dataclass(frozen=True, slots=True)
class Window:
    """A time of day on some weekdays (0 is Monday), in minutes of the local day. One that ends before it
    starts goes on into the next day."""

    days: tuple[int, ...]
    start_minute: int
    end_minute: int

    def holds(self, local: datetime) -> bool:
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.start_minute < self.end_minute:
            return today in self.days and self.start_minute <= minute < self.end_minute
        yesterday = (local - timedelta(days=1)).weekday()
        return (today in self.days and minute >= self.start_minute) or (
            yesterday in self.days and minute < self.end_minute
        )


def window(days: Sequence[str], start: str, end: str) -> Window:
    """A window out of what a caller wrote; InvalidInput names the field and its rule."""
    if not days or any(day not in DAYS for day in days) or len(set(days)) != len(days):
        raise InvalidInput(f"days: must list some of {', '.join(DAYS)}, each once", field="days")
    start_minute, end_minute = _minute(start, "from"), _minute(end, "to")
    if start_minute in (_DAY_MINUTES, end_minute) or end_minute == 0:
        raise InvalidInput(
            "to: must differ from `from`; the whole day is 00:00 to 24:00, midnight is the end 24:00",
            field="to",
        )
    return Window(tuple(sorted(DAYS.index(day) for day in days)), start_minute, end_minute)


def zone_from(name: str) -> str:
    """The name of an IANA zone, or InvalidInput."""
    if name not in _zones():
        raise InvalidInput("zone: must be an IANA time zone such as Europe/Berlin", field="zone")
    return name


def is_open(windows: Sequence[Window], zone: str, now: datetime) -> bool:
    """Whether one of the windows holds now; without any it always is."""
    if not windows:
        return True
    local = now.astimezone(ZoneInfo(zone))
    return any(one.holds(local) for one in windows)


def as_rows(windows: Sequence[Window]) -> list[dict[str, object]]:
    """As people write and the database stores them."""
    return [
        {
            "days": [DAYS[day] for day in one.days],
            "from": _text(one.start_minute),
            "to": _text(one.end_minute),
        }
        for one in windows
    ]


def from_rows(rows: Sequence[dict[str, object]]) -> tuple[Window, ...]:
    """Windows as they were stored, or as a caller wrote them; InvalidInput names the field."""
    if len(rows) > WINDOWS_MAX:
        raise InvalidInput(f"hours: must list at most {WINDOWS_MAX} windows", field="hours")
    made = []
    for row in rows:
        days = row["days"]
        listed = [str(day) for day in days] if isinstance(days, list | tuple) else []
        made.append(window(listed, str(row["from"]), str(row["to"])))
    return tuple(made)


def _minute(text: str, field: str) -> int:
    if _TIME.fullmatch(text) is None:
        raise InvalidInput(f"{field}: must be a time such as 08:30, up to 24:00", field=field)
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _text(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
