"""Mail behind the answer: the answer never waits for it, so its time tells nothing about an address."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from yggdrasil.errors import LimitReached
from yggdrasil.ports import Mail, Mailer
from yggdrasil.tracing import traced

_AT_ONCE_MAX: Final = 8
_log = structlog.get_logger("yggdrasil.users.mail")

_TEXT: Final = """Your code to sign in to Yggdrasil:

    {code}

It is valid for {minutes} minutes, once, and only on the device that asked for it.
If you did not ask for it, do nothing: without the code nobody gets in. Never give it to anybody.
"""


def code_mail(address: str, code: str, seconds: int) -> Mail:
    """The mail with a code: one text for new and for known addresses."""
    return Mail(address, "Your Yggdrasil sign-in code", _TEXT.format(code=code, minutes=seconds // 60))


_HAND_OVER_TEXT: Final = """A device away from home asks for your Yggdrasil network. Code to hand it over:

    {code}

It is valid for {minutes} minutes, once, and only on the device that asked for it. It does not sign you in.
If you did not ask for it, do nothing: without the code nothing is handed over. Never give it to anybody.
"""

_HANDED_OVER_TEXT: Final = """{what} was handed over to a device away from home.

    Device:    {device}
    Key:       {key}
    Proven by: {proven}
    At:        {at} (UTC)
    Ends:      {ends} (UTC)

If this is not as it should be, revoke it at once, on a device at home: its sessions end the same moment.

    yggdrasil hand-over revoke {hand_over_id}
"""


def hand_over_code_mail(address: str, code: str, seconds: int) -> Mail:
    """The mail with the code of a hand-over: one text for known and unknown addresses, without a word of
    whoever asks.
    """
    text = _HAND_OVER_TEXT.format(code=code, minutes=seconds // 60)
    return Mail(address, "Your Yggdrasil code to hand over your network", text)


def handed_over_mail(address: str, *, own: bool, words: Mapping[str, str]) -> Mail:
    """The notice of a hand-over. `own`: it is the reader's, not that of a member of the reader's network."""
    what = "Your network" if own else "The network that you own and one of its members shares"
    return Mail(
        address, "Your Yggdrasil network was handed over", _HANDED_OVER_TEXT.format(what=what, **words)
    )


class Postman:
    """Sends mail in background tasks, a bounded number of them, with a few retries."""

    def __init__(self, mailer: Mailer, pending_max: int, retry_seconds: Sequence[float]) -> None:
        self._mailer = mailer
        self._pending_max = pending_max
        self._retry_seconds = tuple(retry_seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE_MAX)

    def check_room(self) -> None:
        """LimitReached while too many mails wait."""
        if len(self._tasks) >= self._pending_max:
            raise LimitReached("too many mails are waiting; try again", retry_after_seconds=10)

    def post(self, mail: Mail) -> None:
        """Send soon. Nothing is raised to the caller: a mail that cannot be sent is logged, without its
        address.
        """
        task = asyncio.create_task(self._send(mail))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until nothing waits."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self, seconds_max: float = 5.0) -> None:
        """Give the waiting mails a moment, then drop them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds_max)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @traced("mail")
    async def _send(self, mail: Mail) -> None:
        waits = (*self._retry_seconds, None)
        for wait in waits:
            try:
                async with self._slots:
                    await self._mailer.send(mail)
            except Exception as error:
                # The class only: a message of a mail library quotes the recipient.
                _log.warning("mail_not_sent", error=type(error).__name__, retry_seconds=wait)
                if wait is None:
                    return
                await asyncio.sleep(wait)
            else:
                return
