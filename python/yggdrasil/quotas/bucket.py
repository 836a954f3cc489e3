"""A token bucket, and many of them under one bound. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

KEYS_MAX: Final = 65_536

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


class Buckets(Generic[K]):
    """A bucket for each key, at most `keys_max`. Only full ones are forgotten, since a full bucket is what an
    unknown key begins with: nobody's is emptied or filled by how many others come. If none is full, all new
    keys share one.
    """

    def __init__(self, burst: float, per_second: float, *, keys_max: int = KEYS_MAX) -> None:
        self._burst, self._per_second, self._keys_max = burst, per_second, keys_max
        self._known: OrderedDict[K, Bucket] = OrderedDict()
        self._shared: Bucket | None = None

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
            # The one that was asked longest ago is the fullest but for the shared one.
            oldest, bucket = next(iter(self._known.items()))
            bucket.fill(now)
            if bucket.level < bucket.burst:
                if self._shared is None:
                    self._shared = Bucket(self._burst, self._per_second, now)
                return self._shared
            del self._known[oldest]
        made = self._known[key] = Bucket(self._burst, self._per_second, now)
        return made
