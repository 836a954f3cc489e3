"""Ids that are not there: few rows for many, an alert for unusually many, nothing kept of the id itself."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from tests.conftest import SEED
from tests.support import ManualClock, SeededIds
from yggdrasil.audit import EventKind
from yggdrasil.audit.detection import ALERT_SECONDS, PER_ASKER, PER_NETWORK, Bucket, Rule
from yggdrasil.audit.events import Actor, ActorKind, Event
from yggdrasil.audit.unknown import ASKERS_MAX, NETWORKS_MAX, TOLD, WINDOW_SECONDS_MAX, UnknownIds
from yggdrasil.kernel import PLATFORM_NETWORK
from yggdrasil.keys import Key, KeyRing

RING = KeyRing((Key("k1", bytes(range(32))),))
NETWORK, USER = UUID(int=1001), UUID(int=1002)
ME = Actor(ActorKind.USER, USER)


class Heard:
    """Unknown ids under a clock that moves when told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.source = random.Random(SEED)
        self.unknown = UnknownIds(self.clock, SeededIds(SEED), RING)
        self.events: list[Event] = []

    def ask(
        self, count: int = 1, *, every: float = 0.0, path: str = "", who: Actor = ME, network: UUID = NETWORK
    ) -> None:
        for _ in range(count):
            self.unknown.note(network, who, USER, path or f"/api/v1/devices/{self.source.random()}")
            self.pass_time(every)

    def pass_time(self, seconds: float) -> None:
        """Second by second, as the job does."""
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            seconds -= 1.0
            self.take()

    def take(self) -> None:
        self.events += self.unknown.take()

    def of(self, kind: EventKind, network: UUID = NETWORK) -> list[Event]:
        self.take()
        return [one for one in self.events if one.kind is kind and one.network_id == network]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_the_first_is_told_at_once_and_the_rest_as_a_count(heard: Heard) -> None:
    heard.ask()
    (first,) = heard.of(EventKind.UNKNOWN_REFUSED)
    assert first.detail["count"] == 1
    assert (first.actor, first.user_id) == (ME, USER)
    heard.ask(5, every=1)
    assert len(heard.of(EventKind.UNKNOWN_REFUSED)) == 1
    heard.pass_time(70)
    _, second = heard.of(EventKind.UNKNOWN_REFUSED)
    assert second.detail["count"] == 5
    assert len(second.detail["digests"]) == 5  # type: ignore[arg-type]


def test_nothing_of_the_id_is_in_an_event_and_networks_cannot_compare(heard: Heard) -> None:
    secret = "phone-of-the-neighbour"
    heard.ask(path=f"/api/v1/devices/{secret}")
    heard.ask(path=f"/api/v1/devices/{secret}", network=UUID(int=9))
    heard.ask(path="x" * 10_000 + "\udc80")
    heard.take()
    mine, theirs = (one.detail["digests"] for one in heard.events)
    assert mine != theirs
    assert all(secret not in one.detail_text() for one in heard.events)
    again = Heard()
    again.ask(path=f"/api/v1/devices/{secret}")
    assert again.of(EventKind.UNKNOWN_REFUSED)[0].detail["digests"] == mine


def test_every_question_is_in_exactly_one_count(heard: Heard) -> None:
    asked = 0
    for _ in range(300):
        count = heard.source.randrange(1, 4)
        heard.ask(count, path=heard.source.choice(["", "/same"]))
        asked += count
        heard.pass_time(heard.source.choice([0, 1, 30, 300]))
    heard.events += heard.unknown.take_all()
    counted = sum(int(str(one.detail["count"])) for one in heard.of(EventKind.UNKNOWN_REFUSED))
    assert counted == asked


def test_windows_that_end_at_one_moment_are_told_in_an_order(heard: Heard) -> None:
    """A chain puts events of the same time in the order of their ids, which are random."""
    askers = [Actor(ActorKind.KEY, UUID(int=number)) for number in range(8)]
    for _ in range(3):
        for who in askers:
            heard.ask(who=who)
    heard.clock.advance(90_000)
    told = heard.of(EventKind.UNKNOWN_REFUSED)
    assert [one.actor for one in told] == askers + askers
    assert all(earlier.at < later.at for earlier, later in itertools.pairwise(told))
    assert told[-1].at - heard.clock.now() < timedelta(milliseconds=1)


