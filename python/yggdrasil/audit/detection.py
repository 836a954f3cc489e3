"""When is a rate of unknown ids unusual? Leaky buckets, one for each asker and one for each network. Pure.

An id that was asked for and is not there adds 1, the same one again 1/8 (an honest client asks for what it
lost; a clock that is read very often may tell what an answer does not). A bucket loses `leak_per_minute` all
the time. Over `size` it alerts, once: the next alert needs a bucket that was half empty in between, and
`ALERT_SECONDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ALERT_SECONDS: Final = 600.0
NEW_WEIGHT: Final = 1.0
REPEATED_WEIGHT: Final = 0.125


@dataclass(frozen=True, slots=True)
class Rule:
    """What a bucket holds, and what it loses in a minute."""

    size: float
    leak_per_minute: float


PER_ASKER: Final = Rule(size=30, leak_per_minute=10)
PER_NETWORK: Final = Rule(size=120, leak_per_minute=40)


@dataclass(slots=True)
class Bucket:
    """`now`: monotonic seconds, in every call."""

    rule: Rule
    level: float = 0.0
    _at: float = 0.0
    _armed: bool = True
    _quiet_until: float = 0.0

    def add(self, weight: float, now: float) -> bool:
        """Whether this is the drop that alerts."""
        self.level = self.level_at(now)
        if self.level <= self.rule.size / 2 and now >= self._quiet_until:
            self._armed = True
        self._at = now
        # It cannot grow without end, or one bad hour would be remembered for days.
        self.level = min(self.level + weight, 2 * self.rule.size)
        if not self._armed or self.level <= self.rule.size:
            return False
        self._armed, self._quiet_until = False, now + ALERT_SECONDS
        return True

    def level_at(self, now: float) -> float:
        """What is in it now."""
        return max(0.0, self.level - (now - self._at) * self.rule.leak_per_minute / 60)
