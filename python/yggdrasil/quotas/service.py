"""The quotas of networks on this node: asked in memory, for every request and every socket.

Each network has buckets of its own, and within it each user a fair share while others of it are active: what
one network or person uses up is refused to that one alone.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, Final
from uuid import UUID

import msgspec

from yggdrasil.admin.credential import OperatorScope
from yggdrasil.admin.explain import check_reason
from yggdrasil.admin.operators import JOB as OPERATOR_JOB
from yggdrasil.admin.store import Opening, insert_openings
from yggdrasil.audit import Event, EventKind, record
from yggdrasil.audit import operator as audited_operator
from yggdrasil.db import Database
from yggdrasil.errors import LimitReached, NotFound
from yggdrasil.kernel import SENTINEL_NETWORKS, Clock, IdSource, Network, System
from yggdrasil.quotas import store
from yggdrasil.quotas.bucket import Bucket
from yggdrasil.quotas.tiers import QUOTAS, Quota, Tier

JOB: Final = "quotas"
NETWORKS_MAX: Final = 65_536
"""Above it, those are forgotten that use nothing; never one that does, so it is no hard bound: there is one
entry for each network that asked of late."""
FORGET_SECONDS: Final = 10.0
USERS_MAX: Final = 64
"""Of one network, told apart; more of them share one bucket."""
ACTIVE_SECONDS: Final = 60.0
HELLO_SECONDS_MAX: Final = 10.0
CHUNKED_BYTES: Final = 64 * 1024
"""What a body without a length is taken for."""
WAIT_SECONDS_MAX: Final = 5.0
HOUR: Final = 3600.0


class Limit(msgspec.Struct, frozen=True):
    """One limit of a network on this node, and what is used of it now."""

    name: str
    limit: int
    used: int
    unit: str


class Limits(msgspec.Struct, frozen=True):
    """What the caller's network may use."""

    tier: Tier
    items: list[Limit]


class _Usage:
    """Of one network on this node."""

    __slots__ = ("bytes", "hellos", "quota", "requests", "sockets", "tier", "users")

    def __init__(self, tier: Tier, quota: Quota, now: float) -> None:
        self.tier, self.quota = tier, quota
        self.requests = Bucket(quota.requests_burst, quota.requests_per_second, now)
        self.bytes = Bucket(quota.bytes_per_hour, quota.bytes_per_hour / HOUR, now)
        self.users: OrderedDict[UUID, tuple[Bucket, float]] = OrderedDict()
        self.sockets = 0
        self.hellos: list[float] = []
        """When each socket was let in that has not said it is there; the place is held as long."""

    def idle(self, now: float) -> bool:
        self.requests.fill(now)
        self.bytes.fill(now)
        full = self.requests.level >= self.requests.burst and self.bytes.level >= self.bytes.burst
        return full and not self.sockets and not self.hellos


