"""Mail in development: printed in the terminal, and shown on a page that only this machine can open."""

from __future__ import annotations

import html
import sys
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TextIO

import msgspec
from litestar import MediaType, Request, Response, Router, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from yggdrasil.edge import from_this_machine
from yggdrasil.errors import ConfigurationError, NotFound
from yggdrasil.kernel import Clock
from yggdrasil.ports import Mail, Mailer

KEPT_MAX: Final = 50
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Mail of this development server</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}}
article{{border:1px solid #8888;border-radius:.5rem;padding:1rem;margin:1rem 0}}pre{{white-space:pre-wrap}}
small{{opacity:.7}}:root{{color-scheme:light dark}}</style>
<h1>Mail of this development server</h1>
<p>The last {limit} mails, newest first.</p>
{mails}</html>
"""


@dataclass(frozen=True, slots=True)
class KeptMail:
    """A mail and when it was sent."""

    at: datetime
    mail: Mail


class DevMailer:
    """Prints every mail on stderr and keeps the last 50. For development only: the codes can be read here.

    With `onward` each mail is sent there as well, and printed only for a person: codes are not for logs.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        development: bool,
        stream: TextIO | None = None,
        onward: Mailer | None = None,
    ) -> None:
        if not development:
            raise ConfigurationError(
                "the development mailer prints sign-in codes; production needs an SMTP URL"
            )
        self._clock = clock
        self._stream = stream
        self._onward = onward
        self._kept: deque[KeptMail] = deque(maxlen=KEPT_MAX)

    @property
    def kept(self) -> tuple[KeptMail, ...]:
        """The last mails, oldest first."""
        return tuple(self._kept)

    async def send(self, mail: Mail) -> None:
        self._kept.append(KeptMail(self._clock.now(), mail))
        line = "─" * 60
        stream = self._stream or sys.stderr
        if self._onward is None or stream.isatty():
            stream.write(f"\n{line}\nMail to {mail.to}\n{mail.subject}\n\n{mail.text.rstrip()}\n{line}\n")
            stream.flush()
        if self._onward is not None:
            await self._onward.send(mail)


class KeptMailView(msgspec.Struct, frozen=True):
    """A kept mail as JSON."""

    at: datetime
    to: str
    subject: str
    text: str


class KeptMails(msgspec.Struct, frozen=True):
    """The last mails, newest first."""

    items: list[KeptMailView]


def _guard(request: Request[Any, Any, Any], mailer: Mailer) -> DevMailer:
    """The development mailer, for a browser on this machine; anybody else is told there is no such page."""
    if isinstance(mailer, DevMailer) and from_this_machine(request.scope):
        return mailer
    raise NotFound


MailerDependency = NamedDependency[SkipValidation[Mailer]]


@get("/", media_type=MediaType.HTML, include_in_schema=False)
async def page(request: Request[Any, Any, Any], mailer: MailerDependency) -> Response[str]:
    """The last mails for a person."""
    mails = "".join(
        f"<article><small>{kept.at:%Y-%m-%d %H:%M:%S} UTC, to {html.escape(kept.mail.to)}</small>"
        f"<h2>{html.escape(kept.mail.subject)}</h2><pre>{html.escape(kept.mail.text)}</pre></article>"
        for kept in reversed(_guard(request, mailer).kept)
    )
    text = _PAGE.format(limit=KEPT_MAX, mails=mails or "<p>None yet.</p>")
    return Response(text, media_type=MediaType.HTML, headers=_HEADERS)


@get("/messages", include_in_schema=False)
async def messages(request: Request[Any, Any, Any], mailer: MailerDependency) -> Response[KeptMails]:
    """The last mails for a program."""
    items = [
        KeptMailView(kept.at, kept.mail.to, kept.mail.subject, kept.mail.text)
        for kept in reversed(_guard(request, mailer).kept)
    ]
    return Response(KeptMails(items), headers=_HEADERS)


router = Router(path="/dev/mail", route_handlers=[page, messages])
