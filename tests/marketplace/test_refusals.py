"""A device that says `busy` is asked for what it runs, and for more as time passes without a refusal."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import SeededIds
from yggdrasil.marketplace import refusals
from yggdrasil.marketplace.refusals import Refusals

IDS = SeededIds(1)
DEVICE, OTHER = (IDS.uuid(), IDS.uuid()), (IDS.uuid(), IDS.uuid())
REST = refusals.REST_SECONDS


class Loop:
    """Timers of a loop whose time passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Timer]] = []

    def call_later(self, seconds: float, call: object, *given: object) -> Timer:
        timer = Timer(call, given)
        self.timers.append((self.now + seconds, timer))
        return timer

    def pass_to(self, now: float) -> None:
        while due := sorted(
            ((at, timer) for at, timer in self.timers if at <= now), key=lambda item: item[0]
        ):
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][1].run()
        self.now = now


class Timer:
    def __init__(self, call: object, given: tuple[object, ...]) -> None:
        self.call, self.given, self.cancelled = call, given, False

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        if not self.cancelled:
            self.call(*self.given)  # type: ignore[operator]


class Market:
    """What is told of devices, in order."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.told: list[tuple[float, bool]] = []
        self.refusals = Refusals(lambda _, more: self.told.append((self.loop.now, more)))


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Market:
    made = Market()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made.loop)
    return made


def test_one_more_then_two_more_then_all(market: Market) -> None:
    known = market.refusals
    assert known.slots(DEVICE) is None
    known.refused(DEVICE, 3, 10)
    seen = [known.slots(DEVICE)]
    for rests in range(1, 4):
        market.loop.pass_to(rests * REST)
        seen.append(known.slots(DEVICE))
    assert seen == [3, 4, 6, 10]
    assert market.told == [(0.0, False), (REST, True), (2 * REST, True), (3 * REST, True)]
    assert known.slots(OTHER) is None
    market.loop.pass_to(60)
    assert known.slots(DEVICE) is None


def test_each_further_refusal_doubles_the_rest_up_to_a_limit(market: Market) -> None:
    rests = []
    for _ in range(7):
        market.refusals.refused(DEVICE, 0, 1)
        began = market.loop.now
        while market.refusals.slots(DEVICE) == 0:
            market.loop.pass_to(market.loop.now + 0.125)
        rests.append(market.loop.now - began)
    assert rests == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0]


def test_a_job_done_or_a_quiet_time_ends_that(market: Market) -> None:
    known = market.refusals
    for how in ("done", "quiet"):
        for _ in range(3):
            known.refused(DEVICE, 0, 1)
            market.loop.pass_to(market.loop.now + 2.0)
        if how == "done":
            known.served(DEVICE)
        else:
            market.loop.pass_to(market.loop.now + 2 * refusals.REST_SECONDS_MAX)
        known.refused(DEVICE, 0, 1)
        market.loop.pass_to(market.loop.now + REST)
        assert known.slots(DEVICE) != 0
        market.loop.pass_to(market.loop.now + 60)


def test_refusals_of_what_was_on_its_way_together_are_one(market: Market) -> None:
    for running in (7, 6, 5, 1):
        market.refusals.refused(DEVICE, running, 8)
    assert market.refusals.slots(DEVICE) == 1
    market.loop.pass_to(REST)
    assert market.refusals.slots(DEVICE) == 2


def test_a_device_that_is_back_is_another_one(market: Market) -> None:
    market.refusals.refused(DEVICE, 0, 4)
    market.refusals.forget(DEVICE)
    assert market.refusals.slots(DEVICE) is None
    assert market.told == [(0.0, False), (0.0, True)]
    market.refusals.forget(DEVICE)
    market.loop.pass_to(60)
    assert len(market.told) == 2


def test_a_server_that_stops_leaves_no_timer(market: Market) -> None:
    market.refusals.refused(DEVICE, 0, 4)
    market.refusals.stop()
    market.loop.pass_to(60)
    assert len(market.told) == 1


@given(
    capacity=st.integers(1, 64),
    events=st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 63)), min_size=1, max_size=20),
)
def test_it_is_always_asked_again_and_never_for_more_than_it_runs_right_after_a_refusal(
    capacity: int, events: list[tuple[float, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        market = Market()
        patch.setattr(asyncio, "get_running_loop", lambda: market.loop)
        for seconds, running in events:
            market.loop.pass_to(market.loop.now + seconds)
            market.refusals.refused(DEVICE, running, capacity)
            slots = market.refusals.slots(DEVICE)
            assert slots is not None
            assert slots <= running
        last = market.loop.now
        market.loop.pass_to(last + refusals.REST_SECONDS_MAX)
        assert market.told[-1][1], "nobody asks it again"
        market.loop.pass_to(last + 60)
        assert market.refusals.slots(DEVICE) is None
        assert not any(not timer.cancelled for _, timer in market.loop.timers)