class Quotas:
    """`default`: the tier of a network that has none of its own. `quotas`: of each tier."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: IdSource,
        *,
        default: Tier,
        quotas: dict[Tier, Quota] | None = None,
        networks_max: int = NETWORKS_MAX,
    ) -> None:
        self._database, self._clock, self._ids = database, clock, ids
        self._default, self._quotas = default, quotas or QUOTAS
        self._networks_max = networks_max
        self._tiers: dict[UUID, Tier] = {}
        self._known: dict[UUID, _Usage] = {}
        self._forgot_at = -FORGET_SECONDS

    async def refresh(self) -> None:
        """Read who is of which tier; a network whose tier changed keeps what it has used."""
        async with self._database.transaction(System(JOB)) as tx:
            self._tiers = await store.assigned(tx)
        for network_id, usage in self._known.items():
            if (tier := self._tiers.get(network_id, self._default)) is not usage.tier:
                self._change(usage, tier)

    async def assign(self, operator: OperatorScope, network_id: UUID, tier: Tier, reason: str) -> None:
        """Give a network a tier, from now on here. The network reads who did it, and why. NotFound."""
        opening = Opening(
            network_id=network_id,
            opening_id=self._ids.uuid(),
            operator_id=operator.operator_id,
            user_id=None,
            subject="network",
            subject_id=network_id,
            reason=check_reason(reason),
            at=self._clock.now(),
        )
        async with self._database.transaction(System(OPERATOR_JOB)) as tx:
            if not await store.assign(tx, network_id, tier, opening.at):
                raise NotFound
            await insert_openings(tx, OPERATOR_JOB, [opening])
            event = Event(
                network_id=network_id,
                event_id=self._ids.uuid(),
                at=opening.at,
                kind=EventKind.TIER_ASSIGNED,
                actor=audited_operator(operator.operator_id),
                subject="network",
                subject_id=network_id,
                detail={"tier": tier.value},
            )
            await record(tx, event)
        await self.refresh()

    def devices_max(self, network_id: UUID) -> int:
        """How many devices the network may have."""
        return self._quotas[self._tiers.get(network_id, self._default)].devices

    def request(self, scope: Network, body_bytes: int = 0) -> None:
        """Count a request of a caller. LimitReached names the limit, what is used, and when to come again."""
        now = self._clock.monotonic()
        usage = self._known.get(scope.network_id) or self._new(scope.network_id, now)
        if scope.network_id in SENTINEL_NETWORKS:
            return
        share = self._share(usage, scope.user_id, now)
        if share is not None and (wait := share.take(1, now)):
            raise _refused("requests of one user, of those that share the network,", share, wait)
        if wait := usage.requests.take(1, now):
            raise _refused("requests of one network", usage.requests, wait)
        if body_bytes and (wait := usage.bytes.take(body_bytes, now)):
            raise _refused("bytes of one network in an hour", usage.bytes, wait)

    def frame(self, network_id: UUID, size_bytes: int) -> float:
        """Count a socket's message; the seconds to wait before its next one is read. It is never refused: a
        socket of a network that has used up its bytes becomes slow."""
        now = self._clock.monotonic()
        usage = self._known.get(network_id) or self._new(network_id, now)
        bucket = usage.bytes
        bucket.fill(now)
        bucket.level -= size_bytes
        return 0.0 if bucket.level >= 0 else min(-bucket.level / bucket.per_second, WAIT_SECONDS_MAX)

    def hello(self, network_id: UUID) -> None:
        """Keep a place for a socket that is about to be there. LimitReached."""
        now = self._clock.monotonic()
        usage = self._known.get(network_id) or self._new(network_id, now)
        usage.hellos = [at for at in usage.hellos if now - at < HELLO_SECONDS_MAX]
        used = usage.sockets + len(usage.hellos)
        if used >= usage.quota.sockets:
            raise LimitReached(
                f"At most {usage.quota.sockets} sockets of one network; {used} are open",
                retry_after_seconds=int(HELLO_SECONDS_MAX),
                limit=usage.quota.sockets,
                used=used,
            )
        usage.hellos.append(now)

    def present(self, network_id: UUID, online: bool) -> None:
        """A socket is there, or is gone."""
        usage = self._known.get(network_id) or self._new(network_id, self._clock.monotonic())
        if online:
            usage.sockets += 1
            if usage.hellos:
                usage.hellos.pop(0)
        else:
            usage.sockets = max(0, usage.sockets - 1)

    def limits(self, scope: Network, devices: int) -> Limits:
        """What the caller's network may use, and uses now; `devices`: how many it has."""
        now = self._clock.monotonic()
        usage = self._known.get(scope.network_id) or self._new(scope.network_id, now)
        usage.requests.fill(now)
        usage.bytes.fill(now)
        quota = usage.quota
        return Limits(
            usage.tier,
            [
                Limit("devices", quota.devices, devices, "devices"),
                Limit("sockets", quota.sockets, usage.sockets, "sockets on this node"),
                Limit(
                    "requests",
                    quota.requests_burst,
                    max(0, math.ceil(quota.requests_burst - usage.requests.level)),
                    f"requests on this node, {quota.requests_per_second} of which come free each second",
                ),
                Limit(
                    "bytes",
                    quota.bytes_per_hour,
                    max(0, math.ceil(quota.bytes_per_hour - usage.bytes.level)),
                    "bytes on this node, which come free within an hour",
                ),
            ],
        )

    def _share(self, usage: _Usage, user_id: UUID, now: float) -> Bucket | None:
        """The user's own bucket, None while nobody else of the network is active."""
        found = usage.users.pop(user_id, None)
        while usage.users and now - next(iter(usage.users.values()))[1] > ACTIVE_SECONDS:
            usage.users.popitem(last=False)
        while len(usage.users) >= USERS_MAX:
            usage.users.popitem(last=False)
        active = len(usage.users) + 1
        burst = usage.quota.requests_burst / active
        rate = usage.quota.requests_per_second / active
        bucket = found[0] if found is not None else Bucket(burst, rate, now)
        if bucket.burst != burst:
            bucket.change(burst, rate, now)
        usage.users[user_id] = (bucket, now)
        return None if active == 1 else bucket

    def _new(self, network_id: UUID, now: float) -> _Usage:
        if len(self._known) >= self._networks_max and now - self._forgot_at >= FORGET_SECONDS:
            self._forgot_at = now
            self._forget(now)
        tier = self._tiers.get(network_id, self._default)
        made = self._known[network_id] = _Usage(tier, self._quotas[tier], now)
        return made

    def _forget(self, now: float) -> None:
        """Those that begin anew as they are: nobody's use is forgotten because many others came."""
        for network_id in [one for one, usage in self._known.items() if usage.idle(now)]:
            del self._known[network_id]

    def _change(self, usage: _Usage, tier: Tier) -> None:
        now, quota = self._clock.monotonic(), self._quotas[tier]
        usage.tier, usage.quota = tier, quota
        usage.requests.change(quota.requests_burst, quota.requests_per_second, now)
        usage.bytes.change(quota.bytes_per_hour, quota.bytes_per_hour / HOUR, now)


def body_bytes_of(headers: Any) -> int:
    """How large the body of a request is, by its raw headers; `CHUNKED_BYTES` if they do not say."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else CHUNKED_BYTES
        if name == b"transfer-encoding":
            return CHUNKED_BYTES
    return 0


def _refused(what: str, bucket: Bucket, wait: float) -> LimitReached:
    limit, used = int(bucket.burst), math.ceil(bucket.burst - bucket.level)
    seconds = max(1, math.ceil(wait))
    return LimitReached(
        f"At most {limit} {what} at once; {used} are used, and the next is free in {seconds} s",
        retry_after_seconds=seconds,
        limit=limit,
        used=used,
    )
