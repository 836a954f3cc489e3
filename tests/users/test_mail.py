"""Mail: a real SMTP exchange, the development page, and the tasks behind the answer."""

from __future__ import annotations

import asyncio
import datetime
import email
import email.policy
import io
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from litestar import Litestar
from litestar.di import Provide

from tests.support import ManualClock, SeededIds
from tests.users.conftest import Device, House, Inbox, code_in
from yggdrasil import problems
from yggdrasil.adapters import devmail
from yggdrasil.adapters.devmail import DevMailer
from yggdrasil.adapters.smtp import SmtpMailer
from yggdrasil.errors import ConfigurationError, InvalidInput, LimitReached, Unavailable
from yggdrasil.ports import Mail
from yggdrasil.users.mailing import Postman, code_mail

MAIL = code_mail("ask@example.org", "01234567", 600)
USER, PASSWORD = "ygg", "p@ss:w/rd"


class Handler:
    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Envelope, address: str, options: Any
    ) -> str:
        if address.startswith("refused"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 OK"


def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (
        USER.encode(),
        PASSWORD.encode(),
    )
    return AuthResult(success=good, handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
async def smtp(certificate: Path) -> AsyncIterator[tuple[int, Handler]]:
    """An SMTP server that takes mail only after STARTTLS and log-in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    handler = Handler()
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(
            handler,
            hostname="localhost",
            tls_context=context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
            loop=loop,
        )

    server = await loop.create_server(session, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], handler
    finally:
        server.close()
        await server.wait_closed()


def mailer(
    port: int, clock: ManualClock, ids: SeededIds, tls: ssl.SSLContext, password: str = "p%40ss%3Aw%2Frd"
) -> SmtpMailer:
    return SmtpMailer(f"smtp://{USER}:{password}@127.0.0.1:{port}", "no-reply@example.org", clock, ids, tls)


async def test_a_mail_arrives_over_tls_with_log_in(
    smtp: tuple[int, Handler], clock: ManualClock, ids: SeededIds, tls: ssl.SSLContext
) -> None:
    port, handler = smtp
    await mailer(port, clock, ids, tls).send(MAIL)
    (envelope,) = handler.envelopes
    assert envelope.mail_from == "no-reply@example.org"
    assert envelope.rcpt_tos == ["ask@example.org"]
    assert isinstance(envelope.content, bytes)
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert message["to"] == "ask@example.org"
    assert message["subject"] == MAIL.subject
    assert message["date"].datetime == clock.now()
    assert message["auto-submitted"] == "auto-generated"
    assert "01234567" in message.get_content().replace("\r\n", "\n")


@pytest.mark.parametrize("trouble", ["password", "recipient", "certificate", "port"])
async def test_trouble_is_unavailable_and_names_nobody(
    smtp: tuple[int, Handler], clock: ManualClock, ids: SeededIds, tls: ssl.SSLContext, trouble: str
) -> None:
    port, handler = smtp
    sender = mailer(
        1 if trouble == "port" else port,
        clock,
        ids,
        ssl.create_default_context() if trouble == "certificate" else tls,
        "wrong" if trouble == "password" else "p%40ss%3Aw%2Frd",
    )
    mail = Mail("refused@example.org", "x", "y") if trouble == "recipient" else MAIL
    with pytest.raises(Unavailable) as refused:
        await sender.send(mail)
    assert "example.org" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__
    assert not handler.envelopes


@pytest.mark.parametrize(
    ("mail", "field"),
    [
        (Mail("a@example.org\nBcc: b@example.org", "x", "y"), "to"),
        (Mail("a@example.org, b@example.org", "x", "y"), "to"),
        (Mail("a@example.org", "x\nBcc: b@example.org", "y"), "subject"),
        (Mail("a@example.org", "", "y"), "subject"),
        (Mail("a@example.org", "x", "y" * 20_001), "text"),
    ],
)
async def test_no_header_can_be_smuggled(
    smtp: tuple[int, Handler],
    clock: ManualClock,
    ids: SeededIds,
    tls: ssl.SSLContext,
    mail: Mail,
    field: str,
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await mailer(smtp[0], clock, ids, tls).send(mail)
    assert refused.value.field == field
    assert not smtp[1].envelopes


@pytest.mark.parametrize(
    "url", ["http://h", "smtp://", "smtp://user@h", "smtp://h:x", "smtp://h:99999", "smtp://h/path", "h:25"]
)
def test_bad_urls_are_refused_without_repeating_them(url: str, clock: ManualClock, ids: SeededIds) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SmtpMailer(url, "no-reply@example.org", clock, ids)
    assert refused.value.field == "smtp_url"
    assert "user@h" not in str(refused.value)


@pytest.mark.parametrize(
    "sender", ["nobody", "a b@localhost", "a@example", "a@example.org\nBcc: b@example.org"]
)
def test_bad_senders_are_refused(sender: str, clock: ManualClock, ids: SeededIds) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SmtpMailer("smtp://127.0.0.1", sender, clock, ids)
    assert refused.value.field == "mail_from"
    SmtpMailer("smtp://127.0.0.1", "yggdrasil@localhost", clock, ids)


async def test_a_whole_sign_in_by_real_mail(
    house: House, smtp: tuple[int, Handler], tls: ssl.SSLContext
) -> None:
    port, handler = smtp
    house.users.postman._mailer = mailer(port, house.clock, house.ids, tls)
    device = Device()
    started = await house.post("/users/register", device.login_body("ask@example.org"))
    await house.users.postman.drain()
    content = handler.envelopes[0].content
    assert isinstance(content, bytes)
    text = email.message_from_bytes(content, policy=email.policy.default).get_content().replace("\r\n", "\n")
    answer = await house.verify(device, started.json()["flow"], code_in(Mail("", "", text)))
    assert answer.status_code == 200


class Failing:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.sent: list[Mail] = []

    async def send(self, mail: Mail) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("ask@example.org was refused")
        self.sent.append(mail)


async def test_mail_is_tried_again_and_failure_is_logged_without_the_address(
    capsys: pytest.CaptureFixture[str],
) -> None:
    again, never = Failing(2), Failing(9)
    for sender in (again, never):
        postman = Postman(sender, 10, (0.0, 0.0))
        postman.post(MAIL)
        await postman.drain()
    assert again.sent == [MAIL]
    assert never.sent == []
    shown = "".join(capsys.readouterr())
    assert "mail_not_sent" in shown
    assert "example.org" not in shown
    assert "01234567" not in shown


async def test_waiting_mail_is_bounded_and_dropped_at_the_end() -> None:
    hang = asyncio.Event()

    class Hanging:
        async def send(self, mail: Mail) -> None:
            await hang.wait()

    postman = Postman(Hanging(), 3, ())
    for _ in range(3):
        postman.check_room()
        postman.post(MAIL)
    with pytest.raises(LimitReached):
        postman.check_room()
    await postman.close(seconds_max=0.01)
    postman.check_room()


# Development


def dev_client(sender: Any, client: str = "127.0.0.1", host: str = "localhost:8480") -> httpx.AsyncClient:
    app = Litestar(
        [devmail.router],
        dependencies={"mailer": Provide(lambda: sender, sync_to_thread=False)},
        exception_handlers={Exception: problems.handle},
        openapi_config=None,
        logging_config=None,
    )
    transport = httpx.ASGITransport(app, client=(client, 1), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


@pytest.mark.parametrize(
    "header", ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "X-Real-IP"]
)
async def test_development_mail_is_not_for_what_a_proxy_forwards(clock: ManualClock, header: str) -> None:
    async with dev_client(DevMailer(clock, development=True)) as client:
        assert (await client.get("/dev/mail/messages")).status_code == 200
        assert (await client.get("/dev/mail/messages", headers={header: "x"})).status_code == 404


async def test_development_mail_is_printed_and_shown(
    clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = DevMailer(clock, development=True)
    for number in range(60):
        await sender.send(Mail("ask@example.org", f"<b>{number}</b>", "<script>alert(1)</script>"))
    assert capsys.readouterr().err.count("Mail to ask@example.org") == 60
    assert len(sender.kept) == 50
    async with dev_client(sender) as client:
        page = await client.get("/dev/mail")
        listed = (await client.get("/dev/mail/messages")).json()
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script>" not in page.text
    assert "http" not in page.text
    assert page.text.index("&lt;b&gt;59") < page.text.index("&lt;b&gt;10")
    assert "&lt;b&gt;9&lt;" not in page.text
    assert listed["items"][0]["subject"] == "<b>59</b>"


@pytest.mark.parametrize(
    ("client", "host", "headers"),
    [
        ("192.0.2.7", "localhost", {}),
        ("127.0.0.1", "evil.example", {}),
        ("127.0.0.1", "192.0.2.7:8480", {}),
        ("127.0.0.1", "localhost", {"x-forwarded-for": "192.0.2.7"}),
        ("127.0.0.1", "localhost", {"forwarded": "for=192.0.2.7"}),
    ],
)
async def test_the_page_is_for_this_machine(
    clock: ManualClock, client: str, host: str, headers: dict[str, str]
) -> None:
    async with dev_client(DevMailer(clock, development=True), client, host) as asked:
        for path in ("/dev/mail", "/dev/mail/messages"):
            assert (await asked.get(path, headers=headers)).status_code == 404


async def test_the_page_is_for_development(clock: ManualClock) -> None:
    async with dev_client(Inbox()) as client:
        assert (await client.get("/dev/mail")).status_code == 404
    async with dev_client(DevMailer(clock, development=True), "::1", "[::1]:8480") as client:
        assert (await client.get("/dev/mail")).status_code == 200  # the control
    with pytest.raises(ConfigurationError):
        DevMailer(clock, development=False)


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


async def test_development_mail_with_a_mail_server_is_sent_kept_and_printed_only_for_a_person(
    clock: ManualClock,
) -> None:
    for stream, printed in ((Terminal(), 1), (io.StringIO(), 0)):
        inbox = Inbox()
        sender = DevMailer(clock, development=True, stream=stream, onward=inbox)
        mail = Mail("ask@example.org", "code", "12345678")
        await sender.send(mail)
        assert inbox.mails == [mail]
        assert [kept.mail for kept in sender.kept] == [mail]
        assert stream.getvalue().count("Mail to ask@example.org") == printed
