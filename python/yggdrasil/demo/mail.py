"""A mail server on loopback that keeps the sign-in codes and invitations it is sent."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from email import message_from_bytes, policy
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope

CODE_SECONDS_MAX: Final = 30
MESSAGE_BYTES_MAX: Final = 256 * 1024
_CODE: Final = re.compile(r"^\s*([0-9]{8})\s*$", re.MULTILINE)  # ids in other mails have digits too
_INVITATION: Final = re.compile(r"^\s*(ygi_[A-Za-z0-9_-]{86})\s*$", re.MULTILINE)


class CodeMail:
    """Takes mail over real SMTP; `await code(address)` is the next code sent there, `await
    invitation(address)` the next invitation. An async context manager.
    """

    def __init__(self) -> None:
        self._codes: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self._invitations: defaultdict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> CodeMail:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, loop=loop, data_size_limit=MESSAGE_BYTES_MAX, hostname="localhost"),
            "127.0.0.1",
            0,
        )
        self.url = f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:  # noqa: ARG002, N802
        """What aiosmtpd calls for each message."""
        content = envelope.content
        message = message_from_bytes(content if isinstance(content, bytes) else b"", policy=policy.default)
        part = message.get_body(("plain",))
        text = part.get_content() if part is not None else ""
        for kept, pattern in ((self._codes, _CODE), (self._invitations, _INVITATION)):
            found = pattern.search(text)
            if found is not None:  # a notice has none
                for address in envelope.rcpt_tos:
                    kept[address].put_nowait(found.group(1))
        return "250 kept"

    async def code(self, address: str) -> str:
        """The next code for an address."""
        async with asyncio.timeout(CODE_SECONDS_MAX):
            return await self._codes[address].get()

    async def invitation(self, address: str) -> str:
        """The next invitation for an address."""
        async with asyncio.timeout(CODE_SECONDS_MAX):
            return await self._invitations[address].get()
