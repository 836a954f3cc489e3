"""The tiers of the specification and what each may use. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

GIB: Final = 1024**3


class Tier(StrEnum):
    """What a network has subscribed to. The core features are those of every tier."""

    FREE = "free"
    PAY_PER_TOKEN = "pay_per_token"  # noqa: S105  a name
    PREMIUM = "premium"
    PRO = "pro"
    ENTERPRISE = "enterprise"


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one network on one node, but for `devices`, which is of the network as a whole.

    `requests_burst` may come at once, and `requests_per_second` in the long run; likewise a whole hour's
    `bytes_per_hour` at once.
    """

    devices: int
    sockets: int
    requests_per_second: int
    requests_burst: int
    bytes_per_hour: int


QUOTAS: Final = {
    Tier.FREE: Quota(100, 100, 50, 1_000, 2 * GIB),
    Tier.PAY_PER_TOKEN: Quota(500, 500, 200, 2_000, 20 * GIB),
    Tier.PREMIUM: Quota(500, 500, 200, 2_000, 20 * GIB),
    Tier.PRO: Quota(1_000, 1_000, 500, 5_000, 100 * GIB),
    Tier.ENTERPRISE: Quota(5_000, 5_000, 10_000, 50_000, 1_000 * GIB),
}
