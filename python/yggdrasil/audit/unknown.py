"""Ids that were asked for and are not in the asker's network: counted in memory, told as events.

Whether such an id is another network's nobody here knows, and nobody looks: the answer must not depend on it,
nor its time. An event holds a keyed digest of the id, and so does the memory of which were asked before. The
first of an asker becomes an event at once, those that follow are counted, and told when a window ends that
doubles from a minute to an hour; so a flood makes few rows. A crash loses at most an open window.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from yggdrasil.audit.detection import NEW_WEIGHT, PER_ASKER, PER_NETWORK, REPEATED_WEIGHT, Bucket, Rule
from yggdrasil.audit.events import SYSTEM, Actor, Detail, Event, EventKind
from yggdrasil.kernel import PLATFORM_NETWORK, Clock, IdSource
from yggdrasil.keys import KeyRing
from yggdrasil.observe import UNKNOWN_ALERTS, UNKNOWN_IDS

NETWORKS_MAX: Final = 10_000
ASKERS_MAX: Final = 64
"""Of one network that are told apart; all others of it are one."""
DIGESTS_REMEMBERED: Final = 128
DIGESTS_TOLD: Final = 8
WINDOW_SECONDS_MIN: Final = 60.0
WINDOW_SECONDS_MAX: Final = 3600.0
TOLD: Final = Rule(size=60, leak_per_minute=2)
"""Rows of a network: so many at once, and so many for ever."""
ALERTS_APART_SECONDS: Final = 60.0
"""Of one network."""
SWEEP_SECONDS: Final = 5.0
NEWS_MAX: Final = 10_000
ID_CHARS_MAX: Final = 512
_OTHERS: Final = SYSTEM
_log = structlog.get_logger("yggdrasil.audit")


class _Asker:
    """One key, user or device and its open window."""

    __slots__ = ("bucket", "count", "digests", "seconds", "since", "user_id", "window_until")

    def __init__(self) -> None:
        self.bucket = Bucket(PER_ASKER)
        self.digests: OrderedDict[bytes, None] = OrderedDict()
        self.seconds = WINDOW_SECONDS_MIN
        self.window_until = 0.0
        self.count = 0
        self.since: datetime | None = None
        self.user_id: UUID | None = None

    def known(self, digest: bytes) -> bool:
        seen = digest in self.digests
        self.digests[digest] = None
        self.digests.move_to_end(digest)
        while len(self.digests) > DIGESTS_REMEMBERED:
            self.digests.popitem(last=False)
        return seen


class _Asked:
    """One network's askers."""

    __slots__ = ("askers", "bucket", "last_at", "quiet_until", "told")

    def __init__(self) -> None:
        self.last_at: datetime | None = None
        self.bucket = Bucket(PER_NETWORK)
        self.told = Bucket(TOLD)
        self.quiet_until = 0.0
        self.askers: dict[Actor, _Asker] = {}

    def at(self, at: datetime) -> datetime:
        """When the next event was: of one instant, just after the last. A chain has those of the same time in
        the order of their ids, which are random."""
        if self.last_at is not None and timedelta(0) <= self.last_at - at < timedelta(seconds=1):
            at = self.last_at + timedelta(microseconds=1)
        self.last_at = at
        return at

    def may_tell(self, now: float) -> bool:
        """Whether this network may have one more row; what is not told goes on being counted."""
        if self.told.level_at(now) > TOLD.size - 1:
            return False
        self.told.add(1, now)
        return True


