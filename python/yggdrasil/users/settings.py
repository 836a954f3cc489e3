"""The numbers of sign-in. All have a unit in their name; the defaults are what the protocol page says."""

from __future__ import annotations

from dataclasses import dataclass

from yggdrasil.errors import ConfigurationError
from yggdrasil.users.tokens import LIFETIME_SECONDS_MAX

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class UsersSettings:
    """Limits and lifetimes of sign-in, sessions and keys."""

    code_seconds: int = 600
    tries_max: int = 5
    """Tries per flow, and per address and window."""
    sends_max: int = 5
    """Codes mailed per address and window."""
    window_seconds: int = 900
    tries_per_day_max: int = 20
    starts_per_minute_max: int = 600
    """Codes asked for at this node, over all addresses."""
    access_seconds: int = 300
    session_idle_seconds: int = 30 * DAY_SECONDS
    session_seconds_max: int = 180 * DAY_SECONDS
    sessions_max: int = 32
    hand_over_seconds: int = DAY_SECONDS
    """A session that was handed over ends after this, whatever is refreshed."""
    hand_overs_max: int = 8
    """Sessions of a user that were handed over and have not ended; the oldest beyond it end."""
    asks_shown_max: int = 20
    known_devices_max: int = 64
    known_device_seconds: int = 400 * DAY_SECONDS
    proof_skew_seconds: int = 300
    pending_seconds: int = 600
    keys_max: int = 100
    key_cache_seconds: float = 5.0
    invitation_seconds: int = 7 * DAY_SECONDS
    invitation_seconds_max: int = 30 * DAY_SECONDS
    invitations_open_max: int = 20
    """Of a network, at a time."""
    invitations_per_day_max: int = 50
    invitation_mails_max: int = 5
    """To one address in a day, over all networks; more are not sent, and nobody is told."""
    members_max: int = 100
    memberships_max: int = 50
    mail_pending_max: int = 1000
    mail_retry_seconds: tuple[float, ...] = (1.0, 5.0)

    def __post_init__(self) -> None:
        if not 30 <= self.access_seconds <= LIFETIME_SECONDS_MAX:
            raise ConfigurationError(
                f"access_seconds must be 30 to {LIFETIME_SECONDS_MAX}", field="access_seconds"
            )
        if not 60 <= self.code_seconds <= 600:
            raise ConfigurationError("code_seconds must be 60 to 600", field="code_seconds")
        if not 1 <= self.tries_max <= 5:
            raise ConfigurationError("tries_max must be 1 to 5", field="tries_max")
