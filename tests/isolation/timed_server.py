"""The server as it is, but for limits that would end a measurement of sign-in before it has enough pairs, and
for mail, which goes nowhere once `measuring` lies in its data directory.

`TIMED_DELAY_US` plants what the measurement must find: a device of that id in another network takes longer.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

from yggdrasil import services
from yggdrasil.adapters.smtp import SmtpMailer
from yggdrasil.config import load_settings
from yggdrasil.devices.service import Devices
from yggdrasil.server import serve
from yggdrasil.users.service import Users
from yggdrasil.users.settings import UsersSettings

DELAYED: Final = "network-a-device"
DELAY: Final = "TIMED_DELAY_US"
NO_LIMIT: Final = 10**9


def lift_limits(settings: UsersSettings) -> UsersSettings:
    """Counted all the same, so that every answer goes its usual way."""
    for name in ("tries_max", "tries_per_day_max", "sends_max", "starts_per_minute_max"):
        object.__setattr__(settings, name, NO_LIMIT)
    return settings


def plant(delay_us: float) -> None:
    """The leak."""
    stored = Devices.stored

    async def slower(self: Devices, scope: Any, device_id: str) -> Any:
        if device_id == DELAYED:
            ends = time.perf_counter() + delay_us / 1e6
            while time.perf_counter() < ends:
                pass
        return await stored(self, scope, device_id)

    Devices.stored = slower  # type: ignore[method-assign]


def main() -> None:
    settings = load_settings({name: value for name, value in os.environ.items() if name != DELAY})
    send, quiet = SmtpMailer.send, settings.data_dir / "measuring"

    async def post(self: SmtpMailer, mail: Any) -> None:
        if not quiet.exists():
            await send(self, mail)

    SmtpMailer.send = post  # type: ignore[method-assign]
    services.Users = lambda *given: Users(*given, lift_limits(UsersSettings()))  # type: ignore[misc, assignment]
    if delay_us := float(os.environ.get(DELAY, "0")):
        plant(delay_us)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
