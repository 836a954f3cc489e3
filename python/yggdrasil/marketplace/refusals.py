"""Devices that answered `busy`: each is asked for no more jobs than it runs, and then for one more, for two
more, …, as time passes and it does not refuse again.

Without this, whatever waits would be sent to a device that says no, one request after another, for as long
as our count of its slots is higher than its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

REST_SECONDS: Final = 0.5
"""After the first refusal; after each further one twice as long."""
REST_SECONDS_MAX: Final = 4.0

Device = tuple[UUID, UUID]
"""(network, device)."""


@dataclass(slots=True)
class _Refusing:
    slots: int
    seconds: float
    step: int = 1
    asked_again: bool = False
    timer: asyncio.TimerHandle | None = None


class Refusals:
    """As many entries as devices that refused lately. `changed` is called when a device may be asked for more
    jobs (True), or for fewer."""

    def __init__(self, changed: Callable[[Device, bool], None]) -> None:
        self._changed = changed
        self._devices: dict[Device, _Refusing] = {}

    def slots(self, device: Device) -> int | None:
        """How many jobs it is asked for at most; None: as many as it says."""
        found = self._devices.get(device)
        return None if found is None else found.slots

    def refused(self, device: Device, running: int, capacity: int) -> None:
        """It said no while it ran so many of ours, and says that it takes `capacity`."""
        found = self._devices.get(device)
        if found is not None and not found.asked_again:
            # One of several that were on their way to it.
            found.slots = min(found.slots, running)
        else:
            seconds = REST_SECONDS if found is None else min(found.seconds * 2, REST_SECONDS_MAX)
            if found is not None:
                self._end(found)
            found = self._devices[device] = _Refusing(running, seconds)
            self._after(seconds, found, self._more, device, found, capacity)
        self._changed(device, False)

    def served(self, device: Device) -> None:
        """It did a job: it is not one that refuses again and again."""
        found = self._devices.get(device)
        if found is not None:
            found.seconds = REST_SECONDS / 2

    def forget(self, device: Device) -> None:
        """It is another one now: it came back."""
        found = self._devices.pop(device, None)
        if found is not None:
            self._end(found)
            self._changed(device, True)

    def stop(self) -> None:
        """No timer runs on."""
        for found in self._devices.values():
            self._end(found)
        self._devices.clear()

    def _more(self, device: Device, found: _Refusing, capacity: int) -> None:
        found.asked_again = True
        found.slots += found.step
        found.step *= 2
        if found.slots < capacity:
            self._after(found.seconds, found, self._more, device, found, capacity)
        else:
            # It is asked for all it says, and remembered for a while: the next refusal is not its first.
            self._after(REST_SECONDS_MAX, found, self.forget, device)
        self._changed(device, True)

    def _after(self, seconds: float, found: _Refusing, call: Callable[..., None], *given: Any) -> None:
        found.timer = asyncio.get_running_loop().call_later(seconds, call, *given)

    def _end(self, found: _Refusing) -> None:
        if found.timer is not None:
            found.timer.cancel()