class UnknownIds:
    """`note` where an answer was "no such thing", `take` what is to be written."""

    def __init__(self, clock: Clock, ids: IdSource, ring: KeyRing) -> None:
        self._clock = clock
        self._ids = ids
        self._key = ring.current.derive("audit unknown ids")
        self._networks: OrderedDict[UUID, _Asked] = OrderedDict()
        self._news: list[Event] = []
        self._sweep_at = 0.0

    def note(self, network_id: UUID, actor: Actor, user_id: UUID, asked: str) -> None:
        """Somebody asked for an id that is not there. `asked` is the id, or the path it came in."""
        now, at = self._clock.monotonic(), self._clock.now()
        UNKNOWN_IDS.inc()
        digest = self._digest(network_id, asked)
        network, asker, actor = self._find(network_id, actor)
        asker.user_id = None if actor is _OTHERS else user_id
        weight = REPEATED_WEIGHT if asker.known(digest) else NEW_WEIGHT
        self._count(network_id, network, actor, asker, now, at)
        asker_alerts, network_alerts = asker.bucket.add(weight, now), network.bucket.add(weight, now)
        if (asker_alerts or network_alerts) and now >= network.quiet_until:
            network.quiet_until = now + ALERTS_APART_SECONDS
            if network_alerts:
                self._alert(network_id, SYSTEM, None, "network", network.at(at))
            else:
                self._alert(network_id, actor, asker.user_id, "asker", network.at(at))

    def take(self) -> list[Event]:
        """Events that are to be written now; every few seconds, windows that are over end."""
        now, at = self._clock.monotonic(), self._clock.now()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            for network_id, network in list(self._networks.items()):
                self._sweep(network_id, network, now, at)
                if not network.askers and not network.bucket.level_at(now):
                    del self._networks[network_id]
        news, self._news = self._news, []
        return news

    def take_all(self) -> list[Event]:
        """At a stop: what open windows counted, too."""
        at = self._clock.now()
        for network_id, network in self._networks.items():
            for actor, asker in network.askers.items():
                if asker.count:
                    self._tell(network_id, actor, asker, network.at(at))
        news, self._news = self._news, []
        return news

    def _sweep(self, network_id: UUID, network: _Asked, now: float, at: datetime) -> None:
        for actor, asker in list(network.askers.items()):
            if asker.window_until > now:
                continue
            if not asker.count:
                if not asker.bucket.level_at(now):
                    del network.askers[actor]
            elif network.may_tell(now):
                self._tell(network_id, actor, asker, network.at(at))
                asker.seconds = min(2 * asker.seconds, WINDOW_SECONDS_MAX)
                asker.window_until = now + asker.seconds

    def _find(self, network_id: UUID, actor: Actor) -> tuple[_Asked, _Asker, Actor]:
        network = self._networks.get(network_id)
        if network is None:
            network = self._networks[network_id] = _Asked()
            while len(self._networks) > NETWORKS_MAX:
                self._networks.popitem(last=False)
        else:
            self._networks.move_to_end(network_id)
        asker = network.askers.get(actor)
        if asker is None:
            if len(network.askers) >= ASKERS_MAX:
                actor = _OTHERS
            asker = network.askers.setdefault(actor, _Asker())
        return network, asker, actor

    def _count(
        self, network_id: UUID, network: _Asked, actor: Actor, asker: _Asker, now: float, at: datetime
    ) -> None:
        first = asker.since is None and now >= asker.window_until
        asker.since = asker.since or at
        asker.count += 1
        if first and network.may_tell(now):
            self._tell(network_id, actor, asker, network.at(at))
            asker.window_until = now + asker.seconds

    def _tell(self, network_id: UUID, actor: Actor, asker: _Asker, at: datetime) -> None:
        told = [digest.hex() for digest in reversed(asker.digests)][:DIGESTS_TOLD]
        since = asker.since or at
        detail: Detail = {"count": asker.count, "since": since.isoformat(), "digests": told[: asker.count]}
        self._add(self._event(network_id, EventKind.UNKNOWN_REFUSED, actor, asker.user_id, detail, at))
        asker.count, asker.since = 0, None

    def _alert(self, network_id: UUID, actor: Actor, user_id: UUID | None, rule: str, at: datetime) -> None:
        UNKNOWN_ALERTS.inc()
        event = self._event(network_id, EventKind.UNKNOWN_ALERT, actor, user_id, {"rule": rule}, at)
        # The operators' copy names the network by its opaque id, and nobody in it.
        told = Event(
            network_id=PLATFORM_NETWORK,
            event_id=self._ids.uuid(),
            at=at,
            kind=EventKind.UNKNOWN_ALERT,
            actor=SYSTEM,
            subject="network",
            subject_id=network_id,
            detail={"rule": rule, "event": str(event.event_id)},
        )
        self._add(event)
        self._add(told)
        _log.warning("unknown_ids_unusual", rule=rule, audit_event=str(told.event_id))

    def _event(
        self,
        network_id: UUID,
        kind: EventKind,
        actor: Actor,
        user_id: UUID | None,
        detail: Detail,
        at: datetime,
    ) -> Event:
        return Event(
            network_id=network_id,
            event_id=self._ids.uuid(),
            at=at,
            kind=kind,
            actor=actor,
            subject="id",
            user_id=user_id,
            detail=detail,
        )

    def _add(self, event: Event) -> None:
        if len(self._news) < NEWS_MAX:
            self._news.append(event)

    def _digest(self, network_id: UUID, asked: str) -> bytes:
        # Of the network too: nobody can match what two networks asked for.
        text = network_id.bytes + asked[:ID_CHARS_MAX].encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, hashlib.sha256)[:16]
