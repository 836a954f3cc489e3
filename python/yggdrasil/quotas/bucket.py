"""A token bucket, and many of them under one bound. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

KEYS_MAX: Final = 65_536
MEMBER_SECONDS: Final = 10.0
"""Who has not asked for this long needs no share (longer, if his part takes longer to fill)."""
NOTHING: Final = 1e-9
"""What is lost in the arithmetic: so much less than a whole is one."""

K = TypeVar("K", bound=Hashable)


class Bucket:
    """Holds at most `burst`, gains `per_second`; full at first. In any span of s seconds at most
    burst + per_second × s leave it. A clock that goes back gives nothing and takes nothing.
    """

    __slots__ = ("burst", "level", "per_second", "updated")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self.burst, self.per_second = burst, per_second
        self.level, self.updated = burst, now

    def fill(self, now: float) -> None:
        """Up to this moment."""
        if now > self.updated:
            self.level = min(self.burst, self.level + (now - self.updated) * self.per_second)
            self.updated = now

    def take(self, amount: float, now: float) -> float:
        """0 if `amount` was there and is gone; else the seconds until it will be, and nothing is gone. More
        than `burst` is there when the bucket is full, and leaves it in debt."""
        self.fill(now)
        wanted = min(amount, self.burst)
        if self.level >= wanted:
            self.level -= amount
            return 0.0
        return (wanted - self.level) / self.per_second

    def change(self, burst: float, per_second: float, now: float) -> None:
        """Other limits; what was used stays used."""
        self.fill(now)
        self.level = min(burst, self.level + burst - self.burst)
        self.burst, self.per_second = burst, per_second


class _Share:
    """What a member may take of the lower half of a bucket."""

    __slots__ = ("level", "updated")

    def __init__(self, level: float, updated: float) -> None:
        self.level, self.updated = level, updated


class FairBucket(Bucket):
    """A bucket that several members drink from. While it is more than half full anybody may; of the lower
    half, and of what comes in, each of those who asked of late has an equal share. So one alone has all of
    it, and nobody is kept out by others who ask more often, or by more of them coming.
    """

    __slots__ = ("_looked_at", "_shares")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        super().__init__(burst, per_second, now)
        self._shares: dict[Hashable, _Share] = {}
        self._looked_at = now

    @property
    def members(self) -> int:
        """How many have a share."""
        return len(self._shares)

    def take_for(self, member: Hashable, now: float) -> float:
        """As `take` of 1."""
        share = self._shares.get(member)
        if share is None or now - self._looked_at >= MEMBER_SECONDS:
            share = self._look(member, now)
        number = len(self._shares)
        most = max(1.0, self.burst / (2 * number))
        if now > share.updated:
            share.level += (now - share.updated) * self.per_second / number
            share.updated = now
        share.level = min(share.level, most)
        self.fill(now)
        half = self.burst / 2
        free = number == 1 or self.level - 1 >= half
        short = max(0.0, 1 - NOTHING - self.level) / self.per_second
        if not free and share.level < 1 - NOTHING:
            own = (1 - share.level) * number / self.per_second
            return max(min(own, (half + 1 - self.level) / self.per_second), short)
        if short:
            return short
        self.level -= 1
        share.level = max(share.level - 1, 0.0)
        return 0.0

    def _look(self, member: Hashable, now: float) -> _Share:
        """The member's share, and those gone that nobody asked for: they are full again."""
        idle = max(MEMBER_SECONDS, self.burst / (2 * self.per_second))
        self._looked_at = now
        self._shares = {one: share for one, share in self._shares.items() if now - share.updated < idle}
        if member not in self._shares:
            self._shares[member] = _Share(max(1.0, self.burst / (2 * (len(self._shares) + 1))), now)
        return self._shares[member]


class Buckets(Generic[K]):
    """A bucket for each key, at most `keys_max`: the one that nobody asked for longest is forgotten first.

    Whoever would have his own forgotten needs `keys_max` others that ask after him, each with a full bucket:
    he wins nothing. And whoever has so many keeps nobody else out: who comes anew begins with a full one.
    """

    def __init__(self, burst: float, per_second: float, *, keys_max: int = KEYS_MAX) -> None:
        self._burst, self._per_second, self._keys_max = burst, per_second, keys_max
        self._known: OrderedDict[K, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, key: K, now: float) -> float:
        """As `Bucket.take` of 1."""
        bucket = self._known.get(key)
        if bucket is None:
            bucket = self._new(key, now)
        else:
            self._known.move_to_end(key)
        return bucket.take(1, now)

    def _new(self, key: K, now: float) -> Bucket:
        if len(self._known) >= self._keys_max:
            self._known.popitem(last=False)
        made = self._known[key] = Bucket(self._burst, self._per_second, now)
        return made
