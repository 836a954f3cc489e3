"""Mail by SMTP: one exchange per mail, encrypted unless the server is on this machine."""

from __future__ import annotations

import ipaddress
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

import aiosmtplib

from yggdrasil.errors import ConfigurationError, InvalidInput, Unavailable
from yggdrasil.kernel import Clock, IdSource
from yggdrasil.mimir.addresses import normalise
from yggdrasil.ports import Mail

_PORTS: Final = {"smtp": 587, "smtps": 465}
TIMEOUT_SECONDS: Final = 20.0
TEXT_CHARS_MAX: Final = 20_000
SUBJECT_CHARS_MAX: Final = 200


class SmtpMailer:
    """Sends through `smtp[s]://[user:password@]host[:port]`.

    `smtps` is TLS from the first byte (port 465). `smtp` (port 587) uses STARTTLS and refuses to go on
    without it, except to a server on this machine. Nothing of an address or of the server's answer reaches
    an exception.
    """

    def __init__(
        self, url: str, sender: str, clock: Clock, ids: IdSource, tls: ssl.SSLContext | None = None
    ) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError("the SMTP URL: the port must be a number", field="smtp_url") from None
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ConfigurationError(
                "the SMTP URL must be smtp://[user:password@]host[:port] or smtps://…", field="smtp_url"
            )
        if (parts.username is None) != (parts.password is None):
            raise ConfigurationError("the SMTP URL needs both user and password, or none", field="smtp_url")
        self._host = parts.hostname
        self._port = port or _PORTS[parts.scheme]
        self._implicit_tls = parts.scheme == "smtps"
        self._user = None if parts.username is None else unquote(parts.username)
        self._password = None if parts.password is None else unquote(parts.password)
        self._sender = _sender(sender)
        self._clock = clock
        self._ids = ids
        self._tls = tls or ssl.create_default_context()

    def __repr__(self) -> str:
        return f"SmtpMailer({self._host}:{self._port})"

    async def send(self, mail: Mail) -> None:
        """Hand the mail to the server; Unavailable if it was not taken."""
        recipient, message = self._build(mail)
        # None means: STARTTLS if the server offers it. Anywhere but on this machine it is a must.
        start_tls = False if self._implicit_tls else (None if _is_loopback(self._host) else True)
        try:
            await aiosmtplib.send(
                message,
                sender=self._sender,
                recipients=[recipient],
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._implicit_tls,
                start_tls=start_tls,
                tls_context=self._tls,
                timeout=TIMEOUT_SECONDS,
            )
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            # Not chained: these exceptions quote the recipient.
            raise Unavailable(f"the mail server did not take the mail ({type(error).__name__})") from None

    def _build(self, mail: Mail) -> tuple[str, EmailMessage]:
        recipient = normalise(mail.to, field="to")
        if not 1 <= len(mail.subject) <= SUBJECT_CHARS_MAX or not mail.subject.isprintable():
            raise InvalidInput(
                f"subject must be 1 to {SUBJECT_CHARS_MAX} printable characters on one line", field="subject"
            )
        if len(mail.text) > TEXT_CHARS_MAX:
            raise InvalidInput(f"text must be at most {TEXT_CHARS_MAX} characters", field="text")
        message = EmailMessage(policy=SMTP)
        local, _, domain = self._sender.rpartition("@")
        message["From"] = Address("Yggdrasil", local, domain)
        local, _, to_domain = recipient.rpartition("@")
        message["To"] = Address("", local, to_domain)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(self._clock.now())
        message["Message-ID"] = f"<{self._ids.uuid()}@{domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        return recipient, message


def _sender(text: str) -> str:
    """The normal form of the sending address; unlike a recipient it may be at `localhost`, for mail within
    it.
    """
    local, _, domain = text.rpartition("@")
    try:
        if domain == "localhost":
            return normalise(f"{local}@localhost.test").removesuffix(".test")
        return normalise(text, field="mail_from")
    except InvalidInput as error:
        raise ConfigurationError(error.detail, field="mail_from") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
