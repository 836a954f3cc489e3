"""When a device takes work: windows of the local day, over midnight and over the change of the clocks."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from yggdrasil.errors import InvalidInput
from yggdrasil.marketplace.hours import as_rows, from_rows, is_open, window, zone_from

WORKDAYS = ["mon", "tue", "wed", "thu", "fri"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        ("2026-01-05T07:59", "UTC", False),
        ("2026-01-05T08:00", "UTC", True),
        ("2026-01-05T17:59", "UTC", True),
        ("2026-01-05T18:00", "UTC", False),
        ("2026-01-04T12:00", "UTC", False),  # a Sunday
        ("2026-01-05T07:00", "Europe/Berlin", True),
        ("2026-07-06T06:00", "Europe/Berlin", True),  # summer time
        ("2026-07-06T16:00", "Europe/Berlin", False),
        ("2026-01-05T22:00", "Asia/Tokyo", False),
        ("2026-01-05T23:30", "Asia/Tokyo", True),  # Tuesday there
    ],
)
def test_a_window_is_of_the_local_day(now: str, zone: str, expected: bool) -> None:
    assert is_open([window(WORKDAYS, "08:00", "18:00")], zone, at(now)) is expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-01-09T21:59", False),
        ("2026-01-09T22:00", True),  # Friday night
        ("2026-01-10T05:59", True),
        ("2026-01-10T06:00", False),
        ("2026-01-10T23:00", False),
    ],
)
def test_a_night_belongs_to_the_day_it_begins_on(now: str, expected: bool) -> None:
    assert is_open([window(["fri"], "22:00", "06:00")], "UTC", at(now)) is expected


def test_without_windows_it_is_always_open_and_a_day_can_be_whole() -> None:
    assert is_open([], "UTC", at("2026-01-05T03:00"))
    assert is_open([window(["mon"], "00:00", "24:00")], "UTC", at("2026-01-05T23:59"))


def test_windows_are_stored_as_they_are_written() -> None:
    made = (window(["sun", "mon"], "22:30", "06:00"), window(["wed"], "00:00", "24:00"))
    assert from_rows(as_rows(made)) == made


@pytest.mark.parametrize(
    ("days", "start", "end", "field"),
    [
        ([], "08:00", "18:00", "days"),
        (["mon", "mon"], "08:00", "18:00", "days"),
        (["someday"], "08:00", "18:00", "days"),
        (["mon"], "8:00", "18:00", "from"),
        (["mon"], "24:00", "18:00", "to"),
        (["mon"], "08:00", "24:01", "to"),
        (["mon"], "08:00", "08:00", "to"),
        (["mon"], "08:00", "00:00", "to"),
    ],
)
def test_bad_windows_name_the_field(days: list[str], start: str, end: str, field: str) -> None:
    with pytest.raises(InvalidInput, match=field) as caught:
        window(days, start, end)
    assert caught.value.field == field


def test_a_zone_is_one_of_iana() -> None:
    assert zone_from("Europe/Berlin") == "Europe/Berlin"
    for name in ("Berlin", "", "../etc/passwd", "UTC+1"):
        with pytest.raises(InvalidInput, match="zone"):
            zone_from(name)


@pytest.mark.parametrize(("without", "found"), [("", True), ("sys.modules['tzdata'] = None", False)])
def test_zones_need_nothing_of_the_system(without: str, found: bool) -> None:
    """Without a system's database of time zones there is the one that comes with the server: hours and
    analytics know a zone by it. The control: without that package too, nobody knows it."""
    program = f"""
import sys, zoneinfo
{without}
from yggdrasil.errors import InvalidInput
from yggdrasil.marketplace.analytics_periods import _zone
from yggdrasil.marketplace.hours import zone_from
assert zoneinfo.TZPATH == ()
for known in (zone_from, _zone):
    try:
        print(known("Asia/Kathmandu"))
    except InvalidInput as error:
        print(error.field)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONTZPATH": ""}, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == (["Asia/Kathmandu"] * 2 if found else ["zone", "timezone"])
