"""How long to wait before dialling again. Pure: chance is an argument.

Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): when a server
returns, its devices come back spread over the whole window and not at one moment.
"""

from __future__ import annotations

from typing import Final

FIRST_SECONDS: Final = 0.5
SECONDS_MAX: Final = 60.0
STABLE_SECONDS: Final = 30.0
"""A session this long was a success: the next loss starts from the first wait again."""

_DOUBLINGS_MAX: Final = 16
"""Beyond it the ceiling is reached whatever the rest; keeps the power small."""


def delay_seconds(attempt: int, chance: float, *, least_seconds: float = 0.0) -> float:
    """Seconds before try number `attempt` (0 is the first after a loss).

    `chance` in [0, 1) picks a point in [0, min(60, 0.5 * 2**attempt)); `least_seconds`, what the server asked
    for, is added, so that a crowd told the same number still spreads.
    """
    if attempt < 0:
        raise ValueError("attempt: must be 0 or more")
    if not 0.0 <= chance < 1.0:
        raise ValueError("chance: must be in [0, 1)")
    if least_seconds < 0:
        raise ValueError("least_seconds: must be 0 or more")
    ceiling = min(SECONDS_MAX, FIRST_SECONDS * 2.0 ** min(attempt, _DOUBLINGS_MAX))
    return least_seconds + chance * ceiling


def drain_delay_seconds(reconnect_after_ms: int, chance: float) -> float:
    """A random moment within the time a draining server gave."""
    if reconnect_after_ms < 0:
        raise ValueError("reconnect_after_ms: must be 0 or more")
    if not 0.0 <= chance < 1.0:
        raise ValueError("chance: must be in [0, 1)")
    return chance * reconnect_after_ms / 1000