def test_a_scan_alerts_and_an_honest_client_does_not(heard: Heard) -> None:
    # Somebody's program that lost a device, and asks for it every second for a day of an hour.
    heard.ask(3_600, every=1, path="/api/v1/devices/lost")
    # And somebody who mistypes now and then.
    heard.ask(60, every=30)
    assert heard.of(EventKind.UNKNOWN_ALERT) == []
    heard.ask(100, every=0.2)
    (alert,) = heard.of(EventKind.UNKNOWN_ALERT)
    assert (alert.actor, alert.user_id, alert.detail) == (ME, USER, {"rule": "asker"})
    (told,) = heard.of(EventKind.UNKNOWN_ALERT, PLATFORM_NETWORK)
    assert told.subject_id == NETWORK
    assert told.detail == {"rule": "asker", "event": str(alert.event_id)}
    assert (told.user_id, told.actor.actor_id) == (None, None)


def test_the_threshold_is_where_the_page_says(heard: Heard) -> None:
    heard.ask(int(PER_ASKER.size))
    assert heard.of(EventKind.UNKNOWN_ALERT) == []
    heard.ask()
    assert len(heard.of(EventKind.UNKNOWN_ALERT)) == 1


def test_one_id_asked_very_often_alerts_too(heard: Heard) -> None:
    """A clock that is read many times may tell what no answer does."""
    heard.ask(300, path="/api/v1/devices/one")
    assert len(heard.of(EventKind.UNKNOWN_ALERT)) == 1


def test_many_keys_of_one_network_are_seen_together(heard: Heard) -> None:
    keys = [Actor(ActorKind.KEY, UUID(int=number)) for number in range(20)]
    for number in range(int(PER_NETWORK.size) + 1):
        heard.ask(who=keys[number % len(keys)])
    (alert,) = heard.of(EventKind.UNKNOWN_ALERT)
    assert alert.detail == {"rule": "network"}
    assert alert.actor.kind is ActorKind.SYSTEM


def test_a_flood_makes_few_rows_and_few_alerts(heard: Heard) -> None:
    """An hour of 50 a second by 100 keys, more than are told apart."""
    keys = [Actor(ActorKind.KEY, UUID(int=number)) for number in range(100)]
    for _ in range(3_600):
        for _ in range(50):
            heard.ask(who=heard.source.choice(keys))
        heard.pass_time(1)
    rows = Counter(one.kind for one in heard.events if one.network_id == NETWORK)
    assert rows[EventKind.UNKNOWN_REFUSED] <= TOLD.size + 60 * TOLD.leak_per_minute + 1
    assert 1 <= rows[EventKind.UNKNOWN_ALERT] <= 3_600 / 60
    assert len(heard.unknown._networks[NETWORK].askers) == ASKERS_MAX + 1
    heard.events += heard.unknown.take_all()
    counted = sum(
        int(str(one.detail["count"])) for one in heard.events if one.kind is EventKind.UNKNOWN_REFUSED
    )
    assert counted == 3_600 * 50


def test_what_one_network_does_changes_nothing_for_another() -> None:
    """The same questions, alone and beside a flood: the same events but for their ids."""

    def told(flood: bool) -> list[tuple[object, ...]]:
        heard = Heard()
        source = random.Random(SEED + 1)
        for _ in range(200):
            heard.ask(path=f"/x/{source.random()}")
            if flood:
                for _ in range(5):
                    heard.ask(network=UUID(int=77), who=Actor(ActorKind.KEY, UUID(int=5)))
            heard.pass_time(source.choice([0, 1, 10]))
        heard.pass_time(WINDOW_SECONDS_MAX)
        return [
            (one.kind, one.at, one.actor, one.detail) for one in heard.events if one.network_id == NETWORK
        ]

    alone, beside = told(flood=False), told(flood=True)
    assert alone == beside
    assert {kind for kind, *_ in alone} == {EventKind.UNKNOWN_REFUSED, EventKind.UNKNOWN_ALERT}


def test_memory_is_bounded_and_forgets_who_is_quiet(heard: Heard) -> None:
    for number in range(NETWORKS_MAX + 50):
        heard.unknown.note(UUID(int=number), ME, USER, "x")
    assert len(heard.unknown._networks) == NETWORKS_MAX
    heard.unknown.take()
    heard.clock.advance(WINDOW_SECONDS_MAX)
    heard.unknown.take()
    assert heard.unknown._networks == {}


def test_a_bucket_alerts_once_until_it_was_half_empty() -> None:
    bucket = Bucket(Rule(size=4, leak_per_minute=60))
    assert [bucket.add(1, 0.0) for _ in range(7)] == [False] * 4 + [True] + [False] * 2
    assert bucket.level_at(1.0) == 6
    assert not any(bucket.add(1, 1.0) for _ in range(3))
    # Empty long before, but an alert was given a moment ago.
    assert not any(bucket.add(1, 60.0) for _ in range(5))
    later = ALERT_SECONDS + 100
    assert [bucket.add(1, later) for _ in range(5)] == [False] * 4 + [True]
